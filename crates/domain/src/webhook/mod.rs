//! Webhooks: endpoints that are told what happens in a tenant.
//!
//! The journal is the outbox. An event that makes a message puts the message's number into the [`Outbox`] of every webhook
//! that asks for it, in the same step that applies the event. So nothing has to look for messages, a start knows what is
//! still to be sent, and replay gives the same. The text of a message is made from its event when it is sent.
//!
//! | to find | look in |
//! | --- | --- |
//! | which events make messages, and their names | [`message_type`] |
//! | messages that wait, and what became of the others | [`outbox`] |
//! | what an administrative command checks | [`commands`] |
//! | what a webhook's URL may be | [`target`] |

pub mod commands;
pub mod message_type;
pub mod outbox;
pub mod target;

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::author::By;
use crate::event::Event;
use crate::id::WebhookId;
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::time::Timestamp;
use crate::webhook::message_type::{Announcement, asks_for};
use crate::webhook::outbox::{DeliveryRecord, Outbox, WaitingMessage};

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// `{type, timestamp, data}`, where `data` is the audit entry.
    #[default]
    Standard,
    /// `{text, blocks}`, as incoming webhooks of Slack take it.
    Slack,
}

/// Whether a webhook is told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// It is.
    Active,
    /// It is not: nothing new is kept for it, and what waits is not sent.
    Disabled,
}

/// What a webhook was told to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Where messages are sent, as [`target`] accepts it.
    pub url: Box<str>,
    /// Which messages: names, `prefix.*` or `*`.
    pub events: Vec<Box<str>>,
    /// How they are written.
    pub format: WebhookFormat,
    /// For people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Box<str>>,
    /// Whether it is switched off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A webhook without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookProfile {
    /// The webhook's id.
    pub id: WebhookId,
    /// What it was told to be.
    pub spec: WebhookSpec,
    /// How often it got a new secret. The secret is made from the id and this number.
    pub rotation: u32,
    /// When it last got one; `None` if it still has the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Timestamp>,
    /// Who last created or changed it. A tenant key may change a webhook only if a tenant key set it last.
    pub by: By,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A webhook. A copy is cheap: copies share the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The part that rarely changes.
    pub profile: Arc<WebhookProfile>,
    /// Its messages.
    #[serde(default)]
    pub outbox: Outbox,
}

impl Webhook {
    /// Whether it is active or disabled.
    pub fn status(&self) -> WebhookStatus {
        if self.profile.spec.disabled { WebhookStatus::Disabled } else { WebhookStatus::Active }
    }

    /// The message to send next, if it is not switched off and one waits.
    pub fn due(&self) -> Option<&WaitingMessage> {
        self.outbox.first().filter(|_| !self.profile.spec.disabled)
    }
}

impl Tenant {
    /// The webhook with that id.
    pub fn webhook(&self, id: WebhookId) -> Option<&Webhook> {
        self.webhooks().iter().find(|webhook| webhook.profile.id == id)
    }

    /// Whether a message waits to be sent.
    pub fn has_due_messages(&self) -> bool {
        self.webhooks().iter().any(|webhook| webhook.due().is_some())
    }

    pub(crate) fn change_webhook(&mut self, id: WebhookId, change: impl FnOnce(&mut Webhook)) {
        if let Some(webhook) = self.webhooks_mut().iter_mut().find(|webhook| webhook.profile.id == id) {
            change(webhook);
        }
    }

    /// Puts the message that an event makes into the outboxes of those who ask for it, before the event is applied: a new
    /// webhook is not told that it was made, and one that is deleted takes nothing with it.
    pub(crate) fn queue_message(&mut self, moment: Moment, event: &Event<'_>) {
        let Some(Announcement { kind, only }) = Announcement::of(event) else { return };
        for webhook in self.webhooks_mut() {
            let spec = &webhook.profile.spec;
            let is_told = match only {
                Some(only) => webhook.profile.id == only,
                None => !spec.disabled && asks_for(&spec.events, kind),
            };
            if is_told {
                webhook.outbox.push(WaitingMessage { seq: moment.seq, at: moment.at, kind, since: moment.wall });
            }
        }
    }

    /// Applies what became of a message.
    pub(crate) fn apply_delivery(&mut self, moment: Moment, record: &DeliveryRecord) {
        self.change_webhook(record.webhook, |webhook| webhook.outbox.finish(moment.wall, record));
    }
}
