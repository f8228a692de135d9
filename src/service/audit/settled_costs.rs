//! The actual cost of decisions whose usage was reported later, for entries read from the journal.
//!
//! A settlement is an event of its own that comes after its decision, so the decision's entry does not hold it. The
//! tenant's state remembers the newest settlements ([`Settlements`]): looking one up there reads no journal. For an
//! older decision the journal is read onwards from the decision. That is never far: once [`MAX_SETTLED`] newer
//! decisions are settled, the decision can't be settled any more. Only a hold may still be open then; the state
//! remembers by itself how the last holds ended. One whose time is over has ended, whether or not that is recorded yet.
//! A page of entries is read on until the ends of its holds are found, and a report corrects a group when it meets an
//! end. Only an export, which writes an entry as it passes it, may lack the cost of a hold that ended so late.
//!
//! [`Settlements`]: crate::domain::budget::settlement::Settlements

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::RangeInclusive;

use super::trail::{STEP_EVENTS, decode, is_usage};
use crate::actors::Route;
use crate::actors::messages::{AuditTrail, Inspect, OpenAudit};
use crate::actors::tenant_directory::unknown_tenant;
use crate::domain::budget::cost::Cost;
use crate::domain::budget::hold::HoldEnd;
use crate::domain::budget::settlement::{HoldChange, UsageRecord};
use crate::domain::limits::MAX_SETTLED;
use crate::domain::{AuditEntry, Error, Event, Right, Tenant, TenantId, TenantRef, Timestamp};
use crate::journal::JournalCursor;
use crate::service::kavach::Kavach;

/// Settled costs of one tenant's decisions, for a reader that goes from the oldest entry to the newest.
#[derive(Default)]
pub(super) struct SettledCosts {
    /// Settlements that the state remembers: the decision's event number and its cost, ascending by number.
    known: Vec<(u64, Cost)>,
    /// For decisions up to this number, only the journal knows.
    closed_to: u64,
    /// Which settlements count; `None` is all of them.
    as_of: Option<AsOf>,
    ahead: Option<SettlementReader>,
}

/// Leaves out what was recorded after something began.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsOf {
    /// When it began.
    pub began: Timestamp,
    /// When the tenant was asked. Whatever has a later time was recorded under a clock that was ahead, before that.
    pub asked: Timestamp,
}

impl AsOf {
    /// Whether an event of that time counts.
    pub fn covers(self, at: Timestamp) -> bool {
        at <= self.began || at > self.asked
    }

    /// Whether that usage report counts, recorded at that time.
    pub fn covers_usage(self, record: &UsageRecord, at: Timestamp) -> bool {
        record.hold == Some(HoldChange::Expired) || self.covers(at)
    }

    /// Whether the end of a hold counts that was recorded at that time. When one that ended by itself was recorded depends
    /// on who called next, so it counts from when the tenant was asked.
    fn covers_end(self, end: HoldEnd, at: Timestamp) -> bool {
        end == HoldEnd::Expired || self.covers(at)
    }
}

/// Reads settlements, ahead of the reader of decisions.
struct SettlementReader {
    walk: JournalCursor,
    /// Settlements of decisions that the other reader has not passed yet.
    found: BTreeMap<u64, Cost>,
    /// How many newer decisions can be settled before a decision can't be any more.
    most: usize,
    as_of: Option<AsOf>,
    ended: bool,
}

impl SettlementReader {
    fn new(walk: JournalCursor, most: usize) -> Self {
        Self { walk, found: BTreeMap::new(), most, as_of: None, ended: false }
    }

    /// Forgets decisions before this one. `true` if a settlement of it may still lie in the part not read yet.
    fn needs_more(&mut self, decision: u64) -> bool {
        while self.found.first_key_value().is_some_and(|(oldest, _)| *oldest < decision) {
            self.found.pop_first();
        }
        // The decision itself, and `most` newer ones.
        !self.ended && self.found.len() <= self.most
    }

    fn step(&mut self) -> io::Result<()> {
        let Some((seq, bytes)) = self.walk.step()? else {
            self.ended = true;
            return Ok(());
        };
        // Few events are settlements, and most of the time would go into reading the others.
        if is_usage(bytes)
            && let (moment, Event::Used(record)) = decode(seq, bytes)?
            && let Some(decision) = &record.settles
            && self.as_of.is_none_or(|as_of| as_of.covers_usage(&record, moment.at))
        {
            self.found.insert(decision.seq, record.cost);
        }
        Ok(())
    }
}

impl SettledCosts {
    /// The settlements that the tenant's state remembers, and where to look for older ones.
    pub fn of_tenant(tenant: &Tenant, now: Timestamp, as_of: Option<AsOf>) -> Self {
        let (settlements, holds) = (tenant.settlements(), tenant.holds());
        let settled = settlements.known().filter(|known| as_of.is_none_or(|as_of| as_of.covers(known.at)));
        let settled = settled.map(|known| (known.decision, known.cost));
        let ended = holds.ended().iter().filter(|end| as_of.is_none_or(|as_of| as_of.covers_end(end.end, end.at)));
        let ended = ended.map(|ended| (ended.decision, ended.end.cost()));
        let mut known: Vec<_> = settled.chain(ended).chain(due(tenant, now)).collect();
        known.sort_unstable();
        Self { known, closed_to: settlements.closed_to().max(holds.forgotten_to()), as_of, ahead: None }
    }

    /// Whether event `seq` has to wait until [`Self::read_on`] has read more.
    pub fn needs_more(&mut self, trail: &AuditTrail, seq: u64) -> bool {
        if seq > self.closed_to {
            self.ahead = None;
            return false;
        }
        let as_of = self.as_of;
        let ahead = || SettlementReader { as_of, ..SettlementReader::new(trail.reader.cursor(seq), MAX_SETTLED) };
        self.ahead.get_or_insert_with(ahead).needs_more(seq)
    }

    /// Reads one more event for settlements.
    pub fn read_on(&mut self) -> io::Result<()> {
        self.ahead.as_mut().map_or(Ok(()), SettlementReader::step)
    }

    /// Sets the settled cost of the entry of event `seq`.
    pub fn fill_in(&self, seq: u64, entry: &mut AuditEntry) {
        if entry.can_be_settled() {
            entry.settled_cost = self.of(seq);
        }
    }

    /// What the decision with the number `seq` was settled at.
    pub fn of(&self, seq: u64) -> Option<Cost> {
        match self.known.binary_search_by_key(&seq, |(decision, _)| *decision) {
            Ok(at) => self.known.get(at).map(|(_, cost)| *cost),
            Err(_) => self.ahead.as_ref().and_then(|ahead| ahead.found.get(&seq).copied()),
        }
    }
}

/// The decisions whose holds are over although nobody has called since, so that their ends are not recorded yet.
fn due(tenant: &Tenant, now: Timestamp) -> impl Iterator<Item = (u64, Cost)> {
    tenant.due_holds(now).map(|decision| (decision, HoldEnd::Expired.cost()))
}

impl Kavach {
    /// The settlements that the tenant's state remembers.
    pub(super) async fn settled_costs(&self, only: Option<TenantId>, route: &Route) -> Result<SettledCosts, Error> {
        let credential = self.credential;
        let look = |tenant: &Tenant, now| Ok(SettledCosts::of_tenant(tenant, now, None));
        self.ask_one_of(only, route, |reply| Inspect { credential, right: Right::Read, look, reply }).await
    }

    /// Sets the settled costs of entries of several tenants. In a query over all tenants (`only` is `None`), a tenant that
    /// can't answer loses its entries and is returned.
    pub(super) async fn fill_in_settled_costs_of_all(
        &self,
        entries: &mut Vec<AuditEntry>,
        only: Option<TenantId>,
    ) -> Result<Vec<TenantId>, Error> {
        let mut by_tenant: HashMap<TenantId, Vec<&mut AuditEntry>> = HashMap::new();
        for entry in entries.iter_mut().filter(|entry| entry.can_be_settled()) {
            by_tenant.entry(entry.tenant_id).or_default().push(entry);
        }
        let mut missing = Vec::new();
        for (tenant, mut entries) in by_tenant {
            let filled = match self.core.directory.living(tenant) {
                Some(route) => self.fill_in_settled_costs(only, &route, &mut entries).await,
                None => Err(unknown_tenant(&TenantRef::Id(tenant))),
            };
            match filled {
                Ok(()) => {}
                Err(error) if only.is_none() && (error.code().is_not_found() || error.code().is_unavailable()) => {
                    missing.push(tenant)
                }
                Err(error) => return Err(error),
            }
        }
        entries.retain(|entry| !missing.contains(&entry.tenant_id));
        Ok(missing)
    }

    /// Sets the settled costs of entries of one tenant.
    pub(super) async fn fill_in_settled_costs(
        &self,
        only: Option<TenantId>,
        route: &Route,
        entries: &mut [&mut AuditEntry],
    ) -> Result<(), Error> {
        let numbers =
            |entry: &&mut AuditEntry| entry.can_be_settled().then(|| (entry.id.seq(), entry.held_until.is_some()));
        let mut wanted: Vec<(u64, bool)> = entries.iter().filter_map(numbers).collect();
        wanted.sort_unstable();
        if wanted.is_empty() {
            return Ok(());
        }
        let credential = self.credential;
        let asked: Vec<u64> = wanted.iter().map(|(seq, _)| *seq).collect();
        let look = move |tenant: &Tenant, now| {
            let (settlements, holds) = (tenant.settlements(), tenant.holds());
            let is_asked = |decision: u64| asked.binary_search(&decision).is_ok();
            let settled = asked.iter().filter_map(|seq| settlements.get(*seq));
            let ended = holds.ended().iter().filter(|ended| is_asked(ended.decision));
            let ended = ended.map(|ended| (ended.decision, ended.end.cost()));
            let known: HashMap<u64, Cost> =
                settled.map(|settled| (settled.decision, settled.cost)).chain(ended).chain(due(tenant, now)).collect();
            let open: HashSet<u64> =
                holds.open().iter().map(|hold| hold.decision.seq).filter(|seq| is_asked(*seq)).collect();
            Ok((known, open, settlements.closed_to().max(holds.forgotten_to())))
        };
        let (mut found, open, closed_to) =
            self.ask_one_of(only, route, |reply| Inspect { credential, right: Right::Read, look, reply }).await?;
        wanted.retain(|(seq, _)| *seq <= closed_to && !open.contains(seq) && !found.contains_key(seq));
        if !wanted.is_empty() {
            let trail =
                self.ask_one_of(only, route, |reply| OpenAudit { credential, right: Right::Read, reply }).await?;
            found.extend(self.settled_long_ago(trail, wanted).await?);
        }
        for entry in entries.iter_mut().filter(|entry| entry.can_be_settled()) {
            entry.settled_cost = found.get(&entry.id.seq()).copied();
        }
        Ok(())
    }

    /// Settled costs of these decisions, from the journal alone. Those with `true` had a hold, which has ended.
    async fn settled_long_ago(&self, trail: AuditTrail, wanted: Vec<(u64, bool)>) -> Result<Vec<(u64, Cost)>, Error> {
        let tenant: TenantId = trail.tenant;
        let mut page = PageOfSettlements::new(&trail, &wanted);
        loop {
            let step = move || {
                for _ in 0..STEP_EVENTS {
                    if page.step()? {
                        return Ok((true, page));
                    }
                }
                Ok((false, page))
            };
            let (done, rest) = self.read_trail(Some(tenant), step).await?;
            page = rest;
            if done {
                return Ok(page.found);
            }
        }
    }
}

/// Looks in the journal for settlements of the decisions on a page.
struct PageOfSettlements {
    newer: SettlementReader,
    /// Numbers of the page's first and last decision.
    range: RangeInclusive<u64>,
    /// Decisions with a hold whose end was not found yet. It may come after any settlement.
    held: BTreeSet<u64>,
    /// Whether only ends of holds can still follow.
    only_held: bool,
    found: Vec<(u64, Cost)>,
}

impl PageOfSettlements {
    fn new(trail: &AuditTrail, wanted: &[(u64, bool)]) -> Self {
        let numbers = || wanted.iter().map(|(seq, _)| *seq);
        let range = numbers().min().unwrap_or_default()..=numbers().max().unwrap_or_default();
        let newer = SettlementReader::new(trail.reader.cursor(*range.start()), MAX_SETTLED);
        let held = wanted.iter().filter(|(_, held)| *held).map(|(seq, _)| *seq).collect();
        Self { newer, range, held, only_held: false, found: Vec::new() }
    }

    /// Reads one more event. Returns whether it is done.
    fn step(&mut self) -> io::Result<bool> {
        // Set the page's own settlements aside, so that only those of newer decisions count.
        for (seq, cost) in self.newer.found.range(self.range.clone()) {
            self.held.remove(seq);
            self.found.push((*seq, *cost));
        }
        self.only_held |= !self.newer.needs_more(self.range.end().saturating_add(1));
        if self.newer.ended || self.only_held && self.held.is_empty() {
            return Ok(true);
        }
        if self.only_held {
            self.newer.found.clear();
        }
        self.newer.step()?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::author::By;
    use crate::domain::budget::settlement::SettledDecision;
    use crate::domain::{AgentId, Moment};
    use crate::journal::{DataDir, Journal, JournalOptions, NewFolder};
    use crate::store::codec;

    fn settlement(decision: u64, cost: u64) -> Vec<u8> {
        let at = Timestamp::default();
        let agent = AgentId::derive(at, 1, TenantId::DEFAULT.tag());
        let record = UsageRecord {
            cost: Cost::from_millionths(cost),
            settles: Some(SettledDecision { seq: decision, at, wall: None, estimate: Cost::default() }),
            ..UsageRecord::new(By::Operator, agent, "u".into())
        };
        let mut bytes = Vec::new();
        codec::encode_event(Moment::new(at, 1), &Event::Used(record), &mut bytes).unwrap();
        bytes
    }

    fn journal(data: &DataDir, settled: &[u64]) -> Journal {
        let events: Vec<_> = settled.iter().map(|decision| settlement(*decision, 1_000 + decision)).collect();
        let options = JournalOptions::default();
        let new = NewFolder { name: "t", label: b"{}", tenant: [7; 16], now_ms: 0, events: &events, options };
        let mut journal = data.create_tenant(new).unwrap();
        journal.flush().unwrap();
        journal
    }

    #[test]
    fn settlements_are_read_no_further_ahead_than_a_decision_can_be_settled() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        // With three remembered, decision 10 can be settled until three newer decisions are.
        let settled = [12, 11, 10, 13, 20, 14, 21, 22, 23, 24];
        let journal = journal(&data, &settled);
        let mut ahead = SettlementReader::new(journal.reader().cursor(1), 3);
        let mut read = 0;
        let mut filled = Vec::new();
        for decision in 9..=25 {
            while ahead.needs_more(decision) {
                ahead.step().unwrap();
                read += 1;
            }
            assert!(ahead.found.len() <= 4, "it holds no more than can be settled");
            assert!(decision > 9 || read <= 4, "{read}");
            filled.extend(ahead.found.get(&decision).map(|cost| (decision, *cost)));
        }
        let mut wanted = settled;
        wanted.sort_unstable();
        assert_eq!(filled, wanted.map(|decision| (decision, Cost::from_millionths(1_000 + decision))));
    }

    #[test]
    fn a_page_is_read_on_until_its_holds_have_ended() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let (held, newer) = (10, MAX_SETTLED as u64);
        let settled: Vec<_> = (20..=20 + 2 * newer).chain([held, 9]).collect();
        let journal = journal(&data, &settled);
        let trail =
            AuditTrail { tenant: TenantId::DEFAULT, reader: journal.reader(), horizon: None, caller_until: None };
        for (wanted, expected) in
            [(vec![(9, false), (held, true)], vec![held]), (vec![(9, false), (held, false)], vec![])]
        {
            let mut page = PageOfSettlements::new(&trail, &wanted);
            // It begins at the first event: the decisions themselves are not in this journal.
            page.newer = SettlementReader::new(trail.reader.cursor(1), MAX_SETTLED);
            while !page.step().unwrap() {
                assert!(page.newer.found.len() <= MAX_SETTLED + 1);
            }
            assert_eq!(
                page.found,
                expected.iter().map(|seq| (*seq, Cost::from_millionths(1_000 + seq))).collect::<Vec<_>>()
            );
        }
    }
}
