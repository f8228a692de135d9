//! Slices of instance policies, before a call is decided that needs one.
//!
//! A call whose slice does not suffice waits here until the lender has answered, and is decided then. Everything else goes
//! on meanwhile, recalls too, so lender and tenants never wait for each other in a circle. What the lender said, that
//! nothing is left, is remembered until something may have come back: so denied calls ask nobody.

use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Context, Handler};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::TenantActor;
use crate::actors::clock::Reading;
use crate::actors::mailbox::{MAILBOX_CAPACITY, overloaded};
use crate::actors::messages::{AskSlice, FindInstanceSet, RecallSlice};
use crate::actors::tenant_reply::TenantReply;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::settlement::UsageRecord;
use crate::domain::instance::amounts::Amounts;
use crate::domain::instance::lease::{Ask, Lease, LeaseRecord, Outcome};
use crate::domain::instance::published::InstanceSet;
use crate::domain::instance::slice_check::{Exhausted, Leases, Need};
use crate::domain::{AgentId, Code, Credential, Error, Event, Request, Right};

/// How long a call waits for a slice. The lender may have to ask others, of which some may have to be read.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one call may wait: once, unless others use up what comes, or several policies need something.
const MAX_WAITS: u32 = 64;
/// Milliseconds after which the lender is asked again if somebody who may have something did not answer it.
const ASK_AGAIN_MS: i64 = 2_000;

/// Goes on with a call that waited, or ends it with an error. The number says how often it waited.
type WaitingCall = Box<dyn FnOnce(&mut TenantActor, Result<u32, Error>, &mut Context<TenantActor>)>;

/// What a tenant knows of instance policies beside its state, and the calls that wait for a slice.
#[derive(Default)]
pub(super) struct SliceDesk {
    version: u64,
    /// The instance policies; `None` if nobody knows them yet.
    set: Option<Arc<InstanceSet>>,
    /// The policies of which a slice was asked for, and the answer is not there.
    asked: Vec<u64>,
    is_finding: bool,
    /// The policies of which something is to be told, and those of which it is being told.
    to_report: Vec<u64>,
    reporting: Vec<u64>,
    waiting: Vec<(u32, WaitingCall)>,
    /// How many of those that waited are still to go on.
    going_on: usize,
    /// Where the lender has nothing left, as of `returned`.
    exhausted: Vec<Exhausted>,
    returned: u64,
    /// While waiting calls go on: why the policy of that number, or the set, could not be asked for.
    failed: Option<(Option<u64>, Error)>,
}

/// Why a call has to wait.
pub(super) enum Lack {
    /// Nobody knows yet which instance policies there are.
    Set,
    /// It needs this, and all that came with it would take so much.
    Of(Need, Amounts),
}

impl TenantActor {
    /// Whether there may be instance policies. It is cheap if there are none.
    pub(super) fn may_need_slices(&mut self) -> bool {
        if self.resources.leases.version() != self.desk.version {
            (self.desk.version, self.desk.set) = self.resources.leases.look();
        }
        self.desk.set.as_ref().is_none_or(|set| !set.is_empty())
    }

    /// Why a usage report has to wait, if it has to.
    pub(super) fn lacks_set(&mut self) -> Option<Lack> {
        (self.may_need_slices() && self.desk.set.is_none()).then_some(Lack::Set)
    }

    /// What decisions go by beside the state.
    pub(super) fn leases(&self, assume: bool) -> Option<Leases<'_>> {
        let set = self.desk.set.as_deref().filter(|set| !set.is_empty())?;
        Some(Leases { set, exhausted: &self.desk.exhausted, assume })
    }

    /// Why the first of these requests has to wait, if it has to. A call that would be denied anyway does not.
    pub(super) fn lack(
        &mut self,
        credential: &Credential,
        requests: &[Request],
        reading: Reading,
        waits: u32,
    ) -> Option<Lack> {
        if !self.may_need_slices() {
            return None;
        }
        // What a call was told that waited for it holds for that call.
        if waits < 2 && self.desk.returned != self.resources.leases.returned() {
            self.desk.exhausted.clear();
        }
        if self.desk.set.is_none() {
            return Some(Lack::Set);
        }
        let request = requests.first()?;
        let caller = self.admit(credential, Right::Decide, requests.get(..1)?, reading).ok()?;
        let (tenant, leases) = (self.tenant(), self.leases(true)?);
        let moment = tenant.next_moment(reading.now);
        let need = tenant.lacking(&caller, request, moment.wall, &leases)?;
        let is_repeat = request.key.as_deref().is_some_and(|key| tenant.check_new(&caller, key, moment.at).is_err());
        if is_repeat || !self.verdict(&caller, request, reading, true, &mut ()).allows() {
            return None;
        }
        let wanted = requests.iter().fold(Amounts::default(), |sum, request| {
            sum.plus(Amounts::new(need.least.calls, request.cost.unwrap_or_default()))
        });
        let cost = if need.least.cost == Cost::default() { need.least.cost } else { wanted.cost };
        Some(Lack::Of(need, Amounts { cost, ..wanted }))
    }

    /// Has a call wait for what it lacks. It waited so often before.
    pub(super) fn wait_for_slice(&mut self, lack: Lack, waits: u32, call: WaitingCall, ctx: &mut Context<Self>) {
        let policy = match &lack {
            Lack::Set => None,
            Lack::Of(need, _) => Some(need.policy.seq()),
        };
        if let Some((_, error)) = self.desk.failed.as_ref().filter(|(failed, _)| *failed == policy) {
            let error = error.clone();
            return call(self, Err(error), ctx);
        }
        if waits >= MAX_WAITS {
            return call(self, Err(unavailable()), ctx);
        }
        if self.desk.waiting.len() >= MAILBOX_CAPACITY {
            return call(self, Err(overloaded()), ctx);
        }
        let begun = match lack {
            Lack::Set => {
                self.find_set(ctx);
                Ok(())
            }
            Lack::Of(need, wanted) => self.ask_for_slice(need, wanted, ctx),
        };
        match begun {
            Ok(()) => self.desk.waiting.push((waits.saturating_add(1), call)),
            Err(error) => call(self, Err(error), ctx),
        }
    }

    /// Whether calls wait, or an answer is on its way.
    pub(super) fn waits_for_slices(&self) -> bool {
        !self.desk.waiting.is_empty() || !self.desk.asked.is_empty()
    }

    fn find_set(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.desk.is_finding, true) {
            return;
        }
        let (reply, answer) = oneshot::channel();
        if let Some(exchange) = self.resources.leases.exchange() {
            exchange.find(FindInstanceSet { reply });
        }
        let waited = wrap_future::<_, Self>(timeout(ASK_TIMEOUT, answer));
        ctx.spawn(waited.map(|found, actor, ctx| {
            actor.desk.is_finding = false;
            let failed = !matches!(found, Ok(Ok(Ok(()))));
            actor.go_on_waiting(failed.then(|| (None, unavailable())), ctx);
        }));
    }

    /// Asks the lender, once everything that it is told is recorded.
    fn ask_for_slice(&mut self, need: Need, wanted: Amounts, ctx: &mut Context<Self>) -> Result<(), Error> {
        let number = need.policy.seq();
        if self.desk.asked.contains(&number) {
            return Ok(());
        }
        let before = self.tenant().seq();
        let now = self.tenant().next_moment(self.resources.clock.now()).wall;
        let gone = self.desk.set.as_ref().and_then(|set| self.tenant().drop_slices(set));
        self.record_lease(gone)?;
        self.record_lease(self.tenant().return_ended(need.policy, now))?;
        // Those who wait probably need as much.
        let crowd = u64::try_from(self.desk.waiting.len() + self.desk.going_on).unwrap_or(u64::MAX);
        let ask = self.tenant().ask_for(need, wanted.plus(need.least.times(crowd)));
        let answer = self.send_ask(ask, before, ctx);
        self.desk.asked.push(number);
        let waited = wrap_future::<_, Self>(timeout(ASK_TIMEOUT, answer));
        ctx.spawn(waited.map(move |answered, actor, ctx| {
            let lease =
                answered.map_err(|_| unavailable()).and_then(|answer| answer.unwrap_or_else(|_| Err(unavailable())));
            actor.slice_answered(need, lease, ctx);
        }));
        Ok(())
    }

    /// Sends a question once the events up to now are as durable as decisions.
    fn send_ask(&mut self, ask: Ask, before: u64, ctx: &mut Context<Self>) -> oneshot::Receiver<Result<Lease, Error>> {
        let (reply, answer) = oneshot::channel();
        let resources = Arc::clone(&self.resources);
        let send = TenantReply::Other(Box::new(move |outcome| match (outcome, resources.leases.exchange()) {
            (Ok(()), Some(exchange)) => exchange.ask(AskSlice { ask, reply }),
            (Ok(()), None) => {}
            (Err(error), _) => drop(reply.send(Err(error))),
        }));
        self.reply_decided(send, before, ctx);
        answer
    }

    fn slice_answered(&mut self, need: Need, lease: Result<Lease, Error>, ctx: &mut Context<Self>) {
        let number = need.policy.seq();
        self.desk.asked.retain(|asked| *asked != number);
        let taken = lease.and_then(|lease| {
            self.record_lease(self.tenant().take(need.policy, &lease))?;
            Ok(lease.outcome)
        });
        let failed = match taken {
            Ok(Outcome::Exhausted { fits_at, version, all_asked }) => {
                if self.desk.returned != version {
                    self.desk.exhausted.clear();
                    self.desk.returned = version;
                }
                let again = self.resources.clock.now().plus_millis(ASK_AGAIN_MS);
                let until = match (all_asked, fits_at) {
                    (true, fits_at) => fits_at,
                    (false, Some(fits_at)) => Some(fits_at.min(again)),
                    (false, None) => Some(again),
                };
                self.desk.exhausted.retain(|known| known.policy != number || !known.least.covers(need.least));
                self.desk.exhausted.push(Exhausted { policy: number, least: need.least, fits_at, until });
                None
            }
            Ok(Outcome::Granted | Outcome::MustReturn | Outcome::NoPolicy) => None,
            Err(problem) => {
                warn!(tenant = %self.tenant().id(), policy = %need.policy, %problem, "got no slice of an instance policy");
                Some((Some(number), unavailable()))
            }
        };
        self.go_on_waiting(failed, ctx);
    }

    /// Decides the calls that waited. Some may have to wait again.
    fn go_on_waiting(&mut self, failed: Option<(Option<u64>, Error)>, ctx: &mut Context<Self>) {
        self.desk.failed = failed;
        let waited = std::mem::take(&mut self.desk.waiting);
        self.desk.going_on = waited.len();
        for (waits, call) in waited {
            self.desk.going_on = self.desk.going_on.saturating_sub(1);
            call(self, Ok(waits), ctx);
        }
        self.desk.failed = None;
    }

    pub(super) fn record_lease(&mut self, record: Option<LeaseRecord>) -> Result<(), Error> {
        let Some(record) = record else { return Ok(()) };
        let moment = self.tenant().next_moment(self.resources.clock.now());
        self.record(moment, &Event::Leased(record))
    }

    /// The instance policies that a report of this agent charges which is about no call.
    pub(super) fn charged_by_report(&self, agent: AgentId) -> Vec<u64> {
        let Some(set) = self.desk.set.as_deref().filter(|set| !set.is_empty()) else { return Vec::new() };
        self.tenant().agent(agent).map(|agent| set.charged_by_report(agent)).unwrap_or_default()
    }

    /// Has the lender hear of what a usage report changed, at the end of the turn.
    pub(super) fn note_used(&mut self, record: &UsageRecord) {
        if record.changes_slices() {
            let new = record.instance.iter().filter(|policy| !self.desk.to_report.contains(policy));
            let new: Vec<_> = new.copied().collect();
            self.desk.to_report.extend(new);
        }
    }

    /// Tells the lender what changed, once for all that changes until it has answered.
    pub(super) fn report_slices(&mut self, ctx: &mut Context<Self>) {
        let Some(set) = self.desk.set.clone() else { return };
        let (now, later) = std::mem::take(&mut self.desk.to_report)
            .into_iter()
            .partition::<Vec<_>, _>(|policy| !self.desk.reporting.contains(policy));
        self.desk.to_report = later;
        for policy in set.policies().iter().filter(|policy| now.contains(&policy.number())) {
            let (number, before) = (policy.number(), self.tenant().seq());
            self.desk.reporting.push(number);
            let answer = self.send_ask(self.tenant().report_of(policy.id()), before, ctx);
            let waited = wrap_future::<_, Self>(timeout(ASK_TIMEOUT, answer));
            // If it is lost, the next question tells it too.
            ctx.spawn(waited.map(move |_, actor, ctx| {
                actor.desk.reporting.retain(|reported| *reported != number);
                actor.report_slices(ctx);
            }));
        }
    }

    /// Whether the lender should hear of something.
    pub(super) fn has_to_report(&self) -> bool {
        !self.desk.to_report.is_empty()
    }
}

impl Handler<RecallSlice> for TenantActor {
    type Result = ();

    fn handle(&mut self, RecallSlice { recall, reply }: RecallSlice, ctx: &mut Context<Self>) {
        let before = self.tenant().seq();
        match self.record_lease(self.tenant().give_up(&recall)) {
            Ok(()) => {
                let told = self.tenant().report_of(recall.policy);
                self.reply_decided(TenantReply::of(reply, told), before, ctx);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

/// The error of a call that needs a slice, and gets none although there may be some.
fn unavailable() -> Error {
    let sentence = "the instance-wide budget can't be asked at the moment, so nothing was decided; try again";
    Error::new(Code::InstanceBudgetUnavailable, sentence)
}
