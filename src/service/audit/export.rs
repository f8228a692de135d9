//! Whole audit trails as a stream of bytes, in constant memory.
//!
//! Entries come oldest first. That is the order of the files, and a client can resume a broken export with `since`
//! and the last time it got. Tenants come one after the other. An export holds what was written by the time each
//! tenant's turn came.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::expiring::Expiring;
use super::export_format::{EntryWriter, ExportFormat, subject};
use super::oldest_first::{OldestFirst, StartPoint};
use super::reading::unreadable;
use crate::actors::audit_limits::Slot;
use crate::actors::messages::OpenAudit;
use crate::actors::{Phase, Route};
use crate::domain::audit::entry::AuditKind;
use crate::domain::{AuditFilter, Code, Error, Right, TenantId};
use crate::service::kavach::Kavach;
use crate::store::CatalogRow;

/// Bytes produced at a time: what one connection takes in a few writes.
const CHUNK_BYTES: usize = 128 * 1024;

/// How often to retry a tenant that can't answer before a running export fails: for half a minute.
const TRIES: usize = 60;
/// Pause between two tries.
const RETRY: Duration = Duration::from_millis(500);

/// How long an export waits for its client to take the next bytes. A client that reads a few kilobytes a second makes
/// it in time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running export. If nobody takes its next bytes in time, it ends and frees its place.
pub struct Export {
    subject: String,
    patience: Duration,
    /// `None` once the export has ended.
    under_way: Option<Expiring<ExportRun>>,
}

impl Export {
    pub(super) fn new(
        kavach: Kavach,
        filter: AuditFilter,
        only: Option<Route>,
        format: ExportFormat,
        slot: Slot,
    ) -> Self {
        let subject = subject(only.as_ref());
        let tenant = only.as_ref().map(|route| route.id);
        // No tenant is left out silently: an export claims to be complete.
        let tenants = only.map_or_else(|| kavach.core.directory.ids(), |route| vec![route.id]);
        let under_way = ExportRun {
            kavach,
            filter: Arc::new(filter),
            tenants: tenants.into(),
            only: tenant,
            writer: Some(EntryWriter::new(format)),
            reading: None,
            _slot: slot,
        };
        Self { subject, patience: PATIENCE, under_way: Some(Expiring::new(under_way, PATIENCE)) }
    }

    /// Changes how long the export waits for its client.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What is exported: a tenant's slug, its id if it has no slug, `default` or `all`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next bytes; `None` at the end. An error is final: the export is incomplete.
    ///
    /// # Errors
    /// A tenant's trail can't be read, the caller's key is no longer valid, or the client took too long.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let Some(mut under_way) = self.under_way.take()?.take() else { return Some(Err(given_up())) };
        let next = under_way.next().await;
        if matches!(next, Some(Ok(_))) {
            self.under_way = Some(Expiring::new(under_way, self.patience));
        }
        next
    }
}

/// The state of a running export, held between two reads of its client.
struct ExportRun {
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    /// Tenants that are still to come.
    tenants: VecDeque<TenantId>,
    /// The only tenant exported; `None` for all, in which case one that is erased meanwhile is skipped.
    only: Option<TenantId>,
    /// `None` once everything was handed out, or after an error.
    writer: Option<EntryWriter>,
    reading: Option<OldestFirst>,
    _slot: Slot,
}

impl ExportRun {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        // An early return leaves no writer behind, so a failed export never gets a proper ending.
        let mut writer = self.writer.take()?;
        loop {
            let reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.open_next().await {
                    Ok(Some(reading)) => reading,
                    Ok(None) => return Some(writer.finish().map_err(|_| unwritable())),
                    Err(error) => return Some(Err(error)),
                },
            };
            match self.check_reader(&reading).await {
                Ok(()) => {}
                // In an export of all tenants, one that was erased is skipped.
                Err(error) if self.only.is_none() && error.code() == Code::TenantNotFound => continue,
                Err(error) => return Some(Err(error)),
            }
            let step = move || {
                let (mut reading, mut writer) = (reading, writer);
                let ended = reading.step(&mut |entry| {
                    writer.put(entry)?;
                    Ok(if writer.len() >= CHUNK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                });
                Ok((ended, reading, writer))
            };
            let (ended, reading, rest) = match self.kavach.read_trail(self.only, step).await {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            writer = rest;
            match ended {
                Ok(true) => {}
                Ok(false) => self.reading = Some(reading),
                Err(_) if self.only.is_none() && !self.kavach.is_there(reading.tenant()) => {}
                Err(problem) => return Some(Err(unreadable(problem))),
            }
            if writer.len() >= CHUNK_BYTES {
                let bytes = writer.take().map_err(|_| unwritable());
                self.writer = bytes.is_ok().then_some(writer);
                return Some(bytes);
            }
        }
    }

    /// Checks that the caller may read on. A tenant that can't answer for a moment does not end a long export.
    async fn check_reader(&self, reading: &OldestFirst) -> Result<(), Error> {
        let mut tries = TRIES;
        loop {
            match self.kavach.check_reader(reading.tenant()).await {
                Err(error) if error.code().is_unavailable() && tries > 0 && self.kavach.phase() == Phase::Ready => {
                    tries -= 1;
                }
                outcome => return outcome,
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The names of a tenant; `None` if it is gone, or has nothing of the time that is exported.
    fn next_route(&self, id: TenantId) -> Option<Route> {
        let known = self.kavach.core.directory.known(id)?;
        let is_older = |row: CatalogRow| self.filter.since.is_some_and(|since| row.last_event_at < since);
        (!known.row().is_some_and(is_older)).then_some(known.route)
    }

    /// Opens the next tenant's trail; `None` after the last.
    async fn open_next(&mut self) -> Result<Option<OldestFirst>, Error> {
        let credential = self.kavach.credential;
        while let Some(id) = self.tenants.pop_front() {
            let Some(route) = self.next_route(id) else { continue };
            let opened = async {
                // Ask for this first: the view of the journal then holds every settlement that the state has forgotten.
                let settled = match self.filter.kind.has(AuditKind::Decision) {
                    true => Some(self.kavach.settled_costs(self.only, &route).await?),
                    false => None,
                };
                self.kavach
                    .ask_one_of(self.only, &route, |reply| OpenAudit { credential, right: Right::Read, reply })
                    .await
                    .map(|trail| (settled, trail))
            };
            match opened.await {
                Ok((settled, trail)) => {
                    let reading = OldestFirst::new(trail, Arc::clone(&self.filter), StartPoint::Oldest);
                    return Ok(Some(reading.with_settled(settled)));
                }
                Err(error) if self.only.is_none() && error.code() == Code::TenantNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn given_up() -> Error {
    Error::new(Code::TooManyStreams, "the client read nothing of the export for minutes, so the export was ended")
}

fn unwritable() -> Error {
    Error::new(Code::InternalError, "the export could not be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AgentId, Request, TenantTag, Timestamp};
    use crate::{App, ServerSettings};

    #[test]
    fn a_stalled_export_frees_its_place_and_does_not_look_complete() {
        actix_rt::System::new().block_on(stalled_exports());
    }

    async fn stalled_exports() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(&ServerSettings::new(folder.path())).await.unwrap();
        let kavach = app.kavach();
        let unknown = AgentId::derive(Timestamp::default(), 7, TenantTag(0));
        let resource = format!("docs:{}", "x".repeat(500));
        for _ in 0..2 * CHUNK_BYTES / 500 {
            kavach.authorize(Request::new("read", &resource).unwrap().for_agent(unknown)).await.unwrap();
        }
        let export = || kavach.audit().export(None, AuditFilter::default(), ExportFormat::Ndjson);
        let (mut patient, stalled) = (export().unwrap(), export().unwrap());
        assert_eq!(export().err().map(|error| error.code()), Some(Code::TooManyStreams));
        let mut whole = patient.next().await.unwrap().unwrap();
        let mut stalled = stalled.with_patience(Duration::from_millis(1));
        assert!(stalled.next().await.unwrap().unwrap().len() >= CHUNK_BYTES);
        while let Err(error) = export() {
            assert_eq!(error.code(), Code::TooManyStreams);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(stalled.next().await.unwrap().unwrap_err().code(), Code::TooManyStreams);
        assert!(stalled.next().await.is_none());
        while let Some(bytes) = patient.next().await {
            whole.extend(bytes.unwrap());
        }
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 2 * CHUNK_BYTES / 500);
        app.close().await;
    }
}
