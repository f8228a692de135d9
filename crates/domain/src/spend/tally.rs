//! Adding up events in groups. Memory is bounded by the number of groups, and an event of a known group allocates
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::agent::labels::Labels;
use crate::budget::cost::Cost;
use crate::error::{Code, Error};
use crate::event::BriefEvent;
use crate::id::{AgentId, TenantId};
use crate::limits::MAX_SPEND_GROUPS;
use crate::spend::group_by::{Dimension, GroupBy};
use crate::spend::local_day::LocalDays;
use crate::spend::sums::Sums;
use crate::time::Timestamp;

/// One group of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its values, in the order of [`GroupBy::columns`]; `None` where the events have none.
    pub values: Vec<Option<Box<str>>>,
    /// What its events add up to.
    pub sums: Sums,
}

/// Which events a report is about, and by which clock. `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct SpendFilter {
    /// Events of that agent.
    pub agent: Option<AgentId>,
    /// Events of agents that belonged to that owner.
    pub owner: Option<Box<str>>,
    /// Events at or after that time.
    pub since: Option<Timestamp>,
    /// Events before that time.
    pub until: Option<Timestamp>,
    /// The zone of days and months, an IANA name that was checked; `None` is UTC.
    pub zone: Option<Box<str>>,
}

impl SpendFilter {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let Self { agent, owner, since, until, zone: _ } = self;
        agent.is_none_or(|agent| subject.agent == Some(agent))
            && owner.as_deref().is_none_or(|owner| subject.owner == Some(owner))
            && since.is_none_or(|since| subject.at >= since)
            && until.is_none_or(|until| subject.at < until)
    }
}

/// Groups that grow with each event.
#[derive(Debug)]
pub struct Tally {
    filter: Arc<SpendFilter>,
    days: LocalDays,
    by: GroupBy,
    /// The place of each group, by its values as bytes.
    places: HashMap<Box<[u8]>, usize, RandomState>,
    groups: Vec<Group>,
    /// The values of the event at hand, as bytes.
    key: Vec<u8>,
}

/// Whom and what an event is about.
struct Subject<'a> {
    tenant: TenantId,
    agent: Option<AgentId>,
    owner: Option<&'a str>,
    resource: Option<&'a str>,
    action: Option<&'a str>,
    labels: Option<&'a Labels>,
    at: Timestamp,
}

impl Tally {
    /// No event yet.
    pub fn new(by: GroupBy, filter: Arc<SpendFilter>) -> Self {
        let days = LocalDays::new(filter.zone.clone());
        Self { filter, days, by, places: HashMap::default(), groups: Vec::new(), key: Vec::new() }
    }

    /// Adds an event of the tenant's, given what it was settled at if it is a decision that was, and the labels that
    /// its agent had. Returns the place of its group, if it is in one.
    ///
    /// # Errors
    /// `TOO_MANY_GROUPS`.
    pub fn add(
        &mut self,
        tenant: TenantId,
        at: Timestamp,
        event: &BriefEvent<'_>,
        settled: Option<Cost>,
        labels: Option<&Labels>,
    ) -> Result<Option<usize>, Error> {
        let (subject, sums) = match event {
            BriefEvent::Decided(record) => {
                let subject = Subject {
                    tenant,
                    agent: record.agent,
                    owner: record.owner,
                    resource: Some(record.resource),
                    action: Some(record.action),
                    labels,
                    at,
                };
                (subject, Sums::of_decision(record, settled))
            }
            BriefEvent::Used(record) => {
                let Some(sums) = Sums::of_report(record) else { return Ok(None) };
                let (agent, owner) = (Some(record.agent), Some(&*record.owner));
                (Subject { tenant, agent, owner, resource: None, action: None, labels, at }, sums)
            }
            BriefEvent::Changed => return Ok(None),
        };
        if !self.filter.matches(&subject) {
            return Ok(None);
        }
        self.key.clear();
        for dimension in self.by.dimensions() {
            subject.write_key(dimension, &mut self.days, &mut self.key);
        }
        let known = self.places.get(self.key.as_slice()).copied();
        if let Some((place, group)) = known.and_then(|place| Some((place, self.groups.get_mut(place)?))) {
            group.sums.add(&sums);
            return Ok(Some(place));
        }
        let values = self.by.dimensions().iter().map(|dimension| subject.value(dimension, &mut self.days)).collect();
        self.insert(self.key.as_slice().into(), values, sums).map(Some)
    }

    /// Ends a hold that was added as open, in the group at that place: the decision is settled at `actual`.
    pub fn end_hold(&mut self, place: usize, estimate: Cost, actual: Cost) {
        if let Some(group) = self.groups.get_mut(place) {
            group.sums.end_hold(estimate, actual);
        }
    }

    /// Adds what another tally of the same columns has.
    ///
    /// # Errors
    /// `TOO_MANY_GROUPS`.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Error> {
        for (key, at) in other.places {
            let Some(group) = other.groups.get_mut(at) else { continue };
            if let Some(known) = self.places.get(&key).and_then(|at| self.groups.get_mut(*at)) {
                known.sums.add(&group.sums);
                continue;
            }
            let values = std::mem::take(&mut group.values);
            self.insert(key, values, group.sums)?;
        }
        Ok(())
    }

    /// Returns the place of the new group.
    fn insert(&mut self, key: Box<[u8]>, values: Vec<Option<Box<str>>>, sums: Sums) -> Result<usize, Error> {
        let place = self.groups.len();
        if place >= MAX_SPEND_GROUPS {
            return Err(too_many_groups());
        }
        self.places.insert(key, place);
        self.groups.push(Group { values, sums });
        Ok(place)
    }

    /// The groups, ordered by their values, and what all of them add up to.
    pub fn finish(self) -> (Vec<Group>, Sums) {
        let mut groups = self.groups;
        groups.sort_unstable_by(|one, other| one.values.cmp(&other.values));
        let mut total = Sums::default();
        groups.iter().for_each(|group| total.add(&group.sums));
        (groups, total)
    }
}

impl Subject<'_> {
    /// Appends the value as bytes, which no other value, followed by anything, begins with.
    fn write_key(&self, dimension: &Dimension, days: &mut LocalDays, key: &mut Vec<u8>) {
        let mut text = |text: Option<&str>| {
            // No text is as long as the length that stands for none.
            let length = text.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap_or(u32::MAX));
            key.extend_from_slice(&length.to_le_bytes());
            key.extend_from_slice(text.unwrap_or_default().as_bytes());
        };
        match dimension {
            Dimension::Owner => text(self.owner),
            Dimension::Resource => text(self.resource),
            Dimension::Action => text(self.action),
            Dimension::Tenant => key.extend_from_slice(&self.tenant.bytes()),
            Dimension::Agent => {
                // A denied call may have named any id.
                key.push(u8::from(self.agent.is_some()));
                key.extend_from_slice(&self.agent.map(AgentId::bytes).unwrap_or_default());
            }
            Dimension::Label(label) => text(self.labels.and_then(|labels| labels.get(label))),
            Dimension::Day => key.extend_from_slice(days.date(self.at).as_bytes()),
            Dimension::Month => key.extend_from_slice(days.month(self.at).as_bytes()),
        }
    }

    fn value(&self, dimension: &Dimension, days: &mut LocalDays) -> Option<Box<str>> {
        match dimension {
            Dimension::Tenant => (!self.tenant.is_default()).then(|| self.tenant.to_string().into()),
            Dimension::Agent => self.agent.map(|agent| agent.to_string().into()),
            Dimension::Owner => self.owner.map(Into::into),
            Dimension::Resource => self.resource.map(Into::into),
            Dimension::Action => self.action.map(Into::into),
            Dimension::Label(label) => self.labels.and_then(|labels| labels.get(label)).map(Into::into),
            Dimension::Day => Some(days.date(self.at).into()),
            Dimension::Month => Some(days.month(self.at).into()),
        }
    }
}

fn too_many_groups() -> Error {
    let message = format!(
        "the report would have more than {MAX_SPEND_GROUPS} groups; group by less, or narrow it by since and until, \
         tenantId, agentId or userId"
    );
    Error::new(Code::TooManyGroups, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::author::By;
    use crate::budget::settlement::{SettledDecision, UsageRecord};
    use crate::event::BriefRecord;
    use crate::id::TenantTag;
    use crate::limits::MAX_GROUP_BY;

    const NAMES: [&str; 4] = ["", "a", "ab", "b"];
    const BASE: i64 = 1_772_000_000_000;
    const HOUR: i64 = 60 * 60 * 1_000 + 1;

    fn agent(number: u64) -> AgentId {
        AgentId::derive(Timestamp::from_millis(BASE), number + 1, TenantTag(7))
    }

    fn tenant(number: u8) -> TenantId {
        match number {
            0 => TenantId::DEFAULT,
            number => TenantId::generate(Timestamp::from_millis(BASE), [number; 10]).unwrap(),
        }
    }

    /// One event, as small numbers that choose its parts.
    #[derive(Clone, Debug)]
    struct Made {
        tenant: u8,
        at: i64,
        agent: Option<u64>,
        owner: Option<usize>,
        resource: usize,
        action: usize,
        cost: Option<u64>,
        settled: Option<u64>,
        held: bool,
        label: Option<usize>,
        /// An allowed decision, a denied one, a report, a settlement, a change.
        kind: u8,
    }

    fn made() -> impl Strategy<Value = Made> {
        let names = || 0..NAMES.len();
        let cost = || proptest::option::of(0..5_000_000u64);
        let who = (0..3u8, 0..2_000i64, proptest::option::of(0..3u64), proptest::option::of(names()));
        let hold = (any::<bool>(), proptest::option::of(names()));
        (who, names(), names(), cost(), cost(), hold, 0..5u8).prop_map(
            |((tenant, hours, agent, owner), resource, action, cost, settled, (held, label), kind)| Made {
                held,
                label,
                tenant,
                at: BASE + hours * HOUR,
                agent,
                owner,
                resource,
                action,
                cost,
                settled,
                kind,
            },
        )
    }

    impl Made {
        fn report(&self, settles: bool) -> UsageRecord {
            let at = Timestamp::from_millis(self.at);
            let agent = agent(self.agent.unwrap_or_default());
            let owner = NAMES[self.owner.unwrap_or_default()].into();
            UsageRecord {
                calls: self.resource as u64,
                cost: Cost::from_millionths(self.cost.unwrap_or_default()),
                settles: settles.then(|| SettledDecision { seq: 1, at, wall: None, estimate: Cost::default() }),
                ..UsageRecord::new(By::Operator, agent, owner)
            }
        }

        fn event(&self) -> BriefEvent<'static> {
            match self.kind {
                kind @ (0 | 1) => BriefEvent::Decided(BriefRecord {
                    agent: self.agent.map(agent),
                    owner: self.owner.map(|name| NAMES[name]),
                    action: NAMES[self.action],
                    resource: NAMES[self.resource],
                    allowed: kind == 0,
                    cost: self.cost.map(Cost::from_millionths),
                    held: self.held,
                }),
                kind @ (2 | 3) => BriefEvent::Used(self.report(kind == 3)),
                _ => BriefEvent::Changed,
            }
        }

        /// What the event adds, as calls, denied, estimated, settled, held and cost; written from the contract alone.
        fn adds(&self) -> Option<[u64; 6]> {
            let (cost, of_reports) = (self.cost.unwrap_or(0), self.cost.unwrap_or_default());
            match self.kind {
                0 if self.held && self.settled.is_none() => Some([1, 0, cost, 0, cost, cost]),
                0 => Some([1, 0, cost, self.settled.unwrap_or(0), 0, self.settled.unwrap_or(cost)]),
                1 => Some([0, 1, 0, 0, 0, 0]),
                2 => Some([self.resource as u64, 0, 0, of_reports, 0, of_reports]),
                _ => None,
            }
        }

        fn labels(&self) -> Option<Labels> {
            self.label.map(|name| vec![("team".to_owned(), NAMES[name].to_owned())].into())
        }

        fn shown(&self, dimension: &Dimension) -> Option<String> {
            let is_report = self.kind == 2;
            let name = |at: usize| NAMES[at].to_owned();
            let date = Timestamp::from_millis(self.at).to_string();
            match dimension {
                Dimension::Tenant => (self.tenant > 0).then(|| tenant(self.tenant).to_string()),
                Dimension::Agent if is_report => Some(agent(self.agent.unwrap_or_default()).to_string()),
                Dimension::Agent => self.agent.map(|number| agent(number).to_string()),
                Dimension::Owner if is_report => Some(name(self.owner.unwrap_or_default())),
                Dimension::Owner => self.owner.map(name),
                Dimension::Resource => (!is_report).then(|| name(self.resource)),
                Dimension::Action => (!is_report).then(|| name(self.action)),
                Dimension::Label(key) => self.label.filter(|_| &**key == "team").map(name),
                Dimension::Day => Some(date.split('T').next().unwrap().to_owned()),
                Dimension::Month => Some(date.rsplitn(2, '-').last().unwrap().to_owned()),
            }
        }
    }

    fn numbers(sums: &Sums) -> [u64; 6] {
        let Sums { calls, denied, estimated, settled, held, cost } = sums;
        let [estimated, settled, held, cost] = [estimated, settled, held, cost].map(|cost| cost.millionths());
        [*calls, *denied, estimated, settled, held, cost]
    }

    /// All that a report can group by, with a label that some agents have and one that none has.
    fn dimensions() -> Vec<Dimension> {
        let labels = ["team", "a"].map(|key| Dimension::Label(key.into()));
        Dimension::PLAIN.into_iter().chain(labels).collect()
    }

    proptest! {
        #[test]
        fn groups_are_what_a_naive_sum_gives(
            events in proptest::collection::vec(made(), 0..200),
            filter in (proptest::option::of(0..3u64), proptest::option::of(0..NAMES.len()), any::<[Option<u16>; 2]>()),
            by in proptest::sample::subsequence(dimensions(), 0..=MAX_GROUP_BY).prop_shuffle(),
        ) {
            let names: Vec<_> = by.iter().map(|dimension| dimension.name()).collect();
            let parsed = match names.is_empty() {
                true => GroupBy::default(),
                false => GroupBy::parse("groupBy", &names.join(",")).unwrap(),
            };
            let (of_agent, of_owner, times) = filter;
            let [since, until] = times.map(|time| time.map(|time| BASE + i64::from(time) * (HOUR / 32)));
            let filter = Arc::new(SpendFilter {
                agent: of_agent.map(agent),
                owner: of_owner.map(|name| NAMES[name].into()),
                since: since.map(Timestamp::from_millis),
                until: until.map(Timestamp::from_millis),
                zone: None,
            });
            let wanted = |one: &Made| {
                of_agent.is_none_or(|of| one.shown(&Dimension::Agent) == Some(agent(of).to_string()))
                    && of_owner.is_none_or(|of| one.shown(&Dimension::Owner).as_deref() == Some(NAMES[of]))
                    && since.is_none_or(|since| one.at >= since)
                    && until.is_none_or(|until| one.at < until)
            };
            // Some of the events in a tally of their own, as those of another tenant.
            let (mut tally, mut other) = (Tally::new(parsed.clone(), Arc::clone(&filter)), Tally::new(parsed, filter));
            let mut naive: BTreeMap<Vec<Option<String>>, [u64; 6]> = BTreeMap::new();
            let mut whole = [0; 6];
            for one in &events {
                let settled = one.settled.map(Cost::from_millionths);
                let tally = if one.at % 2 == 0 { &mut tally } else { &mut other };
                // A hold may end after its decision was added.
                let (is_late, event) = (one.kind == 0 && one.held && one.resource > 1, one.event());
                let at_once = settled.filter(|_| !is_late);
                let place = tally
                    .add(tenant(one.tenant), Timestamp::from_millis(one.at), &event, at_once, one.labels().as_ref())
                    .unwrap();
                if let (true, Some(place), Some(actual)) = (is_late, place, settled) {
                    tally.end_hold(place, Cost::from_millionths(one.cost.unwrap_or_default()), actual);
                }
                let Some(adds) = one.adds().filter(|_| wanted(one)) else { continue };
                let group = naive.entry(by.iter().map(|dimension| one.shown(dimension)).collect()).or_default();
                for (sum, add) in group.iter_mut().chain(&mut whole).zip(adds.iter().cycle()) {
                    *sum += add;
                }
            }
            tally.merge(other).unwrap();
            let (groups, total) = tally.finish();
            let found: Vec<_> = groups
                .iter()
                .map(|group| (group.values.iter().map(|value| value.as_deref().map(str::to_owned)).collect(), numbers(&group.sums)))
                .collect();
            prop_assert_eq!(found, naive.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(numbers(&total), whole);
        }
    }

    #[test]
    fn a_report_with_too_many_groups_is_refused() {
        let mut tally = Tally::new(GroupBy::parse("groupBy", "resource").unwrap(), Arc::default());
        let mut add = |number: usize| {
            let (resource, action) = (format!("docs:{number}"), "read");
            let record = BriefRecord {
                agent: None,
                owner: None,
                action,
                resource: &resource,
                allowed: true,
                cost: None,
                held: false,
            };
            tally.add(TenantId::DEFAULT, Timestamp::default(), &BriefEvent::Decided(record), None, None)
        };
        for number in 0..MAX_SPEND_GROUPS {
            add(number).unwrap();
        }
        add(0).unwrap();
        assert_eq!(add(MAX_SPEND_GROUPS).unwrap_err().code(), Code::TooManyGroups);
    }
}
