//! Audit entries as text: JSON, NDJSON, CSV, and CSV that is safe to open in a spreadsheet.

use std::io;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::actors::Route;
use crate::domain::AuditEntry;

/// The format of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON array.
    #[default]
    Json,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180, with a header line. Columns are the members of the JSON; `parameters` and `before` hold JSON text; `null`
    /// is an empty cell.
    Csv,
    /// CSV for a spreadsheet: a cell that it would take for a formula starts with an apostrophe.
    #[serde(skip)]
    Spreadsheet,
}

/// What a report is about, for the name of its file: a tenant's slug, its id if it has no slug, `default` or `all`.
pub(super) fn subject(only: Option<&Route>) -> String {
    match only {
        None => "all".to_owned(),
        Some(Route { slug: Some(slug), .. }) => slug.to_string(),
        Some(route) => route.id.folder_name(),
    }
}

/// Writes entries as text in one of the formats.
pub(super) struct EntryWriter {
    output: EntryBuffer,
    begun: bool,
    any: bool,
}

/// Text that was written and not taken yet.
enum EntryBuffer {
    /// JSON objects, in an array or one per line.
    Json { bytes: Vec<u8>, array: bool },
    /// CSV rows; `guarded` for spreadsheets.
    Csv { rows: Box<csv::Writer<Vec<u8>>>, guarded: bool },
}

fn rows() -> Box<csv::Writer<Vec<u8>>> {
    Box::new(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()))
}

impl EntryWriter {
    pub(super) fn new(format: ExportFormat) -> Self {
        let output = match format {
            ExportFormat::Json => EntryBuffer::Json { bytes: Vec::new(), array: true },
            ExportFormat::Ndjson => EntryBuffer::Json { bytes: Vec::new(), array: false },
            ExportFormat::Csv => EntryBuffer::Csv { rows: rows(), guarded: false },
            ExportFormat::Spreadsheet => EntryBuffer::Csv { rows: rows(), guarded: true },
        };
        Self { output, begun: false, any: false }
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match &mut self.output {
            EntryBuffer::Json { bytes, array: true } => bytes.push(b'['),
            EntryBuffer::Json { array: false, .. } => {}
            EntryBuffer::Csv { rows, .. } => rows.write_record(COLUMNS)?,
        }
        Ok(())
    }

    pub(super) fn put(&mut self, entry: &AuditEntry) -> io::Result<()> {
        self.begin()?;
        let first = !std::mem::replace(&mut self.any, true);
        match &mut self.output {
            EntryBuffer::Json { bytes, array: true } => {
                if !first {
                    bytes.extend_from_slice(b",\n");
                }
                serde_json::to_writer(bytes, entry)?;
            }
            EntryBuffer::Json { bytes, array: false } => {
                write_line(bytes, entry)?;
                bytes.push(b'\n');
            }
            EntryBuffer::Csv { rows, guarded } => {
                let cells = cells(entry)?;
                rows.write_record(if *guarded { cells.map(guard_cell) } else { cells })?;
                rows.flush()?;
            }
        }
        Ok(())
    }

    /// How many bytes wait to be taken.
    pub(super) fn len(&self) -> usize {
        match &self.output {
            EntryBuffer::Json { bytes, .. } => bytes.len(),
            EntryBuffer::Csv { rows, .. } => rows.get_ref().len(),
        }
    }

    pub(super) fn take(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.output {
            EntryBuffer::Json { bytes, .. } => Ok(std::mem::take(bytes)),
            EntryBuffer::Csv { rows: full, .. } => {
                std::mem::replace(full, rows()).into_inner().map_err(|error| error.into_error())
            }
        }
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.begin()?;
        if let EntryBuffer::Json { bytes, array: true } = &mut self.output {
            bytes.extend_from_slice(b"]\n");
        }
        self.take()
    }
}

/// Writes an entry as one line of JSON, without the line break.
///
/// # Errors
/// None that an entry can cause: the buffer is in memory.
pub fn write_line(bytes: &mut Vec<u8>, entry: &AuditEntry) -> io::Result<()> {
    let start = bytes.len();
    serde_json::to_writer(&mut *bytes, entry)?;
    // Parameters keep their original text. A line break in it can only be white space between two tokens.
    for byte in bytes.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    Ok(())
}

const COLUMNS: [&str; 25] = [
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
    "heldUntil",
];

/// Keeps a spreadsheet from running a cell as a formula (OWASP, CSV Injection).
pub fn guard_cell(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// The entry's cells, in the order of the columns: text verbatim, anything else as JSON, `null` as an empty cell.
fn cells(entry: &AuditEntry) -> io::Result<[String; 25]> {
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
        held_until,
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
        text(held_until),
    ])
}
