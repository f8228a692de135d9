//! Every code the server answers with, in one table, and the error that carries one.

use std::fmt;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::secret_scan::{hide_secrets, holds_secret};

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $meaning:literal;)*) => {
        /// A stable code for programs. The wording of a message may change, a code never does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $text)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The code as it is sent, such as `SLUG_TAKEN`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The HTTP status it is answered with (RFC 9110) where it is an error, not a decision.
            pub fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    // Codes of a decision: the call was understood, and the answer is no. In a decision they travel in a 200.
    TenantMismatch "TENANT_MISMATCH" 403 "The request names a tenant that is not the agent's, or not the key's.";
    TenantSuspended "TENANT_SUSPENDED" 200 "The agent's tenant is suspended.";
    AgentNotFound "AGENT_NOT_FOUND" 200 "No such agent in this tenant.";
    AgentRevoked "AGENT_REVOKED" 200 "The agent was revoked.";
    AgentExpired "AGENT_EXPIRED" 200 "The agent's expiresAt has passed.";
    PermissionDenied "PERMISSION_DENIED" 200 "No permission of the agent matches the action and the resource, or none can for the form of the call.";
    OutsideTimeWindow "OUTSIDE_TIME_WINDOW" 200 "The matching permission does not hold at this time of day.";
    IpNotAllowed "IP_NOT_ALLOWED" 200 "The address of the call is unknown or not in the permission's allowlist.";
    ArgumentNotAllowed "ARGUMENT_NOT_ALLOWED" 200 "An argument matches none of the permission's patterns.";
    RequiresApproval "REQUIRES_APPROVAL" 200 "The matching permission asks for a person's approval.";
    RateLimited "RATE_LIMITED" 200 "The permission's calls of the last hour are used up.";
    BudgetExceeded "BUDGET_EXCEEDED" 200 "A budget policy's limit is used up, or the call would exceed it.";
    // Errors of a request.
    InvalidBody "INVALID_BODY" 400 "The body is not the JSON this route reads.";
    InvalidField "INVALID_FIELD" 400 "A field of the request holds a value it can't have.";
    InvalidQuery "INVALID_QUERY" 400 "The query string is not one this route reads.";
    InvalidPattern "INVALID_PATTERN" 400 "A resource pattern, argument pattern, time window or network can't be read.";
    ConfirmationRequired "CONFIRMATION_REQUIRED" 400 "Deleting a tenant takes ?confirm= with its slug.";
    Unauthenticated "UNAUTHENTICATED" 401 "The request carries no key or token.";
    InvalidToken "INVALID_TOKEN" 401 "The key or token is not valid.";
    Forbidden "FORBIDDEN" 403 "The key is valid, and may not do this.";
    UnmappedRequest "UNMAPPED_REQUEST" 403 "What a gateway asks about is ambiguous, or no rule makes an action and a resource of it.";
    RouteNotFound "ROUTE_NOT_FOUND" 404 "There is no such route.";
    TenantNotFound "TENANT_NOT_FOUND" 404 "There is no such tenant for this key.";
    UnknownAgent "UNKNOWN_AGENT" 404 "There is no such agent for this key.";
    UnknownKey "UNKNOWN_KEY" 404 "There is no such API key for this key.";
    UnknownPolicy "UNKNOWN_POLICY" 404 "There is no such policy for this key.";
    UnknownDelegation "UNKNOWN_DELEGATION" 404 "There is no such delegation for this key, or it was over and newer ones took its place.";
    UnknownAuditEntry "UNKNOWN_AUDIT_ENTRY" 404 "There is no such audit entry for this key.";
    MethodNotAllowed "METHOD_NOT_ALLOWED" 405 "The route exists, but not with this method.";
    RequestTimeout "REQUEST_TIMEOUT" 408 "The body did not come in time. Nothing was changed.";
    SlugTaken "SLUG_TAKEN" 409 "Another tenant has this slug.";
    AgentIsRevoked "AGENT_IS_REVOKED" 409 "The agent was revoked, which is final: it can't be changed.";
    AlreadySettled "ALREADY_SETTLED" 409 "The decision was settled with another cost.";
    NotSettleable "NOT_SETTLEABLE" 409 "The decision was denied, or is too old to be settled.";
    PayloadTooLarge "PAYLOAD_TOO_LARGE" 413 "The body is over its limit.";
    AgentLimitExceeded "AGENT_LIMIT_EXCEEDED" 422 "The tenant has as many active agents as its maxAgents allows, or as many in all as one may have.";
    AgentTypeNotAllowed "AGENT_TYPE_NOT_ALLOWED" 422 "The tenant's allowedAgentTypes does not hold this type.";
    DefaultTenantFixed "DEFAULT_TENANT_FIXED" 422 "The default tenant can't be suspended or deleted.";
    KeyLimitExceeded "KEY_LIMIT_EXCEEDED" 422 "The tenant has as many API keys as one may have.";
    PolicyLimitExceeded "POLICY_LIMIT_EXCEEDED" 422 "The tenant has as many policies as one may have.";
    RotationLimitExceeded "ROTATION_LIMIT_EXCEEDED" 422 "As many old tokens as allowed are still in their grace.";
    AuthRateLimited "AUTH_RATE_LIMITED" 429 "Too many calls from this address had no valid key or token. One with a valid one is never refused so.";
    TooManyStreams "TOO_MANY_STREAMS" 429 "As many audit streams or exports are open as the tenant, or the server, may have.";
    DelegationNotCovered "DELEGATION_NOT_COVERED" 422 "No single permission that the grantor holds covers a delegated one.";
    DelegationSelf "DELEGATION_SELF" 422 "An agent can't delegate to itself.";
    DelegationCycle "DELEGATION_CYCLE" 422 "The grantor holds permissions by way of the agent it would delegate to.";
    DelegationDepthExceeded "DELEGATION_DEPTH_EXCEEDED" 422 "The chain of delegations would be longer than a maxDepth on the way allows.";
    DelegationGrantorInactive "DELEGATION_GRANTOR_INACTIVE" 422 "The agent that would delegate is revoked or expired.";
    DelegationLimitExceeded "DELEGATION_LIMIT_EXCEEDED" 422 "The tenant or an agent has as many delegations as one may have.";
    InternalError "INTERNAL_ERROR" 500 "A defect of the server. Nothing was changed.";
    NotReady "NOT_READY" 503 "The server is still recovering its tenants.";
    ShuttingDown "SHUTTING_DOWN" 503 "The server is shutting down.";
    Overloaded "OVERLOADED" 503 "More calls wait for this tenant than its mailbox holds, or more bodies are on their way than the server holds.";
    TenantUnavailable "TENANT_UNAVAILABLE" 503 "The tenant's data can't be read, or it is being rebuilt.";
    OutcomeUnknown "OUTCOME_UNKNOWN" 503 "The disk did not confirm the change: it may have happened or not.";
    StorageUnavailable "STORAGE_UNAVAILABLE" 503 "The journal can't be written. Nothing was changed.";
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
        // A sentence may quote what was sent, such as a key in the place of an id.
        let message = message.into();
        let message = if holds_secret(&message) { hide_secrets(&message).into_owned() } else { message };
        Self { code, message, details: Value::Null }
    }

    /// An error about one field. The sentence is the field's name and then `problem`: "slug must be ...".
    pub fn field(code: Code, field: &str, problem: impl fmt::Display) -> Self {
        Self { details: json!({ "field": hide_secrets(field) }), ..Self::new(code, format!("{field} {problem}")) }
    }

    /// The same error with facts for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// The same error about a part of a larger thing: its sentence, and its field, begin with the path of that part.
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

    /// Facts for programs, such as the field's name; `null` where there are none.
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
    fn a_secret_that_a_sentence_quotes_is_hidden() {
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
