//! What a connection is doing, and whether its client takes too long over it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Seconds that the head of a request may take from its first byte, and a TLS handshake in all. Both are a packet or
/// two: a client that needs longer is on no network that a service asks from, or has no request.
pub const HEAD_SECONDS: u32 = 10;
/// Seconds that a connection may be silent between two requests. Longer than clients and proxies keep one themselves
/// (60 s is common), since a server that closes first can cross with a request.
pub const IDLE_SECONDS: u32 = 75;
/// Seconds that a client may take nothing of an answer that waits for it. It is as long as an export waits, for a
/// download that somebody pauses. The kernel makes room in steps of many kilobytes, so a client can't pretend to read.
pub const STALL_SECONDS: u32 = 300;
/// Bytes that are read ahead of the requests that are answered: some ten usual ones, which is what pipelining is good
/// for. A request without headers takes twenty times its bytes in memory once it is parsed.
pub(super) const AHEAD_BYTES: usize = 8 * 1024;

/// What one connection is doing. Times are counted in looks of its worker's [`WorkerConnections`](super::connection_limit::WorkerConnections), one a
/// second, and not by a clock: a server that was held up itself does not blame its clients.
#[derive(Default)]
pub struct ConnectionTimer {
    /// Calls that are being answered.
    calls: Cell<u32>,
    /// Calls that ever began.
    begun_calls: Cell<u32>,
    /// Whether one of them waits for the rest of its body.
    reads_body: Cell<bool>,
    /// Whether there are bytes of a request that is not whole, or of a handshake.
    begun: Cell<bool>,
    /// Whether the client takes nothing of what is written.
    blocked: Cell<bool>,
    /// Looks since any of this changed, or since the client took something.
    still: Cell<u32>,
    /// Bytes read since all that came before was answered.
    ahead: Cell<usize>,
    ended: Cell<bool>,
    /// Whether its task was told to wait although there may be something to read.
    held_back: Cell<bool>,
    /// Where its connections has it.
    pub(super) at: Cell<usize>,
    /// Wakes the connection's task. There while it waits for something to read, or to write.
    waker: RefCell<Option<Waker>>,
}

/// Whether a connection may be read from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadPermission {
    Go,
    /// Not before something changes.
    Wait,
    /// It is over.
    End,
}

impl ConnectionTimer {
    /// What a look finds out: whether the client took too long.
    pub(super) fn look(&self) -> bool {
        let still = self.still.get().saturating_add(1);
        self.still.set(still);
        if self.blocked.get() {
            still >= STALL_SECONDS
        } else if self.is_busy() {
            false
        } else if self.begun.get() {
            still >= HEAD_SECONDS
        } else {
            still >= IDLE_SECONDS
        }
    }

    /// How little it matters that this connection goes when another one needs its place; `None` where it does.
    pub(super) fn idleness(&self) -> Option<u32> {
        let still = self.still.get();
        let expendable = match (self.blocked.get(), self.is_busy()) {
            (true, _) => still >= HEAD_SECONDS,
            (false, true) => false,
            (false, false) => still >= 1,
        };
        (expendable && !self.ended.get()).then_some(still)
    }

    /// Ends the connection at its next turn, which is now.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.get()
    }

    /// The same for a task that is to be woken when it is over.
    pub(super) fn is_over_at(&self, context: &Context<'_>) -> bool {
        self.remember(context);
        self.is_over()
    }

    fn is_busy(&self) -> bool {
        self.calls.get() > 0
    }

    /// Whether so many calls, and no more, began, and all of them ended.
    pub(super) fn has_answered(&self, calls: u32) -> bool {
        !self.is_busy() && self.begun_calls.get() == calls
    }

    fn changed(&self) {
        self.still.set(0);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Lets the task look again for what it may read now.
    fn go_on(&self) {
        if self.held_back.replace(false) {
            self.wake();
        }
    }

    fn remember(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Whether to read now. Nothing is read from a client that takes no answers, and little ahead of them.
    pub(super) fn may_read(&self, context: &Context<'_>) -> ReadPermission {
        if self.ended.get() {
            return ReadPermission::End;
        }
        let far_ahead = self.ahead.get() >= AHEAD_BYTES && !self.reads_body.get();
        if !self.blocked.get() && !far_ahead {
            return ReadPermission::Go;
        }
        self.remember(context);
        self.held_back.set(true);
        if !self.blocked.get() && !self.is_busy() {
            // What was read is looked at before more is: most of it may be requests.
            self.ahead.set(0);
            self.go_on();
        }
        ReadPermission::Wait
    }

    pub(super) fn has_read(&self, bytes: usize) {
        if bytes > 0 && !self.is_busy() && !self.begun.replace(true) {
            self.ahead.set(0);
            self.changed();
        }
        self.ahead.set(self.ahead.get().saturating_add(bytes));
    }

    pub(super) fn waits_to_read(&self, context: &Context<'_>) {
        self.remember(context);
    }

    /// The client took some of what was written.
    pub(super) fn has_written(&self) {
        if self.blocked.get() {
            self.changed();
        }
    }

    pub(super) fn waits_to_write(&self, context: &Context<'_>) {
        // Of a client that sends no more, nothing is read that would remember it.
        self.remember(context);
        if !self.blocked.replace(true) {
            self.changed();
        }
    }

    /// The client took all that was written.
    pub(super) fn is_flushed(&self) {
        if self.blocked.replace(false) {
            self.changed();
            self.go_on();
        }
    }

    /// A handshake begins, which has as long as a request's head.
    pub(super) fn begins(&self) {
        self.begun.set(true);
        self.changed();
    }

    /// The handshake is over.
    pub(super) fn is_through(&self) {
        self.begun.set(false);
        self.ahead.set(0);
        self.changed();
    }

    /// A call begins. It ends when the answer is dropped.
    pub fn call(self: &Rc<Self>) -> CallGuard {
        self.calls.set(self.calls.get() + 1);
        self.begun_calls.set(self.begun_calls.get().wrapping_add(1));
        self.begun.set(false);
        CallGuard(Rc::clone(self))
    }

    /// A handler waits for the rest of a body, until what this answers is dropped.
    pub fn read_body(self: &Rc<Self>) -> BodyReadGuard {
        self.reads_body.set(true);
        self.go_on();
        BodyReadGuard(Rc::clone(self))
    }
}

/// A call under way.
pub struct CallGuard(Rc<ConnectionTimer>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get().saturating_sub(1));
        if !self.0.is_busy() {
            self.0.changed();
            self.0.go_on();
        }
    }
}

/// A body that is being read.
pub struct BodyReadGuard(Rc<ConnectionTimer>);

impl Drop for BodyReadGuard {
    fn drop(&mut self) {
        self.0.reads_body.set(false);
        self.0.ahead.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads as long as it may, in the pieces of actix-http's buffer. Answers the bytes.
    fn read_all(timer: &ConnectionTimer, context: &Context<'_>, piece: usize) -> usize {
        (0..1_000).take_while(|_| timer.may_read(context) == ReadPermission::Go).map(|_| timer.has_read(piece)).count()
            * piece
    }

    #[test]
    fn little_is_read_ahead_of_the_answers() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let times = || woken.0.swap(0, Ordering::Relaxed);
        assert_eq!(read_all(&timer, &context, 1_000), 9_000);
        assert_eq!(times(), 1, "what was read is looked at, and then it goes on");
        let call = timer.call();
        assert_eq!(read_all(&timer, &context, 1_000), 9_000);
        assert_eq!(read_all(&timer, &context, 1_000), 0);
        assert_eq!(times(), 0, "nothing more before the answer");
        let second = timer.call();
        drop(call);
        assert_eq!((read_all(&timer, &context, 1_000), times()), (0, 0), "nor before that of what was read with it");
        drop(second);
        assert_eq!(times(), 1);
        assert_eq!(timer.may_read(&context), ReadPermission::Wait);
        assert_eq!(times(), 1);
        assert_eq!(timer.may_read(&context), ReadPermission::Go);
    }

    #[test]
    fn a_body_is_read_as_it_comes() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let _call = timer.call();
        assert_eq!(read_all(&timer, &context, 8_192), 8_192);
        let body = timer.read_body();
        assert_eq!(woken.0.swap(0, Ordering::Relaxed), 1);
        assert_eq!(read_all(&timer, &context, 8_192), 8_192_000);
        drop(body);
        assert_eq!(read_all(&timer, &context, 8_192), 8_192);
    }

    #[test]
    fn nothing_is_read_from_a_client_that_takes_nothing() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        timer.waits_to_write(&context);
        for _ in 0..3 {
            assert_eq!(timer.may_read(&context), ReadPermission::Wait);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "it does not spin");
        timer.is_flushed();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(timer.may_read(&context), ReadPermission::Go);
        timer.end();
        assert_eq!(timer.may_read(&context), ReadPermission::End);
    }
}
