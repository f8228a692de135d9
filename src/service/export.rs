//! Whole audit trails as a stream of bytes, in constant memory.
//!
//! Entries come oldest first: that is the order of the files, and where an export was broken off, `since` with the
//! last time goes on. Several tenants come one after the other. What was written when a tenant's turn came is in it.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::kept::Kept;
use super::trail::{Oldest, Start, unreadable};
use super::{Kavach, ask};
use crate::actors::desk::Slot;
use crate::actors::messages::OpenAudit;
use crate::actors::{Phase, Route};
use crate::domain::audit::AuditKind;
use crate::domain::{AuditEntry, AuditFilter, Code, Error, TenantId};

/// Bytes of an export that are made at a time: what one connection takes in a few writes.
const CHUNK_BYTES: usize = 128 * 1024;

/// How often a tenant that can't answer is asked again before an export under way breaks off: for half a minute.
const TRIES: usize = 60;
/// How long it is left alone each time.
const RETRY: Duration = Duration::from_millis(500);

/// How long an export waits until its client takes what comes next. A client that reads a few kilobytes a second makes
/// room in time for more.
const PATIENCE: Duration = Duration::from_secs(300);

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON array.
    #[default]
    Json,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180, with a header line. Columns are the JSON's members; `parameters` and `before` are JSON text; `null` is
    /// empty.
    Csv,
    /// The same for a spreadsheet: a cell that it would take for a formula begins with an apostrophe.
    #[serde(skip)]
    Spreadsheet,
}

/// An export under way. One whose next bytes nobody asks for ends, and gives its place back.
pub struct Export {
    subject: String,
    patience: Duration,
    /// `None` once the export has ended.
    under_way: Option<Kept<UnderWay>>,
}

impl Export {
    pub(super) fn new(
        kavach: Kavach,
        filter: AuditFilter,
        only: Option<Route>,
        format: ExportFormat,
        slot: Slot,
    ) -> Self {
        let subject = match &only {
            None => "all".to_owned(),
            Some(Route { slug: Some(slug), .. }) => slug.to_string(),
            Some(route) => route.id.folder_name(),
        };
        let tenant = only.as_ref().map(|route| route.id);
        // Not one is left out silently, for then the export would not be all there is.
        let routes = only.map_or_else(|| kavach.core.routes.all(), |route| vec![route]);
        let under_way = UnderWay {
            kavach,
            filter: Arc::new(filter),
            routes: routes.into(),
            only: tenant,
            writer: Some(Writer::new(format)),
            reading: None,
            _slot: slot,
        };
        Self { subject, patience: PATIENCE, under_way: Some(Kept::new(under_way, PATIENCE)) }
    }

    /// The same export with another time after which nobody is waited for.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whose trail it is: a tenant's slug, its id where it has none, `default` or `all`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next bytes; `None` at the end. After an error there is no more: what came is not the whole.
    ///
    /// # Errors
    /// A tenant's trail can't be read, the caller's key is no longer good, or nobody asked for too long.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let Some(mut under_way) = self.under_way.take()?.take() else { return Some(Err(given_up())) };
        let next = under_way.next().await;
        if matches!(next, Some(Ok(_))) {
            self.under_way = Some(Kept::new(under_way, self.patience));
        }
        next
    }
}

/// What an export holds while its client takes its time.
struct UnderWay {
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    /// Tenants whose turn has not come.
    routes: VecDeque<Route>,
    /// The only tenant it is of; `None` is all of them, and it may do without one that is erased meanwhile.
    only: Option<TenantId>,
    /// `None` once all was given.
    writer: Option<Writer>,
    reading: Option<Oldest>,
    _slot: Slot,
}

impl UnderWay {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        // Whatever ends this early leaves no writer behind, so that nothing is taken for the end.
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
                // Of all tenants, one that is erased is missed by nobody.
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

    /// Whether the caller may read on. A tenant that can't answer for a moment does not end a long export.
    async fn check_reader(&self, reading: &Oldest) -> Result<(), Error> {
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

    async fn open_next(&mut self) -> Result<Option<Oldest>, Error> {
        let credential = self.kavach.credential;
        while let Some(route) = self.routes.pop_front() {
            // The actor may have been rebuilt since.
            let route = self.kavach.core.routes.with(route.id.tag(), Route::clone).unwrap_or(route);
            let opened = async {
                // Before the view of the journal is taken, which then has what is not remembered.
                let settled = match self.filter.kind.has(AuditKind::Decision) {
                    true => Some(self.kavach.settled(&route).await?),
                    false => None,
                };
                ask(&route, |reply| OpenAudit { credential, reply }).await.map(|trail| (settled, trail))
            };
            match opened.await {
                Ok((settled, trail)) => {
                    let reading = Oldest::new(trail, Arc::clone(&self.filter), Start::Oldest);
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
    Error::new(
        Code::TooManyStreams,
        "nobody took what came next of the export for minutes, so its place was given back",
    )
}

fn unwritable() -> Error {
    Error::new(Code::InternalError, "the export could not be written")
}

/// Entries as text in one of the formats.
struct Writer {
    output: Output,
    begun: bool,
    any: bool,
}

/// What was written and not taken yet.
enum Output {
    /// Objects, in an array or one a line.
    Json { bytes: Vec<u8>, array: bool },
    /// Rows.
    Csv { rows: Box<csv::Writer<Vec<u8>>>, guarded: bool },
}

fn rows() -> Box<csv::Writer<Vec<u8>>> {
    Box::new(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()))
}

impl Writer {
    fn new(format: ExportFormat) -> Self {
        let output = match format {
            ExportFormat::Json => Output::Json { bytes: Vec::new(), array: true },
            ExportFormat::Ndjson => Output::Json { bytes: Vec::new(), array: false },
            ExportFormat::Csv => Output::Csv { rows: rows(), guarded: false },
            ExportFormat::Spreadsheet => Output::Csv { rows: rows(), guarded: true },
        };
        Self { output, begun: false, any: false }
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match &mut self.output {
            Output::Json { bytes, array: true } => bytes.push(b'['),
            Output::Json { array: false, .. } => {}
            Output::Csv { rows, .. } => rows.write_record(COLUMNS)?,
        }
        Ok(())
    }

    fn put(&mut self, entry: &AuditEntry) -> io::Result<()> {
        self.begin()?;
        let first = !std::mem::replace(&mut self.any, true);
        match &mut self.output {
            Output::Json { bytes, array: true } => {
                if !first {
                    bytes.extend_from_slice(b",\n");
                }
                serde_json::to_writer(bytes, entry)?;
            }
            Output::Json { bytes, array: false } => {
                write_line(bytes, entry)?;
                bytes.push(b'\n');
            }
            Output::Csv { rows, guarded } => {
                let cells = cells(entry)?;
                rows.write_record(if *guarded { cells.map(guard) } else { cells })?;
                rows.flush()?;
            }
        }
        Ok(())
    }

    /// Bytes to be taken.
    fn len(&self) -> usize {
        match &self.output {
            Output::Json { bytes, .. } => bytes.len(),
            Output::Csv { rows, .. } => rows.get_ref().len(),
        }
    }

    fn take(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.output {
            Output::Json { bytes, .. } => Ok(std::mem::take(bytes)),
            Output::Csv { rows: full, .. } => {
                std::mem::replace(full, rows()).into_inner().map_err(|error| error.into_error())
            }
        }
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.begin()?;
        if let Output::Json { bytes, array: true } = &mut self.output {
            bytes.extend_from_slice(b"]\n");
        }
        self.take()
    }
}

/// Writes an entry as JSON on one line.
///
/// # Errors
/// None that an entry can cause.
pub fn write_line(bytes: &mut Vec<u8>, entry: &AuditEntry) -> io::Result<()> {
    let start = bytes.len();
    serde_json::to_writer(&mut *bytes, entry)?;
    // Parameters keep their text. A line break in it can only stand between two of its parts, as white space.
    for byte in bytes.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    Ok(())
}

const COLUMNS: [&str; 24] = [
    "id",
    "kind",
    "tenantId",
    "agentId",
    "userId",
    "action",
    "resource",
    "parameters",
    "result",
    "code",
    "reason",
    "durationMs",
    "tokensCost",
    "ip",
    "userAgent",
    "policyId",
    "ref",
    "by",
    "timestamp",
    "traceId",
    "clockTime",
    "keyName",
    "before",
    "settledCost",
];

/// The cell as text, where a spreadsheet would take it for a formula (OWASP, CSV Injection).
fn guard(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// The entry's cells, in the order of the columns: text as it is, anything else as its JSON, `null` as nothing.
fn cells(entry: &AuditEntry) -> io::Result<[String; 24]> {
    let AuditEntry {
        id,
        kind,
        tenant_id,
        agent_id,
        user_id,
        action,
        resource,
        parameters,
        result,
        code,
        reason,
        duration_ms,
        tokens_cost,
        ip,
        user_agent,
        policy_id,
        r#ref,
        by,
        timestamp,
        trace_id,
        clock_time,
        key_name,
        before,
        settled_cost,
    } = entry;
    fn text(value: &Option<impl ToString>) -> String {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    }
    let json = |value: &Option<Box<RawValue>>| value.as_deref().map(RawValue::get).unwrap_or_default().to_owned();
    let word = |value: serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_default();
    Ok([
        id.to_string(),
        word(serde_json::to_value(kind)?),
        word(serde_json::to_value(tenant_id)?),
        text(agent_id),
        text(user_id),
        action.to_string(),
        resource.to_string(),
        json(parameters),
        word(serde_json::to_value(result)?),
        text(code),
        text(reason),
        serde_json::to_string(duration_ms)?,
        text(tokens_cost),
        text(ip),
        text(user_agent),
        text(policy_id),
        text(r#ref),
        text(by),
        timestamp.to_string(),
        text(trace_id),
        text(clock_time),
        text(key_name),
        json(before),
        text(settled_cost),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AgentId, Request, TenantTag, Timestamp};
    use crate::{App, Settings};

    #[test]
    fn an_export_that_nobody_reads_on_gives_its_place_back_and_does_not_look_whole() {
        actix_rt::System::new().block_on(stalled_exports());
    }

    async fn stalled_exports() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(&Settings::new(folder.path())).await.unwrap();
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
