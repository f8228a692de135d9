//! Spend reports: trails read from end to end and added up, on threads that serve no calls.
//!
//! A report covers what was recorded by the time it began. Of each tenant it takes the events up to one moment, and
//! the settlements known at that moment. That moment is when the tenant's turn comes; what a tenant recorded between
//! the report's beginning and its own turn is left out.

use std::collections::HashMap;
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
        let keys = group_by.label_keys();
        let labels = if keys.is_empty() { None } else { Some(self.labels_today(only, &route, keys).await?) };
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
            open_holds: HashMap::new(),
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
    async fn labels_today(
        &self,
        only: Option<TenantId>,
        route: &Route,
        keys: Vec<Box<str>>,
    ) -> Result<LabelHistory, Error> {
        let credential = self.credential;
        let mut labels = LabelHistory::of(keys.clone());
        let mut from = 0;
        loop {
            let keys = keys.clone();
            let look = move |tenant: &Tenant, _| {
                let mut part = LabelHistory::of(keys);
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
    /// Decisions with a hold whose end was not met yet, with the places of their groups. A hold may end long after the
    /// last decision that [`SettledCosts`] looks ahead to. They are never more than a tenant may have open at once.
    open_holds: HashMap<u64, usize>,
    /// Why the tally took no more.
    refused: Result<(), Error>,
}

impl SpendReading {
    /// Reads on. Returns whether it is done.
    fn step(&mut self) -> io::Result<bool> {
        let Self { trail, filter, settled, labels, as_of, last, walk, tally, open_holds, refused } = self;
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
            if seq > *last {
                return Ok(true);
            }
            if let BriefEvent::Used(record) = &event
                && let Some(decision) = &record.settles
                && as_of.covers_usage(record, at)
                && let Some(place) = open_holds.remove(&decision.seq)
            {
                tally.end_hold(place, decision.estimate, record.cost);
            }
            if filter.until.is_some_and(|until| at >= until) {
                if open_holds.is_empty() {
                    return Ok(true);
                }
                continue;
            }
            if oldest.is_some_and(|oldest| at < oldest) || !as_of.covers(at) {
                continue;
            }
            let (cost, is_held) = match &event {
                BriefEvent::Decided(record) if record.allowed => (settled.of(seq), record.held),
                _ => (None, false),
            };
            let agent = match &event {
                BriefEvent::Decided(record) => record.agent,
                BriefEvent::Used(record) => Some(record.agent),
                BriefEvent::Changed => None,
            };
            let labels = labels.as_ref().and_then(|labels| labels.at(agent?, seq));
            match tally.add(trail.tenant, at, &event, cost, labels) {
                Ok(Some(place)) if is_held && cost.is_none() => _ = open_holds.insert(seq, place),
                Ok(_) => {}
                Err(error) => {
                    *refused = Err(error);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::author::By;
    use crate::domain::budget::cost::Cost;
    use crate::domain::budget::settlement::{HoldChange, SettledDecision, UsageRecord};
    use crate::domain::event::{Extras, Grant, Record};
    use crate::domain::{AgentId, Moment};
    use crate::journal::{DataDir, JournalOptions, NewFolder};
    use crate::store::codec;

    const HELD: u64 = 1_000;

    fn at(seq: u64) -> Timestamp {
        Timestamp::from_millis(1_772_000_000_000 + i64::try_from(seq).unwrap())
    }

    fn agent() -> AgentId {
        AgentId::derive(at(0), 1, TenantId::DEFAULT.tag())
    }

    fn holding() -> Event<'static> {
        Event::Decided(Record {
            agent: Some(agent()),
            owner: Some("u".into()),
            action: "read",
            resource: "docs:1",
            arguments: None,
            granted_by: Some(Grant::default()),
            code: None,
            reason: None,
            rate_limited: false,
            revokes: false,
            policy: None,
            cost: Some(Cost::from_millionths(HELD)),
            ip: None,
            user_agent: None,
            micros: 0,
            trace: None,
            extras: Some(Box::new(Extras { held_until: Some(at(9)), ..Extras::default() })),
        })
    }

    fn ends(decision: u64, cost: u64, hold: Option<HoldChange>) -> Event<'static> {
        let estimate = Cost::from_millionths(HELD);
        let settles = Some(SettledDecision { seq: decision, at: at(decision), wall: None, estimate });
        let cost = Cost::from_millionths(cost);
        Event::Used(UsageRecord { cost, settles, hold, ..UsageRecord::new(By::Operator, agent(), "u".into()) })
    }

    /// `calls`, `settled`, `held` and `cost` of a report up to `until`, begun at `began`, without anything of the state.
    fn report(until: Option<u64>, began: u64) -> [u64; 4] {
        let events = [
            holding(),
            holding(),
            holding(),
            ends(2, 700, None),
            ends(1, 0, Some(HoldChange::Released)),
            holding(),
            ends(6, 0, Some(HoldChange::Expired)),
        ];
        let mut bytes = Vec::new();
        for (seq, event) in (1..).zip(&events) {
            let mut one = Vec::new();
            codec::encode_event(Moment::new(at(seq), seq), event, &mut one).unwrap();
            bytes.push(one);
        }
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let options = JournalOptions::default();
        let new = NewFolder { name: "t", label: b"{}", tenant: [7; 16], now_ms: 0, events: &bytes, options };
        let mut journal = data.create_tenant(new).unwrap();
        journal.flush().unwrap();
        let filter = Arc::new(SpendFilter { until: until.map(at), ..SpendFilter::default() });
        let mut reading = SpendReading {
            trail: AuditTrail {
                tenant: TenantId::DEFAULT,
                reader: journal.reader(),
                horizon: None,
                caller_until: None,
            },
            filter: Arc::clone(&filter),
            settled: SettledCosts::default(),
            labels: None,
            as_of: AsOf { began: at(began), asked: at(99) },
            last: 7,
            walk: None,
            tally: Tally::new(GroupBy::default(), filter),
            open_holds: HashMap::new(),
            refused: Ok(()),
        };
        while !reading.step().unwrap() {}
        let (_, Sums { calls, settled, held, cost, .. }) = reading.tally.finish();
        [calls, settled.millionths(), held.millionths(), cost.millionths()]
    }

    #[test]
    fn a_hold_that_ended_long_after_its_decision_counts_as_it_ended() {
        // Of four holds the first was released, the second settled at 700, and the fourth ended by itself.
        assert_eq!(report(None, 7), [4, 700, HELD, HELD + 700]);
        // Ends that come after the reported time count too, but not those recorded after the report began.
        assert_eq!(report(Some(4), 7), [3, 700, HELD, HELD + 700]);
        assert_eq!(report(Some(4), 4), [3, 700, 2 * HELD, 2 * HELD + 700]);
        // When one that ended by itself was recorded depends on who called next.
        assert_eq!(report(None, 6), [4, 700, HELD, HELD + 700]);
    }
}
