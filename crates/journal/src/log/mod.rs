//! The log: what makes the events of all tenants durable.
//!
//! A tenant's folder holds its history. But a write and a sync for each of thousands of folders cost more than what they
//! write. So an event first goes into one log that all tenants share, and only that has happened when a caller is
//! answered. A tenant's folder gets its events later, in large pieces, from memory. What is not in the folder yet is the
//! tenant's *tail*. Once folders have all events of a part of the log, that part is used again.
//!
//! ```text
//! <data dir>/
//!   log.manifest          which log this is, and how many slots it has
//!   log/{slot:08}.log     a slot: a file of fixed size
//! ```
//!
//! A *segment* is what one start of the log appends to one slot; segments are numbered from 1.
//! A *batch* is what one write appends, with events of any number of tenants; its *position* counts from 1 without gaps.
//! The *floor* is the first batch that recovery needs. A slot is used again only once a batch on disk names a floor
//! behind everything in it. A clean stop leaves neither manifest nor log.
//!
//! A slot's header has 32 bytes; all numbers are little-endian:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..8 | magic `KAVACHL\n` |
//! | 8..12 | format version, u32, 1 |
//! | 12..28 | id of the log |
//! | 28..32 | CRC-32 of bytes 0..28 |
//!
//! Batches follow each other:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..16 | magic `FF FE 'KAVA' FE FF FF FE 'LBAT' FE FF` |
//! | 16..32 | id of the log |
//! | 32..40 | segment, u64 |
//! | 40..48 | position, u64 |
//! | 48..64 | floor: its position and its segment, u64 each |
//! | 64..72 | the last position known to be on disk, u64 |
//! | 72..80 | the first of the batches before that the second table is about, u64 |
//! | 80..84 | number of sections, u32 |
//! | 84..88 | number of tenants in the batches before, u32 |
//! | 88..92 | bytes of frames, u32 |
//! | 92..96 | CRC-32 of everything before the frames, without this field |
//! | 36 each | sections: tenant uuid, first and last sequence number (u64), bytes of frames (u32) |
//! | 24 each | tenants in the batches before: uuid, last sequence number (u64) |
//! | .. | frames of all sections, as they stand in a folder's segment |
//!
//! A batch names the tenants of the one before, and of all that begin in the 8 KiB before it. So damage of a sector costs
//! only the tenants that had events there.

mod adapter;
mod batch;
mod erasure;
mod error;
mod manifest;
mod reading;
mod recovery;
mod segments;
mod slot;
mod sync;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use reading::LogTails;
pub(crate) use slot::LOG_FOLDER;
pub use sync::LogSync;
pub use tail::Tail;
pub use writer::{Log, LogFigures, LogOptions};
