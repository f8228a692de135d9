//! A tenant's state and its journal, which go forward together.
//!
//! The whole order of a commit is here: what is appended, written and synced, which replies leave when, how a tenant is
//! loaded from its folder. There is no actor, clock or thread: the server's actors say when, and the simulation in
//! `tests/sim` has a seed say when.
//!
//! | to find | look in |
//! | --- | --- |
//! | the order of a commit | [`commit_pipeline`] |
//! | replies that wait for their events | [`pending_replies`] |
//! | when a decision's answer may leave | [`durability`] |
//! | how events and states become bytes | [`codec`] |
//! | how a tenant is read from its folder, or gets one | [`loader`] |
//! | a link of the hash chain, kept elsewhere | [`checkpoint`] |
//! | the errors of a journal that can't be written | [`refusal`] |

pub mod checkpoint;
pub mod codec;
pub mod commit_pipeline;
pub mod durability;
pub mod loader;
pub mod pending_replies;
pub mod refusal;

#[cfg(test)]
mod codec_tests;

pub use commit_pipeline::CommitPipeline;
pub use durability::Durability;
pub use loader::Loaded;
pub use pending_replies::{BoxedReply, HeldReply};
