//! The JSON of responses.

use actix_rt::task::spawn_blocking;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, LINK};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{HandlerResult, Problem};
use crate::actors::messages::KeyUse;
use crate::domain::agent::commands::AgentView;
use crate::domain::agent::labels::Labels;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::counts::Cleared;
use crate::domain::budget::hold::Hold;
use crate::domain::budget::hold_commands::HoldView;
use crate::domain::budget::policy::{Policy, PolicyAction, PolicyScope, PolicyStatus};
use crate::domain::budget::policy_commands::PolicyView;
use crate::domain::budget::policy_limits::Limits;
use crate::domain::budget::terms_view::TermsView;
use crate::domain::budget::used_view::UsedView;
use crate::domain::budget::window_view::WindowView;
use crate::domain::delegation::commands::DelegationView;
use crate::domain::delegation::search::{DelegationSource, EffectivePermission};
use crate::domain::instance::published::InstancePolicy;
use crate::domain::limits::MAX_WARNINGS;
use crate::domain::permission::PermissionSpec;
use crate::domain::permission::warnings::Warning;
use crate::domain::tenant::key::ApiKey;
use crate::domain::tenant::{Profile, TenantStatus};
use crate::domain::text::DEFAULT_TENANT_NAME;
use crate::domain::{
    AgentId, AgentStatus, AgentType, AuditId, Code, DelegationId, DelegationStatus, KeyId, KeyRole, PolicyId, Secret,
    TenantId, TenantSettings, Timestamp, schema,
};
use crate::service::{AgentPolicies, Page};

/// A list of more items is written as JSON on a thread that serves no calls.
const LARGE_LIST: usize = 500;

/// Tenants that a header names as missing from a list: enough to act on, and short enough for any client.
const MAX_NAMED: usize = 50;

/// A tenant.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Tenant")]
pub struct TenantJson {
    /// The tenant's id; `null` is the default tenant.
    id: TenantId,
    /// The tenant's name.
    name: Box<str>,
    /// Its short name in paths.
    slug: Box<str>,
    /// The tenant's settings.
    settings: TenantSettings,
    /// Whether its agents may work.
    status: TenantStatus,
    /// When it was created.
    created_at: Timestamp,
    /// When its name, settings or status last changed.
    updated_at: Timestamp,
}

impl From<Profile> for TenantJson {
    fn from(profile: Profile) -> Self {
        let Profile { id, name, slug, settings, status, created_at, updated_at } = profile;
        let slug = slug.map_or(DEFAULT_TENANT_NAME.into(), |slug| slug.as_str().into());
        Self { id, name, slug, settings, status, created_at, updated_at }
    }
}

/// A tenant key. Only the answer to its creation has `key`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TenantKey")]
pub struct KeyJson {
    /// The key's id, which is not a secret.
    id: KeyId,
    /// A name for people to read.
    name: Box<str>,
    /// The key itself, shown only this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The start of the key, to recognize it by.
    prefix: Box<str>,
    /// What it may do.
    role: KeyRole,
    /// When it ends.
    expires_at: Option<Timestamp>,
    /// When it was last used; `null` if it was not since `trackedSince`.
    last_used_at: Option<Timestamp>,
    /// Since when uses are noted. They are kept in memory, and forgotten when the server stops or the tenant leaves memory.
    tracked_since: Timestamp,
    /// When it was created.
    created_at: Timestamp,
}

impl KeyJson {
    /// The key in a list.
    pub fn listed(known: KeyUse) -> Self {
        let KeyUse { key, last_used_at, since } = known;
        let ApiKey { id, name, hash: _, prefix, created_at, role, expires_at } = key;
        Self { id, name, key: None, prefix, role, expires_at, last_used_at, tracked_since: since, created_at }
    }

    /// The key that was just created, with its text.
    pub fn made(key: ApiKey, secret: &Secret) -> Self {
        let since = key.created_at;
        Self { key: Some(secret.reveal().to_owned()), ..Self::listed(KeyUse { key, last_used_at: None, since }) }
    }
}

/// An agent. `token` is empty except in the answers to creation and rotation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Agent")]
pub struct AgentJson {
    /// The agent's id.
    id: AgentId,
    /// The tenant it belongs to; `null` is the default one.
    tenant_id: TenantId,
    /// The user it belongs to.
    owner_id: String,
    /// A name for people to read.
    name: Box<str>,
    /// Its type.
    r#type: AgentType,
    /// Its permissions.
    permissions: Vec<PermissionSpec>,
    /// Whether it may work.
    status: AgentStatus,
    /// When it expires.
    expires_at: Option<Timestamp>,
    /// The client's own facts.
    #[schemars(with = "schema::AnyObject")]
    metadata: Option<Box<RawValue>>,
    /// Its labels, by which budgets and lists select agents.
    labels: Labels,
    /// When its last call was decided.
    last_active_at: Option<Timestamp>,
    /// When it was created.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
    /// Its token in the answers to creation and rotation, else empty.
    token: String,
    /// In the answers to creation and change: warnings about permissions that may not do what they seem to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_WARNINGS))]
    warnings: Vec<Warning>,
}

impl AgentJson {
    /// The agent, with its token if that was just made.
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
            permissions: spec.permissions.specs(),
            status: *status,
            expires_at: spec.expires_at,
            metadata: RawValue::from_string(metadata.to_owned()).ok(),
            labels: spec.labels.clone(),
            last_active_at: agent.last_active_at,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
            token: token.map(|token| token.reveal().to_owned()).unwrap_or_default(),
            warnings: Vec::new(),
        }
    }

    /// The agent with warnings about its permissions.
    #[must_use]
    pub fn with_warnings(mut self, view: &AgentView) -> Self {
        self.warnings = view.agent.profile.spec.permissions.warnings();
        self
    }
}

/// A delegation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Delegation")]
pub struct DelegationJson {
    /// The delegation's id.
    id: DelegationId,
    /// The tenant of both agents; `null` is the default one.
    tenant_id: TenantId,
    /// The grantor.
    from_agent: AgentId,
    /// The agent that may use the grantor's permissions.
    to_agent: AgentId,
    /// The lent permissions.
    permissions: Vec<PermissionSpec>,
    /// When it expires.
    expires_at: Option<Timestamp>,
    /// Links that a chain through it may have.
    max_depth: u32,
    /// Its place in the longest chain it is part of, from 1.
    depth: u32,
    /// Whether it is live.
    status: DelegationStatus,
    /// When it was created.
    created_at: Timestamp,
    /// In the answer to creation: warnings about permissions that may not do what they seem to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_WARNINGS))]
    warnings: Vec<Warning>,
}

impl DelegationJson {
    /// The delegation with the warnings about its permissions.
    pub fn with_warnings(view: DelegationView) -> Self {
        let warnings = view.delegation.profile.spec.permissions.warnings();
        Self { warnings, ..view.into() }
    }
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
            permissions: spec.permissions.specs(),
            expires_at: spec.expires_at,
            max_depth: spec.max_depth,
            depth: spec.depth,
            status,
            created_at: profile.created_at,
            warnings: Vec::new(),
        }
    }
}

/// A permission that an agent can use, and where it comes from.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EffectivePermission", extend("x-shows-stored" = true))]
pub struct EffectivePermissionJson {
    #[serde(flatten)]
    permission: PermissionSpec,
    /// Where it comes from: `own`, or `delegation`.
    #[schemars(extend("enum" = ["own", "delegation"]))]
    source: &'static str,
    /// The delegation that passes it on.
    delegation_id: Option<DelegationId>,
    /// The agent that delegated it.
    from_agent: Option<AgentId>,
    /// Links that it passed through; 0 for an own permission.
    depth: u32,
    /// When the delegation expires.
    expires_at: Option<Timestamp>,
    /// Whether the grantor holds all of it now; `null` if that takes too long to find out.
    held: Option<bool>,
}

impl From<EffectivePermission> for EffectivePermissionJson {
    fn from(effective: EffectivePermission) -> Self {
        let EffectivePermission { permission, link } = effective;
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
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Policy")]
pub struct PolicyJson {
    /// The policy's id.
    id: PolicyId,
    /// The tenant it belongs to; `null` is the default one.
    tenant_id: TenantId,
    /// The only agent it applies to, if it names one.
    agent_id: Option<AgentId>,
    /// The only owner whose agents it applies to, if it names one.
    user_id: Option<String>,
    /// The policy's limits.
    limits: LimitsJson,
    /// What happens when one is exceeded.
    action: PolicyAction,
    /// The policy's status.
    status: PolicyStatus,
    /// How much is used now.
    current_usage: UsageJson,
    /// Its windows now, the shortest first, and what is left of each limit.
    windows: Vec<WindowView>,
    /// When its windows begin, which calls it charges, and which limits hold for a while.
    #[serde(flatten)]
    terms: TermsView,
    /// The limits that hold now, if that is not `limits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_limits: Option<LimitsJson>,
    /// How many active agents it is about. Only in answers about one policy, and not for one of the whole instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches_agents: Option<usize>,
    /// When it last denied a call; `null` if it did not since it was last changed or reset.
    last_denied_at: Option<Timestamp>,
    /// When it was created.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

/// Limits of a policy.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Limits")]
struct LimitsJson {
    /// Granted calls in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_day: Option<u64>,
    /// Granted calls in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_month: Option<u64>,
    /// Cost in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_day: Option<Cost>,
    /// Cost in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_month: Option<Cost>,
    /// Granted calls in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_hour: Option<u64>,
    /// Granted calls in a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_per_week: Option<u64>,
    /// Granted calls in all, since the limit was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_calls_total: Option<u64>,
    /// Cost in an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_hour: Option<Cost>,
    /// Cost in a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_per_week: Option<Cost>,
    /// Cost in all, since the limit was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens_cost_total: Option<Cost>,
}

impl From<Limits> for LimitsJson {
    fn from(limits: Limits) -> Self {
        Self {
            max_calls_per_day: limits.max_calls_per_day,
            max_calls_per_month: limits.max_calls_per_month,
            max_tokens_cost_per_day: limits.max_tokens_cost_per_day,
            max_tokens_cost_per_month: limits.max_tokens_cost_per_month,
            max_calls_per_hour: limits.max_calls_per_hour,
            max_calls_per_week: limits.max_calls_per_week,
            max_calls_total: limits.max_calls_total,
            max_tokens_cost_per_hour: limits.max_tokens_cost_per_hour,
            max_tokens_cost_per_week: limits.max_tokens_cost_per_week,
            max_tokens_cost_total: limits.max_tokens_cost_total,
        }
    }
}

/// How much of a policy's limits is used.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyUsage")]
struct UsageJson {
    #[serde(flatten)]
    used: UsedView,
    /// When it was last charged.
    last_updated: Option<Timestamp>,
}

impl From<PolicyView> for PolicyJson {
    fn from(view: PolicyView) -> Self {
        let PolicyView { tenant, policy: Policy { profile, usage, last_denied_at }, status, limits, windows } = view;
        Self {
            id: profile.id,
            tenant_id: tenant,
            agent_id: profile.agent,
            user_id: profile.owner.as_deref().map(ToOwned::to_owned),
            limits: profile.limits.clone().into(),
            action: profile.action,
            status,
            current_usage: UsageJson { used: UsedView::from(&Cleared::from(&usage)), last_updated: usage.at },
            windows,
            terms: TermsView::of(&profile.terms),
            effective_limits: (limits != profile.limits).then(|| limits.into()),
            matches_agents: None,
            last_denied_at,
            created_at: profile.created_at,
            updated_at: profile.updated_at,
        }
    }
}

impl PolicyJson {
    /// The same with the number of agents that it is about.
    pub fn about(self, agents: Option<usize>) -> Self {
        Self { matches_agents: agents, ..self }
    }
}

/// A policy that binds an agent: one of its tenant, or one of the whole instance.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AgentPolicy")]
pub enum AgentPolicyJson {
    /// One of its tenant, with what is used of it.
    Own(Box<PolicyJson>),
    /// One of the whole instance.
    Instance(InstancePolicyJson),
}

/// A policy of the whole instance as tenants see it: that it binds, and not how much is used.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InstancePolicy")]
pub struct InstancePolicyJson {
    /// The policy's id.
    id: PolicyId,
    /// `instance`.
    scope: PolicyScope,
    /// What happens when nothing is left.
    action: PolicyAction,
    /// It charges only agents with all of these labels; `null` is all agents.
    labels: Option<Labels>,
    /// It charges only calls about matching resources; `null` is all.
    #[schemars(with = "Option<crate::domain::schema::ResourcePattern>")]
    resource: Option<String>,
    /// It charges only these actions; `null` is all.
    actions: Option<Vec<Box<str>>>,
    /// When it was created.
    created_at: Timestamp,
}

impl AgentPolicyJson {
    /// The tenant's own first.
    pub fn list(policies: AgentPolicies) -> Vec<Self> {
        let AgentPolicies { own, instance } = policies;
        let own = own.into_iter().map(|view| Self::Own(Box::new(view.into())));
        own.chain(instance.iter().map(|policy| Self::Instance(policy.into()))).collect()
    }
}

impl From<&InstancePolicy> for InstancePolicyJson {
    fn from(policy: &InstancePolicy) -> Self {
        let scope = policy.scope();
        Self {
            id: policy.id(),
            scope: PolicyScope::Instance,
            action: policy.action(),
            labels: scope.map(|scope| scope.labels.clone()).filter(|labels| !labels.is_empty()),
            resource: scope.and_then(|scope| scope.resource.as_ref()).map(|pattern| pattern.as_str().to_owned()),
            actions: scope.map(|scope| scope.actions.clone()).filter(|actions| !actions.is_empty()),
            created_at: policy.created_at(),
        }
    }
}

/// An open hold.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Hold")]
pub struct HoldJson {
    /// The audit entry of the decision that made it.
    audit_id: AuditId,
    /// The tenant it belongs to; `null` is the default one.
    tenant_id: TenantId,
    /// The agent that made the call.
    agent_id: AgentId,
    /// The agent's owner at that time.
    user_id: String,
    /// The estimate that is held.
    tokens_cost: Cost,
    /// When it was made.
    created_at: Timestamp,
    /// When it ends by itself, and the cost is left again.
    until: Timestamp,
}

impl From<HoldView> for HoldJson {
    fn from(view: HoldView) -> Self {
        let HoldView { tenant, id, hold: Hold { decision, agent, owner, ends_at, scoped: _, instance: _ } } = view;
        Self {
            audit_id: id,
            tenant_id: tenant,
            agent_id: agent,
            user_id: owner.to_string(),
            tokens_cost: decision.estimate,
            created_at: decision.moment().wall,
            until: ends_at,
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer that holds this value as JSON.
pub fn json(mut response: HttpResponseBuilder, value: &impl Serialize) -> HandlerResult {
    Ok(response.insert_header((CONTENT_TYPE, JSON)).body(to_bytes(value)?))
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value)
        .map_err(|problem| Problem::new(Code::InternalError, format!("the answer could not be written: {problem}")))
}

/// The header that names tenants whose part is missing from an answer.
pub const UNAVAILABLE_TENANTS: &str = "Kavach-Unavailable-Tenants";

/// The value of [`UNAVAILABLE_TENANTS`]; `None` if there are none.
pub fn named_tenants(missing: &[TenantId]) -> Option<String> {
    let named: Vec<_> = missing.iter().take(MAX_NAMED).map(|id| id.folder_name()).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// An answer that holds a page of a list as a plain array, with a link to the next one (RFC 8288).
pub async fn list<T, J>(request: &HttpRequest, page: Page<T>, shape: fn(T) -> J) -> HandlerResult
where
    T: Send + 'static,
    J: Serialize + 'static,
{
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, JSON));
    if let Some(cursor) = &page.next {
        // The cursor is past what was skipped: an offset beside it would skip again.
        let pairs = form_urlencoded::parse(request.query_string().as_bytes())
            .filter(|(name, _)| !matches!(&**name, "cursor" | "offset"));
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).append_pair("cursor", cursor).finish();
        response.insert_header((LINK, format!("<{}?{query}>; rel=\"next\"", request.path())));
    }
    if let Some(missing) = named_tenants(&page.missing) {
        response.insert_header((UNAVAILABLE_TENANTS, missing));
    }
    // While its JSON is written an audit page is in memory twice; the permit for that is held until this function ends.
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
