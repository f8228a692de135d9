//! Where an answer goes.

use tokio::sync::oneshot;

use crate::domain::Error;

/// Where an answer goes: a caller waits at the other end.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;
