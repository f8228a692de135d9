//! One request at a time, even from a client that pipelines.
//!
//! actix-http parses requests ahead of its answers, but keeps one state for all of them: the HTTP version, whether the
//! body is omitted, whether the connection stays open. So a delayed answer would get a head made for the request behind
//! it. The gate holds back everything behind a request until its answer is fully written.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::time::{Sleep, sleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_timeouts::{AHEAD_BYTES, ConnectionTimer};
use super::request_framing::RequestFraming;

/// How long to drain what a client still sends after the last answer. Closing with unread bytes would reset the connection,
/// and the client would lose what it has not read yet, even of answers before the last.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The size at which actix-http rejects a head as too large.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// The most headers that actix-http accepts.
const MAX_HEADERS: usize = 96;

/// A stream that hands over one request, and the next only once that one is answered.
pub(super) struct RequestGate<S> {
    stream: S,
    timer: Rc<ConnectionTimer>,
    framing: RequestFraming,
    /// Whether every request that was handed over is answered.
    is_answered: bool,
    held: PendingBytes,
    /// Whether the client has closed its side.
    is_ended: bool,
    /// The time to drain, once this side is closed.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// Bytes that came too early, or that are not a complete head yet.
#[derive(Default)]
struct PendingBytes {
    bytes: Vec<u8>,
    /// Where the bytes start in the buffer.
    start: usize,
    /// How many may be handed over.
    cleared: usize,
    /// At how many bytes to check again whether they can become a head.
    look: usize,
}

impl PendingBytes {
    fn rest(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Hands over the cleared bytes that fit.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.cleared.min(buffer.remaining());
        buffer.put_slice(self.rest().get(..count).unwrap_or_default());
        self.cleared -= count;
        self.start += count;
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            if self.bytes.capacity() > 2 * AHEAD_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    /// Whether the bytes can't become a valid head. Checks whenever they have doubled, to keep the cost linear.
    fn is_no_head(&mut self) -> bool {
        let length = self.len();
        if length >= MAX_HEAD_BYTES {
            return true;
        }
        if length < self.look {
            return false;
        }
        self.look = length * 2;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        httparse::Request::new(&mut headers).parse(self.rest()).is_err()
    }
}

impl<S> RequestGate<S> {
    /// Wraps the stream of the connection that `timer` belongs to.
    pub(super) fn new(stream: S, timer: Rc<ConnectionTimer>) -> Self {
        let (framing, held) = (RequestFraming::default(), PendingBytes::default());
        Self { stream, timer, framing, is_answered: true, held, is_ended: false, lingering: None }
    }

    /// The connection's timer.
    pub(super) fn timer(&self) -> &Rc<ConnectionTimer> {
        &self.timer
    }

    /// Lets the next request through, if the last one is complete and answered. Returns whether bytes may pass.
    fn may_pass(&mut self) -> bool {
        if self.is_answered && self.framing.is_behind() {
            self.framing.begin();
            self.held.look = 0;
        }
        !self.framing.is_behind() && !self.framing.is_refused()
    }
}

/// How many of the bytes may be handed over.
fn clear(framing: &mut RequestFraming, is_answered: &mut bool, bytes: &mut [u8]) -> usize {
    let heads = framing.heads();
    let count = framing.take(bytes);
    if framing.heads() != heads {
        *is_answered = false;
    }
    count
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestGate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.held.cleared > 0 {
                this.held.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.framing.is_refused() {
                return Poll::Ready(Ok(()));
            }
            if this.may_pass() && this.held.len() > 0 {
                this.held.cleared = clear(&mut this.framing, &mut this.is_answered, this.held.rest());
                if this.held.cleared > 0 {
                    continue;
                }
                if this.framing.is_in_head() && this.held.is_no_head() {
                    // Let actix-http see it and answer why it is rejected.
                    this.framing.refuse();
                    this.held.cleared = this.held.len();
                    continue;
                }
            }
            let waits = this.framing.is_behind() && this.held.len() > 0;
            if this.is_ended {
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            if waits && this.held.len() >= AHEAD_BYTES {
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            match Pin::new(&mut this.stream).poll_read(context, buffer) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let came = buffer.filled_mut().get_mut(before..).unwrap_or_default();
            if came.is_empty() {
                this.is_ended = true;
                continue;
            }
            let count = if this.held.len() == 0 && !this.framing.is_behind() {
                clear(&mut this.framing, &mut this.is_answered, came)
            } else {
                0
            };
            if let Some(early) = came.get(count..).filter(|early| !early.is_empty()) {
                this.held.keep(early);
                buffer.set_filled(before + count);
            }
            if count > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for RequestGate<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        // actix-http flushes once everything was written, and it writes an answer in the same poll that ends its call.
        if let Poll::Ready(Ok(())) = outcome
            && !self.is_answered
            && self.timer.has_answered(self.framing.heads())
        {
            self.is_answered = true;
            if self.held.len() > 0 {
                context.waker().wake_by_ref();
            }
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let lingering = match &mut this.lingering {
            Some(lingering) => lingering,
            none => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                // A client that has been silent for a while has read its answers, and sends nothing now.
                if this.is_ended || this.timer.idleness().is_some() {
                    return Poll::Ready(Ok(()));
                }
                none.insert(Box::pin(sleep(LINGER)))
            }
        };
        let mut rest = [0; 4096];
        while lingering.as_mut().poll(context).is_pending() {
            let mut unread = ReadBuf::new(&mut rest);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut unread));
            if read.is_err() || unread.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> fmt::Debug for RequestGate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestGate(..)")
    }
}
