//! The newest link of a tenant's hash chain, for somebody to keep elsewhere.

use std::io;

use actix::{AsyncContext, Context, Handler, Message};

use super::TenantActor;
use super::fold::FolderNeed;
use crate::actors::messages::{Checkpointed, TakeCheckpoint};
use crate::actors::reply::Reply;
use crate::domain::Right;
use crate::journal::SyncPoint;
use kavach_store::refusal::storage_unavailable;

/// A link is on disk, and everything before it.
#[derive(Message)]
#[rtype(result = "()")]
struct LinkSynced(SyncPoint);

impl Handler<TakeCheckpoint> for TenantActor {
    type Result = ();

    fn handle(&mut self, TakeCheckpoint { credential, reply }: TakeCheckpoint, ctx: &mut Context<Self>) {
        let caller = self.authenticate(&credential, self.resources.clock.read().latest());
        if let Err(error) = caller.and_then(|caller| caller.check(Right::Read)).and_then(|()| self.check_writable()) {
            return drop(reply.send(Err(error)));
        }
        // The marker that follows a sync says what is on disk, and is the link that covers all of it.
        self.fold(FolderNeed::Link(reply), ctx);
    }
}

impl TenantActor {
    /// Answers somebody who waits for a checkpoint of what the folder has on disk now.
    pub(super) fn give_checkpoint(&mut self, reply: Reply<Checkpointed>, ctx: &mut Context<Self>) {
        let now = self.tenant().next_moment(self.resources.clock.now()).at;
        let (id, gone) = (self.tenant().id(), self.pipeline.no_journal());
        let Some(journal) = self.pipeline.journal_mut() else { return drop(reply.send(Err(gone))) };
        let link = match journal.link(now.millis()) {
            Ok(link) => link,
            Err(problem) => {
                if journal.is_broken() {
                    self.abandon(&problem.to_string(), ctx);
                }
                return drop(reply.send(Err(storage_unavailable())));
            }
        };
        // Not the actor's own sync: that one ended once the events were on disk, and the link comes after them.
        let me = ctx.address();
        let done = move |outcome: io::Result<SyncPoint>| {
            if let Ok(point) = outcome {
                me.do_send(LinkSynced(point));
            }
            drop(reply.send(outcome.map(|_| (id, link)).map_err(|_| storage_unavailable())));
        };
        self.resources.syncer.submit(journal.begin_sync(), Box::new(done));
    }
}

impl Handler<LinkSynced> for TenantActor {
    type Result = ();

    /// Closes the folder's file, which was opened for the link.
    fn handle(&mut self, LinkSynced(point): LinkSynced, ctx: &mut Context<Self>) {
        self.folder_synced(Ok(point), ctx);
    }
}
