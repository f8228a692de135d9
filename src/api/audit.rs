//! `/v1/audit`.

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web::Path};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auth::Viewer;
use super::error::{HandlerResult, Problem};
use super::input::{Query, agent, export_format, owner, page, period};
use super::responses;
use super::streaming::{Pulled, PulledBody};
use crate::domain::audit::entry::{AuditKinds, AuditResult};
use crate::domain::limits::{MAX_AUDIT_OFFSET, MAX_FILTER_ACTIONS, MAX_PAGE};
use crate::domain::permission::constraint::ip_allowlist::parse_net;
use crate::domain::permission::pattern::Pattern;
use crate::domain::text::quote;
use crate::domain::{AgentId, AuditEntry, AuditFilter, AuditId, Code, Error, TenantRef, TraceId, schema};
use crate::service::{AuditQuery, AuditStream, Export, ExportFormat, StreamItem, write_line};

/// The query of the audit trail.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditListQuery {
    /// The kind of entries: decisions by default; `all` is every kind.
    #[serde(default)]
    kind: AuditKinds,
    /// Entries of that tenant: id, slug or `default`.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Entries of that agent.
    #[schemars(with = "Option<AgentId>")]
    agent_id: Option<String>,
    /// Entries of agents that belonged to that owner.
    #[schemars(with = "Option<schema::FilterText>")]
    user_id: Option<String>,
    /// Another name of `userId`.
    #[schemars(with = "Option<schema::FilterText>")]
    owner_id: Option<String>,
    /// Entries at or after that time, RFC 3339. A date alone is the start of that day, UTC.
    #[schemars(with = "Option<schema::TimeOrDay>")]
    since: Option<String>,
    /// Entries before that time, RFC 3339. A date alone is the start of that day, UTC: the day itself is left out.
    #[schemars(with = "Option<schema::TimeOrDay>")]
    until: Option<String>,
    /// Entries with one of these actions, separated by commas.
    #[schemars(with = "Option<schema::FilterText>")]
    actions: Option<String>,
    /// Entries with that result.
    result: Option<AuditResult>,
    /// Entries of calls that were part of that trace.
    #[schemars(with = "Option<TraceId>")]
    trace_id: Option<String>,
    /// Entries of calls that were denied with that code.
    #[schemars(with = "Option<Code>")]
    code: Option<String>,
    /// Entries about resources that match, as a permission's pattern does.
    #[schemars(with = "Option<schema::ResourcePattern>")]
    resource: Option<String>,
    /// Entries of callers at that address, or in that network in CIDR notation.
    #[schemars(with = "Option<schema::AddressOrNetwork>")]
    ip: Option<String>,
    /// Items of a page, 100 by default.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    limit: Option<usize>,
    /// How many entries to skip.
    #[schemars(range(max = MAX_AUDIT_OFFSET))]
    offset: Option<usize>,
    /// Where the previous page ended, from its `Link`.
    #[schemars(with = "Option<AuditId>")]
    cursor: Option<String>,
    /// The format of the export, `json` by default.
    #[schemars(with = "Option<ExportFormat>")]
    format: Option<String>,
    /// Whether to put an apostrophe before cells that a spreadsheet would take for formulas; only with `format=csv`.
    spreadsheet: Option<bool>,
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Problem {
    Problem(Error::field(Code::InvalidQuery, field, problem))
}

impl AuditListQuery {
    /// The query of one page.
    pub fn page(mut self) -> Result<AuditQuery, Problem> {
        let offset = self.offset.unwrap_or(0);
        if offset > MAX_AUDIT_OFFSET {
            return Err(invalid("offset", format!("must be at most {MAX_AUDIT_OFFSET}; use cursor to go further")));
        }
        self.refuse_format()?;
        let page = page(self.limit, self.cursor.take())?;
        let (tenant, filter) = self.filter()?;
        Ok(AuditQuery { tenant, filter, limit: page.limit, offset, cursor: page.cursor })
    }

    /// The tenant, the filter and the format of an export.
    pub fn export(self) -> Result<(Option<TenantRef>, AuditFilter, ExportFormat), Problem> {
        self.refuse_paging()?;
        let format = export_format(self.format.as_deref(), self.spreadsheet, &["json", "ndjson", "csv"])?;
        let (tenant, filter) = self.filter()?;
        Ok((tenant, filter, format))
    }

    /// The tenant and the filter of a stream.
    pub fn stream(self) -> Result<(Option<TenantRef>, AuditFilter), Problem> {
        self.refuse_paging()?;
        self.refuse_format()?;
        self.filter()
    }

    /// Only an export has a format.
    fn refuse_format(&self) -> Result<(), Problem> {
        refuse("format", self.format.is_some())?;
        refuse("spreadsheet", self.spreadsheet.is_some())
    }

    /// Exports and streams have no pages.
    fn refuse_paging(&self) -> Result<(), Problem> {
        refuse("limit", self.limit.is_some())?;
        refuse("offset", self.offset.is_some())?;
        refuse("cursor", self.cursor.is_some())
    }

    fn filter(self) -> Result<(Option<TenantRef>, AuditFilter), Problem> {
        let Self { kind, tenant_id, agent_id, user_id, owner_id, since, until, actions, result, .. } = self;
        let (trace_id, code, resource, ip) = (self.trace_id, self.code, self.resource, self.ip);
        let agent = agent(agent_id)?;
        let (since, until) = period(since, until, None)?;
        let actions: Vec<Box<str>> = actions.iter().flat_map(|list| list.split(',')).map(Into::into).collect();
        if actions.iter().any(|action| action.is_empty()) {
            return Err(invalid("actions", "must not name an empty action"));
        }
        if actions.len() > MAX_FILTER_ACTIONS {
            return Err(invalid("actions", format!("must name at most {MAX_FILTER_ACTIONS} actions")));
        }
        let trace = trace_id.map(|text| TraceId::parse_query("traceId", &text)).transpose()?;
        let owner = owner(user_id, owner_id)?.map(Into::into);
        let code = code.map(|text| {
            let known = Code::ALL.iter().find(|code| code.as_str() == text);
            let problem = || invalid("code", format!("must be a code such as BUDGET_EXCEEDED, not '{}'", quote(&text)));
            known.copied().ok_or_else(problem)
        });
        let resource = resource.map(|text| {
            let named = |bad: Error| Error::new(Code::InvalidQuery, bad.message()).with_details(bad.details().clone());
            Pattern::parse("resource", &text).map_err(|bad| Problem(named(bad)))
        });
        let ip = ip.map(|text| {
            let problem = || invalid("ip", format!("must be an address or a network, not '{}'", quote(&text)));
            parse_net(&text).ok_or_else(problem)
        });
        let (code, resource, ip) = (code.transpose()?, resource.transpose()?, ip.transpose()?);
        let filter = AuditFilter { kind, agent, owner, since, until, actions, result, trace, code, resource, ip };
        Ok((tenant_id.as_deref().map(TenantRef::parse), filter))
    }
}

fn refuse(field: &str, given: bool) -> Result<(), Problem> {
    if given { Err(invalid(field, "is not a parameter of this route")) } else { Ok(()) }
}

/// `GET /v1/audit`
pub async fn query(
    Viewer(kavach): Viewer,
    (request, Query(query)): (HttpRequest, Query<AuditListQuery>),
) -> HandlerResult {
    let entries = kavach.audit().query(query.page()?).await?;
    responses::list(&request, entries, |entry| entry).await
}

/// `GET /v1/audit/{id}`
pub async fn get(Viewer(kavach): Viewer, id: Path<String>) -> HandlerResult {
    responses::json(HttpResponse::Ok(), &kavach.audit().get(&id).await?)
}

/// `GET /v1/audit/export`
pub async fn export(Viewer(kavach): Viewer, Query(query): Query<AuditListQuery>) -> HandlerResult {
    let (tenant, filter, format) = query.export()?;
    let mut export = kavach.audit().export(tenant.as_ref(), filter, format)?;
    let (content_type, ending) = match format {
        ExportFormat::Json => ("application/json", "json"),
        ExportFormat::Ndjson => ("application/x-ndjson", "ndjson"),
        ExportFormat::Csv | ExportFormat::Spreadsheet => ("text/csv; charset=utf-8; header=present", "csv"),
    };
    let disposition = format!("attachment; filename=\"kavach-audit-{}.{ending}\"", export.subject());
    // An error before the first byte still gets a status of its own.
    let first = export.next().await.transpose()?.unwrap_or_default();
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, content_type)).insert_header((CONTENT_DISPOSITION, disposition));
    Ok(response.body(PulledBody::new(first, export, |export| Box::pin(pull_export(export)))))
}

async fn pull_export(mut export: Export) -> Pulled<Export> {
    let bytes = export.next().await?;
    Some(bytes.map(|bytes| (bytes.into(), export)))
}

/// The header with the id of the last event that a client saw (WHATWG HTML, server-sent events).
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// `GET /v1/audit/stream`
pub async fn stream(
    Viewer(kavach): Viewer,
    (request, Query(query)): (HttpRequest, Query<AuditListQuery>),
) -> HandlerResult {
    let (tenant, filter) = query.stream()?;
    let last = match request.headers().get(LAST_EVENT_ID) {
        // A client that has seen no event may send an empty id.
        Some(text) if !text.is_empty() => {
            let id = text.to_str().ok().and_then(AuditId::parse);
            Some(id.ok_or_else(|| invalid(LAST_EVENT_ID, "must be an audit entry's id"))?)
        }
        _ => None,
    };
    let stream = kavach.audit().stream(tenant.as_ref(), filter, last, write_event).await?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        // Some proxies buffer a response until it is complete.
        .insert_header(("X-Accel-Buffering", "no"));
    Ok(response.body(PulledBody::new(": following\n\n", stream, |stream| Box::pin(pull_stream(stream)))))
}

async fn pull_stream(mut stream: AuditStream) -> Pulled<AuditStream> {
    let news = stream.next().await?;
    Some(news.map(|news| match news {
        StreamItem::Entries(events) => (events.into(), stream),
        StreamItem::StillHere => (": still here\n\n".into(), stream),
    }))
}

/// Writes an entry as one event. If an event has no id, the client keeps the last one.
fn write_event(bytes: &mut Vec<u8>, entry: &AuditEntry, resumable: bool) -> std::io::Result<()> {
    if resumable {
        bytes.extend_from_slice(b"id: ");
        bytes.extend_from_slice(entry.id.to_string().as_bytes());
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(b"data: ");
    write_line(bytes, entry)?;
    bytes.extend_from_slice(b"\n\n");
    Ok(())
}

/// `GET /v1/audit/checkpoint`
pub async fn checkpoint(Viewer(kavach): Viewer, Query(query): Query<CheckpointQuery>) -> HandlerResult {
    let tenant = query.tenant_id.as_deref().map(TenantRef::parse);
    responses::json(HttpResponse::Ok(), &kavach.audit().checkpoint(tenant.as_ref()).await?)
}

/// The query of a checkpoint.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointQuery {
    /// The tenant: id, slug or `default`. If absent: the default tenant, or, with a tenant key, its own.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
}
