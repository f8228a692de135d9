//! Removes segments if all their entries are past the tenant's audit retention.
//!
//! No read shows those entries any more; this frees the disk space. Another thread removes the files, when the registry
//! asks for it and after each snapshot, since only events that two snapshots cover may go.

use std::io;

use actix::{AsyncContext, Context, Handler, Message};
use actix_rt::task::spawn_blocking;
use tracing::{info, warn};

use tokio::sync::oneshot;

use super::TenantActor;
use crate::actors::messages::RemoveOldSegments;
use crate::domain::Timestamp;
use crate::domain::time::DAY_MS;

/// Segments were removed; holds the first event that is left.
#[derive(Message)]
#[rtype(result = "()")]
struct Removed(io::Result<Option<u64>>, Option<oneshot::Sender<()>>);

impl TenantActor {
    /// Entries before that time are past the tenant's retention; `None` keeps all.
    pub(super) fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        let days = self.tenant().profile().settings.audit_retention_days;
        days.map(|days| now.plus_millis(-i64::from(days) * DAY_MS))
    }

    /// Has another thread remove the segments past the retention. `done` is dropped or fires once they are gone.
    pub(super) fn remove_old_segments(&mut self, done: Option<oneshot::Sender<()>>, ctx: &mut Context<Self>) {
        let horizon = self.horizon(self.resources.clock.now());
        let (Some(journal), Some(horizon)) = (self.pipeline.journal(), horizon) else { return };
        if self.retention_running || self.pipeline.storage_failed() || !self.resources.clock.may_remove() {
            return;
        }
        // An entry in the horizon's own millisecond is still shown.
        let job = journal.begin_retention(horizon.millis() - 1);
        if job.is_empty() {
            return;
        }
        self.retention_running = true;
        let me = ctx.address();
        actix_rt::spawn(async move {
            let removed = spawn_blocking(move || job.run()).await;
            me.do_send(Removed(removed.unwrap_or_else(|panic| Err(io::Error::other(panic))), done));
        });
    }
}

impl Handler<RemoveOldSegments> for TenantActor {
    type Result = ();

    fn handle(&mut self, RemoveOldSegments { done }: RemoveOldSegments, ctx: &mut Context<Self>) {
        self.remove_old_segments(Some(done), ctx);
    }
}

impl Handler<Removed> for TenantActor {
    type Result = ();

    fn handle(&mut self, Removed(outcome, done): Removed, _: &mut Context<Self>) {
        self.retention_running = false;
        // The registry may not wait any more.
        let _ = done.map(|done| done.send(()));
        match outcome {
            Ok(None) => {}
            Ok(Some(first_kept)) => {
                info!(tenant = %self.tenant().id(), first_kept, "removed journal segments past the audit retention");
                if let Some(journal) = self.pipeline.journal_mut() {
                    journal.finish_retention(first_kept);
                }
            }
            Err(problem) => {
                warn!(tenant = %self.tenant().id(), %problem, "journal segments past the audit retention could not be removed");
            }
        }
    }
}
