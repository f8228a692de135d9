//! The audit trail.

use crate::api::openapi::examples::{export_csv, export_ndjson, stream as stream_example};
use crate::api::openapi::{Docs, Tag};
use crate::domain::AuditEntry;
use crate::domain::Code::{
    AuditEntryNotFound, InvalidField, StorageUnavailable, TenantMismatch, TenantNotFound, TooManyStreams,
};
use crate::domain::schema::inline_schema;
use crate::store::checkpoint::KeptCheckpoint;

/// An entry's id; a client that saw none may send an empty one.
struct LastEventId;

inline_schema!(LastEventId { "type": "string", "pattern": "^(aud_[0-9a-f]{32})?$" });

fn docs(id: &'static str, summary: &'static str) -> Docs {
    Docs::new(Tag::Audit, id, summary).fails(&[StorageUnavailable])
}

/// `GET /v1/audit`
pub fn query() -> Docs {
    docs("queryAudit", "Query the audit trail")
        .about("Newest first. Entries past the tenant's `auditRetentionDays` are never shown.")
        .list::<AuditEntry>("The entries.")
        .without(&["format", "spreadsheet"])
        .fails(&[InvalidField, TenantMismatch, TenantNotFound])
}

/// `GET /v1/audit/{id}`
pub fn get() -> Docs {
    docs("getAuditEntry", "Get an audit entry")
        .about("An entry past the tenant's `auditRetentionDays` is not found.")
        .answers::<AuditEntry>(200, "The entry.")
        .fails(&[AuditEntryNotFound])
}

/// `GET /v1/audit/export`
pub fn export() -> Docs {
    docs("exportAudit", "Export the audit trail")
        .about("Oldest first, tenant after tenant, without a limit. One that fails breaks the connection off.")
        .answers::<Vec<AuditEntry>>(200, "The entries in the format that was asked for.")
        .text("application/x-ndjson", "", export_ndjson)
        .text("text/csv; charset=utf-8; header=present", "", export_csv)
        .with(&["Content-Disposition"])
        .without(&["limit", "offset", "cursor"])
        .fails(&[InvalidField, TenantMismatch, TenantNotFound, TooManyStreams])
}

/// `GET /v1/audit/stream`
pub fn stream() -> Docs {
    docs("streamAudit", "Follow the audit trail")
        .about("Server-sent events: an entry is `data`, its id is `id`. `since` begins in the past, `until` ends it.")
        .text("text/event-stream", "Entries as they are made.", stream_example)
        .header::<LastEventId>(
            "Last-Event-ID",
            "The entry to go on after. One that the trail does not hold, as after a backup was restored, is a 400.",
        )
        .without(&["limit", "offset", "cursor", "format", "spreadsheet"])
        .fails(&[InvalidField, TenantMismatch, TenantNotFound, TooManyStreams])
}

/// `GET /v1/audit/checkpoint`
pub fn checkpoint() -> Docs {
    docs("takeCheckpoint", "Get the newest link of the hash chain")
        .about("Kept elsewhere, it shows later whether an entry was changed: `kavach audit verify --checkpoint`.")
        .answers::<KeptCheckpoint>(200, "The link.")
        .fails(&[TenantMismatch, TenantNotFound])
}
