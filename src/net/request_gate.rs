//! One request at a time.
//!
//! actix-http reads requests ahead of its answers, and keeps one state for all of them: the version, whether the body is
//! left out, whether the connection goes on. An answer that waits would get its head by the request behind it. So what
//! is behind a request stays unread here until its answer is written whole.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_timeouts::{AHEAD_BYTES, ConnectionTimer};
use super::request_framing::RequestFraming;

/// Bytes of a head at which actix-http answers that it is too large.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Header lines of a request, at most, as actix-http has it.
const MAX_HEADERS: usize = 96;

/// A stream that ends, for whoever reads requests from it, behind each of them until that one is answered.
pub(super) struct RequestGate<S> {
    stream: S,
    timer: Rc<ConnectionTimer>,
    framing: RequestFraming,
    /// Whether all requests that were handed over are answered.
    is_answered: bool,
    held: PendingBytes,
    /// Whether the client sends no more.
    is_ended: bool,
}

/// Bytes that came too early, or that are no whole head yet.
#[derive(Default)]
struct PendingBytes {
    bytes: Vec<u8>,
    /// Where they begin.
    start: usize,
    /// How many of them may be handed over.
    cleared: usize,
    /// At how many of them they are looked at again for whether they can become a head.
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

    /// Hands over what is cleared, as far as there is room.
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

    /// Whether what is there of a head can't become one. Looks at it whenever it has doubled.
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
    /// That stream, of a connection with that timer.
    pub(super) fn new(stream: S, timer: Rc<ConnectionTimer>) -> Self {
        let (framing, held) = (RequestFraming::default(), PendingBytes::default());
        Self { stream, timer, framing, is_answered: true, held, is_ended: false }
    }

    /// The connection's timer.
    pub(super) fn timer(&self) -> &Rc<ConnectionTimer> {
        &self.timer
    }

    /// Lets the next request come, where the last one is read and answered. Whether there is one to come.
    fn opens(&mut self) -> bool {
        if self.is_answered && self.framing.is_behind() {
            self.framing.begin();
            self.held.look = 0;
        }
        !self.framing.is_behind() && !self.framing.is_refused()
    }
}

/// How many bytes may be handed over of those.
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
            if this.opens() && this.held.len() > 0 {
                this.held.cleared = clear(&mut this.framing, &mut this.is_answered, this.held.rest());
                if this.held.cleared > 0 {
                    continue;
                }
                if this.framing.is_in_head() && this.held.is_no_head() {
                    // It is refused for what it is.
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

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestGate<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        // Whoever writes flushes once all of it was taken. An answer is written in the turn in which its call ends.
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
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> fmt::Debug for RequestGate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestGate(..)")
    }
}
