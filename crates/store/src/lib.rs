//! A tenant's state and its journal, moving forward together.
//!
//! This crate joins the rules (`kavach-domain`) with the bytes (`kavach-journal`), and holds the whole order of a
//! commit: what is appended, written and synced, and which reply leaves when. It has no actor, clock or thread, so the
//! simulation in `tests/sim` runs the code of production under the control of a seed.
//!
//! | it may know | why |
//! | --- | --- |
//! | `kavach-domain`: states, events, errors | it applies and encodes them |
//! | `kavach-journal`: files, snapshots, the hash chain, the log as a port | it writes and loads them |
//! | MessagePack and JSON | the forms of events, states, labels and checkpoints |
//! | nothing of actors, HTTP, async runtimes, clocks or threads | its callers pass the time, and decide when to write |
//!
//! | to find | look in |
//! | --- | --- |
//! | the order of a commit | [`commit_pipeline`], then [`commit_queue`] and [`commit_turn`] |
//! | replies that wait for their events | [`pending_replies`] |
//! | when the reply to a decision may leave | [`durability`] |
//! | how events and states become bytes; how a spend report reads them | [`codec`]; [`brief`] |
//! | how a tenant is loaded from its folder, or gets one | [`loader`] |
//! | what is known of a tenant that is not in memory, and how it gets on disk | [`catalog_row`], [`catalog_writer`] |
//! | a link of the hash chain, kept elsewhere | [`checkpoint`] |
//! | the errors of a journal that can't be written | [`refusal`] |

pub mod brief;
pub mod catalog_row;
pub mod catalog_writer;
pub mod checkpoint;
pub mod codec;
pub mod commit_pipeline;
pub mod commit_queue;
pub mod commit_turn;
pub mod durability;
pub mod loader;
pub mod pending_replies;
pub mod refusal;

#[cfg(test)]
mod codec_tests;

pub use catalog_row::CatalogRow;
pub use commit_pipeline::CommitPipeline;
pub use commit_queue::CommitQueue;
pub use durability::Durability;
pub use loader::LoadedTenant;
pub use pending_replies::{BoxedReply, HeldReply};
