//! What the tenants' actors of a process share. Nothing here leads to a tenant's state.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use actix::Recipient;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::audit_limits::AuditLimits;
use super::catalog_keeper::CatalogKeeper;
use super::clock::Clock;
use super::leases::Leases;
use super::log_keeper::LogKeeper;
use super::messages::TenantDown;
use super::operator_keys::OperatorKeys;
use crate::journal::{Compressor, DataDir, FolderWriter, Log, Syncer};
use crate::measure::Measures;
use crate::store::Durability;
use crate::webhooks::Webhooks;

/// Snapshots written at once: each may take a core and the disk.
const SNAPSHOT_WRITERS: usize = 2;

/// What the tenants' actors of a process share.
pub struct Resources {
    /// The server's clock.
    pub clock: Clock,
    /// The data directory, locked.
    pub data: DataDir,
    /// The log, which makes events durable.
    pub log: Arc<Log>,
    /// The threads of the log.
    pub log_keeper: LogKeeper,
    /// The thread that writes the catalog.
    pub catalog: CatalogKeeper,
    /// The thread that writes to tenants' folders.
    pub folder_writer: FolderWriter,
    /// The thread that syncs them.
    pub syncer: Syncer,
    /// The threads that compress.
    pub compressor: Compressor,
    /// When a decision's answer may leave.
    pub durability: Durability,
    /// Permits to write a snapshot.
    pub snapshot_writers: Semaphore,
    /// Limits on readers of audit trails, and who follows which.
    pub audit: AuditLimits,
    /// Whom webhooks may reach, the key of their secrets, and how the courier hears of messages.
    pub webhooks: Webhooks,
    /// Which instance policies there are, and the way to slices of them.
    pub leases: Leases,
    /// The operators' keys besides the first.
    pub operators: OperatorKeys,
    /// Tenants with a storage that failed and has not worked since.
    pub storage_failures: AtomicUsize,
    /// When we last tried the data directory, and the error if a file could not be written there.
    pub tried: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
    /// Measures of the process.
    pub measures: Measures,
    /// Counts tenants that were read into memory: a tenant's last call is as old as the number of those read since.
    pub residency_clock: AtomicU64,
    supervisor: OnceLock<Recipient<TenantDown>>,
}

impl Resources {
    /// The resources of a process that has not loaded its tenants yet.
    ///
    /// # Errors
    /// The system has no room for another thread.
    pub fn new(
        data: DataDir,
        log: Arc<Log>,
        log_keeper: LogKeeper,
        syncer: Syncer,
        compressor: Compressor,
        durability: Durability,
        measures: Measures,
    ) -> io::Result<Self> {
        Ok(Self {
            clock: Clock::default(),
            webhooks: Webhooks::new(data.path(), Vec::new()),
            data,
            log,
            log_keeper,
            catalog: CatalogKeeper::default(),
            folder_writer: FolderWriter::start()?,
            syncer,
            compressor,
            durability,
            snapshot_writers: Semaphore::new(SNAPSHOT_WRITERS),
            audit: AuditLimits::new()?,
            leases: Leases::default(),
            operators: OperatorKeys::default(),
            storage_failures: AtomicUsize::new(0),
            tried: tokio::sync::Mutex::default(),
            measures,
            residency_clock: AtomicU64::new(0),
            supervisor: OnceLock::new(),
        })
    }

    /// These resources, where webhooks may also reach those networks.
    #[must_use]
    pub fn allowing_webhooks_to(self, networks: Vec<IpNet>) -> Self {
        Self { webhooks: Webhooks { allowed: networks, ..self.webhooks }, ..self }
    }

    /// Sets the actor that rebuilds others after they ended, once.
    pub(super) fn set_supervisor(&self, supervisor: Recipient<TenantDown>) {
        // A second registry is never started: the first keeps the name.
        let _ = self.supervisor.set(supervisor);
    }

    /// The actor that rebuilds others after they ended, if it is set.
    pub(super) fn supervisor(&self) -> Option<&Recipient<TenantDown>> {
        self.supervisor.get()
    }
}
