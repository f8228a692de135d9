//! What a repeat of a change is told beyond the change itself. It is recorded with requests that have an idempotency key.
//!
//! Who makes something is answered from what it made, which is in its change. Who changes something is told of the whole,
//! so the event keeps the whole, as it was after the change.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::budget::policy::Policy;
use crate::webhook::WebhookProfile;
use crate::webhook::outbox::{Delivery, Outcome, WaitingMessage};

/// What the answer to a change was about, as it was after the change. It is small, since few changes have one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeptReply {
    /// An agent.
    Agent(Box<Agent>),
    /// A policy.
    Policy(Box<Policy>),
    /// So many policies.
    Policies(u64),
    /// A webhook.
    Webhook(Box<KeptWebhook>),
    /// A message that waits to be sent to a webhook.
    Message(Box<WaitingMessage>),
}

/// A webhook, with what is told of its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptWebhook {
    /// The webhook.
    pub profile: WebhookProfile,
    /// How many messages waited for it.
    pub waiting: u64,
    /// How many were given up and still listed.
    pub dead: u64,
    /// What was delivered or given up last, and which of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(Outcome, Delivery)>,
}
