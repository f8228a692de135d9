//! Connections: who is let in, how long a client may take, and TLS.
//!
//! actix-http speaks HTTP. This room closes the gaps it leaves. On its own it waits forever for the rest of a later
//! request's head and for a client that reads none of its answer, and it keeps reading requests while nobody reads the
//! answers. So it gets its bytes through a [`TimedStream`], which stops when a client stalls, and each worker checks
//! its connections once a second.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a connection is doing, and its timeouts | [`connection_timeouts`] |
//! | how many connections there may be, and which one is closed to make room | [`connection_limit`] |
//! | how a connection is served | [`serve`] |
//! | where a request ends, and why the next one waits | `request_framing`, `request_gate` |
//! | the bytes of a connection, under its timeouts | `timed_stream` |
//! | certificates | [`tls`] |

pub mod connection_limit;
pub mod connection_timeouts;
mod request_framing;
mod request_gate;
pub mod serve;
mod timed_stream;
pub mod tls;

pub use connection_limit::ConnectionLimit;
pub use connection_timeouts::ConnectionTimer;
pub use serve::ConnectionServer;
pub use timed_stream::TimedStream;
pub use tls::Tls;
