//! What webhooks are told of, by name.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! message_types {
    ($($name:ident $text:literal $doc:literal;)*) => {
        /// What a message to a webhook is about. The names follow the actions of the audit trail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(JsonSchema))]
        pub enum MessageType {
            $(#[doc = $doc] #[serde(rename = $text)] $name,)*
        }

        impl MessageType {
            /// Every type, in the table's order.
            pub const ALL: &'static [MessageType] = &[$(MessageType::$name,)*];

            /// The type in a message, such as `agent.created`.
            pub fn as_str(self) -> &'static str {
                match self { $(MessageType::$name => $text,)* }
            }

            /// What happened, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(MessageType::$name => $doc,)* }
            }
        }
    };
}

message_types! {
    TenantUpdated "tenant.updated" "The tenant's name or settings changed.";
    TenantSuspended "tenant.suspended" "The tenant's agents were stopped.";
    TenantActivated "tenant.activated" "The tenant's agents may work again.";
    TenantDeleted "tenant.deleted" "A tenant is about to be erased. Only the default tenant's webhooks are told.";
    KeyCreated "key.created" "A tenant key was created.";
    KeyRevoked "key.revoked" "A tenant key was revoked.";
    KeyUpdated "key.updated" "A tenant key got another name or another end.";
    OperatorKeyCreated "operator_key.created" "An operator key was created. Only the default tenant's webhooks are told.";
    OperatorKeyRevoked "operator_key.revoked" "An operator key was revoked. Only the default tenant's webhooks are told.";
    OperatorKeyUpdated "operator_key.updated" "An operator key got another name or end. Only the default tenant's webhooks are told.";
    AgentCreated "agent.created" "An agent was created.";
    AgentUpdated "agent.updated" "An agent was changed.";
    AgentRevoked "agent.revoked" "An agent was revoked, by a caller or by a budget.";
    AgentSuspended "agent.suspended" "An agent was suspended, until somebody activates it.";
    AgentActivated "agent.activated" "A suspended agent may work again.";
    AgentRotated "agent.rotated" "An agent got a new token.";
    PolicyCreated "policy.created" "A budget policy was created.";
    PolicyUpdated "policy.updated" "A budget policy was changed.";
    PolicyDeleted "policy.deleted" "A budget policy was deleted.";
    PolicyReset "policy.reset" "The counts of a budget policy, or of all of a tenant, were set to zero.";
    BudgetThreshold "budget.threshold" "Charges reached a threshold of a budget policy's limit.";
    DelegationCreated "delegation.created" "An agent delegated to another.";
    DelegationRevoked "delegation.revoked" "A delegation was revoked.";
    WebhookCreated "webhook.created" "Another webhook was created.";
    WebhookUpdated "webhook.updated" "A webhook was changed.";
    WebhookDeleted "webhook.deleted" "Another webhook was deleted.";
    WebhookRotated "webhook.rotated" "A webhook got a new secret.";
    WebhookTest "webhook.test" "Somebody tries out this webhook. Each gets it, whatever its events are.";
}

/// Whether a list of names, `prefix.*` and `*` asks for messages of this type.
pub fn asks_for(events: &[Box<str>], kind: MessageType) -> bool {
    events.iter().any(|pattern| pattern_has(pattern, kind))
}

/// Whether that pattern has any type in it.
pub(crate) fn is_known(pattern: &str) -> bool {
    MessageType::ALL.iter().any(|kind| pattern_has(pattern, *kind))
}

fn pattern_has(pattern: &str, kind: MessageType) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        // The dot stays with the prefix, so that `agent.*` is nothing but what starts with `agent.`.
        Some(prefix) => prefix.ends_with('.') && kind.as_str().starts_with(prefix),
        None => pattern == kind.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_prefixes_or_all() {
        let has = |pattern: &str, kind| asks_for(&[pattern.into()], kind);
        assert!(has("*", MessageType::KeyRevoked) && has("agent.*", MessageType::AgentCreated));
        assert!(has("agent.created", MessageType::AgentCreated));
        assert!(!has("agent.*", MessageType::KeyCreated) && !has("agent.created", MessageType::AgentUpdated));
        for nothing in ["", "agent", "agent*", "agent.", "age*", "*.created", "agent.created.*", "**", ".*"] {
            assert!(!is_known(nothing), "{nothing}");
        }
        assert!(!asks_for(&[], MessageType::AgentCreated));
    }

    #[test]
    fn types_survive_their_text() {
        for kind in MessageType::ALL {
            let text = serde_json::to_string(kind).unwrap();
            assert_eq!(text, format!("\"{}\"", kind.as_str()));
            assert_eq!(serde_json::from_str::<MessageType>(&text).unwrap(), *kind);
            assert!(is_known(kind.as_str()));
        }
    }
}
