//! How many connections there may be, and which one is closed to make room.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::connection_timeouts::ConnectionTimer;

/// Connections per process. An idle one takes about 20 KiB, one in the middle of a request head at most 130 KiB.
pub const MAX_CONNECTIONS: usize = 20_000;
/// One in this many file descriptors may be a connection. The rest are for tenants' journals.
const SHARE_OF_FILES: u64 = 2;
/// Connections examined to find one to close.
const EXAMINED: usize = 64;
/// Time between two ticks of the connections' timers.
const TICK: Duration = Duration::from_secs(1);

/// How many connections the process has, and may have.
///
/// There is no limit per address, since all services behind one proxy or gateway share one. At the limit, an idle
/// connection is closed for a new one: a client that opens thousands loses its own first.
pub struct ConnectionLimit {
    most: usize,
    open: watch::Sender<usize>,
    refused: AtomicU64,
}

impl ConnectionLimit {
    /// The limit that the process's open-file limit allows.
    pub fn of_process() -> Arc<Self> {
        let files = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |files| usize::try_from(files / SHARE_OF_FILES).unwrap_or(usize::MAX));
        Self::new(files.clamp(1, MAX_CONNECTIONS))
    }

    /// A limit of `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: watch::Sender::new(0), refused: AtomicU64::new(0) })
    }

    /// How many connections each worker accepts: its share, and a few more to refuse or to close others for. The rest
    /// wait in the kernel, since every accepted connection is an open file even if there is no room for it.
    pub fn to_accept(&self, workers: usize) -> usize {
        let share = self.most.div_ceil(workers.max(1));
        share + (share / 8).max(16)
    }

    /// The limit.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until no connection is open.
    pub async fn all_closed(&self) {
        // Can't fail: `self` holds the sender.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Counts one more. Returns how many there were.
    fn add(&self) -> usize {
        let mut before = 0;
        self.open.send_modify(|open| {
            before = *open;
            *open += 1;
        });
        before
    }

    fn remove(&self) {
        self.open.send_modify(|open| *open -= 1);
    }

    /// How many connections were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The connections of one worker.
pub struct WorkerConnections {
    limit: Arc<ConnectionLimit>,
    timers: RefCell<Vec<Rc<ConnectionTimer>>>,
    /// Where the next search for one to close starts.
    hand: Cell<usize>,
}

/// A connection's place under the limit, freed on drop.
pub struct ConnectionSlot {
    connections: Rc<WorkerConnections>,
    timer: Rc<ConnectionTimer>,
}

impl WorkerConnections {
    /// No connections yet.
    pub fn new(limit: Arc<ConnectionLimit>) -> Rc<Self> {
        Rc::new(Self { limit, timers: RefCell::default(), hand: Cell::new(0) })
    }

    /// The limit, which all workers share.
    pub fn limit(&self) -> &ConnectionLimit {
        &self.limit
    }

    /// A place for one more, if there is room or another connection can be closed for it.
    pub fn enter(self: &Rc<Self>) -> Option<ConnectionSlot> {
        let open = self.limit.add();
        if open >= self.limit.most {
            let Some(most_idle) = self.most_idle() else {
                self.limit.remove();
                self.limit.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            most_idle.close();
        }
        let timer = Rc::new(ConnectionTimer::default());
        let mut timers = self.timers.borrow_mut();
        timer.index.set(timers.len());
        timers.push(Rc::clone(&timer));
        Some(ConnectionSlot { connections: Rc::clone(self), timer })
    }

    /// The most idle of the next few connections, if any is idle.
    fn most_idle(&self) -> Option<Rc<ConnectionTimer>> {
        let timers = self.timers.borrow();
        let start = self.hand.get();
        self.hand.set(if start + EXAMINED < timers.len() { start + EXAMINED } else { 0 });
        let next = timers.iter().cycle().skip(start).take(EXAMINED.min(timers.len()));
        let (_, timer) =
            next.filter_map(|timer| Some((timer.idleness()?, timer))).max_by_key(|(idleness, _)| *idleness)?;
        Some(Rc::clone(timer))
    }

    /// Ticks all timers, and closes the connections that have timed out.
    pub fn tick(&self) {
        for timer in self.timers.borrow().iter().filter(|timer| timer.tick()) {
            timer.close();
        }
    }

    /// Ticks once a second, for as long as the worker lives.
    pub async fn keep_ticking(connections: Weak<Self>) {
        let mut ticks = interval(TICK);
        // After a pause of the whole process, tick once, not once for each second of it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match connections.upgrade() {
                Some(connections) => connections.tick(),
                None => return,
            }
        }
    }
}

impl ConnectionSlot {
    /// The connection's timer.
    pub fn timer(&self) -> &Rc<ConnectionTimer> {
        &self.timer
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut timers = self.connections.timers.borrow_mut();
        let at = self.timer.index.get();
        timers.swap_remove(at);
        if let Some(moved) = timers.get(at) {
            moved.index.set(at);
        }
        self.connections.limit.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::super::connection_timeouts::{HEAD_TIMEOUT_SECS, IDLE_TIMEOUT_SECS, STALL_TIMEOUT_SECS};
    use super::*;

    fn connections(most: usize) -> Rc<WorkerConnections> {
        WorkerConnections::new(ConnectionLimit::new(most))
    }

    /// A write that the client does not read.
    fn block(timer: &ConnectionTimer) {
        timer.on_write_blocked(&Context::from_waker(Waker::noop()));
    }

    /// The tick at which a connection times out, after `prepare` once and `meanwhile` before each tick.
    fn ends_at(prepare: impl FnOnce(&Rc<ConnectionTimer>), meanwhile: impl Fn(&Rc<ConnectionTimer>)) -> Option<u32> {
        let connections = connections(1);
        let slot = connections.enter().unwrap();
        prepare(slot.timer());
        (1..=2 * STALL_TIMEOUT_SECS).find(|_| {
            meanwhile(slot.timer());
            connections.tick();
            slot.timer().is_closing()
        })
    }

    #[test]
    fn each_state_has_its_timeout() {
        assert_eq!(ends_at(|_| {}, |_| {}), Some(IDLE_TIMEOUT_SECS), "between requests");
        assert_eq!(ends_at(|timer| timer.on_read(1), |_| {}), Some(HEAD_TIMEOUT_SECS), "in a head");
        assert_eq!(
            ends_at(|_| {}, |timer| timer.on_read(1)),
            Some(HEAD_TIMEOUT_SECS),
            "in one that comes byte by byte"
        );
        assert_eq!(
            ends_at(|timer| timer.start_head_timeout(), |timer| timer.on_read(1)),
            Some(HEAD_TIMEOUT_SECS),
            "in a handshake"
        );
        let after_one = |timer: &Rc<ConnectionTimer>| {
            timer.on_read(100);
            drop(timer.start_call());
        };
        assert_eq!(ends_at(after_one, |_| {}), Some(IDLE_TIMEOUT_SECS), "after an answer");
        assert_eq!(
            ends_at(after_one, |timer| timer.on_read(1)),
            Some(HEAD_TIMEOUT_SECS),
            "in the head after an answer"
        );
        assert_eq!(ends_at(|_| {}, after_one), None, "while it asks and is answered");
    }

    #[test]
    fn a_call_has_no_timeout_unless_its_client_reads_nothing() {
        let held = Cell::new(None);
        assert_eq!(ends_at(|timer| held.set(Some(timer.start_call())), |timer| timer.on_read(1)), None);
        let stalls = |timer: &Rc<ConnectionTimer>| {
            held.set(Some(timer.start_call()));
            block(timer);
        };
        assert_eq!(ends_at(stalls, |_| {}), Some(STALL_TIMEOUT_SECS));
        assert_eq!(ends_at(stalls, |timer| block(timer)), Some(STALL_TIMEOUT_SECS), "which is looked at once more");
        assert_eq!(ends_at(stalls, |timer| timer.on_written()), None, "it takes some");
        let took_all = |timer: &Rc<ConnectionTimer>| {
            block(timer);
            timer.on_flushed();
        };
        assert_eq!(ends_at(took_all, |_| {}), Some(IDLE_TIMEOUT_SECS));
    }

    #[test]
    fn an_idle_connection_is_closed_for_a_new_one() {
        let connections = connections(3);
        let slots: Vec<_> = (0..3).map(|_| connections.enter().unwrap()).collect();
        assert!(connections.enter().is_none(), "all are new: none has been idle yet");
        let busy = slots[0].timer().start_call();
        slots[1].timer().on_read(1);
        connections.tick();
        // The middle of a head counts as idle: a client that sends its head in one piece is never seen there.
        let fourth = connections.enter().unwrap();
        let over = || slots.iter().map(|slot| slot.timer().is_closing()).collect::<Vec<_>>();
        assert_eq!(over().iter().filter(|over| **over).count(), 1);
        let fifth = connections.enter().unwrap();
        assert_eq!(over(), [false, true, true]);
        assert!(
            connections.enter().is_none(),
            "a running call is not cut off, and a connection that is closing already makes no more room"
        );
        drop((busy, fourth, fifth));
        drop(slots);
        assert_eq!((connections.timers.borrow().len(), connections.limit.open()), (0, 0));
        let full: Vec<_> = (0..3).filter_map(|_| connections.enter()).collect();
        assert_eq!(full.len(), 3);
    }

    #[tokio::test]
    async fn the_end_of_the_last_connection_is_noticed() {
        let limit = ConnectionLimit::new(2);
        limit.all_closed().await;
        let connections = WorkerConnections::new(Arc::clone(&limit));
        let (first, second) = (connections.enter(), connections.enter());
        drop(first);
        let waiting = tokio::spawn(async move { limit.all_closed().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }

    #[test]
    fn places_are_freed_in_any_order() {
        let connections = connections(100);
        let mut slots: Vec<_> = (0..50).map(|_| connections.enter().unwrap()).collect();
        for step in [7, 3, 1] {
            let mut at = 0;
            slots.retain(|_| {
                at += 1;
                at % step != 0
            });
            let timers = connections.timers.borrow();
            assert_eq!(timers.len(), slots.len());
            assert!(timers.iter().enumerate().all(|(at, timer)| timer.index.get() == at));
            assert!(slots.iter().all(|slot| Rc::ptr_eq(slot.timer(), &timers[slot.timer().index.get()])));
        }
        assert!(slots.is_empty());
    }
}
