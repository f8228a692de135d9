//! The courier: sends the messages of all webhooks, in order for each, on a thread that serves no calls.
//!
//! Each webhook with something to send has a *lane*: a task that takes its first message, sends it, notes what became of
//! it, and goes on with the next. A lane that waits for its next attempt holds no thread and keeps no tenant in memory. So
//! an endpoint that fails or never answers holds up only its own later messages. What is to be sent is part of the tenant's
//! state: a kill loses at most the knowledge that a message was delivered, and it comes again with its id.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_rt::Arbiter;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tracing::{error, warn};
use url::Url;

use super::kavach::Kavach;
use super::tenant_counts::off_thread;
use crate::actors::Route;
use crate::actors::fair_semaphore::{FairSemaphore, Party};
use crate::actors::messages::{Inspect, OpenAudit, RecordDelivery};
use crate::domain::limits::MAX_WEBHOOKS;
use crate::domain::webhook::WebhookProfile;
use crate::domain::webhook::outbox::{DeliveryRecord, Outcome, WaitingMessage};
use crate::domain::{AuditEntry, AuditId, Error, MessageId, Right, Tenant, TenantId, WebhookId};
use crate::measure::count;
use crate::webhooks::backoff::Backoff;
use crate::webhooks::failing::FailedAttempt;
use crate::webhooks::message_body::body;
use crate::webhooks::post::{Client, Failure};
use crate::webhooks::signature;

/// Attempts under way at once. Each holds a connection and little else, and one that gets no answer holds it for seconds.
const MAX_ATTEMPTS: usize = 256;
/// Pause before a tenant that can't answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a clean stop waits for attempts under way, so that what was delivered is noted.
const CLOSING: Duration = Duration::from_secs(5);

/// The thread that the courier runs on.
#[derive(Default)]
pub struct CourierThread {
    running: Option<Running>,
}

struct Running {
    kavach: Kavach,
    arbiter: Arbiter,
    ended: oneshot::Receiver<()>,
}

impl CourierThread {
    /// Starts the courier, once the tenants are known.
    pub fn start(kavach: Kavach) -> Self {
        let arbiter = Arbiter::new();
        let (end, ended) = oneshot::channel();
        let courier = kavach.clone();
        arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                Rc::new(Courier::new(courier)).run().await;
                let _ = end.send(());
            });
        });
        Self { running: Some(Running { kavach, arbiter, ended }) }
    }

    /// Sends nothing more, and notes what is delivered of that under way.
    pub async fn stop(self) {
        let Some(Running { kavach, arbiter, ended }) = self.running else { return };
        kavach.core.webhooks.bell.close();
        if timeout(CLOSING, ended).await.is_err() {
            warn!("messages to webhooks were still under way; they may come twice");
        }
        arbiter.stop();
        // Its thread ends at its next turn. A panic on it was logged where it happened.
        let _ = arbiter.join();
    }
}

/// Sends messages, on one thread.
struct Courier {
    kavach: Kavach,
    client: Client,
    backoff: Backoff,
    attempts: Arc<FairSemaphore>,
    lanes: RefCell<HashMap<WebhookId, Rc<Lane>>>,
    /// Tenants that are being looked at.
    looking: RefCell<HashMap<TenantId, Look>>,
    closing: Cell<bool>,
    /// Told when a lane ends.
    lane_ended: Notify,
}

/// What to know while a tenant is looked at.
#[derive(Default)]
struct Look {
    /// Whether there may be something new since it was last asked.
    again: bool,
    /// Webhooks that were nudged and had no lane.
    nudged: HashSet<WebhookId>,
}

/// The messages of one webhook.
#[derive(Default)]
struct Lane {
    /// Whether there may be something new since it last asked.
    again: Cell<bool>,
    /// Ends its wait for the next attempt.
    nudge: Notify,
    /// How many messages wait, as it last heard.
    waiting: Cell<usize>,
}

/// What a lane sends next.
struct Due {
    profile: Arc<WebhookProfile>,
    message: WaitingMessage,
    waiting: usize,
}

impl Courier {
    fn new(kavach: Kavach) -> Self {
        Self {
            client: Client::new(kavach.core.webhooks.allowed.clone()),
            backoff: Backoff::of_process(),
            attempts: FairSemaphore::new(MAX_ATTEMPTS, MAX_WEBHOOKS),
            lanes: RefCell::default(),
            looking: RefCell::default(),
            closing: Cell::new(false),
            lane_ended: Notify::new(),
            kavach,
        }
    }

    /// Sends until the news end, and then waits for what is under way.
    async fn run(self: Rc<Self>) {
        let found = Rc::clone(&self);
        let search = actix_rt::spawn(async move { found.find_unsent().await });
        let bell = &self.kavach.core.webhooks.bell;
        while let Some(news) = bell.next().await {
            for (tenant, mut nudged) in news {
                // A lane that waits goes on even while the tenant can't be looked at.
                nudged.retain(|webhook| !self.nudge(*webhook));
                let mut looking = self.looking.borrow_mut();
                let is_looking = looking.contains_key(&tenant);
                let look = looking.entry(tenant).or_default();
                look.again = true;
                look.nudged.extend(nudged);
                if !is_looking {
                    let courier = Rc::clone(&self);
                    actix_rt::spawn(async move { courier.look_at(tenant).await });
                }
            }
        }
        self.closing.set(true);
        search.abort();
        for lane in self.lanes.borrow().values() {
            lane.nudge.notify_one();
        }
        while !self.lanes.borrow().is_empty() {
            self.lane_ended.notified().await;
        }
    }

    /// Finds what the last run left unsent: its tenants' rows say so. One without a row that holds is asked.
    async fn find_unsent(&self) {
        let core = Arc::clone(&self.kavach.core);
        if !core.webhooks.key.exists() {
            return;
        }
        let search = move || {
            let (mut due, mut unclear) = (Vec::new(), Vec::new());
            core.directory.each(|known| match known.row() {
                Some(row) if row.due_webhooks == 0 => {}
                Some(_) => due.push(known.route.id),
                None => unclear.push(known.route.id),
            });
            due.into_iter().chain(unclear).collect::<Vec<_>>()
        };
        for tenant in off_thread(search).await.unwrap_or_default() {
            // An actor that starts with something to send rings by itself. Others are in memory already.
            if self.closing.get() {
                return;
            }
            let _ = self.inspect(tenant, |tenant| tenant.has_due_messages()).await.map(|is_due| {
                if is_due {
                    self.kavach.core.webhooks.bell.ring(tenant);
                }
            });
        }
    }

    /// Ends the wait of a webhook's lane, or its next one if it does not wait now. `false` if it has no lane.
    fn nudge(&self, webhook: WebhookId) -> bool {
        self.lanes.borrow().get(&webhook).is_some_and(|lane| {
            lane.nudge.notify_one();
            true
        })
    }

    /// Looks at a tenant until nothing is new.
    async fn look_at(self: Rc<Self>, tenant: TenantId) {
        loop {
            {
                let mut looking = self.looking.borrow_mut();
                match looking.get_mut(&tenant) {
                    Some(look) if look.again && !self.closing.get() => look.again = false,
                    _ => return drop(looking.remove(&tenant)),
                }
            }
            let look = |tenant: &Tenant| -> Vec<WebhookId> {
                let due = tenant.webhooks().iter().filter(|webhook| webhook.due().is_some());
                due.map(|webhook| webhook.profile.id).collect()
            };
            match self.inspect(tenant, look).await {
                Ok(due) => self.start_lanes(tenant, due),
                Err(problem) if problem.code().is_unavailable() => {
                    tokio::time::sleep(ASK_AGAIN).await;
                    self.looking.borrow_mut().entry(tenant).or_default().again = true;
                }
                // The tenant was erased.
                Err(_) => {}
            }
        }
    }

    /// Starts a lane for each of a tenant's webhooks that has something to send and no lane yet. Those that were nudged
    /// before they had one are nudged then: whoever tries out a webhook does so with its first message.
    fn start_lanes(self: &Rc<Self>, tenant: TenantId, due: Vec<WebhookId>) {
        if self.closing.get() {
            return;
        }
        for webhook in due {
            let mut lanes = self.lanes.borrow_mut();
            if let Some(lane) = lanes.get(&webhook) {
                lane.again.set(true);
                continue;
            }
            let lane = Rc::<Lane>::default();
            lanes.insert(webhook, Rc::clone(&lane));
            drop(lanes);
            let courier = Rc::clone(self);
            actix_rt::spawn(async move {
                courier.send_all(tenant, webhook, &lane).await;
                courier.count_waiting(&lane, 0);
                courier.kavach.core.webhooks.failing.forget(webhook);
                courier.lanes.borrow_mut().remove(&webhook);
                courier.lane_ended.notify_one();
            });
        }
        let nudged = self.looking.borrow_mut().get_mut(&tenant).map(|look| std::mem::take(&mut look.nudged));
        for webhook in nudged.unwrap_or_default() {
            // One that has nothing to send has no lane, and needs none.
            self.nudge(webhook);
        }
    }

    /// Sends a webhook's messages until none is left.
    async fn send_all(&self, tenant: TenantId, webhook: WebhookId, lane: &Lane) {
        // Failures in a row, of whatever message.
        let mut failures = 0u32;
        // Attempts of the first message.
        let (mut first, mut attempts) = (0, 0u32);
        while !self.closing.get() {
            lane.again.set(false);
            let Due { profile, message, waiting } = match self.next_due(tenant, webhook).await {
                Ok(Some(due)) => due,
                Ok(None) if lane.again.get() => continue,
                Ok(None) => return,
                Err(problem) if problem.code().is_unavailable() => match self.ask_again().await {
                    Ok(()) => continue,
                    Err(LaneEnds) => return,
                },
                // The tenant was erased.
                Err(_) => return,
            };
            self.count_waiting(lane, waiting);
            if first != message.seq {
                (first, attempts) = (message.seq, 0);
            }
            let attempt = self.attempt(tenant, &profile, &message).await;
            let measures = &self.kavach.core.measures;
            let outcome = match attempt {
                Ok(Attempt::Taken(status)) => {
                    attempts = attempts.saturating_add(1);
                    failures = 0;
                    count(&measures.webhooks_delivered);
                    Some((Outcome::Delivered, Some(status), None))
                }
                Ok(Attempt::Forgotten) => {
                    let problem = "the tenant's audit trail does not keep this entry any more";
                    Some((Outcome::Dead, None, Some(problem.into())))
                }
                Ok(Attempt::Refused(Failure { status, problem })) => {
                    attempts = attempts.saturating_add(1);
                    failures = failures.saturating_add(1);
                    count(&measures.webhooks_failed);
                    let at = self.kavach.core.clock.now();
                    if message.is_given_up(at) {
                        Some((Outcome::Dead, status, Some(problem.into())))
                    } else {
                        let message = MessageId::derive(message.at, message.seq, tenant.tag());
                        let attempt = FailedAttempt { message, at, attempts, status, problem: problem.into() };
                        self.kavach.core.webhooks.failing.note(webhook, attempt);
                        None
                    }
                }
                Err(LaneEnds) => return,
            };
            if let Some((outcome, status, problem)) = outcome {
                self.kavach.core.webhooks.failing.forget(webhook);
                if outcome == Outcome::Dead {
                    count(&measures.webhooks_dead);
                }
                let WaitingMessage { seq, at, kind, since: _ } = message;
                let record = DeliveryRecord { webhook, seq, at, kind, outcome, attempts, status, problem };
                if !self.note(tenant, &record).await {
                    return;
                }
            }
            if failures > 0 {
                let random = getrandom::u32().unwrap_or_default();
                let now = self.kavach.core.clock.now();
                let is_nudged = self.pause(lane, self.backoff.after(failures, message.since, now, random)).await;
                // Somebody looks at it, and may have mended it: the next waits are short again.
                failures = if is_nudged { 0 } else { failures };
            }
        }
    }

    /// Sends a message once. What only this server can't do counts as an attempt too, so that the message is given up after
    /// a day and the next one is tried. An error ends the lane.
    async fn attempt(
        &self,
        tenant: TenantId,
        profile: &WebhookProfile,
        message: &WaitingMessage,
    ) -> Result<Attempt, LaneEnds> {
        let refused = |problem: &str| Ok(Attempt::Refused(Failure { status: None, problem: problem.to_owned() }));
        let text = loop {
            match self.text(tenant, profile, message).await {
                Ok(Some(text)) => break text,
                Ok(None) => return Ok(Attempt::Forgotten),
                Err(problem) if problem.code().is_unavailable() => self.ask_again().await?,
                Err(problem) if problem.code().is_not_found() => return Err(LaneEnds),
                Err(_) => return refused("its entry of the audit trail can't be read"),
            }
        };
        let core = Arc::clone(&self.kavach.core);
        let key = match off_thread(move || core.webhooks.key.read()).await {
            Ok(Ok(Some(key))) => key,
            Ok(Ok(None)) => {
                error!("webhook.key is missing from the data directory; restore it, or rotate every webhook's secret");
                return refused("the server's key for signatures is missing");
            }
            Ok(Err(problem)) => {
                error!(%problem, "the key of webhooks can't be read, so no message is sent");
                return refused("the server's key for signatures can't be read");
            }
            Err(_) => return refused("the server's key for signatures can't be read"),
        };
        let Ok(url) = Url::parse(&profile.spec.url) else {
            return refused("its URL can't be read");
        };
        let party = Party { operator: false, tenant: Some(tenant) };
        let turn = self.attempts.take(party).await.map_err(|_| LaneEnds)?;
        if self.closing.get() {
            return Err(LaneEnds);
        }
        let id = MessageId::derive(message.at, message.seq, tenant.tag());
        let headers = signature::headers(&key, profile, id, self.kavach.core.clock.now(), &text);
        let posted = self.client.post(turn, &url, &headers, &text).await;
        Ok(posted.map_or_else(Attempt::Refused, Attempt::Taken))
    }

    /// The text of a message; `None` if its event is past the tenant's retention.
    async fn text(
        &self,
        tenant: TenantId,
        profile: &WebhookProfile,
        message: &WaitingMessage,
    ) -> Result<Option<Vec<u8>>, Error> {
        let credential = self.kavach.credential;
        let route = Route { id: tenant, slug: None };
        let trail =
            self.kavach.ask_one_of(None, &route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
        let (id, kind, format) =
            (AuditId::derive(message.at, message.seq, tenant.tag()), message.kind, profile.spec.format);
        let look = move || {
            trail.look_up(id, |moment, event| {
                body(format, kind, &AuditEntry::of(tenant, moment, event), event.crossed())
            })
        };
        self.kavach.read_trail(Some(tenant), look).await
    }

    /// Notes what became of a message. `false` if the tenant is gone, or the server ends first.
    async fn note(&self, tenant: TenantId, record: &DeliveryRecord) -> bool {
        let route = Route { id: tenant, slug: None };
        loop {
            let record = record.clone();
            let noted = self.kavach.ask_one_of(None, &route, |reply| RecordDelivery { record, reply }).await;
            let Err(problem) = noted else { return true };
            if !problem.code().is_unavailable() || self.ask_again().await.is_err() {
                return false;
            }
        }
    }

    async fn next_due(&self, tenant: TenantId, webhook: WebhookId) -> Result<Option<Due>, Error> {
        let look = move |tenant: &Tenant| {
            let webhook = tenant.webhook(webhook)?;
            let (message, waiting) = (*webhook.due()?, webhook.outbox.waiting());
            Some(Due { profile: Arc::clone(&webhook.profile), message, waiting })
        };
        self.inspect(tenant, look).await
    }

    /// Reads a tenant's state, without keeping it in memory.
    async fn inspect<T: Send + 'static>(
        &self,
        tenant: TenantId,
        look: impl FnOnce(&Tenant) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let credential = self.kavach.credential;
        let look = move |tenant: &Tenant, _| Ok(look(tenant));
        let route = Route { id: tenant, slug: None };
        self.kavach.ask_one_of(None, &route, |reply| Inspect { credential, right: Right::Read, look, reply }).await
    }

    /// Waits, unless the server ends or somebody asks to try at once. Then it returns `true`.
    async fn pause(&self, lane: &Lane, wait: Duration) -> bool {
        self.closing.get() || timeout(wait, lane.nudge.notified()).await.is_ok()
    }

    /// Waits before a tenant or a file is asked again. A nudge is about the endpoint, so it waits for the attempt.
    async fn ask_again(&self) -> Result<(), LaneEnds> {
        tokio::time::sleep(ASK_AGAIN).await;
        if self.closing.get() { Err(LaneEnds) } else { Ok(()) }
    }

    fn count_waiting(&self, lane: &Lane, waiting: usize) {
        let total = &self.kavach.core.measures.webhooks_waiting;
        total.fetch_add(waiting, Ordering::Relaxed);
        total.fetch_sub(lane.waiting.replace(waiting), Ordering::Relaxed);
    }
}

/// How an attempt ended.
enum Attempt {
    /// The endpoint took the message, with that status.
    Taken(u16),
    /// It did not.
    Refused(Failure),
    /// There is nothing to send any more.
    Forgotten,
}

/// The server ends, or the tenant is gone.
struct LaneEnds;
