//! Calls to a tenant.

use crate::Queue;
use fastrand::Rng;
use kavach_domain::author::By;
use kavach_domain::budget::usage::UsageReport;
use kavach_domain::tenant::Caller;
use kavach_domain::{AuditId, Event, Timestamp};
use kavach_store::loader::{self, LoadError};
use kavach_store::{CommitPipeline, Durability};

use super::History;
use super::jobs::Job;
use super::member::{Loading, Part};
use crate::commands;
use crate::model::{Model, Promise};
use crate::task::{self, Task};

impl History {
    pub(super) fn command(&mut self, at: usize) {
        self.wake(at);
        let (now, durability) = (self.now(), self.durability);
        let queue = self.queue.as_mut().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        if pipeline.check_writable(queue).is_err() {
            return;
        }
        let before = pipeline.tenant().seq();
        let moment = pipeline.tenant().next_moment(now);
        let kind = self.rng.u32(0..10);
        if kind < 4 {
            let Some(record) = commands::change_record(&mut self.rng, pipeline.tenant(), moment) else { return };
            let event = Event::Changed(record);
            let event = pipeline.tenant().complete(moment, &event).into_owned();
            pipeline.record(moment, &event, queue).unwrap();
            member.model.record(moment, &event);
            let promise = Promise { first: moment.seq, last: moment.seq, written: moment.seq, synced: moment.seq };
            let held = member.held(promise);
            let Part::Up(pipeline) = &mut member.part else { return };
            pipeline.hold_changed(held, queue);
        } else {
            if kind < 9 {
                for _ in 0..if kind == 8 { self.rng.usize(2..6) } else { 1 } {
                    decide(&mut self.rng, pipeline, queue, &mut member.model, now);
                }
            } else {
                end_due_holds(pipeline, queue, &mut member.model, now);
                let moment = pipeline.tenant().next_moment(now);
                let Some(mut report) = commands::spent(&mut self.rng, pipeline.tenant()) else { return };
                // Often it settles an earlier decision.
                let decision = self.rng.u64(1..=before);
                if self.rng.bool()
                    && let Some((made, event)) = member.model.event(decision)
                    && let Event::Decided(record) = &event
                    && let Some(agent) = record.agent
                {
                    let id = AuditId::derive(made.at, decision, member.id.tag());
                    let settling =
                        UsageReport::new(agent, 0, report.cost).and_then(|new| new.settling(id, made, &event));
                    report = settling.unwrap_or(report);
                }
                let record = match self.rng.u32(0..3) {
                    0 => commands::hold_change(&mut self.rng, pipeline.tenant(), moment),
                    _ => pipeline.tenant().decide_usage(By::Operator, report, moment).ok().and_then(|(new, _)| new),
                };
                if let Some(record) = record {
                    let event = Event::Used(record);
                    let event = pipeline.tenant().complete(moment, &event).into_owned();
                    pipeline.record(moment, &event, queue).unwrap();
                    member.model.record(moment, &event);
                }
            }
            let last = pipeline.tenant().seq();
            let changed = durability == Durability::Fsync || member.model.last_change > before;
            let synced = if changed { last } else { 0 };
            let held = member.held(Promise { first: before + 1, last, written: last, synced });
            let Part::Up(pipeline) = &mut member.part else { return };
            pipeline.hold_decided(held, before, queue);
        }
        self.tally.events += self.members[at].model.len() - before;
        self.say(|| format!("{at}: events up to {}", self.members[at].model.len()));
    }

    pub(super) fn read(&mut self, at: usize) {
        self.wake(at);
        let durability = self.durability;
        let queue = self.queue.as_mut().unwrap();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &member.part else { return };
        let seen = pipeline.tenant().seq();
        let promise = match (pipeline.storage_failed() || pipeline.is_ahead(queue), durability) {
            // The reply shows what there is, and promises nothing.
            (true, _) => Promise { first: 1, last: 0, written: 0, synced: 0 },
            (false, Durability::Interval) => {
                Promise { first: 1, last: 0, written: seen, synced: member.model.last_change }
            }
            (false, Durability::Fsync) => Promise { first: 1, last: 0, written: seen, synced: seen },
        };
        let held = member.held(promise);
        let Part::Up(pipeline) = &mut member.part else { return };
        pipeline.hold_read(held, queue);
        self.say(|| format!("{at}: a read of {seen} events"));
    }

    /// The pipeline can't go on: the tenant is loaded again.
    pub(super) fn abandon(&mut self, at: usize) {
        if self.disk.is_down() {
            return;
        }
        let losses = self.disk.losses();
        let member = &mut self.members[at];
        let Part::Up(pipeline) = &mut member.part else { return };
        pipeline.abandon();
        member.collect_answers(&mut self.tally);
        // Another thread may be writing to the folder. What it writes is there before anybody reads.
        for (_, job) in &member.jobs {
            if let Job::Fold(task) = job {
                while !task.advance(usize::MAX / 2) {}
            }
        }
        member.generation += 1;
        (member.folding, member.retention_running) = (false, false);
        member.copies.clear();
        let task = self.load(at);
        self.members[at].part = Part::Loading(Loading { task, losses, returns: false });
        self.say(|| format!("{at}: it is read again"));
    }

    /// Loads a tenant on another thread.
    pub(super) fn load(&self, at: usize) -> Task<Result<loader::LoadedTenant, LoadError>> {
        let (now, options, folder, log) = (self.now(), self.options, self.folder(at), self.log());
        let id = self.members[at].id;
        Task::start(move || {
            // One reads the files of a failed log for all, under a lock.
            let tail = match log.is_broken() {
                true => task::unstopped(|| log.tail(id.bytes())),
                false => log.tail(id.bytes()),
            };
            loader::load(&folder, &tail?, id, now, options)
        })
    }
}

/// Ends the holds that are due, as the actor does before it decides.
fn end_due_holds(pipeline: &mut CommitPipeline, queue: &mut Queue, model: &mut Model, now: Timestamp) {
    loop {
        let moment = pipeline.tenant().next_moment(now);
        let Some(end) = pipeline.tenant().due_hold(moment.wall) else { return };
        let event = Event::Used(end);
        let event = pipeline.tenant().complete(moment, &event).into_owned();
        pipeline.record(moment, &event, queue).unwrap();
        model.record(moment, &event);
    }
}

/// Decides a call, in the pipeline and in the model. Returns the number of its event.
pub fn decide(
    rng: &mut Rng,
    pipeline: &mut CommitPipeline,
    queue: &mut Queue,
    model: &mut Model,
    now: Timestamp,
) -> u64 {
    end_due_holds(pipeline, queue, model, now);
    let moment = pipeline.tenant().next_moment(now);
    let request = commands::call(rng, pipeline.tenant(), moment);
    let verdict = pipeline.tenant().decide(&Caller::Operator, &request, moment, &mut ());
    let event = Event::Decided(verdict.record(&request, 7));
    let event = pipeline.tenant().complete(moment, &event).into_owned();
    pipeline.record(moment, &event, queue).unwrap();
    model.record(moment, &event);
    moment.seq
}
