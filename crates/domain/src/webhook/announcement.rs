//! Which events webhooks are told of.

use crate::event::{Change, Event};
use crate::id::WebhookId;
use crate::webhook::message_type::MessageType;

/// A message that an event makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What it is about.
    pub kind: MessageType,
    /// The only webhook that is told; `None` is all that ask for this type.
    pub only: Option<WebhookId>,
}

impl Announcement {
    /// The message that this event makes, if it makes one. No event makes two.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        let all = |kind| Some(Self { kind, only: None });
        match event {
            Event::Decided(record) if record.revokes => all(MessageType::AgentRevoked),
            Event::Decided(_) | Event::Used(_) | Event::Leased(_) if !event.crossed().is_empty() => {
                all(MessageType::BudgetThreshold)
            }
            Event::Decided(_) | Event::Used(_) | Event::Delivered(_) | Event::Leased(_) => None,
            Event::Changed(record) => match &record.change {
                Change::TenantUpdated { .. } => all(MessageType::TenantUpdated),
                Change::TenantSuspended => all(MessageType::TenantSuspended),
                Change::TenantActivated => all(MessageType::TenantActivated),
                Change::TenantDeleted { .. } => all(MessageType::TenantDeleted),
                Change::KeyCreated { .. } => all(MessageType::KeyCreated),
                Change::KeyRevoked { .. } => all(MessageType::KeyRevoked),
                Change::KeyUpdated { .. } => all(MessageType::KeyUpdated),
                Change::OperatorKeyCreated { .. } => all(MessageType::OperatorKeyCreated),
                Change::OperatorKeyRevoked { .. } => all(MessageType::OperatorKeyRevoked),
                Change::OperatorKeyUpdated { .. } => all(MessageType::OperatorKeyUpdated),
                Change::AgentCreated { .. } => all(MessageType::AgentCreated),
                Change::AgentUpdated { .. } => all(MessageType::AgentUpdated),
                Change::AgentRevoked { .. } => all(MessageType::AgentRevoked),
                Change::AgentSuspended { .. } => all(MessageType::AgentSuspended),
                Change::AgentActivated { .. } => all(MessageType::AgentActivated),
                Change::TokenRotated { .. } => all(MessageType::AgentRotated),
                Change::PolicyCreated { .. } => all(MessageType::PolicyCreated),
                Change::PolicyUpdated { .. } => all(MessageType::PolicyUpdated),
                Change::PolicyDeleted { .. } => all(MessageType::PolicyDeleted),
                Change::PolicyReset { .. } | Change::PoliciesReset { .. } => all(MessageType::PolicyReset),
                Change::DelegationCreated { .. } => all(MessageType::DelegationCreated),
                Change::DelegationRevoked { .. } => all(MessageType::DelegationRevoked),
                Change::WebhookCreated { .. } => all(MessageType::WebhookCreated),
                Change::WebhookUpdated { .. } => all(MessageType::WebhookUpdated),
                Change::WebhookDeleted { .. } => all(MessageType::WebhookDeleted),
                Change::WebhookRotated { .. } => all(MessageType::WebhookRotated),
                Change::WebhookTested { webhook } => {
                    Some(Self { kind: MessageType::WebhookTest, only: Some(*webhook) })
                }
                // A tenant has no webhook yet when it is made.
                Change::TenantCreated { .. } | Change::TenantRequested { .. } => None,
                // It sends an old message again, and is none itself.
                Change::WebhookRedelivered { .. } => None,
            },
        }
    }
}
