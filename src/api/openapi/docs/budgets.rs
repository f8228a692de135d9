//! Budgets and usage.

use crate::api::openapi::{Docs, Tag};
use crate::api::policies::CheckJson;
use crate::api::responses::PolicyJson;
use crate::domain::Code::{
    AgentNotFound, AlreadySettled, AuditEntryNotFound, Forbidden, InvalidField, NotSettleable, PolicyLimitExceeded,
    PolicyNotFound, TenantMismatch, TenantNotFound,
};
use crate::domain::budget::usage::UsageAnswer;

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Budgets, id, summary)
}

/// `POST /v1/policies`
pub fn create() -> Docs {
    docs("createPolicy", "Create a budget policy")
        .about(
            "It applies to all agents of the tenant, to one owner's, or to one agent. Days and calendar months are UTC. \
             A tenant key can change, reset and delete a policy that a tenant key set last; what an operator \
             made or changed since is the operator's.",
        )
        .created::<PolicyJson>("The new policy.")
        .fails(&[InvalidField, TenantMismatch, TenantNotFound, AgentNotFound, PolicyLimitExceeded])
        .writes()
        .once()
}

/// `GET /v1/policies`
pub fn list() -> Docs {
    docs("listPolicies", "List budget policies")
        .about("Oldest first, with current usage.")
        .list::<PolicyJson>("The policies.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /v1/policies/{id}`
pub fn get() -> Docs {
    docs("getPolicy", "Get a budget policy")
        .about("With what is used of it today and this month.")
        .answers::<PolicyJson>(200, "The policy.")
        .fails(&[PolicyNotFound])
}

/// `PATCH /v1/policies/{id}`
pub fn update() -> Docs {
    docs("updatePolicy", "Change a budget policy")
        .about("Omitted fields stay as they are. `null` clears a limit; one has to be left. `status: disabled` switches the policy off. After an \
             operator's change only an operator changes it.")
        .answers::<PolicyJson>(200, "The policy as it is now.")
        .fails(&[InvalidField, Forbidden, PolicyNotFound])
        .writes()
}

/// `DELETE /v1/policies/{id}`
pub fn delete() -> Docs {
    docs("deletePolicy", "Delete a budget policy")
        .about("It is final, and its limits end at once. The audit trail keeps what was decided by it.")
        .nothing("It is gone.")
        .fails(&[InvalidField, Forbidden, PolicyNotFound])
        .writes()
}

/// `POST /v1/policies/{id}/reset`
pub fn reset() -> Docs {
    docs("resetPolicy", "Start a policy's counts anew")
        .about("The body names which: those of the `day`, of the `month`, or `all`.")
        .answers::<PolicyJson>(200, "The policy as it is now.")
        .fails(&[Forbidden, PolicyNotFound])
        .writes()
}

/// `POST /v1/budget/check`
pub fn check() -> Docs {
    docs("checkBudget", "Ask whether a call would exceed a budget")
        .about("Charges and records nothing.")
        .answers::<CheckJson>(200, "What all policies about the agent say.")
        .fails(&[InvalidField, AgentNotFound])
}

/// `POST /v1/usage`
pub fn report() -> Docs {
    docs("reportUsage", "Report what was used")
        .about(
            "With `auditId` the decision's estimate becomes the real cost; repeating it with the same cost changes nothing. \
             Without, cost and calls are added, even past a limit.",
        )
        .answers::<UsageAnswer>(200, "What counts now.")
        .fails(&[InvalidField, AgentNotFound, AuditEntryNotFound, AlreadySettled, NotSettleable])
        .writes()
        .once()
}
