//! How calls and their answers cross from one worker's thread to another's.
//!
//! A call's connection lives on one worker and its tenant on another as often as not. To wake a thread for each call
//! and again for each answer costs several times what a decision costs. So a worker collects what it has for each
//! other worker while it handles all that is ready, and hands it over at the end of that turn, with one wake for the
//! lot. Under light load a lot is one call, which waits for nothing; under heavy load it is dozens, and the tenant's
//! actor decides them together and writes them with one write.
//!
//! A lane is no queue of its own: it only carries to the tenant's mailbox, which bounds what a tenant takes.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Addr;
use actix::prelude::SendError;
use tokio::sync::Notify;

use super::commit::Reply;
use super::messages::Authorize;
use super::tenant::{TenantActor, overloaded};
use crate::domain::{Decision, Error};

/// Parcels that may wait for one worker. It empties its lane at every turn of its loop, which takes milliseconds at
/// most; so many wait only for one that is stuck, and more would only be memory.
const LANE_CAPACITY: usize = 16_384;

/// The lanes of a server's workers.
pub struct Lanes {
    lanes: Box<[Lane]>,
    claimed: AtomicUsize,
}

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId(usize);

/// What leads to one worker.
struct Lane {
    inbox: Mutex<Inbox>,
    /// There is something in the inbox, or the worker has something for others.
    news: Notify,
}

#[derive(Default)]
struct Inbox {
    parcels: Vec<Parcel>,
    /// Whether the worker is there to empty it.
    open: bool,
}

/// What crosses.
enum Parcel {
    /// A call, and its tenant's actor.
    Call(Arc<Addr<TenantActor>>, Authorize),
    /// An answer, and the caller who waits for it.
    Answer(Reply<Decision>, Result<Decision, Error>),
}

/// What a worker's thread knows of itself.
struct Here {
    lanes: Arc<Lanes>,
    lane: LaneId,
    /// For each lane what leaves at the end of the turn.
    outboxes: Vec<Vec<Parcel>>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Where a decision is sent: to a caller, on the worker that it waits on.
pub struct ReplyTo {
    caller: Reply<Decision>,
    /// `None` for a caller that is on no worker.
    lane: Option<LaneId>,
}

impl Lanes {
    /// So many lanes, none of which leads anywhere yet.
    pub fn new(workers: usize) -> Arc<Self> {
        let lane = || Lane { inbox: Mutex::default(), news: Notify::new() };
        Arc::new(Self { lanes: (0..workers).map(|_| lane()).collect(), claimed: AtomicUsize::new(0) })
    }

    /// Makes the calling thread a worker, whose lane is served by its arbiter from now on. `None` where all lanes are
    /// taken: what goes to that worker then crosses call by call.
    pub fn join(self: &Arc<Self>) -> Option<LaneId> {
        let id = LaneId(self.claimed.fetch_add(1, Ordering::Relaxed));
        let lane = self.lanes.get(id.0)?;
        lane.lock().open = true;
        let outboxes = self.lanes.iter().map(|_| Vec::new()).collect();
        HERE.set(Some(Here { lanes: Arc::clone(self), lane: id, outboxes }));
        actix_rt::spawn(carry(Arc::clone(self), id));
        Some(id)
    }

    /// The calling thread's lane, where it is one of these workers.
    fn here(self: &Arc<Self>) -> Option<LaneId> {
        HERE.with_borrow(|here| here.as_ref().filter(|here| Arc::ptr_eq(&here.lanes, self)).map(|here| here.lane))
    }

    /// Where the calling thread wants an answer sent.
    pub fn reply_to(self: &Arc<Self>, caller: Reply<Decision>) -> ReplyTo {
        ReplyTo { caller, lane: self.here() }
    }
}

/// Sends a call to a tenant's actor that lives on that worker.
///
/// # Errors
/// That the actor's mailbox is full or closed, as far as it is known at once.
pub fn send(actor: &Arc<Addr<TenantActor>>, home: Option<LaneId>, call: Authorize) -> Result<(), SendError<()>> {
    match home {
        // A caller on a worker whose tenant is on another.
        Some(home) if call.reply.lane.is_some_and(|lane| lane != home) => {
            post(home, Parcel::Call(Arc::clone(actor), call));
            Ok(())
        }
        _ => actor.try_send(call).map_err(|problem| match problem {
            SendError::Full(_) => SendError::Full(()),
            SendError::Closed(_) => SendError::Closed(()),
        }),
    }
}

impl ReplyTo {
    /// Lets the answer go.
    pub fn send(self, outcome: Result<Decision, Error>) {
        let Self { caller, lane } = self;
        let own = HERE.with_borrow(|here| here.as_ref().map(|here| here.lane));
        match (lane, own) {
            (Some(lane), Some(own)) if lane != own => post(lane, Parcel::Answer(caller, outcome)),
            // A caller that went away in the meantime needs no answer.
            _ => drop(caller.send(outcome)),
        }
    }
}

/// Puts a parcel with those that leave the calling worker at the end of its turn.
fn post(to: LaneId, parcel: Parcel) {
    HERE.with_borrow_mut(|here| {
        let Some(Here { lanes, lane, outboxes }) = here else { return };
        // The carrier runs once all tasks that are ready now have run.
        if outboxes.iter().all(Vec::is_empty)
            && let Some(own) = lanes.lanes.get(lane.0)
        {
            own.news.notify_one();
        }
        if let Some(outbox) = outboxes.get_mut(to.0) {
            outbox.push(parcel);
        }
    });
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what another worker has for this one.
    fn take_in(&self, parcels: &mut Vec<Parcel>) {
        let mut inbox = self.lock();
        // Whose call or answer is dropped hears of it by that.
        if !inbox.open {
            drop(inbox);
            parcels.clear();
            return;
        }
        let room = LANE_CAPACITY.saturating_sub(inbox.parcels.len());
        if parcels.len() > room {
            for parcel in parcels.extract_if(room.., |parcel| matches!(parcel, Parcel::Call(..))) {
                parcel.refuse();
            }
        }
        inbox.parcels.append(parcels);
        drop(inbox);
        self.news.notify_one();
    }
}

impl Parcel {
    fn deliver(self) {
        match self {
            Self::Call(actor, call) => match actor.try_send(call) {
                Ok(()) => {}
                Err(SendError::Full(call)) => call.reply.send(Err(overloaded())),
                // The caller hears of it by that the reply is dropped.
                Err(SendError::Closed(_)) => {}
            },
            Self::Answer(caller, outcome) => drop(caller.send(outcome)),
        }
    }

    fn refuse(self) {
        if let Self::Call(_, call) = self {
            drop(call.reply.caller.send(Err(overloaded())));
        }
    }
}

/// Empties a worker's inbox and its outboxes whenever there is something in them.
async fn carry(lanes: Arc<Lanes>, id: LaneId) {
    let Some(lane) = lanes.lanes.get(id.0) else { return };
    let _end = End(lane);
    let mut arrived = Vec::new();
    loop {
        lane.news.notified().await;
        std::mem::swap(&mut lane.lock().parcels, &mut arrived);
        arrived.drain(..).for_each(Parcel::deliver);
        HERE.with_borrow_mut(|here| {
            let outboxes = here.iter_mut().flat_map(|here| &mut here.outboxes);
            for (to, outbox) in lanes.lanes.iter().zip(outboxes).filter(|(_, outbox)| !outbox.is_empty()) {
                to.take_in(outbox);
            }
        });
    }
}

/// Closes a lane when its worker ends: what is in it is dropped, so that nobody waits for it.
struct End<'a>(&'a Lane);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.lock() = Inbox::default();
    }
}
