//! Webhooks.

use std::sync::Arc;

use tracing::error;

use super::kavach::Kavach;
use super::lists::{InRow, Page, PageRequest, bad_cursor};
use super::tenant_calls::lost;
use super::tenant_counts::off_thread;
use crate::actors::Route;
use crate::domain::tenant::Caller;
use crate::domain::webhook::commands::{
    CreateWebhook, DeleteWebhook, DeliveryStatus, DeliveryView, LastAttempt, LastOutcome, NewWebhook, Redeliver,
    RotateWebhook, TestWebhook, UpdateWebhook, WebhookPatch, WebhookView, unknown_delivery, unknown_webhook,
};
use crate::domain::webhook::target::{parse_url, shown_origin};
use crate::domain::{Code, Error, MessageId, Right, Tenant, TenantRef, WebhookId};
use crate::store::CatalogRow;
use crate::webhooks::address::check_url;
use crate::webhooks::signing_key::{SigningKey, WebhookSecret};

/// Deliveries of a page when no `limit` is given.
const DEFAULT_DELIVERIES: usize = 100;

/// Calls about webhooks.
pub struct Webhooks<'a>(pub(super) &'a Kavach);

/// A webhook with its secret, which no other answer shows.
pub struct WebhookWithSecret {
    /// The webhook.
    pub view: WebhookView,
    /// The secret that its messages are signed with; `None` if an answer before this one showed it.
    pub secret: Option<WebhookSecret>,
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Deliveries that stand there; `None` does not filter.
    pub status: Option<DeliveryStatus>,
    /// The most to return; `None` means 100.
    pub limit: Option<usize>,
    /// The cursor that the previous page returned.
    pub cursor: Option<String>,
}

impl Kavach {
    /// Webhooks.
    pub fn webhooks(&self) -> Webhooks<'_> {
        Webhooks(self)
    }
}

impl Webhooks<'_> {
    /// Creates a webhook.
    ///
    /// # Errors
    /// `INVALID_FIELD`, `TENANT_NOT_FOUND`, `TENANT_MISMATCH`, `WEBHOOK_LIMIT_EXCEEDED`, `IDEMPOTENCY_KEY_REUSED`.
    pub async fn create(&self, new: NewWebhook) -> Result<WebhookWithSecret, Error> {
        let named = new.tenant_id.as_deref().map(TenantRef::parse);
        let route = self.0.tenant_in_body(named.as_ref())?;
        let url = new.url.clone();
        let command = CreateWebhook::parse(new)?;
        self.check_target(&url)?;
        let key = self.signing_key().await?;
        let view = self.0.execute_once(&route, command).await?.ok_or_else(lost)?;
        Ok(WebhookWithSecret { secret: (!self.0.repeated()).then(|| key.current(&view.profile)), view })
    }

    /// Webhooks, oldest first.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn list(&self, tenant: Option<TenantRef>, page: PageRequest) -> Result<Page<WebhookView>, Error> {
        let (after, most) = (page.after(WebhookId::parse)?, page.most());
        let selection = self.0.tenants_in_filter(tenant.as_ref())?;
        let credential = self.0.credential;
        let look = move |tenant: &Tenant, now| -> Vec<WebhookView> {
            let caller = tenant.authenticate(&credential, now).ok();
            let wanted =
                tenant.webhooks().iter().filter(|webhook| after.is_none_or(|after| webhook.profile.id > after));
            wanted.take(most).map(|webhook| shown(WebhookView::of(tenant, webhook), caller)).collect()
        };
        let in_row = |_: &CatalogRow| InRow::Unknown;
        let key = |view: &WebhookView| view.profile.id;
        let mut webhooks = self.0.gather_list(selection, most, key, in_row, look).await?;
        webhooks.items.iter_mut().for_each(|view| self.note_failing(view));
        Ok(Page::cut(webhooks, page.limit, |view| view.profile.id.to_string()))
    }

    /// One webhook by its id.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`.
    pub async fn get(&self, webhook: &str) -> Result<WebhookView, Error> {
        let (id, route) = self.find(webhook)?;
        let credential = self.0.credential;
        let look = move |tenant: &Tenant, now| {
            let caller = tenant.authenticate(&credential, now).ok();
            WebhookView::find(tenant, id).map(|view| shown(view, caller))
        };
        let mut view = self.0.inspect(&route, look).await?;
        self.note_failing(&mut view);
        Ok(view)
    }

    /// Changes a webhook. Omitted fields keep their values. What waits for it is sent at once.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `INVALID_FIELD`, `PRECONDITION_FAILED`, `FORBIDDEN` for a tenant key if an operator set the webhook.
    pub async fn update(&self, webhook: &str, patch: WebhookPatch) -> Result<WebhookView, Error> {
        let (id, route) = self.find(webhook)?;
        if let Some(url) = &patch.url {
            self.check_target(url)?;
        }
        let command = self.0.if_unchanged(UpdateWebhook { id, patch });
        let mut view = self.0.execute(&route, command).await?.ok_or_else(lost)?;
        self.note_failing(&mut view);
        self.0.core.webhooks.bell.nudge(route.id, id);
        Ok(view)
    }

    /// Deletes a webhook, with what waits for it.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `PRECONDITION_FAILED`, `FORBIDDEN` for a tenant key if an operator set the webhook.
    pub async fn delete(&self, webhook: &str) -> Result<(), Error> {
        let (id, route) = self.find(webhook)?;
        self.0.execute(&route, self.0.if_unchanged(DeleteWebhook(id))).await?;
        self.0.core.webhooks.bell.nudge(route.id, id);
        Ok(())
    }

    /// Gives a webhook a new secret. For a day, messages are also signed with the old one.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `FORBIDDEN` for a tenant key if an operator set the webhook.
    pub async fn rotate(&self, webhook: &str) -> Result<WebhookWithSecret, Error> {
        let (id, route) = self.find(webhook)?;
        let key = self.signing_key().await?;
        let view = self.0.execute_once(&route, RotateWebhook(id)).await?.ok_or_else(lost)?;
        Ok(WebhookWithSecret { secret: (!self.0.repeated()).then(|| key.current(&view.profile)), view })
    }

    /// Sends a test message, behind what waits already.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `WEBHOOK_DISABLED`, `FORBIDDEN` for a tenant key if an operator set the webhook.
    pub async fn test(&self, webhook: &str) -> Result<DeliveryView, Error> {
        let (id, route) = self.find(webhook)?;
        let sent = self.0.execute_once(&route, TestWebhook(id)).await?.ok_or_else(lost)?;
        self.0.core.webhooks.bell.nudge(route.id, id);
        Ok(sent)
    }

    /// A webhook's messages, those of the newest events first.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `INVALID_QUERY` for a malformed cursor.
    pub async fn deliveries(&self, webhook: &str, filter: DeliveryFilter) -> Result<Page<DeliveryView>, Error> {
        let DeliveryFilter { status, limit, cursor } = filter;
        let before = match &cursor {
            Some(cursor) => Some(MessageId::parse(cursor).ok_or_else(|| bad_cursor(cursor))?),
            None => None,
        };
        let (id, route) = self.find(webhook)?;
        let limit = limit.unwrap_or(DEFAULT_DELIVERIES);
        let look = move |tenant: &Tenant, _| DeliveryView::list(tenant, id, status, before, limit.saturating_add(1));
        let mut items = self.0.inspect(&route, look).await?;
        if let Some(failed) = self.0.core.webhooks.failing.of(id)
            && let Some(waiting) = items.iter_mut().find(|item| item.id == failed.message)
            && waiting.status == DeliveryStatus::Pending
        {
            (waiting.attempts, waiting.http_status) = (Some(failed.attempts), failed.status);
            waiting.problem = Some(failed.problem);
        }
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(|delivery| delivery.id.to_string());
        Ok(Page { items, next, missing: Vec::new(), turn: None })
    }

    /// Sends a message again, with the same id, behind what waits already.
    ///
    /// # Errors
    /// `WEBHOOK_NOT_FOUND`, `DELIVERY_NOT_FOUND`, `WEBHOOK_DISABLED`, `FORBIDDEN` for a tenant key if an operator set the
    /// webhook.
    pub async fn redeliver(&self, webhook: &str, delivery: &str) -> Result<DeliveryView, Error> {
        let (id, route) = self.find(webhook)?;
        let Some(message) = MessageId::parse(delivery) else {
            // An unknown webhook is reported first, whatever the delivery is.
            self.0.inspect(&route, move |tenant, _| WebhookView::find(tenant, id).map(drop)).await?;
            return Err(unknown_delivery(delivery));
        };
        let sent = self.0.execute_once(&route, Redeliver { webhook: id, message }).await?.ok_or_else(lost)?;
        self.0.core.webhooks.bell.nudge(route.id, id);
        Ok(sent)
    }

    fn find(&self, webhook: &str) -> Result<(WebhookId, Route), Error> {
        let unknown = || unknown_webhook(webhook);
        let id = WebhookId::parse(webhook).ok_or_else(unknown)?;
        Ok((id, self.0.tenant_of_id(id.tag(), unknown)?))
    }

    /// Shows the attempt that failed last, if the message is tried again. The tenant does not know of it.
    fn note_failing(&self, view: &mut WebhookView) {
        if let Some(failed) = self.0.core.webhooks.failing.of(view.profile.id) {
            let (at, problem) = (failed.at, Some(failed.problem));
            view.last = Some(LastAttempt { outcome: LastOutcome::Failed, at, problem });
        }
    }

    fn check_target(&self, url: &str) -> Result<(), Error> {
        check_url(&parse_url(url)?, &self.0.core.webhooks.allowed)
    }

    /// The key of the data directory, which is made for the first webhook.
    async fn signing_key(&self) -> Result<SigningKey, Error> {
        let core = Arc::clone(&self.0.core);
        off_thread(move || core.webhooks.key.read_or_make()).await?.map_err(|problem| {
            error!(%problem, "the key of webhooks can't be read or made");
            Error::new(
                Code::StorageUnavailable,
                "the key that signs messages can't be read or made; the server's log says why",
            )
        })
    }
}

/// What a caller sees of a webhook. The path of its URL may be a secret, so only those see it who may change the webhook.
fn shown(mut view: WebhookView, caller: Option<Caller>) -> WebhookView {
    let may_change = caller.is_some_and(|caller| {
        caller.check(Right::Manage).is_ok() && caller.as_author().is_ok_and(|by| by.may_change(view.profile.by))
    });
    if !may_change {
        let profile = Arc::make_mut(&mut view.profile);
        profile.spec.url = shown_origin(&profile.spec.url).into();
    }
    view
}
