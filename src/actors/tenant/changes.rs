//! Administrative commands, usage reports, changes of holds, what became of messages to webhooks, and the records of
//! another tenant's beginning and end.

use actix::{Context, Handler};

use super::TenantActor;
use crate::actors::messages::{ClaimKey, Execute, ExtendHold, NoteDeletion, RecordDelivery, RecordUsage, ReleaseHold};
use crate::actors::tenant_reply::TenantReply;
use crate::domain::author::By;
use crate::domain::budget::settlement::UsageRecord;
use crate::domain::event::{Change, ChangeRecord};
use crate::domain::idempotency::kept_reply::KeptReply;
use crate::domain::idempotency::key::{RequestKey, UsedKey};
use crate::domain::tenant::Command;
use crate::domain::{Credential, Error, Event, Moment, Right};

impl TenantActor {
    /// The author and the time of a change, if the caller has that right and the journal can take it.
    fn begin_change(&self, credential: &Credential, right: Right) -> Result<(By, Moment), Error> {
        self.begin_once(credential, right, None).map(|(by, moment, _)| (by, moment))
    }

    /// The same of a request that may carry a key, with what to record of that.
    fn begin_once(
        &self,
        credential: &Credential,
        right: Right,
        key: Option<&RequestKey>,
    ) -> Result<(By, Moment, Option<UsedKey>), Error> {
        let reading = self.resources.clock.read();
        let caller = self.authenticate(credential, reading.latest())?;
        caller.check(right)?;
        let by = caller.as_author()?;
        let moment = self.tenant().next_moment(reading.now);
        // A repeat is only read.
        let key = key.map(|key| self.tenant().check_new(&caller, key, moment.at)).transpose()?;
        self.check_writable()?;
        Ok((by, moment, key))
    }
}

impl<C> Handler<Execute<C>> for TenantActor
where
    C: Command + Send + 'static,
    C::Reply: Send + 'static,
{
    type Result = ();

    fn handle(&mut self, message: Execute<C>, ctx: &mut Context<Self>) {
        let Execute { credential, author, command, reason, key, reply } = message;
        let executed = (|| {
            let (by, moment, key) = self.begin_once(&credential, Right::Manage, key.as_ref())?;
            self.check_stays()?;
            let (change, subject) = command.decide(self.tenant(), by, moment)?;
            let changed = change.is_some();
            if let Some(change) = change {
                let described = self.tenant().describe(by, author, change, moment.wall);
                let mut record = ChangeRecord { reason, key, ..described };
                record.kept = key.and_then(|_| KeptReply::of(self.tenant(), moment, &record));
                self.record(moment, &Event::Changed(record))?;
            }
            Ok((changed, C::reply(self.tenant(), subject, moment.wall)))
        })();
        match executed {
            Ok((true, answer)) => self.reply_changed(TenantReply::of(reply, answer), ctx),
            Ok((false, answer)) => self.reply_read(TenantReply::of(reply, answer), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<RecordUsage> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: RecordUsage, ctx: &mut Context<Self>) {
        self.record_usage(message, 0, ctx);
    }
}

impl TenantActor {
    /// Records a usage report, which has waited so often to hear of the instance policies that it charges.
    fn record_usage(&mut self, message: RecordUsage, waits: u32, ctx: &mut Context<Self>) {
        if let Some(lack) = self.lacks_set() {
            let call = move |actor: &mut Self, outcome, ctx: &mut Context<Self>| match outcome {
                Ok(waits) => actor.record_usage(message, waits, ctx),
                Err(error) => drop(message.reply.send(Err(error))),
            };
            return self.wait_for_slice(lack, waits, Box::new(call), ctx);
        }
        if self.has_due_hold(self.resources.clock.read().now) {
            return Self::end_holds_before(message, ctx);
        }
        let RecordUsage { credential, mut report, key, reply } = message;
        if report.settles.is_none() {
            report.instance = self.charged_by_report(report.agent);
        }
        let before = self.tenant().seq();
        let recorded = (|| {
            let (by, moment, key) = self.begin_once(&credential, Right::Report, key.as_ref())?;
            let (record, answer) = self.tenant().decide_usage(by, report, moment)?;
            if let Some(record) = record {
                self.record(moment, &Event::Used(UsageRecord { key, ..record }))?;
            }
            Ok(answer)
        })();
        match recorded {
            // A report is as durable as the decisions it is about.
            Ok(answer) => self.reply_decided(TenantReply::of(reply, answer), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<RecordDelivery> for TenantActor {
    type Result = ();

    fn handle(&mut self, RecordDelivery { record, reply }: RecordDelivery, ctx: &mut Context<Self>) {
        let before = self.tenant().seq();
        let recorded = self.check_writable().and_then(|()| {
            // The webhook may be gone, or the message was noted already.
            let is_open = self.tenant().webhook(record.webhook).is_some_and(|hook| hook.outbox.awaits(record.seq));
            if !is_open {
                return Ok(());
            }
            let moment = self.tenant().next_moment(self.resources.clock.now());
            self.record(moment, &Event::Delivered(record))
        });
        match recorded {
            // As durable as decisions: after a crash a message may come again, with its id.
            Ok(()) => self.reply_decided(TenantReply::of(reply, ()), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<ReleaseHold> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: ReleaseHold, ctx: &mut Context<Self>) {
        if self.has_due_hold(self.resources.clock.read().now) {
            return Self::end_holds_before(message, ctx);
        }
        let ReleaseHold { credential, id, key, reply } = message;
        let before = self.tenant().seq();
        let released = (|| {
            let (by, moment, key) = self.begin_once(&credential, Right::Report, key.as_ref())?;
            let (record, answer) = self.tenant().decide_release(by, id, moment)?;
            if let Some(record) = record {
                self.record(moment, &Event::Used(UsageRecord { key, ..record }))?;
            }
            Ok(answer)
        })();
        match released {
            Ok(answer) => self.reply_decided(TenantReply::of(reply, answer), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<ExtendHold> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: ExtendHold, ctx: &mut Context<Self>) {
        if self.has_due_hold(self.resources.clock.read().now) {
            return Self::end_holds_before(message, ctx);
        }
        let ExtendHold { credential, id, time, key, reply } = message;
        let before = self.tenant().seq();
        let extended = (|| {
            let (by, moment, key) = self.begin_once(&credential, Right::Report, key.as_ref())?;
            let (record, view) = self.tenant().decide_extension(by, id, time, moment)?;
            self.record(moment, &Event::Used(UsageRecord { key, ..record }))?;
            Ok(view)
        })();
        match extended {
            Ok(view) => self.reply_decided(TenantReply::of(reply, view), before, ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<ClaimKey> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: ClaimKey, ctx: &mut Context<Self>) {
        let ClaimKey { credential, author, key, failed, tenant, slug, reply } = message;
        let claimed = (|| {
            let reading = self.resources.clock.read();
            let caller = self.authenticate(&credential, reading.latest())?;
            caller.check(Right::Operate)?;
            let moment = self.tenant().next_moment(reading.now);
            let key = self.tenant().check_anew(&caller, &key, failed, moment.at)?;
            self.check_writable()?;
            let change = Change::TenantRequested { tenant, slug };
            let described = self.tenant().describe(caller.as_author()?, author, change, moment.wall);
            self.record(moment, &Event::Changed(ChangeRecord { key: Some(key), ..described }))
        })();
        match claimed {
            Ok(()) => self.reply_changed(TenantReply::of(reply, ()), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Handler<NoteDeletion> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: NoteDeletion, ctx: &mut Context<Self>) {
        let NoteDeletion { credential, author, reason, tenant, slug, before, reply } = message;
        let noted = (|| {
            let (by, moment) = self.begin_change(&credential, Right::Operate)?;
            let change = self.tenant().describe(by, author, Change::TenantDeleted { tenant, slug }, moment.wall);
            let change = ChangeRecord { reason, before: before.map(Box::new), ..change };
            self.record(moment, &Event::Changed(change))
        })();
        match noted {
            Ok(()) => self.reply_changed(TenantReply::of(reply, ()), ctx),
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}
