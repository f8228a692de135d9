//! The channel for an answer.

use tokio::sync::oneshot;

use crate::domain::Error;

/// The channel for an answer: a caller waits at the other end.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;
