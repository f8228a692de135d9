//! Spend reports: trails read from end to end and added up, on threads that serve no calls.
//!
//! A report covers what was recorded by the time it began. Of each tenant it takes the events up to one moment, and
//! the settlements known at that moment. That moment is when the tenant's turn comes; what a tenant recorded between
//! the report's beginning and its own turn is left out.

use std::io;
use std::sync::Arc;

use super::export_format::subject;
use super::reading::unreadable;
use super::settled_costs::{AsOf, SettledCosts};
use super::trail::{STEP_EVENTS, decode, decode_brief, is_change};
use crate::actors::Route;
use crate::actors::fair_semaphore::Turn;
use crate::actors::messages::{AuditTrail, Inspect, OpenAudit};
use crate::actors::tenant_directory::unknown_tenant;
use crate::domain::event::BriefEvent;
use crate::domain::spend::group_by::GroupBy;
use crate::domain::spend::labels::LabelHistory;
use crate::domain::spend::sums::Sums;
use crate::domain::spend::tally::{Group, SpendFilter, Tally};
use crate::domain::{Error, Event, Right, Tenant, TenantId, TenantRef, Timestamp};
use crate::journal::JournalCursor;
use crate::service::kavach::Kavach;

/// Which spend to report, and how.
#[derive(Clone, Debug, Default)]
pub struct SpendQuery {
    /// The tenant; `None` means all that the caller may see.
    pub tenant: Option<TenantRef>,
    /// Which events to count.
    pub filter: SpendFilter,
    /// What to group by.
    pub group_by: GroupBy,
}

/// What was spent.
#[derive(Debug)]
pub struct SpendReport {
    /// What it is about: a tenant's slug, its id if it has no slug, `default` or `all`.
    pub subject: String,
    /// When the report began: it covers what was recorded up to then.
    pub as_of: Timestamp,
    /// The groups, ordered by their values.
    pub groups: Vec<Group>,
    /// What all groups add up to.
    pub total: Sums,
    /// Tenants that could not answer, so their events are missing. A report of one tenant fails instead.
    pub missing: Vec<TenantId>,
    /// The permit to make it, held until only the serialized answer is left.
    pub(crate) turn: Turn,
}

impl Kavach {
    /// The report that `Audit::spend` gives out.
    pub(super) async fn spend(&self, query: SpendQuery) -> Result<SpendReport, Error> {
        let SpendQuery { tenant, filter, group_by } = query;
        let selection = self.tenants_in_filter(tenant.as_ref())?;
        let only = selection.only();
        let subject = subject(only.and_then(|id| self.core.directory.living(id)).as_ref());
        let turn = self.core.audit.reports.take(self.party(only)).await.map_err(unreadable)?;
        let as_of = self.core.clock.now();
        let filter = Arc::new(filter);
        let (mut whole, mut missing) = (Tally::new(group_by.clone(), Arc::clone(&filter)), Vec::new());
        // The latest first: those without an event since `since` are left out without being asked.
        for (_, id) in self.latest_first(&selection, filter.since).await? {
            match self.tally(only, id, &filter, &group_by, as_of).await {
                Ok(tally) => whole.merge(tally)?,
                // A tenant that was erased meanwhile is not missing.
                Err(_) if only.is_none() && !self.is_there(id) => {}
                Err(error) if only.is_none() && error.code().is_unavailable() => missing.push(id),
                Err(error) => return Err(error),
            }
        }
        let (groups, total) = whole.finish();
        Ok(SpendReport { subject, as_of, groups, total, missing, turn })
    }

    /// Adds up one tenant's events.
    async fn tally(
        &self,
        only: Option<TenantId>,
        id: TenantId,
        filter: &Arc<SpendFilter>,
        group_by: &GroupBy,
        began: Timestamp,
    ) -> Result<Tally, Error> {
        let route: Route = self.core.directory.living(id).ok_or_else(|| unknown_tenant(&TenantRef::Id(id)))?;
        let credential = self.credential;
        // Today's labels first: the trail then holds every change since.
        let labels = match group_by.has_labels() {
            true => Some(self.labels_today(only, &route).await?),
            false => None,
        };
        let look = move |tenant: &Tenant, now| {
            let as_of = AsOf { began, asked: now };
            Ok((SettledCosts::of_tenant(tenant, now, Some(as_of)), as_of, tenant.seq()))
        };
        // Ask for this first: the view of the journal then holds every settlement that the state has forgotten.
        let (settled, as_of, last) =
            self.ask_one_of(only, &route, |reply| Inspect { credential, right: Right::Read, look, reply }).await?;
        let trail = self.ask_one_of(only, &route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
        let labels = match labels {
            Some(today) => Some(self.label_history(only, &trail, filter.since, today).await?),
            None => None,
        };
        let tally = Tally::new(group_by.clone(), Arc::clone(filter));
        let mut reading = SpendReading {
            trail,
            filter: Arc::clone(filter),
            settled,
            labels,
            as_of,
            last,
            walk: None,
            tally,
            refused: Ok(()),
        };
        loop {
            self.check_reader(id).await?;
            let step = move || Ok((reading.step()?, reading));
            let (done, rest) = self.read_trail(only, step).await?;
            reading = rest;
            if done {
                return reading.refused.map(|()| reading.tally);
            }
        }
    }
}

/// Agents whose labels are read at a time: a fraction of a millisecond on their tenant's thread.
const LABELLED_AT_ONCE: usize = 10_000;

impl Kavach {
    /// The labels that a tenant's agents have now, read a part at a time.
    async fn labels_today(&self, only: Option<TenantId>, route: &Route) -> Result<LabelHistory, Error> {
        let credential = self.credential;
        let mut labels = LabelHistory::default();
        let mut from = 0;
        loop {
            let look = move |tenant: &Tenant, _| {
                let mut part = LabelHistory::default();
                let rest = tenant.agents().get(from..).unwrap_or_default();
                part.add_today(rest.iter().take(LABELLED_AT_ONCE));
                Ok((part, rest.len() > LABELLED_AT_ONCE))
            };
            let (part, more) =
                self.ask_one_of(only, route, |reply| Inspect { credential, right: Right::Read, look, reply }).await?;
            labels.merge_today(part);
            from += LABELLED_AT_ONCE;
            if !more {
                return Ok(labels);
            }
        }
    }

    /// Adds the changes of labels that a trail holds from `since` on.
    async fn label_history(
        &self,
        only: Option<TenantId>,
        trail: &AuditTrail,
        since: Option<Timestamp>,
        mut labels: LabelHistory,
    ) -> Result<LabelHistory, Error> {
        let (tenant, reader, oldest) = (trail.tenant, trail.reader.clone(), trail.horizon.max(since));
        let start = AuditTrail { tenant, reader: reader.clone(), horizon: trail.horizon, caller_until: None };
        let first = move || oldest.map_or(Ok(1), |oldest| start.first_at(oldest));
        let mut walk = reader.cursor(self.read_trail(only, first).await?);
        loop {
            self.check_reader(tenant).await?;
            let step = move || {
                for _ in 0..STEP_EVENTS {
                    let Some((seq, bytes)) = walk.step()? else { return Ok((true, walk, labels)) };
                    if is_change(bytes)
                        && let (_, Event::Changed(record)) = decode(seq, bytes)?
                    {
                        labels.add_change(seq, &record);
                    }
                }
                Ok((false, walk, labels))
            };
            let (ended, rest, known) = self.read_trail(only, step).await?;
            (walk, labels) = (rest, known);
            if ended {
                return Ok(labels);
            }
        }
    }
}

/// Adds up one trail, in steps.
struct SpendReading {
    trail: AuditTrail,
    filter: Arc<SpendFilter>,
    settled: SettledCosts,
    /// The labels of agents, if the report groups by them.
    labels: Option<LabelHistory>,
    as_of: AsOf,
    /// The last event that the tenant had recorded when it was asked.
    last: u64,
    walk: Option<JournalCursor>,
    tally: Tally,
    /// Why the tally took no more.
    refused: Result<(), Error>,
}

impl SpendReading {
    /// Reads on. Returns whether it is done.
    fn step(&mut self) -> io::Result<bool> {
        let Self { trail, filter, settled, labels, as_of, last, walk, tally, refused } = self;
        let oldest = trail.horizon.max(filter.since);
        let walk = match walk {
            Some(walk) => walk,
            None => walk.insert(trail.reader.cursor(oldest.map_or(Ok(1), |oldest| trail.first_at(oldest))?)),
        };
        for _ in 0..STEP_EVENTS {
            if settled.needs_more(trail, walk.next_seq()) {
                settled.read_on()?;
                continue;
            }
            let Some((seq, bytes)) = walk.step()? else { return Ok(true) };
            let (at, event) = decode_brief(bytes)?;
            if seq > *last || filter.until.is_some_and(|until| at >= until) {
                return Ok(true);
            }
            if oldest.is_some_and(|oldest| at < oldest) || !as_of.covers(at) {
                continue;
            }
            let cost = match &event {
                BriefEvent::Decided(record) if record.allowed => settled.of(seq),
                _ => None,
            };
            let agent = match &event {
                BriefEvent::Decided(record) => record.agent,
                BriefEvent::Used(record) => Some(record.agent),
                BriefEvent::Changed => None,
            };
            let labels = labels.as_ref().and_then(|labels| labels.at(agent?, seq));
            *refused = tally.add(trail.tenant, at, &event, cost, labels);
            if refused.is_err() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
