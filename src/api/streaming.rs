//! Answers that are made while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

use crate::domain::Error;

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
            Some(Err(error)) => (Some(Err(error)), None),
            None => (None, None),
        };
        self.next = source.map(self.pull);
        Poll::Ready(given)
    }
}
