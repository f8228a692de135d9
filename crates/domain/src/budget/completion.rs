//! What is recorded with an event, and computed before it is: the windows that it opens in policies with a time zone.
//!
//! The bounds are computed once, by the rules that the server knows at that moment. Applying the event uses only what it
//! carries. So replay needs no rules, and a zone whose rules change moves no count of the past.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::budget::calendar::Span;
use crate::budget::opening::Opened;
use crate::budget::policy::{Policy, PolicyTerms};
use crate::budget::settlement::UsageRecord;
use crate::event::{Change, ChangeRecord, Event, Extras, Record};
use crate::moment::Moment;
use crate::tenant::Tenant;

impl Event<'_> {
    /// The windows that it opens.
    pub fn opens(&self) -> &[Opened] {
        match self {
            Self::Decided(record) => record.extras.as_ref().map_or(&[], |extras| &extras.opens),
            Self::Changed(record) => &record.opens,
            Self::Used(record) => &record.opens,
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
        }
    }
}

impl Tenant {
    /// The event with all that has to be recorded with it: the windows that it opens. Whoever records an event records
    /// and applies this one. Mostly it is the event itself.
    pub fn complete<'e, 'a>(&self, moment: Moment, event: &'e Event<'a>) -> Cow<'e, Event<'a>> {
        if !self.may_open(event) {
            return Cow::Borrowed(event);
        }
        let opens = self.opens(moment, event);
        if opens.is_empty() { Cow::Borrowed(event) } else { Cow::Owned(event.clone().with_opens(opens)) }
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
            if !profile.terms.calendar.is_zoned() {
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
            Event::Decided(_) | Event::Changed(_) => SmallVec::new(),
        }
    }

    /// Windows of a policy that is made, or that counts otherwise from now on.
    fn open_changed(&self, moment: Moment, change: &Change, opens: &mut Vec<Opened>) {
        let Some(terms) = terms_of(change).filter(|terms| terms.calendar.is_zoned()) else { return };
        let (id, limits, old) = match change {
            Change::PolicyCreated { policy, limits, .. } => (*policy, limits, None),
            Change::PolicyUpdated { policy, limits, .. } => {
                let place = self.place_of_policy(policy.seq());
                (*policy, limits, place.and_then(|place| self.policies().get(place as usize)))
            }
            _ => return,
        };
        for span in Span::ALL.into_iter().filter(|span| *span != Span::Total && terms.counts(limits, *span)) {
            let goes_on =
                |old: &Policy| old.profile.terms.calendar == terms.calendar && old.usage.count(span).is_some();
            if !old.is_some_and(goes_on) {
                // An old calendar's window may be among them.
                opens.retain(|opened| opened.policy != id.seq() || opened.period != span);
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
