//! Deciding calls: the core of `authorize`, its batch and `explain`.

use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{AsyncContext, Context, Handler, Message};

use super::TenantActor;
use crate::actors::clock::Reading;
use crate::actors::messages::{AuthorizeMany, Explain, Explanation};
use crate::actors::tenant_reply::TenantReply;
use crate::actors::worker_channels::Authorize;
use crate::domain::audit::entry::AuditResult;
use crate::domain::decision::Verdict;
use crate::domain::decision::explain::{Steps, Trace};
use crate::domain::decision::request::Asked;
use crate::domain::tenant::Caller;
use crate::domain::{AuditId, Code, Credential, Decision, Error, Event, Request, Right};
use crate::measure::tenant_measures::Waiting;
use kavach_store::refusal::outcome_unknown;

/// How long a batch is decided without a break. A decision takes 20 ms at worst, and hardly ever more than microseconds.
const BATCH_TURN: Duration = Duration::from_millis(1);

impl Handler<Authorize> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Authorize, ctx: &mut Context<Self>) {
        self.authorize(message, 0, ctx);
    }
}

impl TenantActor {
    /// Decides a call, which has waited so often for a slice.
    fn authorize(&mut self, message: Authorize, waits: u32, ctx: &mut Context<Self>) {
        let reading = self.resources.clock.read();
        if self.has_due_hold(reading.now) {
            return Self::end_holds_before(message, ctx);
        }
        if let Some(lack) = self.lack(&message.credential, std::slice::from_ref(&message.request), reading, waits) {
            let call = move |actor: &mut Self, outcome, ctx: &mut Context<Self>| match outcome {
                Ok(waits) => actor.authorize(message, waits, ctx),
                Err(error) => message.reply.send(Err(error)),
            };
            return self.wait_for_slice(lack, waits, Box::new(call), ctx);
        }
        let Authorize { credential, request, received, known_only, reply, waiting } = message;
        drop(waiting);
        let before = self.tenant().seq();
        let decided = self
            .admit(&credential, Right::Decide, std::slice::from_ref(&request), reading)
            .and_then(|caller| self.decide(&caller, &request, received, reading, known_only));
        match decided {
            Ok(Some(decision)) => self.reply_decided(TenantReply::Decision(reply, decision), before, ctx),
            Ok(None) => reply.send(Err(Error::new(Code::AgentNotFound, "agent not found: it is not this tenant's"))),
            Err(error) => reply.send(Err(error)),
        }
    }
}

impl Handler<AuthorizeMany> for TenantActor {
    type Result = ();

    fn handle(&mut self, mut message: AuthorizeMany, ctx: &mut Context<Self>) {
        // It no longer counts as waiting.
        message.waiting = Waiting::default();
        let (before, decisions) = (self.tenant().seq(), Vec::with_capacity(message.requests.len()));
        self.go_on(Batch { message, before, decisions }, 0, ctx);
    }
}

/// A batch that is being decided, to go on with.
#[derive(Message)]
#[rtype(result = "()")]
struct Batch {
    message: AuthorizeMany,
    /// The last event before its own.
    before: u64,
    /// Those of its first requests; the others are not decided yet.
    decisions: Vec<Option<Decision>>,
}

impl Handler<Batch> for TenantActor {
    type Result = ();

    fn handle(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        self.go_on(batch, 0, ctx);
    }
}

impl TenantActor {
    /// Decides a batch, and lets other calls and other tenants of the thread have their turn in between.
    /// It has waited so often for a slice since its last decision.
    fn go_on(&mut self, batch: Batch, mut waits: u32, ctx: &mut Context<Self>) {
        let (start, reading) = (Instant::now(), self.resources.clock.read());
        if self.has_due_hold(reading.now) {
            return Self::end_holds_before(batch, ctx);
        }
        let Batch { message, before, mut decisions } = batch;
        let is_continued = !decisions.is_empty();
        // A caller may have lost the right to ask since the last turn.
        let left = message.requests.get(decisions.len()..).unwrap_or_default();
        let caller = match self.admit(&message.credential, Right::Decide, left, reading) {
            Ok(caller) => caller,
            Err(error) => return drop(message.reply.send(Err(error))),
        };
        for (at, request) in left.iter().enumerate() {
            let asking = left.get(at..).unwrap_or_default();
            if let Some(lack) = self.lack(&message.credential, asking, reading, waits) {
                let batch = Batch { message, before, decisions };
                let call = move |actor: &mut Self, outcome, ctx: &mut Context<Self>| match outcome {
                    Ok(waits) => actor.go_on(batch, waits, ctx),
                    Err(error) if batch.decisions.is_empty() => drop(batch.message.reply.send(Err(error))),
                    // What was decided before is recorded.
                    Err(_) => drop(batch.message.reply.send(Err(outcome_unknown()))),
                };
                return self.wait_for_slice(lack, waits, Box::new(call), ctx);
            }
            let decision = match self.decide(&caller, request, message.received, reading, message.known_only) {
                Ok(decision) => decision,
                // It concerns this call alone.
                Err(error) if is_about_its_key(&error) => Some(Decision::refused(&error)),
                // What was decided before is recorded.
                Err(_) if !decisions.is_empty() => return drop(message.reply.send(Err(outcome_unknown()))),
                Err(error) => return drop(message.reply.send(Err(error))),
            };
            waits = 0;
            let until = message.until;
            let is_last = until.is_some() && decision.as_ref().map(|decision| decision.allowed) == until;
            decisions.push(decision);
            if is_last {
                break;
            }
            if start.elapsed() >= BATCH_TURN {
                ctx.notify(Batch { message, before, decisions });
                return ctx.wait(wrap_future(tokio::task::yield_now()));
            }
        }
        let reply = message.reply;
        let held = match is_continued {
            // Events of earlier turns may be recorded when those of the last are not.
            true => TenantReply::Other(Box::new(move |outcome| {
                let answer = outcome.map(|()| decisions).map_err(|_| outcome_unknown());
                drop(reply.send(answer));
            })),
            false => TenantReply::of(reply, decisions),
        };
        self.reply_decided(held, before, ctx);
    }
}

impl Handler<Explain> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Explain, ctx: &mut Context<Self>) {
        let Explain { credential, request, known_only, reply } = message;
        let reading = self.resources.clock.read();
        let caller = match self.admit(&credential, Right::Read, std::slice::from_ref(&request), reading) {
            Ok(caller) => caller,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let mut steps = Steps::default();
        self.may_need_slices();
        let verdict = self.verdict(&caller, &request, reading, true, &mut steps);
        if known_only && !verdict.knows_agent() {
            return drop(reply.send(Err(Error::new(Code::AgentNotFound, "agent not found: it is not this tenant's"))));
        }
        let Steps { shown, more } = steps;
        let more_steps = (more > 0).then_some(more);
        self.reply_read(
            TenantReply::of(reply, Explanation { decision: verdict.answer(None), steps: shown, more_steps }),
            ctx,
        );
    }
}

impl TenantActor {
    /// Decides and records one call. A repeat is `IDEMPOTENCY_KEY_IN_USE`. `None` if the agent is another tenant's and the call is for known agents only.
    fn decide(
        &mut self,
        caller: &Caller,
        request: &Request,
        received: Instant,
        reading: Reading,
        known_only: bool,
    ) -> Result<Option<Decision>, Error> {
        let moment = self.tenant().next_moment(reading.now);
        let key = match request.key.as_deref() {
            Some(key) => Some(self.tenant().check_new(caller, key, moment.at)?),
            None => None,
        };
        let verdict = self.verdict(caller, request, reading, false, &mut ());
        if known_only && !verdict.knows_agent() {
            return Ok(None);
        }
        let micros = u32::try_from(received.elapsed().as_micros()).unwrap_or(u32::MAX);
        let mut record = verdict.record(request, micros);
        if let Some(key) = key {
            verdict.remember(key, &mut record);
        }
        let (result, code) = (AuditResult::of(&record), record.code);
        self.record(moment, &Event::Decided(record))?;
        self.meter.decided(reading.now, micros, result, code);
        let id = AuditId::derive(moment.at, moment.seq, self.tenant().id().tag());
        Ok(Some(verdict.answer(Some(id))))
    }

    /// The decision. If the time may be one of two, a call must be allowed at both. With `assume`, the lender is taken to
    /// have what slices lack.
    pub(super) fn verdict(
        &self,
        caller: &Caller,
        request: &Request,
        reading: Reading,
        assume: bool,
        trace: &mut impl Trace,
    ) -> Verdict {
        let tenant = self.tenant();
        if let Some(doubted) = reading.doubted {
            let verdict = tenant.decide(caller, request, tenant.next_moment(doubted), trace);
            if !verdict.allows() {
                return verdict;
            }
        }
        let leases = self.leases(assume);
        tenant.decide_within(caller, request, tenant.next_moment(reading.now), leases.as_ref(), trace)
    }

    /// The caller, if it has that right and may ask all of these requests.
    pub(super) fn admit(
        &self,
        credential: &Credential,
        right: Right,
        requests: &[Request],
        reading: Reading,
    ) -> Result<Caller, Error> {
        let caller = self.authenticate(credential, reading.latest())?;
        caller.check(right)?;
        if let Caller::Agent(slot) = caller {
            let own = self.tenant().agent_in(slot).map(|agent| Asked::Agent(agent.profile.id));
            if requests.iter().any(|request| request.agent != Asked::Caller && Some(request.agent) != own) {
                return Err(Error::new(Code::Forbidden, "agentId: an agent token may only ask for its own agent"));
            }
        }
        Ok(caller)
    }
}

/// Whether an error only says that a call's idempotency key was used before.
fn is_about_its_key(error: &Error) -> bool {
    matches!(error.code(), Code::IdempotencyKeyInUse | Code::IdempotencyKeyReused)
}
