//! Answers that are made while they are sent, or that wait for their client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use tracing::error;

use super::held::{Held, Place};
use crate::domain::{Code, Error};
use crate::net::pace::Call;

/// Bytes of a large answer that are given to its connection at a time, which copies them.
const PIECE_BYTES: usize = 64 * 1024;

/// What a source gives: the next bytes with the source itself, an error after which there is no more, or `None` at
/// the end.
pub type Pulled<S> = Option<Result<(Bytes, S), Error>>;

type Pull<S> = Pin<Box<dyn Future<Output = Pulled<S>>>>;

/// A body of unknown length that is pulled from a source, piece by piece, as the client takes it. An error breaks the
/// connection off, so that nobody takes what came for the whole. A client that goes away drops the source.
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
                    error!(%problem, "an answer under way was broken off");
                }
                (Some(Err(problem)), None)
            }
            None => (None, None),
        };
        self.next = source.map(self.pull);
        Poll::Ready(given)
    }
}

/// A large answer that is there in whole, given to its connection piece by piece as the client takes it. Where too much
/// waits for clients, and this one is the slowest, it breaks off.
pub struct HeldBody {
    /// The rest; `None` once it had to go.
    rest: Arc<Mutex<Option<Bytes>>>,
    bytes: usize,
    place: Place,
    _call: Option<Call>,
}

impl HeldBody {
    /// That answer, to that call.
    pub fn new(bytes: Bytes, held: &Arc<Held>, call: Option<Call>) -> Self {
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
            None => Err(Error::new(Code::Overloaded, "too much waits for clients, and this one was the slowest")),
        }))
    }
}

/// An answer of unknown length, until whose end its call is under way.
pub struct UnderWay {
    body: BoxBody,
    _call: Option<Call>,
}

impl UnderWay {
    /// That answer, to that call.
    pub fn new(body: BoxBody, call: Option<Call>) -> Self {
        Self { body, _call: call }
    }
}

impl MessageBody for UnderWay {
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
        let held = Held::new(2 * large.len());
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
