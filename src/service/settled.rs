//! What decisions were settled at, for entries that are read from the journal.
//!
//! A settlement is an event of its own behind its decision, so a decision's entry has to be told of it. The state
//! remembers the settlements of all decisions but the oldest ([`Settlements`]), and no older decision can be settled any
//! more: that is looked up, and costs no reading. For an older decision the journal is read on from there, and not
//! far: once [`MAX_SETTLED`] newer decisions are settled, it can't be settled any more.
//!
//! [`Settlements`]: crate::domain::budget::settlement::Settlements

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::trail::{STEP_EVENTS, decode};
use super::{Kavach, ask};
use crate::actors::Route;
use crate::actors::messages::{AuditTrail, Inspect, OpenAudit};
use crate::actors::routes::unknown_tenant;
use crate::domain::budget::cost::Cost;
use crate::domain::limits::MAX_SETTLED;
use crate::domain::{AuditEntry, Error, Event, Tenant, TenantId, TenantRef};
use crate::journal::Walk;

/// What decisions of one tenant were settled at, for a reader that goes from the oldest to the newest.
#[derive(Default)]
pub(super) struct Settled {
    /// Ascending, by the numbers of the decisions' events.
    known: Vec<(u64, Cost)>,
    /// Decisions up to this number are settled by what the journal says.
    closed_to: u64,
    ahead: Option<Ahead>,
}

/// A reader of settlements that goes before the reader of decisions.
struct Ahead {
    walk: Walk,
    /// Of decisions that the other reader has not passed.
    found: BTreeMap<u64, Cost>,
    most: usize,
    ended: bool,
}

impl Ahead {
    fn new(walk: Walk, most: usize) -> Self {
        Self { walk, found: BTreeMap::new(), most, ended: false }
    }

    /// Forgets decisions before that one; says whether it could still be settled by what was not read.
    fn lacks(&mut self, decision: u64) -> bool {
        while self.found.first_key_value().is_some_and(|(oldest, _)| *oldest < decision) {
            self.found.pop_first();
        }
        // The decision itself, and as many newer ones as are remembered.
        !self.ended && self.found.len() <= self.most
    }

    fn step(&mut self) -> io::Result<()> {
        let Some((seq, bytes)) = self.walk.step()? else {
            self.ended = true;
            return Ok(());
        };
        if let (_, Event::Used(record)) = decode(seq, bytes)?
            && let Some(decision) = record.settles
        {
            self.found.insert(decision.seq, record.cost);
        }
        Ok(())
    }
}

impl Settled {
    /// Whether an event that comes next has to wait until [`Self::read_on`] has read more.
    pub fn lacks(&mut self, trail: &AuditTrail, seq: u64) -> bool {
        if seq > self.closed_to {
            self.ahead = None;
            return false;
        }
        self.ahead.get_or_insert_with(|| Ahead::new(trail.reader.walk(seq), MAX_SETTLED)).lacks(seq)
    }

    /// Reads one event.
    pub fn read_on(&mut self) -> io::Result<()> {
        self.ahead.as_mut().map_or(Ok(()), Ahead::step)
    }

    /// Tells the entry of that event what it was settled at.
    pub fn tell(&self, seq: u64, entry: &mut AuditEntry) {
        if entry.can_be_settled() {
            entry.settled_cost = match self.known.binary_search_by_key(&seq, |(decision, _)| *decision) {
                Ok(at) => self.known.get(at).map(|(_, cost)| *cost),
                Err(_) => self.ahead.as_ref().and_then(|ahead| ahead.found.get(&seq).copied()),
            };
        }
    }
}

impl Kavach {
    /// All that the tenant remembers of settlements.
    pub(super) async fn settled(&self, route: &Route) -> Result<Settled, Error> {
        let credential = self.credential;
        let look = |tenant: &Tenant, _| {
            let settlements = tenant.settlements();
            let known = settlements.known().map(|known| (known.decision, known.cost)).collect();
            Ok(Settled { known, closed_to: settlements.closed_to(), ahead: None })
        };
        ask(route, |reply| Inspect { credential, look, reply }).await
    }

    /// Tells entries what their decisions were settled at. Of all tenants, the entries of one that can't say so are
    /// left out, and it is in the answer.
    pub(super) async fn tell_settled_of_all(
        &self,
        entries: &mut Vec<AuditEntry>,
        only: Option<TenantId>,
    ) -> Result<Vec<TenantId>, Error> {
        let mut by_tenant: HashMap<TenantId, Vec<&mut AuditEntry>> = HashMap::new();
        for entry in entries.iter_mut().filter(|entry| entry.can_be_settled()) {
            by_tenant.entry(entry.tenant_id).or_default().push(entry);
        }
        let mut untold = Vec::new();
        for (tenant, mut entries) in by_tenant {
            let told = match self.core.routes.with(tenant.tag(), Route::clone).filter(|route| route.id == tenant) {
                Some(route) => self.tell_settled(&route, &mut entries).await,
                None => Err(unknown_tenant(&TenantRef::Id(tenant))),
            };
            match told {
                Ok(()) => {}
                Err(error) if only.is_none() && (error.code().is_not_found() || error.code().is_unavailable()) => {
                    untold.push(tenant)
                }
                Err(error) => return Err(error),
            }
        }
        entries.retain(|entry| !untold.contains(&entry.tenant_id));
        Ok(untold)
    }

    /// Tells those entries of one tenant what their decisions were settled at.
    pub(super) async fn tell_settled(&self, route: &Route, entries: &mut [&mut AuditEntry]) -> Result<(), Error> {
        let mut wanted: Vec<u64> =
            entries.iter().filter(|entry| entry.can_be_settled()).map(|entry| entry.id.seq()).collect();
        wanted.sort_unstable();
        if wanted.is_empty() {
            return Ok(());
        }
        let credential = self.credential;
        let asked = wanted.clone();
        let look = move |tenant: &Tenant, _| {
            let settlements = tenant.settlements();
            let known = asked.iter().filter_map(|seq| settlements.get(*seq));
            let known: HashMap<u64, Cost> = known.map(|known| (known.decision, known.cost)).collect();
            Ok((known, settlements.closed_to()))
        };
        let (mut found, closed_to) = ask(route, |reply| Inspect { credential, look, reply }).await?;
        wanted.retain(|seq| *seq <= closed_to);
        if let (Some(first), Some(last)) = (wanted.first().copied(), wanted.last().copied()) {
            let trail = ask(route, |reply| OpenAudit { credential, reply }).await?;
            found.extend(self.settled_long_ago(trail, first, last).await?);
        }
        for entry in entries.iter_mut().filter(|entry| entry.can_be_settled()) {
            entry.settled_cost = found.get(&entry.id.seq()).copied();
        }
        Ok(())
    }

    /// What decisions from the first to the last of those numbers were settled at, by the journal alone.
    async fn settled_long_ago(&self, trail: AuditTrail, first: u64, last: u64) -> Result<Vec<(u64, Cost)>, Error> {
        let tenant: TenantId = trail.tenant;
        let (mut newer, mut found) = (Ahead::new(trail.reader.walk(first), MAX_SETTLED), Vec::new());
        loop {
            let step = move || {
                for _ in 0..STEP_EVENTS {
                    // Those of the page are put aside, so that what is left are newer ones.
                    let of_page = newer.found.range(first..=last).map(|(seq, cost)| (*seq, *cost));
                    found.extend(of_page);
                    if !newer.lacks(last + 1) {
                        return Ok((true, newer, found));
                    }
                    newer.step()?;
                }
                Ok((false, newer, found))
            };
            let (done, rest, of_page) = self.read_trail(Some(tenant), step).await?;
            (newer, found) = (rest, of_page);
            if done {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::author::By;
    use crate::domain::budget::settlement::SettledDecision;
    use crate::domain::budget::settlement::UsageRecord;
    use crate::domain::{AgentId, Moment, Timestamp};
    use crate::journal::{DataDir, Journal, JournalOptions, NewTenant};
    use crate::store::codec;

    fn settlement(decision: u64, cost: u64) -> Vec<u8> {
        let at = Timestamp::default();
        let record = UsageRecord {
            by: By::Operator,
            agent: AgentId::derive(at, 1, TenantId::DEFAULT.tag()),
            owner: "u".into(),
            calls: 0,
            cost: Cost::from_millionths(cost),
            settles: Some(SettledDecision { seq: decision, at, wall: None, estimate: Cost::default() }),
        };
        let mut bytes = Vec::new();
        codec::encode_event(Moment::new(at, 1), &Event::Used(record), &mut bytes).unwrap();
        bytes
    }

    fn journal(data: &DataDir, settled: &[u64]) -> Journal {
        let events: Vec<_> = settled.iter().map(|decision| settlement(*decision, 1_000 + decision)).collect();
        let options = JournalOptions::default();
        let new = NewTenant { name: "t", label: b"{}", tenant: [7; 16], now_ms: 0, events: &events, options };
        let mut journal = data.create_tenant(new).unwrap();
        journal.flush().unwrap();
        journal
    }

    #[test]
    fn a_reader_of_settlements_goes_no_further_ahead_than_a_decision_can_be_settled() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        // With three remembered, decision 10 may be settled until three newer ones are.
        let settled = [12, 11, 10, 13, 20, 14, 21, 22, 23, 24];
        let journal = journal(&data, &settled);
        let mut ahead = Ahead::new(journal.reader().walk(1), 3);
        let mut read = 0;
        let mut told = Vec::new();
        for decision in 9..=25 {
            while ahead.lacks(decision) {
                ahead.step().unwrap();
                read += 1;
            }
            assert!(ahead.found.len() <= 4, "it holds no more than can be settled");
            assert!(decision > 9 || read <= 4, "{read}");
            told.extend(ahead.found.get(&decision).map(|cost| (decision, *cost)));
        }
        let mut wanted = settled;
        wanted.sort_unstable();
        assert_eq!(told, wanted.map(|decision| (decision, Cost::from_millionths(1_000 + decision))));
    }
}
