//! Webhooks: endpoints that are told what happens in a tenant.
//!
//! The journal is the outbox. An event that makes a message puts the message's number into the [`Outbox`] of every webhook
//! that asks for it, in the same step that applies the event. So nothing has to look for messages, a start knows what is
//! still to be sent, and replay gives the same. The text of a message is made from its event when it is sent.
//!
//! | to find | look in |
//! | --- | --- |
//! | which events make messages; their names | [`announcement`], [`message_type`] |
//! | what a webhook was told to be | [`spec`] |
//! | how an event gets into the outboxes | `telling` |
//! | messages that wait, and what became of the others | [`outbox`] |
//! | what an administrative command checks | [`commands`] |
//! | what a webhook's URL may be | [`target`] |

pub mod announcement;
pub mod commands;
pub mod message_type;
pub mod outbox;
pub mod spec;
pub mod target;
mod telling;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::author::By;
use crate::id::WebhookId;
use crate::time::Timestamp;
use crate::version::Version;
use crate::webhook::outbox::{Outbox, WaitingMessage};
pub use crate::webhook::spec::{WebhookFormat, WebhookSpec, WebhookStatus};

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

impl WebhookProfile {
    /// Its version.
    pub fn version(&self) -> Version {
        Version::of(self)
    }
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
