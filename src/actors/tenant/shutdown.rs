//! The end of an actor: with everything on disk, or at once if its tenant is being erased.

use actix::{ActorContext, Context, Handler};
use actix_rt::task::spawn_blocking;
use tracing::error;

use super::TenantActor;
use crate::actors::messages::{Close, Ending, Retire};

impl Handler<Close> for TenantActor {
    type Result = ();

    fn handle(&mut self, Close { done }: Close, ctx: &mut Context<Self>) {
        self.write(ctx);
        let Some((job, waiting)) = self.pipeline.begin_close() else { return };
        self.ending = Ending::Clean;
        let (id, now) = (self.tenant().id(), self.resources.clock.now());
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
