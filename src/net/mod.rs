//! Connections: who is let in, which worker serves it, how long a client may take, and TLS.
//!
//! HTTP itself is actix-http's. What it leaves open is here: it waits for ever for the rest of a later request's head,
//! for a client that takes nothing of an answer, and it reads requests ahead of the answers that nobody takes. So it
//! gets its bytes through a [`Watched`] stream, which stops where a client stalls, and each worker looks through its
//! connections once a second.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a connection is doing, and for how long it may | [`pace`] |
//! | how many there may be, and who goes when there are more | [`roster`] |
//! | which worker serves one | [`placement`] |
//! | how a connection is served | [`serve`] |
//! | where a request ends, and what keeps the next one waiting | [`framing`], [`gate`] |
//! | certificates | [`tls`] |

mod framing;
mod gate;
pub mod pace;
pub mod placement;
pub mod roster;
pub mod serve;
mod stream;
pub mod tls;

pub use pace::Pace;
pub use roster::Limit;
pub use serve::Entrance;
pub use stream::Watched;
pub use tls::Tls;
