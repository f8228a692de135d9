//! Which entries a query wants.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::audit::change_summary::ChangeSummary;
use crate::audit::entry::{AuditKind, AuditKinds, AuditResult, DELIVERY_ACTION, USAGE_ACTION, delivery_result};
use crate::error::Code;
use crate::event::{ChangeRecord, Event};
use crate::id::{AgentId, TenantId};
use crate::permission::pattern::{Pattern, Segments};
use crate::time::Timestamp;
use crate::trace_id::TraceId;

/// Which entries a query wants. `None` or an empty list does not restrict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditFilter {
    /// Entries of these kinds.
    pub kind: AuditKinds,
    /// Entries of that agent.
    pub agent: Option<AgentId>,
    /// Entries of agents that belonged to that user.
    pub owner: Option<Box<str>>,
    /// Entries at or after that time.
    pub since: Option<Timestamp>,
    /// Entries before that time.
    pub until: Option<Timestamp>,
    /// Entries with one of these actions.
    pub actions: Vec<Box<str>>,
    /// Entries with that result.
    pub result: Option<AuditResult>,
    /// Entries of calls that were part of that trace.
    pub trace: Option<TraceId>,
    /// Entries of calls that were denied with that code.
    pub code: Option<Code>,
    /// Entries about resources that this pattern matches.
    pub resource: Option<Pattern>,
    /// Entries of callers at that address, or in that network.
    pub ip: Option<IpNet>,
}

impl AuditFilter {
    /// Whether the query wants this event of the tenant.
    pub fn matches(&self, tenant: TenantId, at: Timestamp, event: &Event<'_>) -> bool {
        let Self { kind, agent, owner, since, until, actions, result, trace, code, resource, ip } = self;
        let about = |of: &str| resource.as_ref().is_none_or(|wanted| wanted.matches(Segments::of(of).as_slice()));
        let from = |of: Option<IpAddr>| {
            ip.is_none_or(|wanted| of.is_some_and(|address| wanted.contains(&address.to_canonical())))
        };
        if since.is_some_and(|since| at < since) || until.is_some_and(|until| at >= until) {
            return false;
        }
        match event {
            Event::Decided(record) => {
                kind.has(AuditKind::Decision)
                    && agent.is_none_or(|agent| record.agent == Some(agent))
                    && owner.as_ref().is_none_or(|owner| record.owner.as_deref() == Some(owner))
                    && (actions.is_empty() || actions.iter().any(|action| **action == *record.action))
                    && result.is_none_or(|result| AuditResult::of(record) == result)
                    && trace.is_none_or(|trace| record.trace == Some(trace))
                    && code.is_none_or(|code| record.code == Some(code))
                    && about(record.resource)
                    && from(record.ip)
            }
            Event::Changed(_) if !kind.has(AuditKind::Admin) => false,
            Event::Changed(ChangeRecord { change, author, .. }) => {
                let summary = ChangeSummary::of(change);
                agent.is_none_or(|agent| summary.agent == Some(agent))
                    && owner.as_ref().is_none_or(|owner| summary.owner == Some(owner))
                    && (actions.is_empty() || actions.iter().any(|action| **action == *summary.action))
                    && result.is_none_or(|result| result == AuditResult::Allowed)
                    && trace.is_none()
                    && code.is_none()
                    && from(author.as_ref().and_then(|author| author.ip))
                    && (resource.is_none() || about(&summary.subject.unwrap_or_else(|| tenant.folder_name())))
            }
            Event::Used(record) => {
                kind.has(AuditKind::Usage)
                    && agent.is_none_or(|agent| record.agent == agent)
                    && owner.as_ref().is_none_or(|owner| **owner == *record.owner)
                    && (actions.is_empty() || actions.iter().any(|action| &**action == USAGE_ACTION))
                    && result.is_none_or(|result| result == AuditResult::Allowed)
                    && trace.is_none()
                    && code.is_none()
                    && ip.is_none()
                    && (resource.is_none() || about(&record.agent.to_string()))
            }
            Event::Leased(_) => false,
            Event::Delivered(record) => {
                kind.has(AuditKind::Delivery)
                    && agent.is_none()
                    && owner.is_none()
                    && (actions.is_empty() || actions.iter().any(|action| &**action == DELIVERY_ACTION))
                    && result.is_none_or(|result| result == delivery_result(record))
                    && trace.is_none()
                    && code.is_none()
                    && ip.is_none()
                    && (resource.is_none() || about(&record.webhook.to_string()))
            }
        }
    }
}
