//! `/v1/audit`.

use actix_web::{HttpRequest, HttpResponse, web::Path};
use serde::Deserialize;

use super::auth::Admin;
use super::error::Problem;
use super::input::{Query, page};
use super::routes::Answer;
use super::views;
use crate::domain::audit::{AuditKind, AuditResult};
use crate::domain::limits::{MAX_AUDIT_OFFSET, MAX_FILTER_ACTIONS};
use crate::domain::text::quote;
use crate::domain::{AgentId, AuditFilter, Code, Error, TenantRef, Timestamp};
use crate::service::AuditQuery;

/// The query of the audit trail.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default)]
    kind: AuditKind,
    tenant_id: Option<String>,
    agent_id: Option<String>,
    user_id: Option<Box<str>>,
    since: Option<String>,
    until: Option<String>,
    actions: Option<String>,
    result: Option<AuditResult>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
    cursor: Option<String>,
}

impl ListQuery {
    fn check(self) -> Result<AuditQuery, Problem> {
        let Self { kind, tenant_id, agent_id, user_id, since, until, actions, result, limit, offset, cursor } = self;
        let invalid = |field: &str, problem: String| Problem(Error::field(Code::InvalidQuery, field, problem));
        let agent = match agent_id {
            Some(text) => Some(
                AgentId::parse(&text)
                    .ok_or_else(|| invalid("agentId", format!("must be an agent's id, not '{}'", quote(&text))))?,
            ),
            None => None,
        };
        let since = since.map(|text| Timestamp::parse("since", &text)).transpose()?;
        let until = until.map(|text| Timestamp::parse("until", &text)).transpose()?;
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(invalid("since", "must not be after until".to_owned()));
        }
        let actions: Vec<Box<str>> =
            actions.iter().flat_map(|list| list.split(',')).filter(|text| !text.is_empty()).map(Into::into).collect();
        if actions.len() > MAX_FILTER_ACTIONS {
            return Err(invalid("actions", format!("must name at most {MAX_FILTER_ACTIONS} actions")));
        }
        if offset > MAX_AUDIT_OFFSET {
            return Err(invalid("offset", format!("must be at most {MAX_AUDIT_OFFSET}; page on with cursor")));
        }
        let page = page(limit, cursor)?;
        Ok(AuditQuery {
            tenant: tenant_id.as_deref().map(TenantRef::parse),
            filter: AuditFilter { kind, agent, owner: user_id, since, until, actions, result },
            limit: page.limit,
            offset,
            cursor: page.cursor,
        })
    }
}

/// `GET /v1/audit`
pub async fn query(Admin(kavach): Admin, (request, Query(query)): (HttpRequest, Query<ListQuery>)) -> Answer {
    let entries = kavach.audit().query(query.check()?).await?;
    views::list(&request, entries, |entry| entry).await
}

/// `GET /v1/audit/{id}`
pub async fn get(Admin(kavach): Admin, id: Path<String>) -> Answer {
    views::json(HttpResponse::Ok(), &kavach.audit().get(&id).await?)
}
