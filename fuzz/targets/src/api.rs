//! Fuzz targets that take what a client sends; see the crate.

// A failing assertion is the purpose of a target.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde::de::DeserializeOwned;
use serde_json::Value;

use kavach::actors::messages::KeyUse;
use kavach::api::authorize::read_batch;
use kavach::api::authorize_body::{AuthorizeBody, BatchBody, CallHead};
use kavach::api::error::Problem;
use kavach::api::input::{parse, parse_part, parse_query};
use kavach::api::introspection::{IntrospectionJson, TokenBody};
use kavach::api::operator_keys::NewOperatorKey;
use kavach::api::policies::{CheckBody, Reset, ResetAll, read_cost};
use kavach::api::responses::{
    AgentJson, DelegationJson, EffectivePermissionJson, HoldJson, KeyJson, PolicyJson, TenantJson,
};
use kavach::api::tenants::{Confirmation, NewKey, Paging};
use kavach::api::usage::UsageBody;
use kavach::api::webhooks::WebhookJson;
use kavach::api::{agents, audit, delegations, fast_authorize_json, holds, policies, spend, webhooks};
use kavach_domain::agent::commands::{AgentPatch, AgentView, CreateAgent, NewAgent, RotateToken, UpdateAgent};
use kavach_domain::agent::introspection::TokenFacts;
use kavach_domain::author::By;
use kavach_domain::budget::hold::HoldTime;
use kavach_domain::budget::hold_commands::HoldView;
use kavach_domain::budget::policy_commands::{
    CreatePolicy, NewPolicy, PolicyPatch, PolicyView, ResetPolicies, ResetPolicy, UpdatePolicy,
};
use kavach_domain::budget::scope::Call;
use kavach_domain::budget::usage::UsageReport;
use kavach_domain::decision::arguments::Arguments;
use kavach_domain::delegation::commands::{
    CreateDelegation, DelegationFilter, DelegationView, NewDelegation, effective_permissions,
};
use kavach_domain::event::{Change, ChangeRecord};
use kavach_domain::limits::MAX_AUTHORIZE_BODY_BYTES;
use kavach_domain::tenant::commands::{NewTenant, TenantPatch, TenantSpec, UpdateTenant};
use kavach_domain::tenant::key_commands::{CreateKey, CreateOperatorKey};
use kavach_domain::tenant::key_update::{KeyPatch, UpdateKey, UpdateOperatorKey};
use kavach_domain::tenant::{Caller, Command};
use kavach_domain::webhook::commands::{CreateWebhook, NewWebhook, UpdateWebhook, WebhookPatch, WebhookView};
use kavach_domain::{
    AgentId, AuditId, Credential, Event, KeyId, Request, Secret, Tenant, TenantId, Timestamp, TraceId,
};
use kavach_fixture::small_tenant::{Small, readable, tenant_id};
use kavach_store::codec;

/// An authorize body, alone and in a batch: both readers agree, and the result is decided and recorded.
pub fn authorize(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes);
    if let Ok(text) = text {
        if let Some(body) = fast_authorize_json::single(text) {
            assert_eq!(Some(by_text(body)), parse::<AuthorizeBody<'_>>(bytes).ok(), "{text}");
        }
        for many in [text.to_owned(), format!("{{\"requests\":[{text},{text}]}}")] {
            if let Some(bodies) = fast_authorize_json::batch(&many) {
                let general = parse::<BatchBody<'_>>(many.as_bytes()).ok().map(|body| body.requests);
                let general = general.unwrap_or_default().into_iter();
                let general: Vec<_> = general.map(|item| parse_part::<AuthorizeBody<'_>>("", item).ok()).collect();
                assert_eq!(bodies.into_iter().map(by_text).map(Some).collect::<Vec<_>>(), general, "{many}");
            }
        }
    }
    if bytes.len() > MAX_AUTHORIZE_BODY_BYTES {
        return;
    }
    let mut small = Small::new();
    let asking = CallHead { agent_ip: None, user_agent: Some("agent/1"), trace: TraceId::from_bytes([7; 16]) };
    let own = CallHead { agent_ip: Some(Some([10, 0, 0, 1].into())), user_agent: None, trace: None };
    for (connection, caller) in [(asking, Caller::Operator), (own, Caller::Agent(0))] {
        let read =
            |agent| checked(parse::<AuthorizeBody<'_>>(bytes).and_then(|body| Ok(body.check(&connection, agent)?)));
        let by_plain = text.ok().and_then(fast_authorize_json::single).map(|body| body.check(&connection, None));
        if let (Some(Ok(plain)), general) = (by_plain, read(None)) {
            assert_eq!(Some(plain), general);
        }
        let id = small.agent(0).to_string();
        let mut requests: Vec<Request> = [read(None), read(Some(&id))].into_iter().flatten().collect();
        let many = checked(read_batch(&connection, bytes)).into_iter().flatten();
        requests.extend(many.filter_map(|item| checked(item.map_err(Problem))).take(4));
        for request in requests {
            small.authorize(&caller, &request);
        }
    }
    small.check();
}

/// The body without what its reader knew about the arguments, after checking that it was right.
fn by_text(mut body: AuthorizeBody<'_>) -> AuthorizeBody<'_> {
    body.arguments = body.arguments.map(|arguments| {
        assert_eq!(arguments.compact(), Arguments::Any(arguments.text()).compact());
        Arguments::Any(arguments.text())
    });
    body
}

/// A refusal has a client's code and a sentence of one line.
fn checked<T>(answer: Result<T, Problem>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(Problem(error)) => {
            assert!((400..500).contains(&kavach::api::status::status(error.code())), "{error}");
            let message = error.message();
            assert!(!message.is_empty() && message.len() < 4_000, "{} bytes of message", message.len());
            assert!(!message.chars().any(char::is_control), "{message:?}");
            None
        }
    }
}

/// Runs the rest of a request's body, or query string, against the tenant.
type ApiStep = fn(&mut Small, &[u8]) -> Result<(), Problem>;

/// Every route that takes a body or a query string, except authorize itself.
const ROUTES: &[(&str, ApiStep)] = &[
    ("POST /v1/tenants", create_tenant),
    ("PATCH /v1/tenants/{tenant}", |small, body| {
        small.repeated(By::Operator, || Ok(UpdateTenant(parse::<TenantPatch>(body)?)))
    }),
    ("POST /v1/tenants/{tenant}/keys", create_key),
    ("PATCH /v1/tenants/{tenant}/keys/{id}", update_key),
    ("POST /v1/keys", create_operator_key),
    ("PATCH /v1/keys/{id}", update_operator_key),
    ("POST /v1/tokens/introspect", introspect),
    ("POST /v1/agents", create_agent),
    ("PATCH /v1/agents/{id}", |small, body| {
        let id = small.chosen(body);
        small.repeated(By::Operator, || Ok(UpdateAgent::parse(id, parse::<AgentPatch>(body)?)?))
    }),
    ("POST /v1/agents/{id}/rotate", rotate),
    ("POST /v1/delegations", create_delegation),
    ("POST /v1/policies", create_policy),
    ("PATCH /v1/policies/{id}", |small, body| {
        let id = small.tenant.policies()[body.len() % small.tenant.policies().len()].profile.id;
        small.repeated(By::Operator, || Ok(UpdatePolicy { id, patch: parse::<PolicyPatch>(body)? }))
    }),
    ("POST /v1/policies/{id}/reset", |small, body| {
        let id = small.tenant.policies()[0].profile.id;
        let Reset { period } = parse(body)?;
        small.execute(By::Operator, ResetPolicy { id, period }).map(|_| ())
    }),
    ("POST /v1/policies/reset", |small, body| {
        let ResetAll { tenant_id: _, period } = parse(body)?;
        small.execute(By::Operator, ResetPolicies(period)).map(|_| ())
    }),
    ("POST /v1/webhooks", |small, body| {
        small.execute(By::Operator, CreateWebhook::parse(parse::<NewWebhook>(body)?)?)?;
        let made = WebhookView::of(&small.tenant, small.tenant.webhooks().last().unwrap());
        let json = readable(&serde_json::to_string(&WebhookJson::from(made)).unwrap());
        // What was accepted is accepted again, as it is shown.
        let again = with(&json, &["url", "events", "format", "description"]);
        CreateWebhook::parse(parse::<NewWebhook>(again.to_string().as_bytes()).unwrap()).unwrap();
        Ok(())
    }),
    ("PATCH /v1/webhooks/{id}", |small, body| {
        let patch = parse::<WebhookPatch>(body)?;
        let Some(id) = small.tenant.webhooks().first().map(|webhook| webhook.profile.id) else { return Ok(()) };
        small.repeated(By::Operator, || Ok(UpdateWebhook { id, patch: patch.clone() }))
    }),
    ("POST /v1/budget/check", check_budget),
    ("POST /v1/usage", report_usage),
    ("POST /v1/holds/{id}/extend", extend_hold),
    ("GET /v1/holds", query::<holds::HoldQuery>),
    ("POST /access/v1/evaluation", crate::authzen::evaluation),
    ("POST /access/v1/evaluations", crate::authzen::evaluations),
    ("POST /access/v1/search/subject", crate::authzen::search_subject),
    ("POST /access/v1/search/resource", crate::authzen::search_resource),
    ("POST /access/v1/search/action", crate::authzen::search_action),
    ("DELETE /v1/tenants/{tenant}", query::<Confirmation>),
    ("GET /v1/tenants", query::<Paging>),
    ("GET /v1/agents", query::<agents::AgentQuery>),
    ("GET /v1/delegations", query::<delegations::DelegationQuery>),
    ("GET /v1/delegations/{id}", query::<delegations::PageQuery>),
    ("GET /v1/policies", query::<policies::PolicyQuery>),
    ("GET /v1/webhooks", query::<webhooks::WebhookQuery>),
    ("GET /v1/webhooks/{id}/deliveries", query::<webhooks::DeliveryQuery>),
    ("GET /v1/audit", |_, text| query_of::<audit::AuditListQuery>(text)?.page().map(|_| ())),
    ("GET /v1/audit/export", |_, text| query_of::<audit::AuditListQuery>(text)?.export().map(|_| ())),
    ("GET /v1/spend", |_, text| query_of::<spend::SpendReportQuery>(text)?.read().map(|_| ())),
    ("GET /v1/audit/stream", |_, text| query_of::<audit::AuditListQuery>(text)?.stream().map(|_| ())),
];

/// Separates two requests.
const BETWEEN: &[u8] = b"\n---\n";
/// Requests in one input.
const MOST_STEPS: usize = 12;

/// Requests, one after another: a line with the route, then the body or the query string.
pub fn commands(bytes: &[u8]) {
    let mut small = Small::new();
    let mut rest = bytes;
    for _ in 0..MOST_STEPS {
        let end = memchr::memmem::find(rest, BETWEEN);
        let step = &rest[..end.unwrap_or(rest.len())];
        let line = step.iter().position(|byte| *byte == b'\n').unwrap_or(step.len());
        let (route, body) = (&step[..line], step.get(line + 1..).unwrap_or_default());
        // An unknown route stands for a known one.
        let named = ROUTES.iter().position(|(name, _)| name.as_bytes() == route);
        let at = named.unwrap_or_else(|| route.iter().map(|byte| usize::from(*byte)).sum::<usize>() % ROUTES.len());
        let before = small.journal.len();
        if checked(ROUTES[at].1(&mut small, body)).is_none() {
            assert_eq!(small.journal.len(), before, "what is refused changes nothing");
        }
        let Some(end) = end else { break };
        rest = &rest[end + BETWEEN.len()..];
    }
    small.check();
    shown(&small.tenant, small.now);
}

/// What the command targets do with the small tenant.
trait Commands {
    /// The agent that a body is about, chosen by its length.
    fn chosen(&self, body: &[u8]) -> AgentId;
    /// Decides a command and applies its change. Returns whether there was one.
    fn execute<C: Command>(&mut self, by: By, command: C) -> Result<bool, Problem>;
    /// A repeated change changes nothing.
    fn repeated<C: Command>(&mut self, by: By, make: impl Fn() -> Result<C, Problem>) -> Result<(), Problem>;
}

impl Commands for Small {
    /// The agent that a body is about, chosen by its length.
    fn chosen(&self, body: &[u8]) -> AgentId {
        self.agent(body.len() % self.tenant.agents().len())
    }

    /// Decides a command and applies its change. Returns whether there was one.
    fn execute<C: Command>(&mut self, by: By, command: C) -> Result<bool, Problem> {
        let moment = self.tenant.next_moment(self.now);
        let (change, subject) = command.decide(&self.tenant, by, moment)?;
        let changed = change.is_some();
        if let Some(change) = change {
            self.happen(&Event::Changed(ChangeRecord::new(by, change)));
        }
        let _ = C::reply(&self.tenant, subject, self.now);
        Ok(changed)
    }

    /// A repeated change changes nothing.
    fn repeated<C: Command>(&mut self, by: By, make: impl Fn() -> Result<C, Problem>) -> Result<(), Problem> {
        self.execute(by, make()?)?;
        // Time has passed: a refusal now need not come from what the command says.
        if let Ok(changed) = self.execute(by, make()?) {
            assert!(!changed, "the same change once more is none");
        }
        Ok(())
    }
}

fn create_tenant(_: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let spec = TenantSpec::parse(parse::<NewTenant>(body)?)?;
    let mut other = Small { tenant: Tenant::default(), journal: Vec::new(), now: Timestamp::from_millis(1) };
    let id = TenantId::generate(other.now, [3; 10]).unwrap();
    other.happen(&Event::Changed(ChangeRecord::new(By::Operator, spec.created(id))));
    other.check();
    let json = readable(&serde_json::to_string(&TenantJson::from(other.tenant.profile().clone())).unwrap());
    let again = with(&json, &["name", "slug", "settings"]);
    let again = TenantSpec::parse(parse::<NewTenant>(again.to_string().as_bytes())?)?.created(id);
    let Change::TenantCreated { name, slug, settings, .. } = again else { panic!("{again:?}") };
    let profile = other.tenant.profile();
    assert_eq!((name, slug, settings), (profile.name.clone(), profile.slug.clone(), profile.settings.clone()));
    Ok(())
}

fn create_key(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let NewKey { name, role, expires_at } = parse(body)?;
    let expires_at = expires_at.map(|text| Timestamp::parse("expiresAt", &text)).transpose()?;
    let secret = Secret::tenant_key(tenant_id(), [small.journal.len() as u8; 32]);
    small.execute(By::Operator, CreateKey::new(&name, &secret)?.with_role(role).until(expires_at)).map(|_| ())
}

fn update_key(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let patch: KeyPatch = parse(body)?;
    let secret = Secret::tenant_key(tenant_id(), [small.journal.len() as u8; 32]);
    let _ = small.execute(By::Operator, CreateKey::new("ci", &secret)?);
    let id = small.tenant.keys().last().unwrap().id;
    small.repeated(By::Operator, || Ok(UpdateKey::parse(id, patch.clone())?))
}

/// Operators' keys are another tenant's.
fn update_operator_key(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let patch: KeyPatch = parse(body)?;
    let id = KeyId::derive(small.now, 1, tenant_id().tag());
    assert!(small.execute(By::Operator, UpdateOperatorKey::parse(id, patch)?).is_err());
    Ok(())
}

/// Operators' keys are another tenant's.
fn create_operator_key(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let NewOperatorKey { name, role, expires_at } = parse(body)?;
    let expires_at = expires_at.map(|text| Timestamp::parse("expiresAt", &text)).transpose()?;
    let secret = Secret::operator_key([small.journal.len() as u8; 32]);
    let command = CreateOperatorKey::new(&name, role, expires_at, &secret)?;
    assert!(small.execute(By::Operator, command).is_err());
    Ok(())
}

fn introspect(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let TokenBody { token, .. } = parse(body)?;
    let facts = TokenFacts::find(&small.tenant, &Credential::parse(&token), small.now);
    readable(&serde_json::to_string(&facts.map(IntrospectionJson::from).unwrap_or_default()).unwrap());
    Ok(())
}

fn create_agent(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let token = Secret::agent_token(tenant_id(), [small.journal.len() as u8; 32]).hash();
    small.execute(By::Operator, CreateAgent::parse(parse::<NewAgent>(body)?, token)?)?;
    // What the server shows can be sent again, with an equal result.
    let agent = small.tenant.agents().last().unwrap();
    let view = AgentView::of(&small.tenant, agent, small.now);
    let json = readable(&serde_json::to_string(&AgentJson::new(&view, None)).unwrap());
    let again = with(&json, &["ownerId", "name", "type", "permissions", "expiresAt", "metadata"]);
    let again = CreateAgent::parse(parse::<NewAgent>(again.to_string().as_bytes()).unwrap(), token).unwrap();
    let moment = small.tenant.next_moment(small.now);
    if let Ok((Some(Change::AgentCreated { spec, .. }), _)) = again.decide(&small.tenant, By::Operator, moment) {
        let mut made = agent.profile.spec.clone();
        // Missing metadata is shown as an empty object; a value puts members in its own order.
        made.metadata = spec.metadata.clone();
        assert_eq!(*spec, made);
    }
    Ok(())
}

fn rotate(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let rotation: agents::Rotation = parse(body)?;
    let token = Secret::agent_token(tenant_id(), [small.journal.len() as u8; 32]).hash();
    small.execute(By::Operator, RotateToken::new(small.chosen(body), token, rotation.grace_seconds)?).map(|_| ())
}

fn create_delegation(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    small.execute(By::Operator, CreateDelegation::parse(parse::<NewDelegation>(body)?)?)?;
    let made = small.tenant.delegations().last().unwrap().profile.clone();
    // A borrower holds no more than the lender: each lent permission is covered by one of the lender's.
    let from = small.tenant.agent(made.spec.from).unwrap();
    let held = effective_permissions(&small.tenant, from.profile.id, small.now)?;
    assert!(!held.is_empty());
    let json = DelegationView::find(&small.tenant, made.id, small.now)?;
    readable(&serde_json::to_string(&DelegationJson::from(json)).unwrap());
    Ok(())
}

fn create_policy(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    small.execute(By::Operator, CreatePolicy::parse(parse::<NewPolicy>(body)?)?)?;
    let made = small.tenant.policies().last().unwrap().clone();
    let view = PolicyView::of(&small.tenant, &made, small.now);
    let json = readable(&serde_json::to_string(&PolicyJson::from(view)).unwrap());
    let again = with(&json, &["agentId", "userId", "limits", "action"]);
    small.execute(
        By::Operator,
        CreatePolicy::parse(parse::<NewPolicy>(again.to_string().as_bytes()).unwrap()).unwrap(),
    )?;
    let (copy, made) = (&small.tenant.policies().last().unwrap().profile, &made.profile);
    assert_eq!(
        (&copy.agent, &copy.owner, &copy.limits, copy.action),
        (&made.agent, &made.owner, &made.limits, made.action)
    );
    Ok(())
}

fn check_budget(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let body: CheckBody = parse(body)?;
    let cost = read_cost(body.tokens_cost.as_deref())?;
    if let Some(agent) = AgentId::parse(&body.agent_id).and_then(|id| small.tenant.agent(id)) {
        let call = Call { action: body.action.as_deref(), resource: body.resource.as_deref() };
        let check = small.tenant.check_budgets(agent, call, cost, small.now, &mut ());
        readable(&serde_json::to_string(&check.notes.unwrap_or_default().warnings).unwrap());
    }
    Ok(())
}

fn report_usage(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let UsageBody { agent_id, tokens_cost, calls, audit_id } = parse(body)?;
    let cost = read_cost(tokens_cost.as_deref())?;
    let agent = AgentId::parse(&agent_id).unwrap_or_else(|| small.agent(0));
    let mut report = UsageReport::new(agent, calls, cost)?;
    if let Some(id) = audit_id.as_deref().and_then(AuditId::parse)
        && let Some(bytes) = usize::try_from(id.seq()).ok().and_then(|seq| small.journal.get(seq.checked_sub(1)?))
    {
        let (at, event) = codec::decode_event(0, bytes).unwrap();
        report = report.settling(id, at, &event)?;
    }
    let moment = small.tenant.next_moment(small.now);
    let (record, answer) = small.tenant.decide_usage(By::Operator, report.clone(), moment)?;
    readable(&serde_json::to_string(&answer).unwrap());
    let settles = report.settles.is_some();
    if let Some(record) = record {
        small.happen(&Event::Used(record));
    }
    if settles {
        let moment = small.tenant.next_moment(small.now);
        let repeated = small.tenant.decide_usage(By::Operator, report, moment)?;
        assert_eq!(repeated, (None, answer), "a repeat is answered as the first was");
    }
    Ok(())
}

fn extend_hold(small: &mut Small, body: &[u8]) -> Result<(), Problem> {
    let time = HoldTime::parse("ttlSeconds", parse::<holds::HoldExtension>(body)?.ttl_seconds)?;
    let Some(hold) = HoldView::list(&small.tenant, None, None, 1, small.now).pop() else { return Ok(()) };
    let moment = small.tenant.next_moment(small.now);
    let (record, view) = small.tenant.decide_extension(By::Operator, hold.id, time, moment)?;
    small.happen(&Event::Used(record));
    assert_eq!(HoldView::find(&small.tenant, hold.id, small.now).unwrap(), view);
    readable(&serde_json::to_string(&HoldJson::from(view)).unwrap());
    Ok(())
}

fn query_of<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    parse_query(&String::from_utf8_lossy(text))
}

fn query<T: DeserializeOwned>(_: &mut Small, text: &[u8]) -> Result<(), Problem> {
    query_of::<T>(text).map(|_| ())
}

/// These members of the object.
fn with(json: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), json[*name].clone())).collect()
}

/// Everything that lists show of a tenant.
pub(crate) fn shown(tenant: &Tenant, now: Timestamp) {
    let write = |text: Result<String, serde_json::Error>| readable(&text.unwrap());
    write(serde_json::to_string(&TenantJson::from(tenant.profile().clone())));
    for key in tenant.keys() {
        let used = KeyUse { key: key.clone(), last_used_at: None, since: key.created_at };
        write(serde_json::to_string(&KeyJson::listed(used)));
    }
    for agent in tenant.agents() {
        write(serde_json::to_string(&AgentJson::new(&AgentView::of(tenant, agent, now), None)));
        for permission in effective_permissions(tenant, agent.profile.id, now).unwrap() {
            write(serde_json::to_string(&EffectivePermissionJson::from(permission)));
        }
    }
    for policy in tenant.policies() {
        write(serde_json::to_string(&PolicyJson::from(PolicyView::of(tenant, policy, now))));
    }
    for hold in HoldView::list(tenant, None, None, 1_000, now) {
        write(serde_json::to_string(&HoldJson::from(hold)));
    }
    for link in DelegationView::list(tenant, DelegationFilter::default(), now, None, 1_000) {
        write(serde_json::to_string(&DelegationJson::from(link)));
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use super::*;

    /// Routes with neither a body nor a query string, and those of the other target.
    const OTHERS: [&str; 14] = [
        "POST /v1/authorize",
        "POST /v1/authorize/batch",
        "POST /v1/authorize/explain",
        "POST /v1/agents/{id}/authorize",
        "POST /v1/tenants/{tenant}/authorize",
        "POST /v1/agents/{id}/suspend",
        "POST /v1/agents/{id}/activate",
        "POST /v1/tenants/{tenant}/suspend",
        "POST /v1/tenants/{tenant}/activate",
        "POST /v1/snapshot",
        "POST /v1/holds/{id}/release",
        "POST /v1/webhooks/{id}/rotate",
        "POST /v1/webhooks/{id}/test",
        "POST /v1/webhooks/{id}/deliveries/{delivery}/redeliver",
    ];

    #[test]
    fn no_route_that_takes_a_body_is_left_out() {
        for endpoint in kavach::api::endpoints() {
            let name = format!("{} {}", endpoint.method, endpoint.path);
            let takes_body = [Method::POST, Method::PATCH, Method::PUT].contains(&endpoint.method);
            let known = ROUTES.iter().any(|(route, _)| *route == name) || OTHERS.contains(&name.as_str());
            assert!(known || !takes_body, "{name} is not fuzzed");
        }
    }
}
