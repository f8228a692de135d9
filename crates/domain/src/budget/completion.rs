//! What is recorded with an event, and computed before it is: the windows that it opens in policies with a time zone, and
//! the thresholds that a usage report reaches.
//!
//! The bounds are computed once, by the rules that the server knows at that moment. Applying the event uses only what it
//! carries. So replay needs no rules, and a zone whose rules change moves no count of the past.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::budget::calendar::{Calendar, Span};
use crate::budget::crossed::Crossed;
use crate::budget::opening::Opened;
use crate::budget::policy::{Policy, PolicyTerms};
use crate::budget::settlement::UsageRecord;
use crate::event::{Change, ChangeRecord, Event, Extras, Record};
use crate::instance::lease::LeaseRecord;
use crate::moment::Moment;
use crate::tenant::Tenant;

impl Event<'_> {
    /// The windows that it opens.
    pub fn opens(&self) -> &[Opened] {
        match self {
            Self::Decided(record) => record.extras.as_ref().map_or(&[], |extras| &extras.opens),
            Self::Changed(record) => &record.opens,
            Self::Used(record) => &record.opens,
            Self::Leased(LeaseRecord::Lent { opens, .. }) => opens,
            Self::Delivered(_) | Self::Leased(_) => &[],
        }
    }

    fn with_opens(self, opens: Vec<Opened>) -> Self {
        match self {
            Self::Decided(record) => {
                let extras = Extras { opens, ..record.extras.as_deref().cloned().unwrap_or_default() };
                Self::Decided(Record { extras: Some(Box::new(extras)), ..record })
            }
            Self::Changed(record) => Self::Changed(ChangeRecord { opens, ..record }),
            Self::Used(record) => Self::Used(UsageRecord { opens, ..record }),
            // It touches no policy.
            Self::Delivered(record) => Self::Delivered(record),
            Self::Leased(LeaseRecord::Lent { policy, lent, crossed, .. }) => {
                Self::Leased(LeaseRecord::Lent { policy, lent, opens, crossed })
            }
            Self::Leased(record) => Self::Leased(record),
        }
    }

    /// Whether it gives the policy another calendar. Then it opens no window of the old one, even if the clock was set
    /// back: the counts go on as they are, until the new calendar ends them.
    pub(crate) fn changes_calendar_of(&self, policy: &Policy) -> bool {
        let Self::Changed(ChangeRecord { change: Change::PolicyUpdated { policy: id, terms, .. }, .. }) = self else {
            return false;
        };
        *id == policy.profile.id
            && match terms {
                Some(terms) => terms.calendar != policy.profile.terms.calendar,
                None => policy.profile.terms.calendar != Calendar::default(),
            }
    }
}

impl Event<'_> {
    fn with_crossed(self, crossed: Vec<Crossed>) -> Self {
        match self {
            Self::Used(record) => Self::Used(UsageRecord { crossed, ..record }),
            Self::Leased(LeaseRecord::Lent { policy, lent, opens, .. }) => {
                Self::Leased(LeaseRecord::Lent { policy, lent, opens, crossed })
            }
            other => other,
        }
    }
}

impl Tenant {
    /// The event with all that has to be recorded with it: the windows that it opens, and the
    /// thresholds that a usage report reaches. Whoever records an event records
    /// and applies this one. Mostly it is the event itself.
    pub fn complete<'e, 'a>(&self, moment: Moment, event: &'e Event<'a>) -> Cow<'e, Event<'a>> {
        let may_open = self.may_open(event);
        if !may_open && !matches!(event, Event::Used(_) | Event::Leased(_)) {
            return Cow::Borrowed(event);
        }
        let opens = if may_open { self.opens(moment, event) } else { Vec::new() };
        let opened = if opens.is_empty() { Cow::Borrowed(event) } else { Cow::Owned(event.clone().with_opens(opens)) };
        // A decision knows what it reaches: the check of its budgets has looked at them.
        let crossed = match event {
            Event::Used(record) => self.crossed_by_usage(moment, record),
            Event::Leased(LeaseRecord::Lent { policy, lent, .. }) => self.crossed_by_lease(moment, *policy, lent),
            _ => return opened,
        };
        if crossed.is_empty() { opened } else { Cow::Owned(opened.into_owned().with_crossed(crossed)) }
    }

    /// Whether any policy could need it.
    fn may_open(&self, event: &Event<'_>) -> bool {
        !self.zoned_policies().is_empty()
            || matches!(event, Event::Changed(record) if terms_of(&record.change).is_some_and(|terms| terms.calendar.is_zoned()))
    }

    fn opens(&self, moment: Moment, event: &Event<'_>) -> Vec<Opened> {
        let mut opens = Vec::new();
        for place in self.touched_by(moment, event) {
            let Some(policy) = self.policies().get(place as usize) else { continue };
            let profile = &policy.profile;
            if !profile.terms.calendar.is_zoned() || event.changes_calendar_of(policy) {
                continue;
            }
            let over = Span::ALL.into_iter().filter(|span| policy.is_over(*span, moment.wall));
            opens.extend(
                over.map(|span| Opened::new(profile.id, span, profile.terms.calendar.bounds(span, moment.wall))),
            );
        }
        if let Event::Changed(ChangeRecord { change, .. }) = event {
            self.open_changed(moment, change, &mut opens);
        }
        opens
    }

    /// Places of the policies whose windows the event goes on to.
    fn touched_by(&self, moment: Moment, event: &Event<'_>) -> SmallVec<[u32; 8]> {
        if moment.wall < self.wall() {
            return self.zoned_policies().into();
        }
        match event {
            Event::Decided(record) if record.allowed() => self.policies_of_decision(record),
            Event::Used(record) => self.policies_of_usage(record),
            Event::Changed(ChangeRecord { change: Change::PolicyReset { policy, .. }, .. }) => {
                self.place_of_policy(policy.seq()).into_iter().collect()
            }
            Event::Changed(ChangeRecord { change: Change::PoliciesReset { .. }, .. }) => self.zoned_policies().into(),
            Event::Leased(LeaseRecord::Lent { policy, .. }) => self.place_of_policy(*policy).into_iter().collect(),
            Event::Decided(_) | Event::Changed(_) | Event::Delivered(_) | Event::Leased(_) => SmallVec::new(),
        }
    }

    /// Windows of a policy that is made, or that counts otherwise from now on.
    fn open_changed(&self, moment: Moment, change: &Change, opens: &mut Vec<Opened>) {
        let Some(terms) = terms_of(change).filter(|terms| terms.calendar.is_zoned()) else { return };
        let (id, limits, old) = match change {
            Change::PolicyCreated { policy, limits, .. } => (*policy, limits, None),
            Change::PolicyUpdated { policy, limits, .. } => (*policy, limits, self.policy_of(policy.seq())),
            _ => return,
        };
        for span in Span::ALL.into_iter().filter(|span| *span != Span::Total && terms.counts(limits, *span)) {
            let goes_on =
                |old: &Policy| old.profile.terms.calendar == terms.calendar && old.usage.count(span).is_some();
            if !old.is_some_and(goes_on) {
                opens.push(Opened::new(id, span, terms.calendar.bounds(span, moment.wall)));
            }
        }
    }
}

/// The terms of the policy that the change makes or changes.
fn terms_of(change: &Change) -> Option<&PolicyTerms> {
    match change {
        Change::PolicyCreated { terms, .. } | Change::PolicyUpdated { terms, .. } => terms.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::By;
    use crate::budget::counts::Period;
    use crate::budget::policy_commands::{
        CreatePolicy, NewPolicy, PolicyPatch, PolicyView, ResetPolicies, UpdatePolicy,
    };
    use crate::tenant::Command;
    use crate::tenant::commands::TenantSpec;
    use crate::{PolicyId, TenantId, Timestamp};

    struct Zoned {
        tenant: Tenant,
        events: Vec<(Moment, Event<'static>)>,
        policy: Option<PolicyId>,
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse("at", text).unwrap()
    }

    impl Zoned {
        /// A tenant with such a policy.
        fn new(now: &str, policy: &str) -> Self {
            let mut zoned = Self { tenant: Tenant::default(), events: Vec::new(), policy: None };
            let change = TenantSpec::default_tenant().created(TenantId::DEFAULT);
            zoned.happen(zoned.tenant.next_moment(at(now)), change);
            let new: NewPolicy = serde_json::from_str(policy).unwrap();
            zoned.policy = Some(zoned.run(now, CreatePolicy::parse(new).unwrap()));
            zoned
        }

        fn happen(&mut self, moment: Moment, change: Change) {
            let event = Event::Changed(ChangeRecord::new(By::Operator, change));
            let event = self.tenant.complete(moment, &event).into_owned();
            self.tenant.apply(moment, &event);
            self.events.push((moment, event));
        }

        fn run<C: Command>(&mut self, now: &str, command: C) -> C::Subject {
            let moment = self.tenant.next_moment(at(now));
            let (change, subject) = command.decide(&self.tenant, By::Operator, moment).unwrap();
            self.happen(moment, change.unwrap());
            subject
        }

        fn patch(&mut self, now: &str, json: &str) {
            let (id, patch) = (self.policy.unwrap(), serde_json::from_str::<PolicyPatch>(json).unwrap());
            self.run(now, UpdatePolicy { id, patch });
        }

        fn opened(&self) -> Vec<(Span, String, String)> {
            let shown = |millis| Timestamp::from_millis(millis).to_string().replace(":00.000Z", "");
            let opens = self.events.last().unwrap().1.opens();
            opens.iter().map(|opened| (opened.period, shown(opened.start), shown(opened.end))).collect()
        }
    }

    #[test]
    fn an_event_that_finds_a_window_over_opens_the_next() {
        let limits = r#"{"limits":{"maxCallsPerWeek":5},"timeZone":"Europe/Berlin"}"#;
        let mut zoned = Zoned::new("2026-10-24T10:00:00Z", limits);
        let day = |start: &str, end: &str| (Span::Day, start.to_owned(), end.to_owned());
        assert_eq!(zoned.opened()[0], day("2026-10-23T22:00", "2026-10-24T22:00"));
        assert_eq!(zoned.opened().len(), 3, "a day, a week and a month");
        zoned.run("2026-10-24T21:59:59Z", ResetPolicies(Period::All));
        assert_eq!(zoned.opened(), []);
        zoned.run("2026-10-24T22:00:00Z", ResetPolicies(Period::All));
        assert_eq!(zoned.opened(), [day("2026-10-24T22:00", "2026-10-25T23:00")]);
        zoned.patch("2026-10-25T10:00:00Z", r#"{"limits":{"maxCallsPerHour":2}}"#);
        assert_eq!(zoned.opened(), [(Span::Hour, "2026-10-25T10:00".to_owned(), "2026-10-25T11:00".to_owned())]);
        // A clock that is set back opens what it finds over, whatever the event is about.
        zoned.run("2026-10-23T10:00:00Z", ResetPolicies(Period::Day));
        assert_eq!(zoned.opened().len(), 2, "a day and an hour: {:?}", zoned.opened());
    }

    #[test]
    fn a_policy_by_utc_opens_nothing() {
        let mut zoned =
            Zoned::new("2026-10-24T10:00:00Z", r#"{"limits":{"maxCallsPerWeek":5},"weekStartsOn":"sunday"}"#);
        assert_eq!(zoned.opened(), []);
        zoned.run("2027-10-24T21:59:59Z", ResetPolicies(Period::All));
        assert_eq!(zoned.opened(), []);
    }

    #[test]
    fn another_calendar_keeps_the_counts_until_it_ends_the_window() {
        let mut zoned = Zoned::new("2026-10-24T10:00:00Z", r#"{"limits":{"maxCallsPerDay":5}}"#);
        let moment = zoned.tenant.next_moment(at("2026-10-24T11:00:00Z"));
        zoned.tenant.policy_mut(0).unwrap().charge(moment, 3, crate::budget::cost::Cost::default(), false);
        zoned.patch("2026-10-24T22:30:00Z", r#"{"timeZone":"Europe/Berlin"}"#);
        let calls = |zoned: &Zoned, now| {
            let view = PolicyView::find(&zoned.tenant, zoned.policy.unwrap(), at(now)).unwrap();
            view.windows[0].calls
        };
        // In Berlin it is the 25th already: the open day goes on until the end of that.
        assert_eq!(calls(&zoned, "2026-10-24T23:59:59Z"), 3);
        assert_eq!(calls(&zoned, "2026-10-25T22:59:59Z"), 3);
        assert_eq!(calls(&zoned, "2026-10-25T23:00:00Z"), 0);
    }

    #[test]
    fn a_clock_set_back_and_another_calendar_at_once_grant_nothing_twice() {
        let calendars = [
            r#"{"timeZone":"UTC","weekStartsOn":"monday"}"#,
            r#"{"timeZone":"UTC","weekStartsOn":"sunday"}"#,
            r#"{"timeZone":"Asia/Kolkata","weekStartsOn":"monday"}"#,
            r#"{"timeZone":"Africa/Cairo","weekStartsOn":"sunday"}"#,
        ];
        for (old, new) in calendars.iter().flat_map(|old| calendars.iter().map(move |new| (old, new))) {
            if old == new {
                continue;
            }
            let old = old.replacen('{', r#"{"limits":{"maxCallsPerDay":5,"maxCallsPerWeek":5},"#, 1);
            // A Tuesday; the clock goes back to Monday, some hours before.
            let mut zoned = Zoned::new("2026-12-01T00:30:00Z", &old);
            let moment = zoned.tenant.next_moment(at("2026-12-01T00:30:00Z"));
            zoned.tenant.policy_mut(0).unwrap().charge(moment, 3, crate::budget::cost::Cost::default(), false);
            let back = "2026-11-30T20:30:00Z";
            zoned.patch(back, new);
            let view = PolicyView::find(&zoned.tenant, zoned.policy.unwrap(), at(back)).unwrap();
            for window in &view.windows {
                let has_the_calls = window.ends_at.is_some_and(|end| end > moment.wall);
                assert!(!has_the_calls || window.calls == 3, "{old} {new}: {window:?}");
            }
        }
    }

    #[test]
    fn replay_uses_the_bounds_of_the_events_and_no_rules() {
        let mut zoned =
            Zoned::new("2026-10-24T10:00:00Z", r#"{"limits":{"maxCallsPerDay":5},"timeZone":"Asia/Kolkata"}"#);
        zoned.run("2026-10-25T10:00:00Z", ResetPolicies(Period::All));
        let replayed = |change: fn(&mut Opened)| {
            let mut tenant = Tenant::default();
            for (moment, event) in &zoned.events {
                let mut event = event.clone();
                if let Event::Changed(record) = &mut event {
                    record.opens.iter_mut().for_each(change);
                }
                tenant.apply(*moment, &event);
            }
            tenant
        };
        assert_eq!(replayed(|_| ()).state(), zoned.tenant.state());
        // Under other rules the zone was an hour further ahead.
        let other = replayed(|opened| (opened.start, opened.end) = (opened.start - 3_600_000, opened.end - 3_600_000));
        let shown = |tenant: &Tenant| tenant.policies()[0].usage.day.open.bounds();
        assert_eq!(shown(&other).start, shown(&zoned.tenant).start - 3_600_000);
    }

    #[test]
    fn temporary_limits_end_by_themselves() {
        let policy = r#"{"limits":{"maxCallsPerDay":1,"maxTokensCostPerDay":2},
            "temporary":{"limits":{"maxCallsPerDay":5,"maxTokensCostPerDay":null,"maxCallsPerHour":4},"until":"2026-10-24T12:00:00Z"}}"#;
        let mut zoned = Zoned::new("2026-10-24T10:00:00Z", policy);
        let limits = |zoned: &Zoned, now| {
            let limits = zoned.tenant.policies()[0].limits(at(now)).into_owned();
            (limits.max_calls_per_day, limits.max_tokens_cost_per_day.is_some(), limits.max_calls_per_hour)
        };
        assert_eq!(limits(&zoned, "2026-10-24T11:59:59.999Z"), (Some(5), false, Some(4)));
        assert_eq!(limits(&zoned, "2026-10-24T12:00:00Z"), (Some(1), true, None));
        // A change of its own limits shows once they hold.
        zoned.patch("2026-10-24T11:00:00Z", r#"{"limits":{"maxCallsPerDay":3}}"#);
        assert_eq!(limits(&zoned, "2026-10-24T11:59:59Z").0, Some(5));
        assert_eq!(limits(&zoned, "2026-10-24T12:00:00Z").0, Some(3));
        zoned.patch("2026-10-24T11:30:00Z", r#"{"temporary":null}"#);
        assert_eq!(limits(&zoned, "2026-10-24T11:59:59Z"), (Some(3), true, None));
    }
}
