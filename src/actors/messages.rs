//! The messages a tenant's actor takes, and what it does with each.

use std::io;
use std::time::Instant;

use actix::{ActorContext, Context, Handler, Message};
use actix_rt::task::spawn_blocking;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::error;

use super::clock::Reading;
use super::lanes::ReplyTo;
use super::reply::{Held, Reply};
use super::tenant::{Ending, TenantActor};
use crate::domain::audit::AuditResult;
use crate::domain::author::Author;
use crate::domain::budget::usage::{UsageAnswer, UsageReport};
use crate::domain::decision::Verdict;
use crate::domain::decision::explain::{Step, Steps, Trace};
use crate::domain::decision::request::Asked;
use crate::domain::event::ChangeRecord;
use crate::domain::tenant::{Caller, Command};
use crate::domain::{AuditId, Code, Credential, Decision, Error, Event, Request, Tenant, TenantId, Timestamp};
use crate::journal::{JournalReader, SyncPoint};
use crate::measure::tenant::Waiting;

/// Decide a call and record it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Authorize {
    /// Who asks.
    pub credential: Credential,
    /// What is asked.
    pub request: Request,
    /// When the request arrived.
    pub received: Instant,
    /// Whether an agent that is not this tenant's is another tenant's business: it is then not recorded here, and
    /// the answer is `AGENT_NOT_FOUND`.
    pub known_only: bool,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// As long as it waits to be decided.
    pub waiting: Waiting,
}

/// Decide calls in order, each on its own. An answer is missing where `known_only` says so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AuthorizeMany {
    /// Who asks.
    pub credential: Credential,
    /// What is asked.
    pub requests: Vec<Request>,
    /// When the requests arrived.
    pub received: Instant,
    /// See [`Authorize::known_only`].
    pub known_only: bool,
    /// The first decision that says this is the last one made: those after it are not decided.
    pub until: Option<bool>,
    /// Where the answers go.
    pub reply: Reply<Vec<Option<Decision>>>,
    /// As long as they wait to be decided.
    pub waiting: Waiting,
}

/// Decide a call, record nothing, and say what was looked at.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Explain {
    /// Who asks.
    pub credential: Credential,
    /// What is asked.
    pub request: Request,
    /// See [`Authorize::known_only`].
    pub known_only: bool,
    /// Where the answer goes.
    pub reply: Reply<Explanation>,
}

/// A decision that was not recorded, with its steps.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What the answer would be.
    #[serde(flatten)]
    pub decision: Decision,
    /// What was looked at, in order, and not more of it than an answer shows.
    pub steps: Vec<Step>,
    /// How many more steps there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more_steps: Option<usize>,
}

/// Carry out an administrative command.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Execute<C: Command> {
    /// Who asks.
    pub credential: Credential,
    /// What else is known of who asks.
    pub author: Option<Author>,
    /// What for.
    pub command: C,
    /// Why, where the caller said so.
    pub reason: Option<Box<str>>,
    /// Where the answer goes.
    pub reply: Reply<C::Reply>,
}

/// Record what an agent used.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordUsage {
    /// Who asks.
    pub credential: Credential,
    /// What was used.
    pub report: UsageReport,
    /// Where the answer goes.
    pub reply: Reply<UsageAnswer>,
}

/// Look at the state.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Inspect<F, T> {
    /// Who asks.
    pub credential: Credential,
    /// What to look at, at what time.
    pub look: F,
    /// Where the answer goes.
    pub reply: Reply<T>,
}

/// Find out whether a key or token is good, and nothing else.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Verify {
    /// The key or token.
    pub credential: Credential,
    /// Where the answer goes.
    pub reply: Reply<Caller>,
}

/// Open the audit trail for reading on another thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OpenAudit {
    /// Who asks.
    pub credential: Credential,
    /// Where the answer goes.
    pub reply: Reply<AuditTrail>,
}

/// A tenant's audit trail up to a moment.
pub struct AuditTrail {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its events.
    pub reader: JournalReader,
    /// Entries before that time are past the tenant's retention.
    pub horizon: Option<Timestamp>,
}

/// Write a snapshot now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// Where the answer goes, once the snapshot is on disk.
    pub reply: Reply<()>,
}

/// Write all there is to disk, and end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close {
    /// Told when all is done.
    pub done: oneshot::Sender<()>,
}

/// End at once: the tenant is being erased.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// Told when no call can be answered any more.
    pub done: oneshot::Sender<()>,
}

/// Panic, as a defect would: what tests use to see that nobody else notices.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectPanic;

/// Do nothing until the other end says so or is gone: what tests use to see a mailbox fill.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InjectStall(
    /// The other end.
    pub std::sync::mpsc::Receiver<()>,
);

/// The mailbox is empty: give the kernel what was appended.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Flush;

/// The disk has all up to that point.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SyncDone(pub io::Result<SyncPoint>);

/// A snapshot is on disk, or a problem kept it from there.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SnapshotWritten {
    pub seq: u64,
    pub problem: Option<String>,
    pub done: Option<Held>,
    /// When the state was taken that it holds.
    pub begun_at: Timestamp,
}

/// Try whether the storage works.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Probe;

/// Whether it does.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Probed(pub bool);

impl TenantActor {
    /// Decides and records one call. `None`: the agent is not this tenant's, and only its own count.
    fn decide(
        &mut self,
        caller: &Caller,
        request: &Request,
        received: Instant,
        reading: Reading,
        known_only: bool,
    ) -> Result<Option<Decision>, Error> {
        let moment = self.tenant().next_moment(reading.now);
        let verdict = self.verdict(caller, request, reading, &mut ());
        if known_only && !verdict.knows_agent() {
            return Ok(None);
        }
        let micros = u32::try_from(received.elapsed().as_micros()).unwrap_or(u32::MAX);
        let record = verdict.record(request, micros);
        let (result, code) = (AuditResult::of(&record), record.code);
        self.record(moment, &Event::Decided(record))?;
        self.meter.decided(reading.now, micros, result, code);
        let id = AuditId::derive(moment.at, moment.seq, self.tenant().id().tag());
        Ok(Some(verdict.answer(Some(id))))
    }

    /// What is decided. Of two times that it may be, a call has to be right by both.
    fn verdict(&self, caller: &Caller, request: &Request, reading: Reading, trace: &mut impl Trace) -> Verdict {
        let tenant = self.tenant();
        if let Some(doubted) = reading.doubted {
            let verdict = tenant.decide(caller, request, tenant.next_moment(doubted), trace);
            if !verdict.allows() {
                return verdict;
            }
        }
        tenant.decide(caller, request, tenant.next_moment(reading.now), trace)
    }

    /// Who calls, and whether all that is asked is for the caller to ask.
    fn admit(&self, credential: &Credential, requests: &[Request], reading: Reading) -> Result<Caller, Error> {
        let caller = self.tenant().authenticate(credential, reading.latest())?;
        if let Caller::Agent(slot) = caller {
            let own = self.tenant().agent_in(slot).map(|agent| Asked::Agent(agent.profile.id));
            if requests.iter().any(|request| request.agent != Asked::Caller && Some(request.agent) != own) {
                return Err(Error::new(Code::Forbidden, "agentId: an agent token may only ask for its own agent"));
            }
        }
        Ok(caller)
    }
}

impl Handler<Authorize> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Authorize, ctx: &mut Context<Self>) {
        let Authorize { credential, request, received, known_only, reply, waiting } = message;
        drop(waiting);
        let (before, reading) = (self.tenant().seq(), self.core.clock.read());
        let decided = self
            .admit(&credential, std::slice::from_ref(&request), reading)
            .and_then(|caller| self.decide(&caller, &request, received, reading, known_only));
        match decided {
            Ok(Some(decision)) => self.reply_decided(Held::Decision(reply, decision), before, ctx),
            Ok(None) => reply.send(Err(Error::new(Code::AgentNotFound, "the agent is not this tenant's"))),
            Err(error) => reply.send(Err(error)),
        }
    }
}

impl Handler<AuthorizeMany> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: AuthorizeMany, ctx: &mut Context<Self>) {
        let AuthorizeMany { credential, requests, received, known_only, until, reply, waiting } = message;
        drop(waiting);
        let (before, reading) = (self.tenant().seq(), self.core.clock.read());
        let decided = self.admit(&credential, &requests, reading).and_then(|caller| {
            let mut decisions = Vec::with_capacity(requests.len());
            for request in &requests {
                let decision = self.decide(&caller, request, received, reading, known_only)?;
                let is_last = until.is_some() && decision.as_ref().map(|decision| decision.allowed) == until;
                decisions.push(decision);
                if is_last {
                    break;
                }
            }
            Ok(decisions)
        });
        match decided {
            Ok(decisions) => self.reply_decided(Held::of::<Vec<_>>(reply, decisions), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<Explain> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Explain, ctx: &mut Context<Self>) {
        let Explain { credential, request, known_only, reply } = message;
        let reading = self.core.clock.read();
        let caller = match self.admit(&credential, std::slice::from_ref(&request), reading) {
            Ok(caller) => caller,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let mut steps = Steps::default();
        let verdict = self.verdict(&caller, &request, reading, &mut steps);
        if known_only && !verdict.knows_agent() {
            return drop(reply.send(Err(Error::new(Code::AgentNotFound, "the agent is not this tenant's"))));
        }
        let Steps { shown, more } = steps;
        let more_steps = (more > 0).then_some(more);
        self.reply_read(Held::of(reply, Explanation { decision: verdict.answer(None), steps: shown, more_steps }), ctx);
    }
}

impl<C> Handler<Execute<C>> for TenantActor
where
    C: Command + Send + 'static,
    C::Reply: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, message: Execute<C>, ctx: &mut Context<Self>) {
        let Execute { credential, author, command, reason, reply } = message;
        let executed = (|| {
            let reading = self.core.clock.read();
            let by = self.tenant().authenticate(&credential, reading.latest())?.as_author()?;
            self.pipeline.check_writable()?;
            let moment = self.tenant().next_moment(reading.now);
            let (change, subject) = command.decide(self.tenant(), by, moment)?;
            let changed = change.is_some();
            if let Some(change) = change {
                let described = self.tenant().describe(by, author, change, moment.wall);
                self.record(moment, &Event::Changed(ChangeRecord { reason, ..described }))?;
            }
            Ok((changed, C::reply(self.tenant(), subject, moment.wall)))
        })();
        match executed {
            Ok((true, answer)) => self.reply_changed(Held::of(reply, answer), ctx),
            Ok((false, answer)) => self.reply_read(Held::of(reply, answer), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<RecordUsage> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: RecordUsage, ctx: &mut Context<Self>) {
        let RecordUsage { credential, report, reply } = message;
        let before = self.tenant().seq();
        let recorded = (|| {
            let reading = self.core.clock.read();
            let by = self.tenant().authenticate(&credential, reading.latest())?.as_author()?;
            self.pipeline.check_writable()?;
            let moment = self.tenant().next_moment(reading.now);
            let (record, answer) = self.tenant().decide_usage(by, report, moment)?;
            if let Some(record) = record {
                self.record(moment, &Event::Used(record))?;
            }
            Ok(answer)
        })();
        match recorded {
            // It is as durable as the decisions it is about.
            Ok(answer) => self.reply_decided(Held::of(reply, answer), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl<F, T> Handler<Inspect<F, T>> for TenantActor
where
    F: FnOnce(&Tenant, Timestamp) -> Result<T, Error> + Send + 'static,
    T: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, message: Inspect<F, T>, ctx: &mut Context<Self>) {
        let Inspect { credential, look, reply } = message;
        let reading = self.core.clock.read();
        let seen = self
            .tenant()
            .authenticate(&credential, reading.latest())
            .and_then(Caller::as_author)
            .and_then(|_| look(self.tenant(), self.tenant().next_moment(reading.now).wall));
        match seen {
            Ok(answer) => self.reply_read(Held::of(reply, answer), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<Verify> for TenantActor {
    type Result = ();

    fn handle(&mut self, Verify { credential, reply }: Verify, _: &mut Context<Self>) {
        let _ = reply.send(self.tenant().authenticate(&credential, self.core.clock.read().latest()));
    }
}

impl Handler<OpenAudit> for TenantActor {
    type Result = ();

    fn handle(&mut self, OpenAudit { credential, reply }: OpenAudit, ctx: &mut Context<Self>) {
        let reading = self.core.clock.read();
        if let Err(error) = self.tenant().authenticate(&credential, reading.latest()).and_then(Caller::as_author) {
            return drop(reply.send(Err(error)));
        }
        // The reader sees what the file holds.
        self.write(ctx);
        let Some(journal) = self.pipeline.journal() else { return drop(reply.send(Err(self.pipeline.no_journal()))) };
        let trail =
            AuditTrail { tenant: self.tenant().id(), reader: journal.reader(), horizon: self.horizon(reading.now) };
        self.reply_read(Held::of(reply, trail), ctx);
    }
}

impl Handler<TakeSnapshot> for TenantActor {
    type Result = ();

    fn handle(&mut self, TakeSnapshot { reply }: TakeSnapshot, ctx: &mut Context<Self>) {
        match self.pipeline.check_writable() {
            Ok(()) => self.snapshot(Some(Held::of(reply, ())), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<Close> for TenantActor {
    type Result = ();

    fn handle(&mut self, Close { done }: Close, ctx: &mut Context<Self>) {
        self.write(ctx);
        let Some((job, waiting)) = self.pipeline.begin_close() else { return };
        self.ending = Ending::Clean;
        let (id, now) = (self.tenant().id(), self.core.clock.now());
        ctx.stop();
        actix_rt::spawn(async move {
            let snapshot = match spawn_blocking(move || job.close(now)).await {
                Ok(Ok(snapshot)) => {
                    waiting.finish(true);
                    snapshot
                }
                Ok(Err(problem)) => {
                    error!(tenant = %id, %problem, "the tenant could not be closed cleanly");
                    waiting.finish(false);
                    None
                }
                Err(panic) => {
                    error!(tenant = %id, %panic, "the tenant could not be closed cleanly");
                    waiting.finish(false);
                    None
                }
            };
            if let Some(snapshot) = snapshot
                && let Ok(Err(problem)) = spawn_blocking(move || snapshot.write()).await
            {
                error!(tenant = %id, %problem, "a snapshot could not be written; the journal has it all");
            }
            let _ = done.send(());
        });
    }
}

impl Handler<Retire> for TenantActor {
    type Result = ();

    fn handle(&mut self, Retire { done }: Retire, ctx: &mut Context<Self>) {
        self.ending = Ending::Clean;
        self.pipeline.drop_journal();
        ctx.stop();
        let _ = done.send(());
    }
}

impl Handler<InjectPanic> for TenantActor {
    type Result = ();

    #[expect(clippy::panic, reason = "it is the message's whole purpose")]
    fn handle(&mut self, _: InjectPanic, _: &mut Context<Self>) {
        panic!("a panic was injected");
    }
}

impl Handler<InjectStall> for TenantActor {
    type Result = ();

    fn handle(&mut self, InjectStall(until): InjectStall, _: &mut Context<Self>) {
        let _ = until.recv();
    }
}
