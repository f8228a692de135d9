//! Webhooks.

use crate::api::openapi::{Docs, Tag};
use crate::api::webhooks::WebhookJson;
use crate::domain::Code::{
    DeliveryNotFound, Forbidden, InvalidField, TenantMismatch, TenantNotFound, WebhookDisabled, WebhookLimitExceeded,
    WebhookNotFound,
};
use crate::domain::webhook::commands::DeliveryView;

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Webhooks, id, summary)
}

/// `POST /v1/webhooks`
pub fn create() -> Docs {
    docs("createWebhook", "Create a webhook")
        .about(
            "Each event that it asks for is sent to its URL by `POST`, in order, until the endpoint answers 2xx within 15 \
             seconds; after a failure again in 5 seconds, 5 and 30 minutes, 2, 5 and 10 hours. A day after the event it is \
             given up. Redirects are not followed. A message may come twice, with the same `webhook-id`. It is signed as \
             [Standard Webhooks](https://www.standardwebhooks.com) say, with the `secret` that only this answer shows. \
             The body is `{type, timestamp, data}`, where `data` is the entry of the audit trail; with the format `slack` \
             it is what Slack's incoming webhooks take. A tenant key can change, test and delete a webhook that a tenant \
             key set last.",
        )
        .created::<WebhookJson>("The new webhook, with its secret.")
        .fails(&[InvalidField, TenantMismatch, TenantNotFound, WebhookLimitExceeded])
        .once()
        .writes()
}

/// `GET /v1/webhooks`
pub fn list() -> Docs {
    docs("listWebhooks", "List webhooks")
        .about("Oldest first, with how many messages wait and how many were given up.")
        .list::<WebhookJson>("The webhooks.")
        .fails(&[TenantMismatch, TenantNotFound])
}

/// `GET /v1/webhooks/{id}`
pub fn get() -> Docs {
    docs("getWebhook", "Get a webhook")
        .about("Without its secret, which nobody can read again.")
        .answers::<WebhookJson>(200, "The webhook.")
        .tagged()
        .fails(&[WebhookNotFound])
}

/// `PATCH /v1/webhooks/{id}`
pub fn update() -> Docs {
    docs("updateWebhook", "Change a webhook")
        .about(
            "Omitted fields stay as they are. `events` replaces all that it asked for. `status: disabled` switches it off: \
             nothing new is kept for it, and what waits is not sent. What waits is tried at once after a change.",
        )
        .answers::<WebhookJson>(200, "The webhook as it is now.")
        .tagged()
        .fails(&[InvalidField, Forbidden, WebhookNotFound])
        .writes()
}

/// `DELETE /v1/webhooks/{id}`
pub fn delete() -> Docs {
    docs("deleteWebhook", "Delete a webhook")
        .about("With what waits for it, which is not sent any more.")
        .nothing("It is gone.")
        .fails(&[InvalidField, Forbidden, WebhookNotFound])
        .writes()
}

/// `POST /v1/webhooks/{id}/rotate`
pub fn rotate() -> Docs {
    docs("rotateWebhook", "Give a webhook a new secret")
        .about("For a day, messages carry a second signature, with the old secret, so that the endpoint can be changed meanwhile.")
        .answers::<WebhookJson>(200, "The webhook, with its new secret.")
        .fails(&[Forbidden, WebhookNotFound])
        .once()
        .writes()
}

/// `POST /v1/webhooks/{id}/test`
pub fn test() -> Docs {
    docs("testWebhook", "Send a test message")
        .about(
            "The message `webhook.test` goes to this webhook, whatever it asks for, behind those that wait already. These are \
             tried at once. The deliveries tell what became of it.",
        )
        .answers::<DeliveryView>(202, "It will be sent.")
        .fails(&[Forbidden, WebhookNotFound, WebhookDisabled])
        .once()
        .writes()
}

/// `GET /v1/webhooks/{id}/deliveries`
pub fn deliveries() -> Docs {
    docs("listDeliveries", "List a webhook's messages")
        .about(
            "Those of the newest events first: all that wait, the last hundred that were delivered and the last thousand that \
             were given up. The audit trail has all, with `kind=delivery`.",
        )
        .list::<DeliveryView>("The messages.")
        .fails(&[WebhookNotFound])
}

/// `POST /v1/webhooks/{id}/deliveries/{delivery}/redeliver`
pub fn redeliver() -> Docs {
    docs("redeliver", "Send a message again")
        .about(
            "With the same `webhook-id` and body, behind those that wait already, for a day from now. One that still waits is \
             tried at once.",
        )
        .answers::<DeliveryView>(202, "It will be sent.")
        .fails(&[Forbidden, WebhookNotFound, DeliveryNotFound, WebhookDisabled])
        .once()
        .writes()
}
