//! The default tenant as the lender of instance policies: it answers who asks for a slice, and asks others for what they
//! have left where it has too little.
//!
//! While it waits for those, it goes on with everything else. Only what is about the same policy waits for its turn.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Context, Handler};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::TenantActor;
use crate::actors::mailbox::{MAILBOX_CAPACITY, overloaded};
use crate::actors::messages::{AskSlice, ExecuteRecalled, FindInstanceSet, ForeseeSlices, RecallSlice};
use crate::actors::reply::Reply;
use crate::actors::tenant_reply::TenantReply;
use crate::domain::event::Change;
use crate::domain::instance::lease::{Ask, Lease, LeaseRecord, Outcome, Recall};
use crate::domain::instance::lending::{Lending, Next};
use crate::domain::tenant::Command;
use crate::domain::{Code, Error, PolicyId, Right, TenantId};

/// How long the lender waits for those whom it asked for what they have.
const RECALL_TIMEOUT: Duration = Duration::from_secs(1);

/// What goes on at the lender, by the number of the policy: who waits until those answered who were asked.
#[derive(Default)]
pub(super) struct Recalls(HashMap<u64, Vec<Turn>>);

impl Recalls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Goes on once those answered who were asked, and is told whether all did.
type Then = Box<dyn FnOnce(&mut TenantActor, Answers, &mut Context<TenantActor>)>;

/// What is about a policy and waits for its turn.
type Turn = Box<dyn FnOnce(&mut TenantActor, &mut Context<TenantActor>)>;

/// Who was asked for what they had.
struct Answers {
    asked: BTreeSet<TenantId>,
    all: bool,
}

impl Handler<FindInstanceSet> for TenantActor {
    type Result = ();

    fn handle(&mut self, FindInstanceSet { reply }: FindInstanceSet, _: &mut Context<Self>) {
        // Its start has published them.
        let _ = reply.send(Ok(()));
    }
}

impl Handler<AskSlice> for TenantActor {
    type Result = ();

    fn handle(&mut self, AskSlice { ask, reply }: AskSlice, ctx: &mut Context<Self>) {
        self.lend_in_turn(ask, reply, ctx);
    }
}

impl Handler<ForeseeSlices> for TenantActor {
    type Result = ();

    fn handle(&mut self, ForeseeSlices { asks, reply }: ForeseeSlices, ctx: &mut Context<Self>) {
        let before = self.tenant().seq();
        let mut foreseen = Vec::with_capacity(asks.len());
        for (ask, reports) in asks {
            // What they told is worth remembering, as after a recall. While nothing can be recorded, it is as if they had
            // not told.
            let mut told = BTreeSet::new();
            for report in reports {
                let news = self.tenant().hear(&report);
                if news.is_none() || self.check_writable().and_then(|()| self.record_lent(news)).is_ok() {
                    told.insert(report.tenant);
                }
            }
            let moment = self.tenant().next_moment(self.resources.clock.now());
            foreseen.push(self.tenant().foresee(&ask, &told, moment));
        }
        if self.tenant().seq() == before {
            self.reply_read(TenantReply::of(reply, foreseen), ctx);
        } else {
            self.reply_decided(TenantReply::of(reply, foreseen), before, ctx);
        }
    }
}

impl<C> Handler<ExecuteRecalled<C>> for TenantActor
where
    C: Command + Send + 'static,
    C::Reply: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, message: ExecuteRecalled<C>, ctx: &mut Context<Self>) {
        let ExecuteRecalled { policy, anew, execute } = message;
        let caller = self.authenticate(&execute.credential, self.resources.clock.read().latest());
        let is_operator = caller.is_ok_and(|caller| caller.is_operator() && caller.check(Right::Manage).is_ok());
        if !is_operator {
            return self.handle(execute, ctx);
        }
        let turn: Turn = Box::new(move |actor, ctx| {
            let now = actor.tenant().next_moment(actor.resources.clock.now()).wall;
            let recalls = actor.tenant().recalls_of_all(policy, now, anew);
            let change = move |actor: &mut Self, answers: Answers, ctx: &mut Context<Self>| {
                // What is out is still counted, so a lower limit or the end of a policy can wait for nobody. But what goes
                // back into a slice after a reset would not be.
                if anew && !answers.all {
                    return drop(execute.reply.send(Err(silent())));
                }
                actor.handle(execute, ctx);
            };
            actor.recall(policy, recalls, BTreeSet::new(), Box::new(change), ctx);
        });
        self.take_turn(policy, turn, ctx);
    }
}

impl TenantActor {
    /// Does something about a policy once nobody is asked for what they have of it.
    fn take_turn(&mut self, policy: PolicyId, turn: Turn, ctx: &mut Context<Self>) {
        match self.recalls.0.get_mut(&policy.seq()) {
            Some(turns) => turns.push(turn),
            None => turn(self, ctx),
        }
    }

    fn lend_in_turn(&mut self, ask: Ask, reply: Reply<Lease>, ctx: &mut Context<Self>) {
        if self.recalls.0.get(&ask.policy.seq()).is_some_and(|turns| turns.len() >= MAILBOX_CAPACITY) {
            return drop(reply.send(Err(overloaded())));
        }
        let turn: Turn = Box::new(move |actor, ctx| actor.lend(ask, BTreeSet::new(), reply, ctx));
        self.take_turn(ask.policy, turn, ctx);
    }

    /// Answers a question, or asks others first for what they have.
    fn lend(&mut self, ask: Ask, asked: BTreeSet<TenantId>, reply: Reply<Lease>, ctx: &mut Context<Self>) {
        if let Err(error) = self.check_writable() {
            return drop(reply.send(Err(error)));
        }
        let before = self.tenant().seq();
        let moment = self.tenant().next_moment(self.resources.clock.now());
        let Lending { records, next } = self.tenant().lend(&ask, moment, &asked, self.resources.leases.returned());
        if let Err(error) = records.into_iter().try_for_each(|record| self.record_lent(Some(record))) {
            return drop(reply.send(Err(error)));
        }
        match next {
            Next::Answer(mut lease) => {
                if let Outcome::Exhausted { version, .. } = &mut lease.outcome {
                    // What this question returned is no news to who asks.
                    *version = self.resources.leases.returned();
                }
                self.reply_decided(TenantReply::of(reply, lease), before, ctx);
            }
            Next::Recall(recalls) => {
                let decide = move |actor: &mut Self, answers: Answers, ctx: &mut Context<Self>| {
                    actor.lend(ask, answers.asked, reply, ctx);
                };
                self.recall(ask.policy, recalls, asked, Box::new(decide), ctx);
            }
        }
    }

    /// Records what the lender granted or heard.
    fn record_lent(&mut self, record: Option<LeaseRecord>) -> Result<(), Error> {
        let frees = record.as_ref().is_some_and(|record| self.tenant().frees(record));
        self.record_lease(record)?;
        if frees {
            self.resources.leases.note_return();
        }
        Ok(())
    }

    /// Asks tenants for what they have, and goes on once they answered, or after a while.
    fn recall(
        &mut self,
        policy: PolicyId,
        recalls: Vec<Recall>,
        mut asked: BTreeSet<TenantId>,
        then: Then,
        ctx: &mut Context<Self>,
    ) {
        if recalls.is_empty() {
            return then(self, Answers { asked, all: true }, ctx);
        }
        asked.extend(recalls.iter().map(|recall| recall.tenant));
        self.recalls.0.entry(policy.seq()).or_default();
        let (mut messages, mut answers) = (Vec::with_capacity(recalls.len()), Vec::with_capacity(recalls.len()));
        for recall in recalls {
            let (reply, answer) = oneshot::channel();
            messages.push(RecallSlice { recall, reply });
            answers.push((recall.tenant, answer));
        }
        // They are told what was granted, so that has to be recorded.
        let (resources, before) = (Arc::clone(&self.resources), self.tenant().seq());
        let send = TenantReply::Other(Box::new(move |outcome| {
            if let (Ok(()), Some(exchange)) = (outcome, resources.leases.exchange()) {
                messages.into_iter().for_each(|message| exchange.recall(message));
            }
        }));
        self.reply_decided(send, before, ctx);
        let deadline = Instant::now() + RECALL_TIMEOUT;
        let waited = async move {
            let mut told = Vec::with_capacity(answers.len());
            for (tenant, answer) in answers {
                let answer = timeout_at(deadline, answer).await;
                told.push((tenant, answer.ok().and_then(Result::ok).unwrap_or_else(|| Err(silent()))));
            }
            told
        };
        ctx.spawn(wrap_future::<_, Self>(waited).map(move |told, actor, ctx| {
            let all = actor.hear_all(policy, told);
            // Its turn goes on before those that came later.
            let turns = actor.recalls.0.remove(&policy.seq()).unwrap_or_default();
            then(actor, Answers { asked, all }, ctx);
            for turn in turns {
                actor.take_turn(policy, turn, ctx);
            }
        }));
    }

    /// Records what tenants told. `false` if one of them did not.
    fn hear_all(&mut self, policy: PolicyId, told: Vec<(TenantId, Result<Ask, Error>)>) -> bool {
        let mut all = true;
        for (tenant, told) in told {
            let record = match told {
                Ok(report) => self.tenant().hear(&report),
                Err(error) if error.code() == Code::TenantNotFound => self.tenant().write_off(policy, tenant),
                Err(_) => {
                    all = false;
                    None
                }
            };
            // If it can't be recorded, nothing after it can either, and that has somebody to tell.
            all &= self.record_lent(record).is_ok();
        }
        all
    }

    /// Publishes instance policies after a change. What begins holds at once; what ends or changes once it is on disk, and
    /// before its caller is told.
    pub(super) fn publish_change(&mut self, change: &Change) {
        if !self.tenant().id().is_default() {
            return;
        }
        let is_instance = |id: &PolicyId| {
            let policy = self.tenant().policies().iter().find(|policy| policy.profile.id == *id);
            policy.is_some_and(|policy| policy.profile.terms.instance)
        };
        let seq = self.tenant().seq();
        match change {
            Change::PolicyCreated { policy, .. } if is_instance(policy) => {
                self.resources.leases.publish(seq, self.tenant().instance_set());
            }
            Change::PolicyUpdated { policy, .. } | Change::PolicyReset { policy, .. } if is_instance(policy) => {
                self.publish_once_synced(seq);
            }
            Change::PolicyDeleted { policy } => {
                let (_, set) = self.resources.leases.look();
                if set.is_some_and(|set| set.has(policy.seq())) {
                    self.publish_once_synced(seq);
                }
            }
            _ => {}
        }
    }

    fn publish_once_synced(&mut self, seq: u64) {
        let (resources, set) = (Arc::clone(&self.resources), self.tenant().instance_set());
        let publish = TenantReply::Other(Box::new(move |outcome| {
            if outcome.is_ok() {
                resources.leases.publish(seq, set);
            }
        }));
        self.pipeline.hold_changed(publish, &mut self.turns.queue());
    }
}

/// The error of a reset that can't reach everybody who may have a slice.
fn silent() -> Error {
    let sentence = "a tenant that has a slice of the policy does not answer, so nothing was reset; try again";
    Error::new(Code::InstanceBudgetUnavailable, sentence)
}
