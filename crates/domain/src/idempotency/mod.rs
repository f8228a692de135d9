//! Idempotency keys: a client that does not know whether a request was carried out sends it again with the same key, and
//! gets the first answer again. Nothing is charged, changed or recorded a second time.
//!
//! A key is remembered by the event that its request made, so the journal is the one truth, and replay remembers the
//! same keys. A request that recorded nothing is not remembered: sent again, it is decided anew. What a repeat is
//! answered is rebuilt from that event, which keeps for it what it does not hold anyway.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a key is, whose it is, and what makes two requests the same | [`key`] |
//! | which keys a tenant remembers, and for how long | [`memory`] |
//! | whether a request is new, a repeat, or another one with a used key | [`repeat`] |
//! | what an event keeps for repeats; of which changes | [`kept_reply`]; `keeping` |

mod keeping;
pub mod kept_reply;
pub mod key;
pub mod memory;
#[cfg(test)]
mod model_tests;
pub mod repeat;
