//! Health of the server: its phase, its storage, its clock, and the tenants it can't serve.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_rt::task::spawn_blocking;

use super::kavach::Kavach;
use crate::actors::Phase;
use crate::actors::clock::ClockState;
use crate::actors::tenant_directory::Down;
use crate::domain::{Code, Error, TenantId};

/// How long to reuse a probe of the data directory: anyone can ask for one, without a key.
const PROBE_VALID_FOR: Duration = Duration::from_secs(1);

impl Kavach {
    /// Whether the server is recovering, ready, or shutting down.
    pub fn phase(&self) -> Phase {
        self.core.phase()
    }

    /// Tenants that can't be served, each with the error that callers get.
    pub fn unavailable_tenants(&self) -> Vec<(TenantId, Error)> {
        self.core.directory.unavailable().into_iter().map(|(id, down)| (id, down.error())).collect()
    }

    /// Folders of the data directory that look like a tenant's but are not served, each with the reason.
    pub fn refused_folders(&self) -> Vec<(String, String)> {
        self.core.directory.refused()
    }

    /// Whether every tenant's journal can be written, as far as the server knows.
    pub fn storage_works(&self) -> bool {
        let fails = |(_, down): &(TenantId, Arc<Down>)| down.code == Code::StorageUnavailable;
        self.core.storage_failures.load(Ordering::Relaxed) == 0
            && !self.core.log.is_broken()
            && !self.core.directory.unavailable().iter().any(fails)
    }

    /// Why nothing can be recorded for any tenant, if that is the case: even the data directory refuses a file.
    ///
    /// Probes at most once a second, and only while some tenant's storage is failing.
    pub(crate) async fn why_unwritable(&self) -> Option<String> {
        if self.storage_works() {
            return None;
        }
        let mut tried = self.core.tried.lock().await;
        if let Some((at, problem)) = &*tried
            && at.elapsed() < PROBE_VALID_FOR
        {
            return problem.clone();
        }
        let core = Arc::clone(&self.core);
        let problem = match spawn_blocking(move || core.data.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => {
                Some(format!("nothing can be recorded: the data directory can't be written: {problem}"))
            }
            Err(_) => Some("nothing can be recorded: the data directory could not be probed".to_owned()),
        };
        *tried = Some((Instant::now(), problem.clone()));
        problem
    }

    /// Whether the system's clock can be trusted.
    pub fn clock(&self) -> ClockState {
        match (self.core.clock.held_back() > 0.0, self.core.clock.behind_events() > 0.0) {
            (true, _) => ClockState::HeldBack,
            (false, true) => ClockState::Behind,
            (false, false) => ClockState::Ok,
        }
    }
}
