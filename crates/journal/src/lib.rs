//! The log of all tenants, the journal and the snapshots of each, and the data directory. This is the only code that
//! touches files.
//!
//! The journal deals in bytes. An event is an opaque payload with a sequence number; numbers start at 1 and have no gaps.
//! What the payload means is the business of `kavach-store`, which has the codec. So the journal can be tested with any
//! bytes, and no change of the rules can break a file.
//!
//! | it may know | why |
//! | --- | --- |
//! | files and folders, through [`Disk`] | it writes them; the simulation and tests bring a disk that fails |
//! | SHA-256, CRC-32, zstd | the hash chain, checksums, compressed segments |
//! | threads, for syncs and compression | both are slow, and neither may hold up a tenant |
//! | nothing of tenants' rules, MessagePack, actors or HTTP | their formats change for other reasons than a file's |
//! | no clock | callers pass the time, so a history can be replayed |
//!
//! ```text
//! <data dir>/
//!   LOCK                              held while a process uses the directory
//!   log.manifest  log/                the log, while the server runs and after a crash: see `log/mod.rs`
//!   catalog                           what is known of each tenant without its folder: see `catalog.rs`
//!   <tenant>/
//!     tenant.json                     a label for people; the caller's bytes
//!     {first_seq:020}.journal         segment in use, or not yet compressed
//!     {first_seq:020}.journal.zst     compressed: a zstd stream of exactly those bytes
//!     {seq:020}.snapshot              state as of event `seq`
//!   .new-<tenant>/  .erased-<tenant>/  *.tmp    unfinished; removed at the next start
//! ```
//!
//! All numbers in files are little-endian, all times Unix milliseconds.
//!
//! Segment header, 78 bytes:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..8 | magic `KAVACHJ\n` |
//! | 8..10 | format version, u16, 1 |
//! | 10..26 | tenant uuid |
//! | 26..34 | sequence number of the first event, u64 |
//! | 34..42 | created, i64 |
//! | 42..74 | link of the hash chain before the first event |
//! | 74..78 | CRC-32 of bytes 0..74 |
//!
//! Then frames, each `len u32 | crc u32 | payload`, the CRC-32 over `len` and `payload`:
//!
//! | payload of an event | field |
//! | --- | --- |
//! | 0..8 | sequence number, u64 below 2^63 |
//! | 8.. | the caller's bytes |
//!
//! | payload of a marker | field |
//! | --- | --- |
//! | 0..16 | magic `FF FE 'KAVA' FE FF FF FE 'CHMK' FE FF`, as a number above 2^63 |
//! | 16..24 | last event on disk at the time of writing, u64 |
//! | 24..32 | bytes of this file on disk then, u64; 0 if unknown |
//! | 32..40 | time of writing, i64 |
//! | 40..72 | SHA-256 of the link before and of all event frames since |
//!
//! Snapshot, a header of 46 bytes and the payload:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..8 | magic `KAVACHS\n` |
//! | 8..10 | format version, u16, 1 |
//! | 10..26 | tenant uuid |
//! | 26..34 | sequence number of the last event in the state, u64 |
//! | 34..42 | bytes of payload, u64 |
//! | 42..46 | CRC-32 of bytes 0..42 and of the payload |
//! | 46.. | the caller's bytes |
//!
//! A marker is written after each sync, and is not synced itself; the file is closed then. One more ends each segment, so
//! that the header of the next one continues the chain. A marker may follow events that it does not vouch for.

mod active;
mod catalog;
mod chain;
mod chain_check;
mod completions;
mod compress;
mod compressor;
mod crash;
mod creation;
mod cursor;
mod data_dir;
mod disk;
mod error;
mod event_log;
mod files;
mod flush;
mod folder;
mod folder_writer;
mod frame;
mod index;
mod log;
mod owner;
mod probe;
mod reader;
mod recovery;
mod repair;
mod retention;
mod scan;
mod segment;
mod snapshot;
mod sync;
mod sync_job;
mod sync_state;
mod synced_file;
mod syncer;
mod tail;
mod verify;
mod writer;

#[cfg(test)]
mod catalog_tests;
#[cfg(test)]
mod chain_check_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod memory_disk;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod open_files_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;

pub use catalog::{CatalogEnd, CatalogFile, OnRow};
pub use chain::Checkpoint;
pub use chain_check::{EventCheck, Fault, FaultKind, Passage};
pub use completions::{Completions, NotRecorded, SectionAnswer, SectionOutcome};
pub use compress::CompressionJob;
pub use compressor::Compressor;
pub use cursor::JournalCursor;
pub use data_dir::{DataDir, FolderError, NewFolder, TenantFolder, keep_servers_out, list_tenants, unwritable};
pub use disk::{Disk, DiskFile, FileKind, Listed, OpenMode, SystemDisk};
pub use error::RecoveryError;
pub use event_log::{AcceptedBatch, AppendFailure, EventLog, LogProgress, LogSection};
pub use files::read_small;
pub use flush::{FlushJob, Flushed};
pub use folder::Folder;
pub use folder_writer::FolderWriter;
pub use frame::{AppendError, MAX_FRAME};
pub use log::{Log, LogError, LogFigures, LogOptions, LogSync, LogTails, Tail};
pub use probe::probe;
pub use reader::JournalReader;
#[cfg(test)]
pub(crate) use recovery::recover;
pub use recovery::{OnEvent, ScannedJournal, scan};
pub use retention::RetentionJob;
pub use snapshot::{LoadedSnapshot, Snapshot, SnapshotFile, SnapshotJob, load_snapshot};
pub use sync_job::{SyncJob, SyncPoint};
pub use syncer::Syncer;
pub use verify::{ChainReport, verify_chain};
pub use writer::{Journal, JournalOptions};
