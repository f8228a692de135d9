//! Decisions.

use crate::actors::messages::Explanation;
use crate::api::authorize::BatchAnswer;
use crate::api::openapi::{Docs, Tag};
use crate::domain::Code::{
    Forbidden, InstanceBudgetUnavailable, InvalidField, StorageUnavailable, TenantNotFound, UnmappedRequest,
};
use crate::domain::Decision;

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Decisions, id, summary)
}

fn decides(id: &'static str, summary: &'static str) -> Docs {
    docs(id, summary)
        .answers::<Decision>(200, "The decision, yes or no.")
        .fails(&[InvalidField, Forbidden, InstanceBudgetUnavailable])
        .writes()
}

/// `POST /v1/authorize`
pub fn single() -> Docs {
    decides("authorize", "Decide a call")
        .about(
            "May this agent do this action on this resource now? Decides, charges budgets and records, in one step. With an agent token the agent asks for itself, and the \
             address is its connection's; a service with a key names the agent, and the address in `context`. Fields \
             that are not known are ignored.",
        )
        .fails(&[TenantNotFound])
        .once()
}

/// `POST /v1/agents/{id}/authorize`
pub fn by_agent() -> Docs {
    decides("authorizeAgent", "Decide a call of the agent in the path")
        .about("As `POST /v1/authorize`. A body that names another agent than the path is refused.")
        .fails(&[TenantNotFound])
        .once()
}

/// `POST /v1/tenants/{tenant}/authorize`
pub fn by_tenant() -> Docs {
    decides("authorizeInTenant", "Decide a call in the tenant in the path")
        .about("As `POST /v1/authorize`. Agents of other tenants do not exist here.")
        .fails(&[TenantNotFound])
        .once()
}

/// `POST /v1/authorize/batch`
pub fn batch() -> Docs {
    docs("authorizeBatch", "Decide many calls at once")
        .about(
            "Each is decided, charged and recorded on its own, in order. A malformed one gets an `error` in its place, is not \
             recorded, and does not affect the others. Each may have its own `idempotencyKey`; the header is refused.",
        )
        .answers::<BatchAnswer>(200, "The decisions, in the order of the requests.")
        .fails(&[InvalidField, Forbidden, TenantNotFound, InstanceBudgetUnavailable])
        .writes()
}

/// `POST /v1/authorize/explain`
pub fn explain() -> Docs {
    docs("explainDecision", "Show how a call would be decided")
        .about("Decides without charging or recording, and shows each step.")
        .answers::<Explanation>(200, "The decision and what was looked at.")
        .fails(&[InvalidField, TenantNotFound, StorageUnavailable])
}

/// Any method, `/v1/forward-auth` and below.
pub fn forward_auth() -> Docs {
    docs("forwardAuth", "May a gateway let this request through?")
        .about(
            "For nginx, Traefik and Envoy, which ask before they let a request through. Any method is taken, and with \
             `--forward-auth envoy` the original path stands behind this one. Action and resource are made of the original \
             request by the server's rules. nginx gets a 403 instead of a 429.",
        )
        .empty("The agent may.")
        .with(&["Kavach-Agent-Id", "Kavach-Tenant-Id", "Kavach-Audit-Id", "Kavach-Warnings"])
        .header::<String>("X-Original-Method", "The original method, with `--forward-auth nginx`.")
        .header::<String>("X-Original-URI", "The original path with its query, with `--forward-auth nginx`.")
        .header::<String>("X-Original-Host", "The original host, with `--forward-auth nginx`.")
        .header::<String>("X-Forwarded-Method", "The original method, with `--forward-auth traefik`.")
        .header::<String>("X-Forwarded-Uri", "The original path with its query, with `--forward-auth traefik`.")
        .header::<String>("X-Forwarded-Host", "The original host, with `--forward-auth traefik`.")
        .fails(&[InstanceBudgetUnavailable, UnmappedRequest])
        .denies()
        .writes()
}
