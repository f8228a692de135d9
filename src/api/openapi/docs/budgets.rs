//! Budgets and usage.

use crate::api::openapi::examples::spend_csv;
use crate::api::openapi::{Docs, Tag};
use crate::api::policies::{CheckJson, ResetAllJson};
use crate::api::responses::{AgentPolicyJson, PolicyJson};
use crate::api::spend::SpendReportJson;
use crate::domain::Code::{
    AgentNotFound, AlreadySettled, AuditEntryNotFound, Forbidden, HoldEnded, InstanceBudgetUnavailable, InvalidField,
    InvalidPattern, NotSettleable, PolicyLimitExceeded, PolicyNotFound, StorageUnavailable, TenantMismatch,
    TenantNotFound, TooManyGroups,
};
use crate::domain::budget::usage::UsageAnswer;

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Budgets, id, summary)
}

/// `POST /v1/policies`
pub fn create() -> Docs {
    docs("createPolicy", "Create a budget policy")
        .about(
            "It applies to all agents of the tenant, to one owner's, or to one agent; with `labels`, `resource` or `actions` \
             it charges only calls that match all it names. Its windows follow `timeZone`, `weekStartsOn` and \
             `monthStartsOn`; a total never starts anew. Calls and cost of an hour, a week and in all count from the moment \
             a limit of that kind is set. `temporary` limits replace those of the same names until they end by themselves. \
             A tenant key can change, reset and delete a policy that a tenant key set last; what an operator \
             made or changed since is the operator's.\n\nWith `scope: instance` one limit holds for all tenants together, and is never exceeded: tenants get slices of it when they need them, and what they don't use comes back. It takes an operator key.",
        )
        .created::<PolicyJson>("The new policy.")
        .fails(&[InvalidField, InvalidPattern, Forbidden, TenantMismatch, TenantNotFound, AgentNotFound, PolicyLimitExceeded])
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
        .about(
            "With what is used of it. For each limit of a window, the limit is always what is left plus what is spent plus \
             what open holds hold.",
        )
        .answers::<PolicyJson>(200, "The policy.")
        .tagged()
        .fails(&[PolicyNotFound])
}

/// `PATCH /v1/policies/{id}`
pub fn update() -> Docs {
    docs("updatePolicy", "Change a budget policy")
        .about(
            "Omitted fields stay as they are. `null` clears a limit; one has to be left. `status: disabled` switches the \
             policy off. A change of the calendar keeps the counts: the open windows go on until the new calendar ends \
             them. A policy made without `labels`, `resource` and `actions` gets none later, and one made with some keeps at \
             least one. After an operator's change only an operator changes it.",
        )
        .answers::<PolicyJson>(200, "The policy as it is now.")
        .tagged()
        .fails(&[InvalidField, InvalidPattern, Forbidden, PolicyNotFound])
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
        .about("The body names which: those of the `hour`, the `day`, the `week`, the `month`, the `total`, or `all`. One that the policy does not have is no error.")
        .answers::<PolicyJson>(200, "The policy as it is now.")
        .fails(&[Forbidden, InstanceBudgetUnavailable, PolicyNotFound])
        .once()
        .writes()
}

/// `POST /v1/policies/reset`
pub fn reset_all() -> Docs {
    docs("resetPolicies", "Start the counts of all of a tenant's policies anew")
        .about(
            "In one event: either all are reset or none. With a tenant key, the policies that an operator set last are left \
             alone.",
        )
        .answers::<ResetAllJson>(200, "How many were reset.")
        .fails(&[TenantMismatch, TenantNotFound])
        .once()
        .writes()
}

/// `GET /v1/agents/{id}/policies`
pub fn of_agent() -> Docs {
    docs("listAgentPolicies", "List the policies that bind an agent")
        .about(
            "Oldest first, with the windows of each: what is used, what is left, and when the count starts anew. Policies \
             that name a resource or actions are among them; they charge only calls that match. Of policies of the whole \
             instance it only says that they bind.",
        )
        .answers::<Vec<AgentPolicyJson>>(200, "The policies.")
        .fails(&[AgentNotFound, InstanceBudgetUnavailable])
}

/// `POST /v1/budget/check`
pub fn check() -> Docs {
    docs("checkBudget", "Ask whether a call would exceed a budget")
        .about(
            "Charges and records nothing. Policies that name actions or a resource are asked only if the call's are given. \
             Policies of the whole instance are asked once those of the tenant let the call through. Whether there is enough \
             of one is exact at that moment, but for `depends`: then it is enough only if tenants that did not answer have not \
             spent what they hold, and the call is shown as allowed. Amounts of these policies are shown to operators only.",
        )
        .answers::<CheckJson>(200, "What all policies about the agent say.")
        .fails(&[InvalidField, AgentNotFound, InstanceBudgetUnavailable])
}

/// `POST /v1/usage`
pub fn report() -> Docs {
    docs("reportUsage", "Report what was used")
        .about(
            "With `auditId` the decision's estimate becomes the real cost; repeating it with the same cost changes nothing. \
             If the estimate was held, that ends the hold. Without `auditId`, cost and calls are added, even past a limit: to the policies about the agent that name no action and \
             no resource, since such a report is about no call.",
        )
        .answers::<UsageAnswer>(200, "What counts now.")
        .fails(&[InvalidField, AgentNotFound, AuditEntryNotFound, AlreadySettled, NotSettleable, HoldEnded])
        .fails(&[InstanceBudgetUnavailable])
        .writes()
        .once()
}

/// `GET /v1/spend`
pub fn spend() -> Docs {
    docs("reportSpend", "Report what was spent")
        .about(
            "Adds up the entries of the audit trail from `since` to `until`, in groups. The sums are exact: they equal \
             those of the entries that `/v1/audit/export?kind=all` gives for the same time. A decision counts when it \
             was made, with the cost it was settled at by the time of the report, or else with its estimate; a usage \
             report without a decision counts when it was made. Owners and labels are those at that time. So a month's sums are a month's bill, once its calls \
             are settled. Entries past the tenant's `auditRetentionDays` are not counted.\n\nA report of all tenants \
             leaves out those that can't be read, and names them; a report of one tenant fails.",
        )
        .answers::<SpendReportJson>(200, "The report in the requested format.")
        .text("text/csv; charset=utf-8; header=present", "", spend_csv)
        .with(&["Content-Disposition", "Kavach-Unavailable-Tenants"])
        .fails(&[InvalidField, StorageUnavailable, TenantMismatch, TenantNotFound, TooManyGroups])
}
