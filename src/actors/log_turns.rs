//! One thread's way into the log: at the end of each turn, one write takes what its tenants recorded.
//!
//! A turn is everything that a thread handles without waiting. The task in here is woken by the first event of a turn and
//! runs after all tasks that were ready then. Tenants of several servers may live on one thread; each server has its own.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Message, WeakRecipient};
use kavach_store::commit_queue::{CommitQueue, Written};
use tokio::sync::Notify;
use tracing::error;

use super::resources::Resources;
use super::tenant_reply::TenantReply;
use crate::domain::TenantTag;
use crate::measure::ThreadMeasures;

/// The log refused or lost events, or failed: a tenant with events that the log does not have has to end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogFailed;

/// One thread's way into the log of one server.
pub struct LogTurns {
    resources: Arc<Resources>,
    queue: RefCell<CommitQueue<TenantReply>>,
    bell: Arc<Notify>,
    is_scheduled: Cell<bool>,
    /// Tenants with events of this turn, each with the last event before.
    recorded: RefCell<Vec<(TenantTag, u64)>>,
    /// The thread's tenants by the number of their actor.
    members: RefCell<HashMap<u64, WeakRecipient<LogFailed>>>,
    notes: Arc<ThreadMeasures>,
}

thread_local! {
    static OF_SERVERS: RefCell<Vec<Rc<LogTurns>>> = const { RefCell::new(Vec::new()) };
}

impl LogTurns {
    /// The calling thread's. A task on its arbiter writes at the end of each turn.
    pub fn here(resources: &Arc<Resources>) -> Rc<Self> {
        OF_SERVERS.with_borrow_mut(|all| {
            if let Some(own) = all.iter().find(|turns| Arc::ptr_eq(&turns.resources, resources)) {
                return Rc::clone(own);
            }
            let bell = Arc::<Notify>::default();
            let answered = Arc::clone(&bell);
            let queue = CommitQueue::new(&*resources.log, move || answered.notify_one());
            let turns = Rc::new(Self {
                resources: Arc::clone(resources),
                queue: RefCell::new(queue),
                bell,
                is_scheduled: Cell::new(false),
                recorded: RefCell::default(),
                members: RefCell::default(),
                notes: resources.measures.add_thread(),
            });
            resources.log_keeper.ring(&turns.bell);
            actix_rt::spawn(Rc::clone(&turns).serve());
            all.push(Rc::clone(&turns));
            turns
        })
    }

    async fn serve(self: Rc<Self>) {
        /// Forgets the thread's turns when its arbiter ends, so that their replies are dropped there.
        struct End(Rc<LogTurns>);
        impl Drop for End {
            fn drop(&mut self) {
                // While a thread ends, what is local to it may be gone.
                let _ = OF_SERVERS.try_with(|all| {
                    if let Ok(mut all) = all.try_borrow_mut() {
                        all.retain(|turns| !Rc::ptr_eq(turns, &self.0));
                    }
                });
            }
        }
        let end = End(self);
        loop {
            end.0.bell.notified().await;
            // A reply whose receiver panics must not stop all tenants of the thread.
            if catch_unwind(AssertUnwindSafe(|| end.0.write())).is_err() {
                error!("the release of a reply panicked");
            }
            if end.0.resources.log_keeper.has_ended() {
                return;
            }
        }
    }

    /// What the thread's tenants recorded and the log does not have yet.
    pub fn queue(&self) -> RefMut<'_, CommitQueue<TenantReply>> {
        self.queue.borrow_mut()
    }

    /// Makes an actor hear when the log fails.
    pub fn join(&self, generation: u64, member: WeakRecipient<LogFailed>) {
        self.members.borrow_mut().insert(generation, member);
    }

    /// The actor has ended.
    pub fn leave(&self, generation: u64) {
        self.members.borrow_mut().remove(&generation);
    }

    /// A tenant recorded its first event of this turn; `last_old` is the one before.
    pub fn note_recorded(&self, tenant: TenantTag, last_old: u64) {
        self.recorded.borrow_mut().push((tenant, last_old));
    }

    /// Has the turn end with a write.
    pub fn schedule(&self) {
        if !self.is_scheduled.replace(true) {
            self.bell.notify_one();
        }
    }

    /// Writes now, and releases replies as far as the log has come.
    pub fn write(&self) -> Written {
        self.is_scheduled.set(false);
        let start = Instant::now();
        let (written, (events, bytes), is_awaited) = {
            let mut queue = self.queue();
            let gathered = queue.gathered();
            (queue.write(&*self.resources.log), gathered, queue.needs_sync())
        };
        if written != Written::Nothing {
            // Some of it may be written even after a failure. A follower that finds nothing new waits on.
            let now = self.resources.clock.now();
            for (tenant, last_old) in self.recorded.borrow_mut().drain(..) {
                self.resources.audit.watch.announce(tenant, last_old, now);
            }
        }
        match written {
            Written::Nothing if is_awaited => self.resources.log_keeper.appended(true),
            Written::Nothing => {}
            Written::All => {
                self.notes.flushed(start.elapsed(), events, bytes as u64);
                self.resources.log_keeper.appended(is_awaited);
            }
            Written::Failed => {
                // It reads the log anew, if that is what failed.
                self.resources.log_keeper.appended(true);
                for member in self.members.borrow().values().filter_map(WeakRecipient::upgrade) {
                    member.do_send(LogFailed);
                }
            }
        }
        written
    }
}
