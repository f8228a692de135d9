//! Commands about webhooks, and how answers show them.

use std::sync::Arc;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::author::By;
use crate::error::{Code, Error};
use crate::event::{Change, ChangeRecord};
use crate::id::{MessageId, TenantId, WebhookId};
use crate::idempotency::kept_reply::{KeptReply, KeptWebhook};
use crate::limits::{MAX_WEBHOOK_EVENTS, MAX_WEBHOOKS};
use crate::moment::Moment;
use crate::tenant::if_unchanged::Versioned;
use crate::tenant::settings::given;
use crate::tenant::{Command, Creates, Repeatable, Tenant};
use crate::text::{parse_name, quote};
use crate::time::Timestamp;
use crate::version::Version;
use crate::webhook::message_type::{MessageType, is_known};
use crate::webhook::outbox::{Delivery, MessageState, Outcome};
use crate::webhook::target::parse_url;
use crate::webhook::{Webhook, WebhookFormat, WebhookProfile, WebhookSpec, WebhookStatus};

/// A webhook to create, as a request spells it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewWebhook {
    /// The tenant that it is told about: id, slug, or `null`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::TenantName>"))]
    pub tenant_id: Option<String>,
    /// Where messages are sent, by `POST`: an `https` URL that leads to a public address.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::WebhookUrl"))]
    pub url: String,
    /// Which messages: names such as `agent.created`, prefixes such as `agent.*`, or `*` for all.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<crate::schema::MessagePattern>", length(min = 1, max = MAX_WEBHOOK_EVENTS)))]
    pub events: Vec<String>,
    /// How messages are written; `standard` by default.
    #[serde(default)]
    pub format: WebhookFormat,
    /// For people to read.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub description: Option<String>,
}

/// A change of a webhook: an omitted field keeps its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookPatch {
    /// A new URL.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::WebhookUrl>"))]
    pub url: Option<String>,
    /// Other messages, in place of all that it asked for.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Vec<crate::schema::MessagePattern>>", length(min = 1, max = MAX_WEBHOOK_EVENTS)))]
    pub events: Option<Vec<String>>,
    /// Another format.
    #[serde(default)]
    pub format: Option<WebhookFormat>,
    /// A new description; `null` removes it.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Name>"))]
    pub description: Option<Option<String>>,
    /// `disabled` switches it off, `active` on.
    #[serde(default)]
    pub status: Option<WebhookStatus>,
}

/// A webhook as an answer shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookView {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The webhook.
    pub profile: Arc<WebhookProfile>,
    /// How many messages wait for it.
    pub waiting: usize,
    /// How many were given up and are still listed.
    pub dead: usize,
    /// What became of the last message that was sent.
    pub last: Option<LastAttempt>,
}

/// What became of the last message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    /// In one word.
    pub outcome: LastOutcome,
    /// When that was.
    pub at: Timestamp,
    /// Why it failed, in words.
    pub problem: Option<Box<str>>,
}

impl LastAttempt {
    fn of(outcome: Outcome, delivery: &Delivery) -> Self {
        let outcome = match outcome {
            Outcome::Delivered => LastOutcome::Delivered,
            Outcome::Dead => LastOutcome::Dead,
        };
        Self { outcome, at: delivery.finished_at, problem: delivery.problem.clone() }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LastOutcome {
    /// The endpoint took it.
    Delivered,
    /// It was given up.
    Dead,
    /// It was not taken, and is tried again. The tenant's state does not know that; who sends it does.
    Failed,
}

impl WebhookView {
    /// The webhook as it is now.
    pub fn of(tenant: &Tenant, webhook: &Webhook) -> Self {
        let Webhook { profile, outbox } = webhook;
        Self {
            tenant: tenant.id(),
            profile: Arc::clone(profile),
            waiting: outbox.waiting(),
            dead: outbox.dead(),
            last: outbox.last().map(|(outcome, delivery)| LastAttempt::of(outcome, delivery)),
        }
    }

    /// The webhook with that id.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`.
    pub fn find(tenant: &Tenant, id: WebhookId) -> Result<Self, Error> {
        existing(tenant, id).map(|webhook| Self::of(tenant, webhook))
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// It waits for its first or its next attempt.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// It was given up.
    Dead,
}

/// A message to a webhook as an answer shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Delivery"))]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// The message's id, which its `webhook-id` header holds however often it is sent.
    pub id: MessageId,
    /// What it is about.
    pub r#type: MessageType,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// How often it was sent since the last start of the server; `null` if it waits and no attempt failed yet.
    pub attempts: Option<u32>,
    /// The HTTP status of the last answer, if one came.
    pub http_status: Option<u16>,
    /// Why the last attempt failed, in words.
    pub problem: Option<Box<str>>,
    /// When the event happened that it tells of.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

impl DeliveryView {
    /// The message of that tenant.
    pub fn of(tenant: &Tenant, message: MessageState<'_>) -> Self {
        let id = message.id(tenant.id().tag());
        let finished = |status, delivery: &Delivery| Self {
            id,
            r#type: delivery.kind,
            status,
            attempts: Some(delivery.attempts),
            http_status: delivery.status,
            problem: delivery.problem.clone(),
            created_at: delivery.at,
            finished_at: Some(delivery.finished_at),
        };
        match message {
            MessageState::Waiting(message) => Self {
                id,
                r#type: message.kind,
                status: DeliveryStatus::Pending,
                attempts: None,
                http_status: None,
                problem: None,
                created_at: message.at,
                finished_at: None,
            },
            MessageState::Delivered(delivery) => finished(DeliveryStatus::Delivered, delivery),
            MessageState::Dead(delivery) => finished(DeliveryStatus::Dead, delivery),
        }
    }

    /// A webhook's messages, those of the newest events first: at most `most` before the message `before`.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`.
    pub fn list(
        tenant: &Tenant,
        id: WebhookId,
        status: Option<DeliveryStatus>,
        before: Option<MessageId>,
        most: usize,
    ) -> Result<Vec<Self>, Error> {
        let mut all: Vec<_> = existing(tenant, id)?
            .outbox
            .messages()
            .filter(|message| before.is_none_or(|before| message.id(tenant.id().tag()) < before))
            .filter(|message| status.is_none_or(|status| status_of(message) == status))
            .collect();
        all.sort_unstable_by_key(|message| std::cmp::Reverse(message.seq()));
        Ok(all.into_iter().take(most).map(|message| Self::of(tenant, message)).collect())
    }
}

fn status_of(message: &MessageState<'_>) -> DeliveryStatus {
    match message {
        MessageState::Waiting(_) => DeliveryStatus::Pending,
        MessageState::Delivered(_) => DeliveryStatus::Delivered,
        MessageState::Dead(_) => DeliveryStatus::Dead,
    }
}

/// The error for a webhook that doesn't exist or isn't the caller's.
pub fn unknown_webhook(id: &str) -> Error {
    Error::new(Code::WebhookNotFound, format!("webhook '{}' not found", quote(id)))
}

/// The error for a message that the webhook does not have, or not any more.
pub fn unknown_delivery(id: &str) -> Error {
    let message = format!(
        "delivery '{}' not found: this webhook has none, or had it so long ago that it is not listed",
        quote(id)
    );
    Error::new(Code::DeliveryNotFound, message)
}

fn existing(tenant: &Tenant, id: WebhookId) -> Result<&Webhook, Error> {
    tenant.webhook(id).ok_or_else(|| unknown_webhook(&id.to_string()))
}

/// The webhook with that id, if this caller may change it.
fn changeable(tenant: &Tenant, id: WebhookId, by: By) -> Result<&Webhook, Error> {
    let webhook = existing(tenant, id)?;
    if by.may_change(webhook.profile.by) {
        Ok(webhook)
    } else {
        Err(Error::new(Code::Forbidden, "an operator set this webhook last, so only an operator key can change it"))
    }
}

/// [`changeable`], for something that sends a message at once.
fn sending(tenant: &Tenant, id: WebhookId, by: By) -> Result<&Webhook, Error> {
    let webhook = changeable(tenant, id, by)?;
    if webhook.profile.spec.disabled {
        let message = "the webhook is disabled, so nothing is sent to it; set its status to active first";
        return Err(Error::new(Code::WebhookDisabled, message));
    }
    Ok(webhook)
}

fn parse_events(events: Vec<String>) -> Result<Vec<Box<str>>, Error> {
    let refuse = |problem: String| Error::field(Code::InvalidField, "events", problem);
    if events.is_empty() || events.len() > MAX_WEBHOOK_EVENTS {
        return Err(refuse(format!("must have 1 to {MAX_WEBHOOK_EVENTS} names")));
    }
    let mut kept: Vec<Box<str>> = Vec::with_capacity(events.len());
    for text in events {
        if !is_known(&text) {
            let names: Vec<_> = MessageType::ALL.iter().map(|kind| kind.as_str()).collect();
            let problem = format!(
                "must not have '{}': there are *, prefixes such as agent.*, and {}",
                quote(&text),
                names.join(", ")
            );
            return Err(refuse(problem));
        }
        if !kept.iter().any(|known| **known == *text) {
            kept.push(text.into());
        }
    }
    Ok(kept)
}

fn parse_description(text: Option<String>) -> Result<Option<Box<str>>, Error> {
    text.map(|text| parse_name("description", &text)).transpose()
}

/// Creates a webhook.
pub struct CreateWebhook(WebhookSpec);

impl CreateWebhook {
    /// Reads a new webhook. The caller has settled which tenant it belongs to, and that its URL may be used here.
    ///
    /// # Errors
    /// `INVALID_FIELD`, naming the field.
    pub fn parse(new: NewWebhook) -> Result<Self, Error> {
        let NewWebhook { tenant_id: _, url, events, format, description } = new;
        Ok(Self(WebhookSpec {
            url: parse_url(&url)?.as_str().into(),
            events: parse_events(events)?,
            format,
            description: parse_description(description)?,
            disabled: false,
        }))
    }
}

impl Command for CreateWebhook {
    type Subject = WebhookId;
    type Reply = Option<WebhookView>;

    fn decide(self, tenant: &Tenant, _: By, moment: Moment) -> Result<(Option<Change>, WebhookId), Error> {
        if tenant.webhooks().len() >= MAX_WEBHOOKS {
            let message = format!("the tenant has {MAX_WEBHOOKS} webhooks, the maximum; delete one first");
            return Err(Error::new(Code::WebhookLimitExceeded, message));
        }
        let webhook = WebhookId::derive(moment.at, moment.seq, tenant.id().tag());
        Ok((Some(Change::WebhookCreated { webhook, spec: Box::new(self.0) }), webhook))
    }

    fn reply(tenant: &Tenant, id: WebhookId, _: Timestamp) -> Option<WebhookView> {
        WebhookView::find(tenant, id).ok()
    }
}

impl Creates for CreateWebhook {
    fn made(tenant: &Tenant, change: &Change, now: Timestamp) -> Option<Self::Reply> {
        let Change::WebhookCreated { webhook, .. } = change else { return None };
        Some(Self::reply(tenant, *webhook, now))
    }
}

/// Changes a webhook.
pub struct UpdateWebhook {
    /// The webhook.
    pub id: WebhookId,
    /// The new values.
    pub patch: WebhookPatch,
}

impl Command for UpdateWebhook {
    type Subject = WebhookId;
    type Reply = Option<WebhookView>;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, WebhookId), Error> {
        let Self { id, patch: WebhookPatch { url, events, format, description, status } } = self;
        let old = &changeable(tenant, id, by)?.profile;
        let is_empty =
            url.is_none() && events.is_none() && format.is_none() && description.is_none() && status.is_none();
        // An operator who sets a key's webhook to equal values still takes it over.
        let takes_over = by.is_operator() && matches!(old.by, By::Key(_)) && !is_empty;
        let mut spec = old.spec.clone();
        if let Some(url) = url {
            spec.url = parse_url(&url)?.as_str().into();
        }
        if let Some(events) = events {
            spec.events = parse_events(events)?;
        }
        if let Some(description) = description {
            spec.description = parse_description(description)?;
        }
        spec.format = format.unwrap_or(spec.format);
        spec.disabled = status.map_or(spec.disabled, |status| status == WebhookStatus::Disabled);
        let changed = takes_over || spec != old.spec;
        Ok((changed.then(|| Change::WebhookUpdated { webhook: id, spec: Box::new(spec) }), id))
    }

    fn reply(tenant: &Tenant, id: WebhookId, _: Timestamp) -> Option<WebhookView> {
        WebhookView::find(tenant, id).ok()
    }
}

impl Versioned for UpdateWebhook {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.id)
    }
}

fn version(tenant: &Tenant, id: WebhookId) -> Option<Version> {
    tenant.webhook(id).map(|webhook| webhook.profile.version())
}

/// Deletes a webhook. What waits for it is not sent.
pub struct DeleteWebhook(
    /// The webhook.
    pub WebhookId,
);

impl Command for DeleteWebhook {
    type Subject = ();
    type Reply = ();

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, ()), Error> {
        changeable(tenant, self.0, by)?;
        Ok((Some(Change::WebhookDeleted { webhook: self.0 }), ()))
    }

    fn reply(_: &Tenant, (): (), _: Timestamp) {}
}

impl Versioned for DeleteWebhook {
    fn version(&self, tenant: &Tenant) -> Option<Version> {
        version(tenant, self.0)
    }
}

/// Gives a webhook a new secret.
pub struct RotateWebhook(
    /// The webhook.
    pub WebhookId,
);

impl Command for RotateWebhook {
    type Subject = WebhookId;
    type Reply = Option<WebhookView>;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, WebhookId), Error> {
        changeable(tenant, self.0, by)?;
        Ok((Some(Change::WebhookRotated { webhook: self.0 }), self.0))
    }

    fn reply(tenant: &Tenant, id: WebhookId, _: Timestamp) -> Option<WebhookView> {
        WebhookView::find(tenant, id).ok()
    }
}

impl Repeatable for RotateWebhook {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, _: Timestamp) -> Option<Self::Reply> {
        let (Change::WebhookRotated { .. }, Some(KeptReply::Webhook(kept))) = (&record.change, &record.kept) else {
            return None;
        };
        let KeptWebhook { profile, waiting, dead, last } = &**kept;
        Some(Some(WebhookView {
            tenant: alone.id(),
            profile: Arc::new(profile.clone()),
            waiting: usize::try_from(*waiting).unwrap_or(usize::MAX),
            dead: usize::try_from(*dead).unwrap_or(usize::MAX),
            last: last.as_ref().map(|(outcome, delivery)| LastAttempt::of(*outcome, delivery)),
        }))
    }
}

/// Sends a test message to a webhook.
pub struct TestWebhook(
    /// The webhook.
    pub WebhookId,
);

impl Command for TestWebhook {
    type Subject = (WebhookId, u64);
    type Reply = Option<DeliveryView>;

    fn decide(self, tenant: &Tenant, by: By, moment: Moment) -> Result<(Option<Change>, Self::Subject), Error> {
        sending(tenant, self.0, by)?;
        Ok((Some(Change::WebhookTested { webhook: self.0 }), (self.0, moment.seq)))
    }

    fn reply(tenant: &Tenant, subject: Self::Subject, _: Timestamp) -> Option<DeliveryView> {
        delivery(tenant, subject)
    }
}

impl Repeatable for TestWebhook {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, _: Timestamp) -> Option<Self::Reply> {
        let (Change::WebhookTested { .. }, Some(KeptReply::Message(message))) = (&record.change, &record.kept) else {
            return None;
        };
        Some(Some(DeliveryView::of(alone, MessageState::Waiting(message))))
    }
}

/// Sends a message again that was delivered or given up.
pub struct Redeliver {
    /// The webhook.
    pub webhook: WebhookId,
    /// The message.
    pub message: MessageId,
}

impl Command for Redeliver {
    type Subject = (WebhookId, u64);
    type Reply = Option<DeliveryView>;

    fn decide(self, tenant: &Tenant, by: By, _: Moment) -> Result<(Option<Change>, Self::Subject), Error> {
        let Self { webhook: id, message } = self;
        let webhook = sending(tenant, id, by)?;
        let known = webhook.outbox.message(message.seq());
        let known = known.filter(|known| known.id(tenant.id().tag()) == message);
        let known = known.ok_or_else(|| unknown_delivery(&message.to_string()))?;
        // One that waits is sent anyway.
        let change = match known {
            MessageState::Waiting(_) => None,
            MessageState::Delivered(_) | MessageState::Dead(_) => {
                Some(Change::WebhookRedelivered { webhook: id, message })
            }
        };
        Ok((change, (id, message.seq())))
    }

    fn reply(tenant: &Tenant, subject: Self::Subject, _: Timestamp) -> Option<DeliveryView> {
        delivery(tenant, subject)
    }
}

impl Repeatable for Redeliver {
    fn first_answer(alone: &Tenant, record: &ChangeRecord, _: Timestamp) -> Option<Self::Reply> {
        let (Change::WebhookRedelivered { .. }, Some(KeptReply::Message(message))) = (&record.change, &record.kept)
        else {
            return None;
        };
        Some(Some(DeliveryView::of(alone, MessageState::Waiting(message))))
    }
}

fn delivery(tenant: &Tenant, (id, seq): (WebhookId, u64)) -> Option<DeliveryView> {
    tenant.webhook(id)?.outbox.message(seq).map(|message| DeliveryView::of(tenant, message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Event;
    use crate::id::KeyId;
    use crate::webhook::outbox::DeliveryRecord;

    const OPERATOR: By = By::Operator;

    fn key() -> By {
        By::Key(KeyId::derive(Timestamp::from_millis(1_700_000_000_000), 1, TenantId::DEFAULT.tag()))
    }

    /// Runs a command as a tenant's actor does.
    fn run<C: Command>(tenant: &mut Tenant, by: By, command: C) -> Result<C::Reply, Error> {
        let now = Timestamp::from_millis(1_700_000_000_000 + tenant.seq() as i64 * 1_000);
        let moment = tenant.next_moment(now);
        let (change, subject) = command.decide(tenant, by, moment)?;
        if let Some(change) = change {
            tenant.apply(moment, &Event::Changed(ChangeRecord::new(by, change)));
        }
        Ok(C::reply(tenant, subject, now))
    }

    fn new(events: &[&str]) -> CreateWebhook {
        let body = json!({ "url": "https://example.com/hook", "events": events });
        CreateWebhook::parse(serde_json::from_value(body).unwrap()).unwrap()
    }

    fn made(tenant: &mut Tenant, by: By, events: &[&str]) -> WebhookId {
        run(tenant, by, new(events)).unwrap().unwrap().profile.id
    }

    fn update(id: WebhookId, patch: Value) -> UpdateWebhook {
        UpdateWebhook { id, patch: serde_json::from_value(patch).unwrap() }
    }

    fn waiting(tenant: &Tenant, id: WebhookId) -> Vec<MessageType> {
        let messages = tenant.webhook(id).unwrap().outbox.messages();
        messages
            .filter(|message| status_of(message) == DeliveryStatus::Pending)
            .map(|message| DeliveryView::of(tenant, message).r#type)
            .collect()
    }

    fn finish(tenant: &mut Tenant, id: WebhookId, outcome: Outcome) {
        let message = *tenant.webhook(id).unwrap().due().unwrap();
        let record = DeliveryRecord {
            webhook: id,
            seq: message.seq,
            at: message.at,
            kind: message.kind,
            outcome,
            attempts: 1,
            status: None,
            problem: None,
        };
        let moment = tenant.next_moment(message.at.plus_millis(60_000));
        tenant.apply(moment, &Event::Delivered(record));
    }

    #[test]
    fn each_is_told_what_it_asks_for_and_a_new_one_nothing_of_itself() {
        let mut tenant = Tenant::default();
        let all = made(&mut tenant, OPERATOR, &["*"]);
        let some = made(&mut tenant, key(), &["webhook.updated", "key.*"]);
        run(&mut tenant, key(), update(some, json!({ "description": "x" }))).unwrap();
        run(&mut tenant, key(), RotateWebhook(some)).unwrap();
        assert_eq!(
            waiting(&tenant, all),
            [MessageType::WebhookCreated, MessageType::WebhookUpdated, MessageType::WebhookRotated]
        );
        assert_eq!(waiting(&tenant, some), [MessageType::WebhookUpdated]);
        // A test is for one, whatever it asks for.
        run(&mut tenant, key(), TestWebhook(some)).unwrap();
        assert_eq!(waiting(&tenant, some).last(), Some(&MessageType::WebhookTest));
        assert_eq!(waiting(&tenant, all).len(), 3);
        // One that is off is told nothing, and nothing is sent to it.
        run(&mut tenant, OPERATOR, update(all, json!({ "status": "disabled" }))).unwrap();
        run(&mut tenant, key(), DeleteWebhook(some)).unwrap();
        assert_eq!((waiting(&tenant, all).len(), tenant.has_due_messages()), (4, false));
        let refused = run(&mut tenant, OPERATOR, TestWebhook(all)).unwrap_err();
        assert_eq!(refused.code(), Code::WebhookDisabled);
    }

    #[test]
    fn a_key_changes_what_a_key_set_last() {
        let mut tenant = Tenant::default();
        let (own, theirs) = (made(&mut tenant, key(), &["*"]), made(&mut tenant, OPERATOR, &["*"]));
        let off = || json!({ "status": "disabled" });
        assert!(run(&mut tenant, key(), update(own, json!({}))).is_ok());
        let code = |result: Result<Option<WebhookView>, Error>| result.map(drop).unwrap_err().code();
        assert_eq!(code(run(&mut tenant, key(), update(theirs, off()))), Code::Forbidden);
        assert_eq!(code(run(&mut tenant, key(), RotateWebhook(theirs))), Code::Forbidden);
        assert_eq!(run(&mut tenant, key(), DeleteWebhook(theirs)).unwrap_err().code(), Code::Forbidden);
        assert_eq!(run(&mut tenant, key(), TestWebhook(theirs)).unwrap_err().code(), Code::Forbidden);
        // An operator takes it over with the same values, but not with none.
        let seq = tenant.seq();
        run(&mut tenant, OPERATOR, update(own, json!({}))).unwrap();
        assert_eq!(tenant.seq(), seq);
        run(&mut tenant, OPERATOR, update(own, json!({ "format": "standard" }))).unwrap();
        assert_eq!(code(run(&mut tenant, key(), update(own, off()))), Code::Forbidden);
    }

    #[test]
    fn a_message_is_sent_again_with_its_id() {
        let mut tenant = Tenant::default();
        let id = made(&mut tenant, key(), &["*"]);
        let message = run(&mut tenant, key(), TestWebhook(id)).unwrap().unwrap().id;
        let again = Redeliver { webhook: id, message };
        let seq = tenant.seq();
        run(&mut tenant, key(), again).unwrap();
        assert_eq!(tenant.seq(), seq, "it waits already");
        for outcome in [Outcome::Dead, Outcome::Delivered] {
            finish(&mut tenant, id, outcome);
            assert!(!tenant.has_due_messages());
            let sent = run(&mut tenant, key(), Redeliver { webhook: id, message }).unwrap().unwrap();
            assert_eq!((sent.id, sent.status), (message, DeliveryStatus::Pending));
        }
        let other = MessageId::derive(Timestamp::from_millis(5), message.seq(), TenantId::DEFAULT.tag());
        let refused = run(&mut tenant, key(), Redeliver { webhook: id, message: other }).unwrap_err();
        assert_eq!(refused.code(), Code::DeliveryNotFound);
    }

    #[test]
    fn lists_go_back_in_time() {
        let mut tenant = Tenant::default();
        let id = made(&mut tenant, key(), &["*"]);
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(run(&mut tenant, key(), TestWebhook(id)).unwrap().unwrap().id);
        }
        finish(&mut tenant, id, Outcome::Delivered);
        finish(&mut tenant, id, Outcome::Dead);
        let list = |status, before, most| -> Vec<_> {
            let found = DeliveryView::list(&tenant, id, status, before, most).unwrap();
            found.into_iter().map(|delivery| delivery.id).collect()
        };
        ids.reverse();
        assert_eq!(list(None, None, 9), ids);
        assert_eq!(list(None, Some(ids[1]), 1), ids[2..3]);
        assert_eq!(list(Some(DeliveryStatus::Dead), None, 9), ids[2..3]);
        assert_eq!(list(Some(DeliveryStatus::Delivered), None, 9), ids[3..]);
        assert_eq!(list(Some(DeliveryStatus::Pending), None, 9), ids[..2]);
    }

    #[test]
    fn bad_input_names_its_field() {
        let field = |body: Value| {
            let error = CreateWebhook::parse(serde_json::from_value(body).unwrap()).map(drop).unwrap_err();
            assert_eq!(error.code(), Code::InvalidField);
            error.details()["field"].as_str().unwrap().to_owned()
        };
        let url = "https://example.com/";
        assert_eq!(field(json!({ "url": "http://user@example.com/", "events": ["*"] })), "url");
        assert_eq!(field(json!({ "url": url, "events": [] })), "events");
        assert_eq!(field(json!({ "url": url, "events": ["agent.exploded"] })), "events");
        assert_eq!(field(json!({ "url": url, "events": vec!["*"; MAX_WEBHOOK_EVENTS + 1] })), "events");
        assert_eq!(field(json!({ "url": url, "events": ["*"], "description": "" })), "description");
        let mut tenant = Tenant::default();
        for _ in 0..MAX_WEBHOOKS {
            made(&mut tenant, OPERATOR, &["key.created", "key.created"]);
        }
        assert_eq!(tenant.webhooks()[0].profile.spec.events.len(), 1);
        assert_eq!(run(&mut tenant, OPERATOR, new(&["*"])).unwrap_err().code(), Code::WebhookLimitExceeded);
    }

    #[test]
    fn replay_and_snapshots_give_the_same() {
        let mut tenant = Tenant::default();
        let id = made(&mut tenant, key(), &["*"]);
        for outcome in [Outcome::Delivered, Outcome::Dead] {
            run(&mut tenant, key(), TestWebhook(id)).unwrap();
            run(&mut tenant, key(), RotateWebhook(id)).unwrap();
            finish(&mut tenant, id, outcome);
        }
        let bytes = rmp_serde::to_vec_named(&tenant.state()).unwrap();
        assert_eq!(rmp_serde::from_slice::<crate::tenant::State>(&bytes).unwrap(), tenant.state());
    }
}
