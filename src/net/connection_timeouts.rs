//! What a connection is doing, and whether its client is taking too long.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

/// Seconds for a request head from its first byte, or for a whole TLS handshake. Both fit in a packet or two: a client
/// that needs longer is on no network that a service runs on, or has no request to make.
pub const HEAD_TIMEOUT_SECS: u32 = 10;
/// Seconds that a connection may be idle between two requests. Longer than clients and proxies commonly allow (60 s),
/// because a server that closes first can race with a request.
pub const IDLE_TIMEOUT_SECS: u32 = 75;
/// Seconds that a client may read nothing of a waiting answer. As long as an export waits, for someone who pauses a
/// download. The kernel frees its buffer many kilobytes at a time, so a client can't pretend by reading single bytes.
pub const STALL_TIMEOUT_SECS: u32 = 300;
/// Bytes to read ahead of the requests being answered: about ten common requests, as much as pipelining is good for. A
/// parsed request can take twenty times its size in memory.
pub(super) const AHEAD_BYTES: usize = 8 * 1024;

/// What one connection is doing, and for how long. Time is counted in ticks of its worker, one a second, and not by a
/// clock: a server that was stalled itself must not blame its clients.
#[derive(Default)]
pub struct ConnectionTimer {
    /// Calls being answered.
    open_calls: Cell<u32>,
    /// Calls that were ever started.
    calls_started: Cell<u32>,
    /// Whether a handler is waiting for the rest of a body.
    reads_body: Cell<bool>,
    /// Whether a request head, or a TLS handshake, has begun and is incomplete.
    in_head: Cell<bool>,
    /// Whether writes are blocked because the client does not read.
    blocked: Cell<bool>,
    /// Ticks since any of this changed, or since the client read something.
    idle_ticks: Cell<u32>,
    /// Bytes read since everything before them was answered.
    bytes_ahead: Cell<usize>,
    /// Whether the connection is to be closed.
    closing: Cell<bool>,
    /// Whether reading is paused although there may be bytes to read.
    read_paused: Cell<bool>,
    /// Its index in the worker's list of connections.
    pub(super) index: Cell<usize>,
    /// Wakes the connection's task while it waits to read or write.
    waker: RefCell<Option<Waker>>,
}

/// Whether a connection may be read from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadPermission {
    Go,
    /// Wait until something changes.
    Wait,
    /// The connection is to be closed.
    End,
}

impl ConnectionTimer {
    /// Counts one second. Returns whether the connection has timed out.
    pub(super) fn tick(&self) -> bool {
        let ticks = self.idle_ticks.get().saturating_add(1);
        self.idle_ticks.set(ticks);
        if self.blocked.get() {
            ticks >= STALL_TIMEOUT_SECS
        } else if self.is_busy() {
            false
        } else if self.in_head.get() {
            ticks >= HEAD_TIMEOUT_SECS
        } else {
            ticks >= IDLE_TIMEOUT_SECS
        }
    }

    /// How many ticks the connection has been idle, if it may be closed to make room for another one.
    pub(super) fn idleness(&self) -> Option<u32> {
        let ticks = self.idle_ticks.get();
        let may_close = match (self.blocked.get(), self.is_busy()) {
            (true, _) => ticks >= HEAD_TIMEOUT_SECS,
            (false, true) => false,
            (false, false) => ticks >= 1,
        };
        (may_close && !self.closing.get()).then_some(ticks)
    }

    /// Makes the connection's task close it, and wakes the task.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// [`Self::is_closing`], for a task to be woken once it is.
    pub(super) fn poll_closing(&self, context: &Context<'_>) -> bool {
        self.remember_task(context);
        self.is_closing()
    }

    fn is_busy(&self) -> bool {
        self.open_calls.get() > 0
    }

    /// Whether exactly `calls` calls were started (modulo 2^32), and all are answered.
    pub(super) fn has_answered(&self, calls: u32) -> bool {
        !self.is_busy() && self.calls_started.get() == calls
    }

    fn reset_idle(&self) {
        self.idle_ticks.set(0);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Resumes reading, if it was paused.
    fn resume_reading(&self) {
        if self.read_paused.replace(false) {
            self.wake();
        }
    }

    fn remember_task(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    /// Whether to read now: not from a client that does not read its answers, and never far ahead of them.
    pub(super) fn read_permission(&self, context: &Context<'_>) -> ReadPermission {
        if self.closing.get() {
            return ReadPermission::End;
        }
        let far_ahead = self.bytes_ahead.get() >= AHEAD_BYTES && !self.reads_body.get();
        if !self.blocked.get() && !far_ahead {
            return ReadPermission::Go;
        }
        self.remember_task(context);
        self.read_paused.set(true);
        if !self.blocked.get() && !self.is_busy() {
            // Let the parser work through what was read before reading more: most of it may be requests.
            self.bytes_ahead.set(0);
            self.resume_reading();
        }
        ReadPermission::Wait
    }

    pub(super) fn on_read(&self, bytes: usize) {
        if bytes > 0 && !self.is_busy() && !self.in_head.replace(true) {
            self.bytes_ahead.set(0);
            self.reset_idle();
        }
        self.bytes_ahead.set(self.bytes_ahead.get().saturating_add(bytes));
    }

    pub(super) fn on_read_blocked(&self, context: &Context<'_>) {
        self.remember_task(context);
    }

    /// The client read some of what was written.
    pub(super) fn on_written(&self) {
        if self.blocked.get() {
            self.reset_idle();
        }
    }

    pub(super) fn on_write_blocked(&self, context: &Context<'_>) {
        // A client that sends no more is not read from, so nothing else would remember the task.
        self.remember_task(context);
        if !self.blocked.replace(true) {
            self.reset_idle();
        }
    }

    /// The client read everything that was written.
    pub(super) fn on_flushed(&self) {
        if self.blocked.replace(false) {
            self.reset_idle();
            self.resume_reading();
        }
    }

    /// Starts the timeout of a TLS handshake, or of a new connection's first bytes. It is the timeout of a head.
    pub(super) fn start_head_timeout(&self) {
        self.in_head.set(true);
        self.reset_idle();
    }

    /// The TLS handshake is done.
    pub(super) fn end_handshake(&self) {
        self.in_head.set(false);
        self.bytes_ahead.set(0);
        self.reset_idle();
    }

    /// A call starts. It ends when the returned guard is dropped, with the answer.
    pub fn start_call(self: &Rc<Self>) -> CallGuard {
        self.open_calls.set(self.open_calls.get() + 1);
        self.calls_started.set(self.calls_started.get().wrapping_add(1));
        self.in_head.set(false);
        CallGuard(Rc::clone(self))
    }

    /// A handler waits for the rest of a body, until the returned guard is dropped.
    pub fn start_reading_body(self: &Rc<Self>) -> BodyReadGuard {
        self.reads_body.set(true);
        self.resume_reading();
        BodyReadGuard(Rc::clone(self))
    }
}

/// Held while a call is being answered.
pub struct CallGuard(Rc<ConnectionTimer>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.open_calls.set(self.0.open_calls.get().saturating_sub(1));
        if !self.0.is_busy() {
            self.0.reset_idle();
            self.0.resume_reading();
        }
    }
}

/// Held while a body is being read.
pub struct BodyReadGuard(Rc<ConnectionTimer>);

impl Drop for BodyReadGuard {
    fn drop(&mut self) {
        self.0.reads_body.set(false);
        self.0.bytes_ahead.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct CountingWaker(AtomicUsize);

    impl Wake for CountingWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads for as long as it may, in pieces the size of actix-http's buffer. Returns the number of bytes.
    fn read_all(timer: &ConnectionTimer, context: &Context<'_>, piece: usize) -> usize {
        (0..1_000)
            .take_while(|_| timer.read_permission(context) == ReadPermission::Go)
            .map(|_| timer.on_read(piece))
            .count()
            * piece
    }

    #[test]
    fn reading_stays_close_to_the_answers() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let times = || woken.0.swap(0, Ordering::Relaxed);
        assert_eq!(read_all(&timer, &context, 1_000), 9_000);
        assert_eq!(times(), 1, "the parser gets what was read, and then it goes on");
        let call = timer.start_call();
        assert_eq!(read_all(&timer, &context, 1_000), 9_000);
        assert_eq!(read_all(&timer, &context, 1_000), 0);
        assert_eq!(times(), 0, "nothing more before the answer");
        let second = timer.start_call();
        drop(call);
        assert_eq!((read_all(&timer, &context, 1_000), times()), (0, 0), "nor before that of what was read with it");
        drop(second);
        assert_eq!(times(), 1);
        assert_eq!(timer.read_permission(&context), ReadPermission::Wait);
        assert_eq!(times(), 1);
        assert_eq!(timer.read_permission(&context), ReadPermission::Go);
    }

    #[test]
    fn a_body_is_read_as_it_comes() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let _call = timer.start_call();
        assert_eq!(read_all(&timer, &context, 8_192), 8_192);
        let body = timer.start_reading_body();
        assert_eq!(woken.0.swap(0, Ordering::Relaxed), 1);
        assert_eq!(read_all(&timer, &context, 8_192), 8_192_000);
        drop(body);
        assert_eq!(read_all(&timer, &context, 8_192), 8_192);
    }

    #[test]
    fn a_client_that_reads_nothing_is_not_read_from() {
        let timer = Rc::new(ConnectionTimer::default());
        let woken = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        timer.on_write_blocked(&context);
        for _ in 0..3 {
            assert_eq!(timer.read_permission(&context), ReadPermission::Wait);
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "it does not spin");
        timer.on_flushed();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(timer.read_permission(&context), ReadPermission::Go);
        timer.close();
        assert_eq!(timer.read_permission(&context), ReadPermission::End);
    }
}
