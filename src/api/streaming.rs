//! Response bodies that are produced while they are sent, or that wait for a slow client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use tracing::error;

use super::slow_client_memory::{HeldMemory, SlowClientMemory};
use crate::domain::{Code, Error};
use crate::net::connection_timeouts::CallGuard;

/// Bytes of a large body that its connection gets at a time. The connection copies them.
const PIECE_BYTES: usize = 64 * 1024;

/// What a source yields: the next bytes together with itself, an error, which ends it, or `None` at the end.
pub type Pulled<S> = Option<Result<(Bytes, S), Error>>;

type Pull<S> = Pin<Box<dyn Future<Output = Pulled<S>>>>;

/// A body of unknown length, pulled from a source piece by piece as the client reads it. An error closes the connection,
/// so that nobody mistakes the part for the whole. When the client goes away, the source is dropped.
pub struct PulledBody<S> {
    first: Option<Bytes>,
    pull: fn(S) -> Pull<S>,
    next: Option<Pull<S>>,
}

impl<S> PulledBody<S> {
    /// A body that starts with those bytes.
    pub fn new(first: impl Into<Bytes>, source: S, pull: fn(S) -> Pull<S>) -> Self {
        Self { first: Some(first.into()), next: Some(pull(source)), pull }
    }
}

impl<S> MessageBody for PulledBody<S> {
    type Error = Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let Poll::Ready(pulled) = next.as_mut().poll(context) else { return Poll::Pending };
        let (given, source) = match pulled {
            Some(Ok((bytes, source))) => (Some(Ok(bytes)), Some(source)),
            Some(Err(problem)) => {
                if crate::api::status::status(problem.code()) >= 500 {
                    error!(%problem, "a response was cut off while it was sent");
                }
                (Some(Err(problem)), None)
            }
            None => (None, None),
        };
        self.next = source.map(self.pull);
        Poll::Ready(given)
    }
}

/// A large body that is complete in memory and handed to its connection piece by piece as the client reads it. When
/// slow clients hold too much memory and this client is the slowest, the body is cut off.
pub struct HeldBody {
    /// What is left to send; `None` once the memory was taken back.
    rest: Arc<Mutex<Option<Bytes>>>,
    bytes: usize,
    place: HeldMemory,
    _call: Option<CallGuard>,
}

impl HeldBody {
    /// The body of the answer to a call, counted in `held` until it is sent.
    pub fn new(bytes: Bytes, held: &Arc<SlowClientMemory>, call: Option<CallGuard>) -> Self {
        let length = bytes.len();
        let rest = Arc::new(Mutex::new(Some(bytes)));
        let slow = Arc::clone(&rest);
        let place = held.take(length, move || {
            let gone = slow.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(gone);
        });
        Self { rest, bytes: length, place, _call: call }
    }
}

impl MessageBody for HeldBody {
    type Error = Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let piece = match &mut *self.rest.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(rest) if rest.is_empty() => return Poll::Ready(None),
            Some(rest) => Some(rest.split_to(rest.len().min(PIECE_BYTES))),
            None => None,
        };
        Poll::Ready(Some(match piece {
            Some(piece) => {
                let bytes = self.bytes;
                self.place.moved(bytes);
                Ok(piece)
            }
            None => {
                Err(Error::new(Code::Overloaded, "slow clients hold too much memory, and this one was the slowest"))
            }
        }))
    }
}

/// A body of unknown length. Its call counts as under way until the body ends.
pub struct OpenEndedBody {
    body: BoxBody,
    _call: Option<CallGuard>,
}

impl OpenEndedBody {
    /// Keeps `call` under way until `body` ends.
    pub fn new(body: BoxBody, call: Option<CallGuard>) -> Self {
        Self { body, _call: call }
    }
}

impl MessageBody for OpenEndedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(body: &mut HeldBody) -> Option<Result<Bytes, Code>> {
        match Pin::new(body).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => next.map(|piece| piece.map_err(|error| error.code())),
            Poll::Pending => panic!("it is all there"),
        }
    }

    #[test]
    fn a_large_answer_waits_for_its_client_unless_others_need_the_room() {
        let large: Bytes = (0..3 * PIECE_BYTES + 1).map(|n| n as u8).collect();
        let held = SlowClientMemory::new(2 * large.len());
        let body = || HeldBody::new(large.clone(), &held, None);
        let (mut slow, mut quick) = (body(), body());
        assert_eq!(slow.size(), BodySize::Sized(large.len() as u64));
        assert_eq!(next(&mut slow).unwrap().unwrap(), large[..PIECE_BYTES]);
        assert_eq!(next(&mut quick).unwrap().unwrap().len(), PIECE_BYTES);
        let third = body();
        assert_eq!(next(&mut slow), Some(Err(Code::Overloaded)), "it was taken from last");
        let mut rest = Vec::new();
        while let Some(piece) = next(&mut quick) {
            rest.extend(piece.unwrap());
        }
        assert_eq!(rest, large[PIECE_BYTES..]);
        assert_eq!(held.bytes(), 2 * large.len());
        drop((slow, quick, third));
        assert_eq!(held.bytes(), 0);
    }
}
