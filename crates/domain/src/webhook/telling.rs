//! How an event gets into the outboxes of those who ask for it, and what became of it.

use crate::event::Event;
use crate::id::WebhookId;
use crate::moment::Moment;
use crate::tenant::Tenant;
use crate::webhook::Webhook;
use crate::webhook::announcement::Announcement;
use crate::webhook::message_type::asks_for;
use crate::webhook::outbox::{DeliveryRecord, WaitingMessage};

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
        // How much all tenants use is for operators only, and so are their keys.
        let for_operators = match event {
            Event::Leased(_) => true,
            Event::Changed(record) => record.change.is_of_operator_keys(),
            _ => false,
        };
        for webhook in self.webhooks_mut() {
            if for_operators && !webhook.profile.by.is_operator() {
                continue;
            }
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
