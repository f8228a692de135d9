//! `/v1/spend`: what decisions and usage reports add up to.

use std::borrow::Cow;
use std::sync::Arc;

use actix_rt::task::spawn_blocking;
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::auth::Viewer;
use super::error::{HandlerResult, Problem};
use super::input::{Query, agent, export_format, owner, period};
use super::responses::{self, UNAVAILABLE_TENANTS};
use crate::domain::budget::calendar::parse_zone;
use crate::domain::spend::group_by::{Dimension, GroupBy};
use crate::domain::spend::sums::Sums;
use crate::domain::spend::tally::{Group, SpendFilter};
use crate::domain::{AgentId, Code, Error, TenantId, TenantRef, Timestamp, schema};
use crate::service::{ExportFormat, SpendQuery, SpendReport, guard_cell};

/// The query of a spend report.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpendReportQuery {
    /// Spend of that tenant: id, slug or `default`. If absent: of all tenants, or, with a tenant key, of its own.
    #[schemars(with = "Option<schema::TenantName>")]
    tenant_id: Option<String>,
    /// Spend of that agent.
    #[schemars(with = "Option<AgentId>")]
    agent_id: Option<String>,
    /// Spend of agents that belonged to that owner.
    #[schemars(with = "Option<schema::FilterText>")]
    user_id: Option<String>,
    /// Another name of `userId`.
    #[schemars(with = "Option<schema::FilterText>")]
    owner_id: Option<String>,
    /// Entries at or after that time, RFC 3339. A date alone is the start of that day in `timeZone`.
    #[schemars(with = "Option<schema::TimeOrDay>")]
    since: Option<String>,
    /// Entries before that time, RFC 3339. A date alone is the start of that day in `timeZone`: the day itself is left out.
    #[schemars(with = "Option<schema::TimeOrDay>")]
    until: Option<String>,
    /// What to group by, at most four, separated by commas: `tenant`, `agent`, `owner`, `label:KEY`, `resource`,
    /// `action`, `day` and `month`. If absent, there is one group.
    #[schemars(with = "Option<schema::FilterText>")]
    group_by: Option<String>,
    /// The zone of days and months, by its name in the IANA database; UTC by default.
    #[schemars(with = "Option<schema::FilterText>")]
    time_zone: Option<String>,
    /// The format, `json` by default.
    #[schemars(with = "Option<ReportFormat>")]
    format: Option<String>,
    /// Whether to put an apostrophe before cells that a spreadsheet would take for formulas; only with `format=csv`.
    spreadsheet: Option<bool>,
}

// For the document: `export_format` reads it.
/// The format of a report.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum ReportFormat {
    /// One JSON object.
    Json,
    /// RFC 4180, with a header line. Columns are the members of a row in the JSON; `null` is an empty cell.
    Csv,
}

impl SpendReportQuery {
    /// The query and the format.
    pub fn read(self) -> Result<(SpendQuery, ExportFormat), Problem> {
        let Self { tenant_id, agent_id, user_id, owner_id, since, until, group_by, time_zone, format, spreadsheet } =
            self;
        let format = export_format(format.as_deref(), spreadsheet, &["json", "csv"])?;
        let zone = time_zone.map_or(Ok(None), |name| parse_zone(&name))?;
        let (since, until) = period(since, until, zone.clone())?;
        let query = SpendQuery {
            tenant: tenant_id.as_deref().map(TenantRef::parse),
            filter: SpendFilter {
                agent: agent(agent_id)?,
                owner: owner(user_id, owner_id)?.map(Into::into),
                since,
                until,
                zone,
            },
            group_by: group_by.map_or(Ok(GroupBy::default()), |text| GroupBy::parse("groupBy", &text))?,
        };
        Ok((query, format))
    }
}

/// A spend report.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SpendReport")]
pub struct SpendReportJson {
    /// When the report began. It covers what was recorded up to then.
    as_of: Timestamp,
    /// The groups, ordered by their values.
    rows: Vec<SpendRowJson>,
    /// What all groups add up to.
    total: Sums,
    /// Tenants that could not be read, whose entries are missing from a report of all tenants.
    unavailable_tenants: Vec<TenantId>,
}

/// A group: its values under the names of the columns, and its sums.
pub struct SpendRowJson {
    columns: Arc<[Cow<'static, str>]>,
    group: Group,
}

impl Serialize for SpendRowJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Group { values, sums } = &self.group;
        let mut row = serializer.serialize_map(None)?;
        for (column, value) in self.columns.iter().zip(values) {
            row.serialize_entry(&**column, value)?;
        }
        let Sums { calls, denied, estimated, settled, held, cost } = sums;
        row.serialize_entry("calls", calls)?;
        row.serialize_entry("denied", denied)?;
        for (name, sum) in [("estimated", estimated), ("settled", settled), ("held", held), ("cost", cost)] {
            row.serialize_entry(name, sum)?;
        }
        row.end()
    }
}

impl JsonSchema for SpendRowJson {
    fn schema_name() -> Cow<'static, str> {
        "SpendRow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Sums::json_schema(generator);
        let members = schema.ensure_object();
        members.insert(
            "description".into(),
            "A group: its values, only those that the report groups by, and what its entries add up to.".into(),
        );
        if let Some(properties) = members.get_mut("properties").and_then(|properties| properties.as_object_mut()) {
            for dimension in Dimension::PLAIN {
                properties.insert(dimension.column().into(), value_schema(described(&dimension)));
            }
        }
        let of_labels =
            json!({ "^label:": value_schema("The value of that label; `null` if the agent did not have it.") });
        members.insert("patternProperties".into(), of_labels);
        schema
    }
}

/// The schema of a group's value. A choice, since a member that a row may lack would else be taken for one that is never
/// `null`.
fn value_schema(description: &str) -> Value {
    json!({ "description": description, "oneOf": [{ "type": "string" }, { "type": "null" }] })
}

fn described(dimension: &Dimension) -> &'static str {
    match dimension {
        Dimension::Tenant => "The tenant; `null` is the default one.",
        Dimension::Agent => "The agent; `null` if a denied call named none.",
        Dimension::Owner => "The agent's owner at that time; `null` if the agent is unknown.",
        Dimension::Resource => "The resource; `null` for usage reports without a decision.",
        Dimension::Action => "The action; `null` for usage reports without a decision.",
        Dimension::Label(_) => "The value of that label.",
        Dimension::Day => "The day, such as `2026-11-30`.",
        Dimension::Month => "The month, such as `2026-11`.",
    }
}

/// `GET /v1/spend`
pub async fn report(Viewer(kavach): Viewer, Query(query): Query<SpendReportQuery>) -> HandlerResult {
    let (query, format) = query.read()?;
    let columns: Arc<[_]> = query.group_by.columns().collect();
    let report = kavach.audit().spend(query).await?;
    let missing = responses::named_tenants(&report.missing);
    let subject = report.subject.clone();
    // Ten thousand rows take a while to write.
    let written = spawn_blocking(move || write(report, &columns, format)).await;
    let bytes = written.map_err(|problem| unwritten(&problem))?.map_err(|problem| unwritten(&problem))?;
    let mut response = HttpResponse::Ok();
    if let Some(missing) = missing {
        response.insert_header((UNAVAILABLE_TENANTS, missing));
    }
    let (media, ending) = match format {
        ExportFormat::Json => ("application/json", "json"),
        _ => ("text/csv; charset=utf-8; header=present", "csv"),
    };
    let disposition = format!("attachment; filename=\"kavach-spend-{subject}.{ending}\"");
    response.insert_header((CONTENT_TYPE, media)).insert_header((CONTENT_DISPOSITION, disposition));
    Ok(response.body(bytes))
}

fn unwritten(problem: &dyn std::fmt::Display) -> Problem {
    Problem(Error::new(Code::InternalError, format!("the report was not written: {problem}")))
}

fn write(report: SpendReport, columns: &Arc<[Cow<'static, str>]>, format: ExportFormat) -> std::io::Result<Vec<u8>> {
    // The permit ends with this function, when only the bytes are left.
    let SpendReport { subject: _, as_of, groups, total, missing, turn: _turn } = report;
    if format == ExportFormat::Json {
        let row = |group| SpendRowJson { columns: Arc::clone(columns), group };
        let rows = groups.into_iter().map(row).collect();
        return Ok(serde_json::to_vec(&SpendReportJson { as_of, rows, total, unavailable_tenants: missing })?);
    }
    let mut rows = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let sums = ["calls", "denied", "estimated", "settled", "held", "cost"];
    rows.write_record(columns.iter().map(|column| &**column).chain(sums))?;
    for Group { values, sums } in groups {
        let values = values.into_iter().map(|value| value.map(String::from).unwrap_or_default());
        let Sums { calls, denied, estimated, settled, held, cost } = sums;
        let counts = [calls, denied].map(|count| count.to_string());
        let costs = [estimated, settled, held, cost].map(|cost| cost.to_string());
        let cells = values.chain(counts).chain(costs);
        let is_guarded = format == ExportFormat::Spreadsheet;
        rows.write_record(cells.map(|cell| if is_guarded { guard_cell(cell) } else { cell }))?;
    }
    rows.into_inner().map_err(|error| error.into_error())
}
