//! Whole audit trails as a stream of bytes, in constant memory.
//!
//! Entries come oldest first: that is the order of the files, and where an export was broken off, `since` with the
//! last time goes on. Several tenants come one after the other. What was written when a tenant's turn came is in it.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::trail::{Oldest, Start};
use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::desk::Slot;
use crate::actors::messages::OpenAudit;
use crate::domain::{AuditEntry, AuditFilter, Code, Error, TenantId};

/// Bytes of an export that are made at a time: what one connection takes in a few writes.
const CHUNK_BYTES: usize = 128 * 1024;

/// How often a tenant that can't answer is asked again before an export under way breaks off: for half a minute.
const TRIES: usize = 60;
/// How long it is left alone each time.
const RETRY: Duration = Duration::from_millis(500);

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON array.
    #[default]
    Json,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180, with a header line. Columns are the JSON's members; `parameters` is JSON text; `null` is empty.
    Csv,
}

/// An export under way.
pub struct Export {
    subject: String,
    kavach: Kavach,
    filter: Arc<AuditFilter>,
    /// Tenants whose turn has not come.
    routes: VecDeque<Route>,
    /// The only tenant it is of; `None` is all of them, and it may do without one that is erased meanwhile.
    only: Option<TenantId>,
    /// `None` once the export has ended.
    writer: Option<Writer>,
    reading: Option<Oldest>,
    _slot: Slot,
}

impl Export {
    pub(super) fn new(
        kavach: Kavach,
        filter: AuditFilter,
        only: Option<Route>,
        format: ExportFormat,
        slot: Slot,
    ) -> Self {
        let writer = Some(Writer::new(format));
        let subject = match &only {
            None => "all".to_owned(),
            Some(Route { slug: Some(slug), .. }) => slug.to_string(),
            Some(route) => route.id.folder_name(),
        };
        let tenant = only.as_ref().map(|route| route.id);
        // Not one is left out silently, for then the export would not be all there is.
        let routes = only.map_or_else(|| kavach.core.routes.all(), |route| vec![route]);
        Self {
            subject,
            kavach,
            filter: Arc::new(filter),
            routes: routes.into(),
            only: tenant,
            writer,
            reading: None,
            _slot: slot,
        }
    }

    /// Whose trail it is: a tenant's slug, its id where it has none, `default` or `all`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next bytes; `None` at the end. After an error there is no more: what came is not the whole.
    ///
    /// # Errors
    /// A tenant's trail can't be read, or the caller's key is no longer good.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
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
            if let Err(error) = self.check_reader(&reading).await {
                return Some(Err(error));
            }
            let step = move || {
                let (mut reading, mut writer) = (reading, writer);
                let ended = reading.step(&mut |entry| {
                    writer.put(entry)?;
                    Ok(if writer.len() >= CHUNK_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
                Ok(((!ended).then_some(reading), writer))
            };
            writer = match self.kavach.read_trail(self.only, step).await {
                Ok((reading, writer)) => {
                    self.reading = reading;
                    writer
                }
                Err(error) => return Some(Err(error)),
            };
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
                Err(error) if error.code().status() == 503 && tries > 0 => tries -= 1,
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
            match ask(&route, |reply| OpenAudit { credential, reply }).await {
                Ok(trail) => return Ok(Some(Oldest::new(trail, Arc::clone(&self.filter), Start::Oldest))),
                Err(error) if self.only.is_none() && error.code() == Code::TenantNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
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
    Csv(Box<csv::Writer<Vec<u8>>>),
}

fn rows() -> Box<csv::Writer<Vec<u8>>> {
    Box::new(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()))
}

impl Writer {
    fn new(format: ExportFormat) -> Self {
        let output = match format {
            ExportFormat::Json => Output::Json { bytes: Vec::new(), array: true },
            ExportFormat::Ndjson => Output::Json { bytes: Vec::new(), array: false },
            ExportFormat::Csv => Output::Csv(rows()),
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
            Output::Csv(rows) => rows.write_record(COLUMNS)?,
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
            Output::Csv(rows) => {
                rows.write_record(cells(entry)?)?;
                rows.flush()?;
            }
        }
        Ok(())
    }

    /// Bytes to be taken.
    fn len(&self) -> usize {
        match &self.output {
            Output::Json { bytes, .. } => bytes.len(),
            Output::Csv(rows) => rows.get_ref().len(),
        }
    }

    fn take(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.output {
            Output::Json { bytes, .. } => Ok(std::mem::take(bytes)),
            Output::Csv(full) => std::mem::replace(full, rows()).into_inner().map_err(|error| error.into_error()),
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

const COLUMNS: [&str; 19] = [
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
];

/// The entry's cells, in the order of the columns: text as it is, anything else as its JSON, `null` as nothing.
fn cells(entry: &AuditEntry) -> io::Result<[String; 19]> {
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
    } = entry;
    fn text(value: &Option<impl ToString>) -> String {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    }
    let word = |value: serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_default();
    Ok([
        id.to_string(),
        word(serde_json::to_value(kind)?),
        word(serde_json::to_value(tenant_id)?),
        text(agent_id),
        text(user_id),
        action.to_string(),
        resource.to_string(),
        parameters.as_deref().map(RawValue::get).unwrap_or_default().to_owned(),
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
    ])
}
