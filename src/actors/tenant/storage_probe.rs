//! Finds out whether the storage works again after a failed write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message};
use actix_rt::task::spawn_blocking;
use tracing::info;

use super::TenantActor;
use super::fold::FolderNeed;

/// How often a tenant tries its storage again after a failure.
const PROBE_DELAY: Duration = Duration::from_millis(250);

/// Try the storage.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Probe;

/// Whether the storage works.
#[derive(Message)]
#[rtype(result = "()")]
struct Probed(bool);

impl TenantActor {
    /// Tries the storage until it works.
    pub(super) fn probe_storage(&self, ctx: &mut Context<Self>) {
        ctx.notify(Probe);
    }
}

impl Handler<Probe> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: Probe, ctx: &mut Self::Context) {
        let (resources, name, me) = (Arc::clone(&self.resources), self.tenant().id().folder_name(), ctx.address());
        actix_rt::spawn(async move {
            let probe = move || {
                crate::journal::probe(&resources.data.folder(&name)?)?;
                resources.log.probe()
            };
            let probed = spawn_blocking(probe).await;
            let works = matches!(probed, Ok(Ok(())));
            me.do_send(Probed(works));
        });
    }
}

impl Handler<Probed> for TenantActor {
    type Result = ();

    fn handle(&mut self, Probed(works): Probed, ctx: &mut Self::Context) {
        if !works {
            ctx.notify_later(Probe, PROBE_DELAY);
        } else if self.pipeline.is_provisional() {
            self.abandon("it was loaded while the log had failed, which works again", ctx);
        } else {
            info!(tenant = %self.tenant().id(), "the storage works again");
            self.pipeline.storage_works();
            self.resources.storage_failures.fetch_sub(1, Ordering::Relaxed);
            self.fold(FolderNeed::Disk, ctx);
        }
    }
}
