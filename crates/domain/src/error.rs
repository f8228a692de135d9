//! Every code that the server answers with, in one table, and the error that carries one.

use std::fmt;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::secret_scan::{hide_secrets, holds_secret};

macro_rules! codes {
    (denials { $($denial:ident $denial_text:literal $denial_meaning:literal;)* }
     errors { $($error:ident $error_text:literal $error_meaning:literal;)* }) => {
        /// A stable code for programs. The wording of a message may change, a code never does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        pub enum Code {
            $(#[doc = $denial_meaning] #[serde(rename = $denial_text)] $denial,)*
            $(#[doc = $error_meaning] #[serde(rename = $error_text)] $error,)*
        }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &'static [Code] = &[$(Code::$denial,)* $(Code::$error,)*];

            /// The code in an answer, such as `SLUG_TAKEN`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$denial => $denial_text,)* $(Code::$error => $error_text,)* }
            }

            /// Whether a decision may be denied with this code.
            pub fn denies(self) -> bool {
                match self { $(Code::$denial => true,)* $(Code::$error => false,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$denial => $denial_meaning,)* $(Code::$error => $error_meaning,)* }
            }
        }
    };
}

codes! {
    // We understood the call, and the answer is no. Errors use TENANT_MISMATCH and AGENT_NOT_FOUND too.
    denials {
        TenantMismatch "TENANT_MISMATCH" "The request names a tenant that is not the agent's, or not the key's.";
        TenantSuspended "TENANT_SUSPENDED" "The agent's tenant is suspended.";
        AgentNotFound "AGENT_NOT_FOUND" "There is no such agent in this tenant, or this key may not see it.";
        AgentRevoked "AGENT_REVOKED" "The agent was revoked.";
        AgentSuspended "AGENT_SUSPENDED" "The agent is suspended, until somebody activates it.";
        AgentExpired "AGENT_EXPIRED" "The agent's expiresAt has passed.";
        PermissionDenied "PERMISSION_DENIED" "No permission of the agent matches the action and the resource, or the call is malformed.";
        OutsideTimeWindow "OUTSIDE_TIME_WINDOW" "The matching permission does not hold at this time of day.";
        IpNotAllowed "IP_NOT_ALLOWED" "The address of the call is unknown or not in the permission's allowlist.";
        ArgumentNotAllowed "ARGUMENT_NOT_ALLOWED" "An argument is not one that the permission's patterns or rules allow, or one that they need is missing.";
        RequiresApproval "REQUIRES_APPROVAL" "The matching permission requires a person's approval.";
        RateLimited "RATE_LIMITED" "The permission's calls of the last hour are used up.";
        BudgetExceeded "BUDGET_EXCEEDED" "A budget policy's limit is used up, or the call would exceed it.";
        HoldLimitExceeded "HOLD_LIMIT_EXCEEDED" "The tenant has reached its limit of open holds.";
    }
    // We could not answer the request.
    errors {
        InvalidBody "INVALID_BODY" "The body is not the JSON that this route expects.";
        InvalidField "INVALID_FIELD" "A field of the request holds a value it can't have.";
        InvalidQuery "INVALID_QUERY" "The query string is not what this route expects.";
        InvalidPattern "INVALID_PATTERN" "A resource pattern, argument pattern, time window or network can't be read.";
        ConfirmationRequired "CONFIRMATION_REQUIRED" "Deleting a tenant requires ?confirm= with its slug.";
        Unauthenticated "UNAUTHENTICATED" "The request carries no key or token.";
        InvalidToken "INVALID_TOKEN" "The key or token is not valid.";
        Forbidden "FORBIDDEN" "The key or token is valid, but it may not do this.";
        UnmappedRequest "UNMAPPED_REQUEST" "The request that a gateway asks about is ambiguous, or no rule maps it to an action and a resource.";
        RouteNotFound "ROUTE_NOT_FOUND" "There is no such route.";
        TenantNotFound "TENANT_NOT_FOUND" "There is no such tenant, or this key may not see it.";
        KeyNotFound "KEY_NOT_FOUND" "There is no such API key, or this key may not see it.";
        PolicyNotFound "POLICY_NOT_FOUND" "There is no such policy, or this key may not see it.";
        DelegationNotFound "DELEGATION_NOT_FOUND" "There is no such delegation, this key may not see it, or it ended long ago and only the audit trail has it.";
        WebhookNotFound "WEBHOOK_NOT_FOUND" "There is no such webhook, or this key may not see it.";
        DeliveryNotFound "DELIVERY_NOT_FOUND" "The webhook has no such delivery, or had it so long ago that it is not listed any more.";
        AuditEntryNotFound "AUDIT_ENTRY_NOT_FOUND" "There is no such audit entry, or this key may not see it.";
        HoldNotFound "HOLD_NOT_FOUND" "There is no such open hold, or this key may not see it.";
        MethodNotAllowed "METHOD_NOT_ALLOWED" "The route exists, but not with this method.";
        RequestTimeout "REQUEST_TIMEOUT" "The body did not arrive in time. Nothing was changed.";
        SlugTaken "SLUG_TAKEN" "Another tenant has this slug.";
        AgentIsRevoked "AGENT_IS_REVOKED" "The agent was revoked, which is final: it can't be changed.";
        AlreadySettled "ALREADY_SETTLED" "The decision was settled with another cost.";
        NotSettleable "NOT_SETTLEABLE" "The decision was denied, or is too old to be settled.";
        IdempotencyKeyInUse "IDEMPOTENCY_KEY_IN_USE" "A request with this idempotency key is under way. Send it again in a moment.";
        HoldEnded "HOLD_ENDED" "The hold was settled, was released, or ended by itself.";
        WebhookDisabled "WEBHOOK_DISABLED" "The webhook is disabled, so nothing is sent to it.";
        PreconditionFailed "PRECONDITION_FAILED" "It was changed since the version that If-Match names. Nothing was changed.";
        PayloadTooLarge "PAYLOAD_TOO_LARGE" "The body is over its limit.";
        AgentLimitExceeded "AGENT_LIMIT_EXCEEDED" "The tenant has reached its limit of active agents (maxAgents), or its limit of agents in all.";
        AgentTypeNotAllowed "AGENT_TYPE_NOT_ALLOWED" "The tenant's allowedAgentTypes does not include this type.";
        DefaultTenantFixed "DEFAULT_TENANT_FIXED" "The default tenant can't be suspended or deleted.";
        KeyLimitExceeded "KEY_LIMIT_EXCEEDED" "The tenant has reached its limit of API keys.";
        PolicyLimitExceeded "POLICY_LIMIT_EXCEEDED" "The tenant has reached its limit of policies.";
        WebhookLimitExceeded "WEBHOOK_LIMIT_EXCEEDED" "The tenant has reached its limit of webhooks.";
        RotationLimitExceeded "ROTATION_LIMIT_EXCEEDED" "The agent has reached its limit of old tokens that are still valid.";
        AuthRateLimited "AUTH_RATE_LIMITED" "Too many calls from this address had no valid key or token. A call with a valid one is never refused for this.";
        TooManyStreams "TOO_MANY_STREAMS" "The tenant or the server has reached its limit of open audit streams or exports.";
        TooManyGroups "TOO_MANY_GROUPS" "The spend report would have more groups than one report may have.";
        InsufficientPermissions "INSUFFICIENT_PERMISSIONS" "No single permission that the grantor holds covers a delegated one.";
        DelegationSelf "DELEGATION_SELF" "An agent can't delegate to itself.";
        DelegationCycle "DELEGATION_CYCLE" "The grantor holds permissions through the agent that it would delegate to.";
        DelegationDepthExceeded "DELEGATION_DEPTH_EXCEEDED" "The chain of delegations would be longer than a maxDepth in it allows.";
        DelegationGrantorInactive "DELEGATION_GRANTOR_INACTIVE" "The agent that would delegate is revoked, suspended or expired.";
        DelegationLimitExceeded "DELEGATION_LIMIT_EXCEEDED" "The tenant or an agent has reached its limit of delegations.";
        IdempotencyKeyReused "IDEMPOTENCY_KEY_REUSED" "The idempotency key came with another request before.";
        InternalError "INTERNAL_ERROR" "A defect of the server. Nothing was changed.";
        NotReady "NOT_READY" "The server is still recovering its tenants.";
        ShuttingDown "SHUTTING_DOWN" "The server is shutting down.";
        Overloaded "OVERLOADED" "Too many calls wait for this tenant, or too many request bodies are arriving at once.";
        TenantUnavailable "TENANT_UNAVAILABLE" "The tenant's data can't be read, or it is being rebuilt.";
        InstanceBudgetUnavailable "INSTANCE_BUDGET_UNAVAILABLE" "The tenant needs a slice of an instance policy, and can't get one at the moment. Nothing was charged.";
        OutcomeUnknown "OUTCOME_UNKNOWN" "The disk did not confirm the change: it may or may not have happened.";
        StorageUnavailable "STORAGE_UNAVAILABLE" "The journal can't be written. Nothing was changed.";
    }
}

impl Code {
    /// Whether something that the request names does not exist.
    pub fn is_not_found(self) -> bool {
        matches!(
            self,
            Code::AgentNotFound
                | Code::RouteNotFound
                | Code::TenantNotFound
                | Code::KeyNotFound
                | Code::PolicyNotFound
                | Code::DelegationNotFound
                | Code::WebhookNotFound
                | Code::DeliveryNotFound
                | Code::AuditEntryNotFound
                | Code::HoldNotFound
        )
    }

    /// Whether the server can't answer at the moment, so that a retry may succeed later.
    pub fn is_unavailable(self) -> bool {
        matches!(
            self,
            Code::NotReady
                | Code::ShuttingDown
                | Code::Overloaded
                | Code::TenantUnavailable
                | Code::InstanceBudgetUnavailable
                | Code::OutcomeUnknown
                | Code::StorageUnavailable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was refused: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    code: Code,
    message: String,
    details: Value,
}

impl Error {
    /// An error with its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        // A sentence may quote what a client sent, such as a key in place of an id.
        let message = message.into();
        let message = if holds_secret(&message) { hide_secrets(&message).into_owned() } else { message };
        Self { code, message, details: Value::Null }
    }

    /// An error about one field. The sentence is the field's name and then `problem`: "slug must be ...".
    pub fn field(code: Code, field: &str, problem: impl fmt::Display) -> Self {
        Self { details: json!({ "field": hide_secrets(field) }), ..Self::new(code, format!("{field} {problem}")) }
    }

    /// Adds facts for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Puts the path of a part before the sentence and the field of an error about that part.
    #[must_use]
    pub fn within(mut self, path: &str) -> Self {
        self.message = format!("{path}.{}", self.message);
        if let Some(Value::String(field)) = self.details.get_mut("field") {
            *field = format!("{path}.{field}");
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Facts for programs, such as the field's name; `null` if there are none.
    pub fn details(&self) -> &Value {
        &self.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_secret_in_a_sentence_is_hidden() {
        let token = format!("kv_{}", "aB3-".repeat(16));
        let error = Error::field(Code::InvalidField, &token, format!("is no {token}"));
        assert_eq!(error.message(), "kv_(hidden) is no kv_(hidden)");
        assert_eq!(error.details()["field"], "kv_(hidden)");
    }

    #[test]
    fn codes_are_distinct_and_survive_their_text() {
        let texts: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let text = serde_json::to_string(code).unwrap();
            assert_eq!(text, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&text).unwrap(), *code);
        }
    }
}
