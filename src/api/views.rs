//! The JSON of answers.

use actix_rt::task::spawn_blocking;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::Problem;
use super::routes::Answer;
use crate::domain::agent_commands::AgentView;
use crate::domain::constraint::{ConstraintsSpec, TimeWindowSpec};
use crate::domain::cost::Cost;
use crate::domain::delegation_commands::DelegationView;
use crate::domain::effective::{DelegationSource, EffectivePermission};
use crate::domain::key::ApiKey;
use crate::domain::permission::PermissionSpec;
use crate::domain::policy::{Limits, Policy, PolicyAction, PolicyStatus, Usage};
use crate::domain::policy_commands::PolicyView;
use crate::domain::tenant::{Profile, TenantStatus};
use crate::domain::text::DEFAULT_TENANT_NAME;
use crate::domain::{
    AgentId, AgentStatus, AgentType, Code, DelegationId, DelegationStatus, KeyId, PolicyId, Secret, Settings, TenantId,
    Timestamp,
};
use crate::service::Page;

/// Items of a list from which on its JSON is made on a thread that serves no calls.
const LARGE_LIST: usize = 500;

/// Tenants that a header names as missing from a list: enough to act on, in a header any client takes.
const MAX_NAMED: usize = 50;

/// A tenant.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantJson {
    id: TenantId,
    name: Box<str>,
    slug: Box<str>,
    settings: Settings,
    status: TenantStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Profile> for TenantJson {
    fn from(profile: Profile) -> Self {
        let Profile { id, name, slug, settings, status, created_at, updated_at } = profile;
        let slug = slug.map_or(DEFAULT_TENANT_NAME.into(), |slug| slug.as_str().into());
        Self { id, name, slug, settings, status, created_at, updated_at }
    }
}

/// A tenant key. `key` is there only in the answer to its making.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyJson {
    id: KeyId,
    name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    prefix: Box<str>,
    created_at: Timestamp,
}

impl KeyJson {
    /// The key, with its text where it was just made.
    pub fn new(key: ApiKey, secret: Option<&Secret>) -> Self {
        let ApiKey { id, name, hash: _, prefix, created_at } = key;
        Self { id, name, key: secret.map(|secret| secret.reveal().to_owned()), prefix, created_at }
    }
}

/// An agent. `token` is empty but in the answers to creation and rotation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentJson {
    id: AgentId,
    tenant_id: TenantId,
    owner_id: String,
    name: Box<str>,
    r#type: AgentType,
    permissions: Vec<PermissionJson>,
    status: AgentStatus,
    expires_at: Option<Timestamp>,
    metadata: Option<Box<RawValue>>,
    last_active_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    token: String,
}

impl AgentJson {
    /// The agent, with its token where it was just made.
    pub fn new(view: &AgentView, token: Option<&Secret>) -> Self {
        let AgentView { tenant, agent, status } = view;
        let profile = &agent.profile;
        let spec = &profile.spec;
        let metadata = spec.metadata.as_deref().unwrap_or("{}");
        Self {
            id: profile.id,
            tenant_id: *tenant,
            owner_id: spec.owner.to_string(),
            name: spec.name.clone(),
            r#type: spec.kind,
            permissions: spec.permissions.specs().into_iter().map(PermissionJson::from).collect(),
            status: *status,
            expires_at: spec.expires_at,
            metadata: RawValue::from_string(metadata.to_owned()).ok(),
            last_active_at: agent.last_active_at,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
            token: token.map(|token| token.reveal().to_owned()).unwrap_or_default(),
        }
    }
}

/// A permission, without the constraints it does not have.
#[derive(Serialize)]
struct PermissionJson {
    resource: String,
    actions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraints: Option<ConstraintsJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConstraintsJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_hour: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_arg_patterns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_window: Option<TimeWindowSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_allowlist: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_approval: Option<bool>,
}

impl From<PermissionSpec> for PermissionJson {
    fn from(spec: PermissionSpec) -> Self {
        let PermissionSpec { resource, actions, constraints } = spec;
        let constraints = constraints.map(|constraints| {
            let ConstraintsSpec {
                max_calls_per_hour,
                allowed_arg_patterns,
                time_window,
                ip_allowlist,
                require_approval,
            } = constraints;
            ConstraintsJson { max_calls_per_hour, allowed_arg_patterns, time_window, ip_allowlist, require_approval }
        });
        Self { resource, actions, constraints }
    }
}

/// A delegation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DelegationJson {
    id: DelegationId,
    tenant_id: TenantId,
    from_agent: AgentId,
    to_agent: AgentId,
    permissions: Vec<PermissionJson>,
    expires_at: Option<Timestamp>,
    max_depth: u32,
    depth: u32,
    status: DelegationStatus,
    created_at: Timestamp,
}

impl From<DelegationView> for DelegationJson {
    fn from(view: DelegationView) -> Self {
        let DelegationView { tenant, delegation, status } = view;
        let profile = &delegation.profile;
        let spec = &profile.spec;
        Self {
            id: profile.id,
            tenant_id: tenant,
            from_agent: spec.from,
            to_agent: spec.to,
            permissions: spec.permissions.specs().into_iter().map(PermissionJson::from).collect(),
            expires_at: spec.expires_at,
            max_depth: spec.max_depth,
            depth: spec.depth,
            status,
            created_at: profile.created_at,
        }
    }
}

/// A permission that an agent can make use of, and where it comes from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePermissionJson {
    #[serde(flatten)]
    permission: PermissionJson,
    source: &'static str,
    delegation_id: Option<DelegationId>,
    from_agent: Option<AgentId>,
    depth: u32,
    expires_at: Option<Timestamp>,
    held: Option<bool>,
}

impl From<EffectivePermission> for EffectivePermissionJson {
    fn from(effective: EffectivePermission) -> Self {
        let EffectivePermission { permission, link } = effective;
        let permission = PermissionJson::from(permission);
        match link {
            None => Self {
                permission,
                source: "own",
                delegation_id: None,
                from_agent: None,
                depth: 0,
                expires_at: None,
                held: Some(true),
            },
            Some(DelegationSource { id, from, depth, expires_at, held }) => Self {
                permission,
                source: "delegation",
                delegation_id: Some(id),
                from_agent: Some(from),
                depth,
                expires_at,
                held,
            },
        }
    }
}

/// A budget policy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyJson {
    id: PolicyId,
    tenant_id: TenantId,
    agent_id: Option<AgentId>,
    user_id: Option<String>,
    limits: LimitsJson,
    action: PolicyAction,
    status: PolicyStatus,
    current_usage: UsageJson,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitsJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_month: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_day: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_month: Option<Cost>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageJson {
    calls_today: u64,
    calls_this_month: u64,
    tokens_cost_today: Cost,
    tokens_cost_this_month: Cost,
    last_updated: Option<Timestamp>,
}

impl From<PolicyView> for PolicyJson {
    fn from(view: PolicyView) -> Self {
        let PolicyView { tenant, policy: Policy { profile, usage }, status } = view;
        let Limits { max_calls_per_day, max_calls_per_month, max_tokens_cost_per_day, max_tokens_cost_per_month } =
            profile.limits;
        let Usage { at, calls_today, calls_this_month, tokens_cost_today, tokens_cost_this_month, .. } = usage;
        Self {
            id: profile.id,
            tenant_id: tenant,
            agent_id: profile.agent,
            user_id: profile.owner.as_deref().map(ToOwned::to_owned),
            limits: LimitsJson {
                max_calls_per_day,
                max_calls_per_month,
                max_tokens_cost_per_day,
                max_tokens_cost_per_month,
            },
            action: profile.action,
            status,
            current_usage: UsageJson {
                calls_today,
                calls_this_month,
                tokens_cost_today,
                tokens_cost_this_month,
                last_updated: at,
            },
            created_at: profile.created_at,
            updated_at: profile.updated_at,
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer that holds this value as JSON.
pub fn json(mut response: HttpResponseBuilder, value: &impl Serialize) -> Answer {
    Ok(response.insert_header((CONTENT_TYPE, JSON)).body(to_bytes(value)?))
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value)
        .map_err(|problem| Problem::new(Code::InternalError, format!("the answer could not be written: {problem}")))
}

/// An answer that holds a page of a list as a plain array, with a link to the next one (RFC 8288).
pub async fn list<T, J>(request: &HttpRequest, page: Page<T>, shape: fn(T) -> J) -> Answer
where
    T: Send + 'static,
    J: Serialize + 'static,
{
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, JSON));
    if let Some(cursor) = &page.next {
        // The cursor stands behind all that was skipped: an offset beside it would skip once more.
        let pairs = form_urlencoded::parse(request.query_string().as_bytes())
            .filter(|(name, _)| !matches!(&**name, "cursor" | "offset"));
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).append_pair("cursor", cursor).finish();
        response.insert_header((LINK, format!("<{}?{query}>; rel=\"next\"", request.path())));
    }
    if !page.missing.is_empty() {
        let missing: Vec<_> = page.missing.iter().take(MAX_NAMED).map(|id| id.folder_name()).collect();
        response.insert_header(("Kavach-Unavailable-Tenants", missing.join(", ")));
    }
    // An audit page is there twice until its JSON is made; the turn of making it ends with this function.
    let (items, _turn) = (page.items, page.turn);
    let large = items.len() > LARGE_LIST;
    let write = move || to_bytes(&items.into_iter().map(shape).collect::<Vec<J>>());
    let bytes = if large {
        let written = spawn_blocking(write).await;
        written
            .map_err(|problem| Problem::new(Code::InternalError, format!("the list was not written: {problem}")))??
    } else {
        write()?
    };
    Ok(response.body(bytes))
}
