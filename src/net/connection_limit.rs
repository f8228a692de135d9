//! How many connections there may be, and which one goes when there are more.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::time::{MissedTickBehavior, interval};

use super::connection_timeouts::ConnectionTimer;

/// Connections of a process. An idle one takes some 20 KiB, one in the middle of a request's head at most 130 KiB.
pub const MAX_CONNECTIONS: usize = 20_000;
/// A process has as many connections as this part of the files it may open: each tenant's journal is one too.
const SHARE_OF_FILES: u64 = 2;
/// Connections that are looked at for one that can go.
const LOOKED_AT: usize = 64;
/// Time between two looks at all connections.
const LOOK: Duration = Duration::from_secs(1);

/// How many connections a process may have, and has.
///
/// There is no limit by address: all services behind one proxy or one gateway have the same. Where there are too many
/// connections, one that has nothing to do goes for one that may have: whoever opens thousands loses his own first.
pub struct ConnectionLimit {
    most: usize,
    open: AtomicUsize,
    refused: AtomicU64,
}

impl ConnectionLimit {
    /// As many as the process may open files for.
    pub fn of_process() -> Arc<Self> {
        let files = getrlimit(Resource::Nofile)
            .current
            .map_or(usize::MAX, |files| usize::try_from(files / SHARE_OF_FILES).unwrap_or(usize::MAX));
        Self::new(files.clamp(1, MAX_CONNECTIONS))
    }

    /// So many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: AtomicUsize::new(0), refused: AtomicU64::new(0) })
    }

    /// How many each of so many workers takes from the kernel: its share, and some more that it refuses or ends others
    /// for. What comes faster waits in the kernel: what was taken is an open file, whether there is room for it or not.
    pub fn to_accept(&self, workers: usize) -> usize {
        let share = self.most.div_ceil(workers.max(1));
        share + (share / 8).max(16)
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The connections of one worker.
pub struct WorkerConnections {
    limit: Arc<ConnectionLimit>,
    timers: RefCell<Vec<Rc<ConnectionTimer>>>,
    /// Where the next search for one that can go begins.
    hand: Cell<usize>,
}

/// A connection's place, given back when dropped.
pub struct ConnectionSlot {
    connections: Rc<WorkerConnections>,
    timer: Rc<ConnectionTimer>,
}

impl WorkerConnections {
    /// None yet.
    pub fn new(limit: Arc<ConnectionLimit>) -> Rc<Self> {
        Rc::new(Self { limit, timers: RefCell::default(), hand: Cell::new(0) })
    }

    /// How many there may be, of all workers.
    pub fn limit(&self) -> &ConnectionLimit {
        &self.limit
    }

    /// A place for one more, where there is room or another one can go.
    pub fn enter(self: &Rc<Self>) -> Option<ConnectionSlot> {
        let open = self.limit.open.fetch_add(1, Ordering::Relaxed);
        if open >= self.limit.most {
            let Some(expendable) = self.expendable() else {
                self.limit.open.fetch_sub(1, Ordering::Relaxed);
                self.limit.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            expendable.end();
        }
        let timer = Rc::new(ConnectionTimer::default());
        let mut timers = self.timers.borrow_mut();
        timer.at.set(timers.len());
        timers.push(Rc::clone(&timer));
        Some(ConnectionSlot { connections: Rc::clone(self), timer })
    }

    /// The most idle of the next few.
    fn expendable(&self) -> Option<Rc<ConnectionTimer>> {
        let timers = self.timers.borrow();
        let start = self.hand.get();
        self.hand.set(if start + LOOKED_AT < timers.len() { start + LOOKED_AT } else { 0 });
        let next = timers.iter().cycle().skip(start).take(LOOKED_AT.min(timers.len()));
        let (_, timer) =
            next.filter_map(|timer| Some((timer.idleness()?, timer))).max_by_key(|(idleness, _)| *idleness)?;
        Some(Rc::clone(timer))
    }

    /// Looks at all of them, and ends those whose clients take too long.
    pub fn look(&self) {
        for timer in self.timers.borrow().iter().filter(|timer| timer.look()) {
            timer.end();
        }
    }

    /// Looks once a second, as long as there is a connections.
    pub async fn keep_looking(connections: Weak<Self>) {
        let mut ticks = interval(LOOK);
        // After a pause of the whole process there is one look, not one for each second of it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match connections.upgrade() {
                Some(connections) => connections.look(),
                None => return,
            }
        }
    }
}

impl ConnectionSlot {
    /// What the connection is doing.
    pub fn timer(&self) -> &Rc<ConnectionTimer> {
        &self.timer
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut timers = self.connections.timers.borrow_mut();
        let at = self.timer.at.get();
        timers.swap_remove(at);
        if let Some(moved) = timers.get(at) {
            moved.at.set(at);
        }
        self.connections.limit.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::super::connection_timeouts::{HEAD_SECONDS, IDLE_SECONDS, STALL_SECONDS};
    use super::*;

    fn connections(most: usize) -> Rc<WorkerConnections> {
        WorkerConnections::new(ConnectionLimit::new(most))
    }

    /// A write that its client does not take.
    fn block(timer: &ConnectionTimer) {
        timer.waits_to_write(&Context::from_waker(Waker::noop()));
    }

    /// At which look a connection ends that is as `prepare` leaves it, and as `meanwhile` does before each look.
    fn ends_at(prepare: impl FnOnce(&Rc<ConnectionTimer>), meanwhile: impl Fn(&Rc<ConnectionTimer>)) -> Option<u32> {
        let connections = connections(1);
        let seat = connections.enter().unwrap();
        prepare(seat.timer());
        (1..=2 * STALL_SECONDS).find(|_| {
            meanwhile(seat.timer());
            connections.look();
            seat.timer().is_over()
        })
    }

    #[test]
    fn what_a_connection_waits_for_has_its_time() {
        assert_eq!(ends_at(|_| {}, |_| {}), Some(IDLE_SECONDS), "between requests");
        assert_eq!(ends_at(|timer| timer.has_read(1), |_| {}), Some(HEAD_SECONDS), "in a head");
        assert_eq!(ends_at(|_| {}, |timer| timer.has_read(1)), Some(HEAD_SECONDS), "in one that comes byte by byte");
        assert_eq!(ends_at(|timer| timer.begins(), |timer| timer.has_read(1)), Some(HEAD_SECONDS), "in a handshake");
        let after_one = |timer: &Rc<ConnectionTimer>| {
            timer.has_read(100);
            drop(timer.call());
        };
        assert_eq!(ends_at(after_one, |_| {}), Some(IDLE_SECONDS), "after an answer");
        assert_eq!(ends_at(after_one, |timer| timer.has_read(1)), Some(HEAD_SECONDS), "in the head after an answer");
        assert_eq!(ends_at(|_| {}, after_one), None, "while it asks and is answered");
    }

    #[test]
    fn a_call_takes_the_time_it_takes_unless_its_client_takes_nothing() {
        let held = Cell::new(None);
        assert_eq!(ends_at(|timer| held.set(Some(timer.call())), |timer| timer.has_read(1)), None);
        let stalls = |timer: &Rc<ConnectionTimer>| {
            held.set(Some(timer.call()));
            block(timer);
        };
        assert_eq!(ends_at(stalls, |_| {}), Some(STALL_SECONDS));
        assert_eq!(ends_at(stalls, |timer| block(timer)), Some(STALL_SECONDS), "which is looked at once more");
        assert_eq!(ends_at(stalls, |timer| timer.has_written()), None, "it takes some");
        let took_all = |timer: &Rc<ConnectionTimer>| {
            block(timer);
            timer.is_flushed();
        };
        assert_eq!(ends_at(took_all, |_| {}), Some(IDLE_SECONDS));
    }

    #[test]
    fn who_has_nothing_to_do_goes_for_who_may_have() {
        let connections = connections(3);
        let seats: Vec<_> = (0..3).map(|_| connections.enter().unwrap()).collect();
        assert!(connections.enter().is_none(), "all are new: nobody has shown yet that there is nothing to do");
        let busy = seats[0].timer().call();
        seats[1].timer().has_read(1);
        connections.look();
        // In the middle of a head is no better than idle: whoever sends one at once was not seen there.
        let fourth = connections.enter().unwrap();
        let over = || seats.iter().map(|seat| seat.timer().is_over()).collect::<Vec<_>>();
        assert_eq!(over().iter().filter(|over| **over).count(), 1);
        let fifth = connections.enter().unwrap();
        assert_eq!(over(), [false, true, true]);
        assert!(
            connections.enter().is_none(),
            "a call under way is not broken off, and who is asked to go already is no room"
        );
        drop((busy, fourth, fifth));
        drop(seats);
        assert_eq!((connections.timers.borrow().len(), connections.limit.open.load(Ordering::Relaxed)), (0, 0));
        let full: Vec<_> = (0..3).filter_map(|_| connections.enter()).collect();
        assert_eq!(full.len(), 3);
    }

    #[test]
    fn places_are_given_back_in_any_order() {
        let connections = connections(100);
        let mut seats: Vec<_> = (0..50).map(|_| connections.enter().unwrap()).collect();
        for step in [7, 3, 1] {
            let mut at = 0;
            seats.retain(|_| {
                at += 1;
                at % step != 0
            });
            let timers = connections.timers.borrow();
            assert_eq!(timers.len(), seats.len());
            assert!(timers.iter().enumerate().all(|(at, timer)| timer.at.get() == at));
            assert!(seats.iter().all(|seat| Rc::ptr_eq(seat.timer(), &timers[seat.timer().at.get()])));
        }
        assert!(seats.is_empty());
    }
}
