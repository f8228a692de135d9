//! Reading a trail from its oldest entry on: what exports and live streams are made of.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::settled_costs::SettledCosts;
use super::trail::{STEP_EVENTS, decode};
use crate::actors::messages::AuditTrail;
use crate::domain::{AuditEntry, AuditFilter, TenantId, Timestamp};
use crate::journal::JournalCursor;

/// Where to start reading a trail.
#[derive(Clone, Copy, Debug)]
pub(super) enum StartPoint {
    /// At the first entry that the filter can match.
    Oldest,
    /// At the first entry of this time or later.
    At(Timestamp),
    /// Right after the event with this number.
    After(u64),
}

/// Reads one trail from its oldest entry on, in steps.
pub(super) struct OldestFirst {
    trail: AuditTrail,
    filter: Arc<AuditFilter>,
    start: StartPoint,
    walk: Option<JournalCursor>,
    /// Whether it frees its memory between steps.
    rests: bool,
    /// Settled costs, if the entries show them.
    settled: Option<SettledCosts>,
}

impl OldestFirst {
    /// Reads the entries of `trail` that `filter` matches, from `start` on.
    pub fn new(trail: AuditTrail, filter: Arc<AuditFilter>, start: StartPoint) -> Self {
        Self { trail, filter, start, walk: None, rests: false, settled: None }
    }

    /// Adds settled costs to the entries.
    pub fn with_settled(self, settled: Option<SettledCosts>) -> Self {
        Self { settled, ..self }
    }

    /// Frees its memory after each step. The next step has to read the current piece of the journal again, so a step
    /// runs to the end of its piece, unless `put` breaks.
    pub fn resting(self) -> Self {
        Self { rests: true, ..self }
    }

    /// Reads on and hands entries to `put` until it breaks. Returns whether the trail has ended.
    pub fn step(&mut self, put: &mut dyn FnMut(&AuditEntry) -> io::Result<ControlFlow<()>>) -> io::Result<bool> {
        let ended = self.read(put);
        if let Some(walk) = self.walk.as_mut().filter(|_| self.rests) {
            walk.rest();
        }
        ended
    }

    fn read(&mut self, put: &mut dyn FnMut(&AuditEntry) -> io::Result<ControlFlow<()>>) -> io::Result<bool> {
        let Self { trail, filter, start, walk, rests, settled } = self;
        let oldest = trail.horizon.max(filter.since);
        let walk = match walk {
            Some(walk) => walk,
            None => walk.insert(trail.reader.cursor(match (*start, oldest) {
                (StartPoint::After(seq), _) => seq + 1,
                (StartPoint::Oldest, None) => 1,
                (StartPoint::Oldest, Some(time)) => trail.first_at(time)?,
                (StartPoint::At(time), oldest) => trail.first_at(oldest.map_or(time, |oldest| oldest.max(time)))?,
            })),
        };
        let mut looked_at = 0;
        while looked_at < STEP_EVENTS || (*rests && !walk.is_between_pieces()) {
            looked_at += 1;
            if let Some(settled) = settled.as_mut()
                && settled.needs_more(trail, walk.next_seq())
            {
                settled.read_on()?;
                continue;
            }
            let Some((seq, bytes)) = walk.step()? else { return Ok(true) };
            let (moment, event) = decode(seq, bytes)?;
            let at = moment.at;
            if filter.until.is_some_and(|until| at >= until) {
                return Ok(true);
            }
            if oldest.is_none_or(|oldest| at >= oldest) && filter.matches(trail.tenant, at, &event) {
                let mut entry = AuditEntry::of(trail.tenant, moment, &event);
                if let Some(settled) = settled {
                    settled.fill_in(seq, &mut entry);
                }
                if put(&entry)?.is_break() {
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// The tenant that the trail belongs to.
    pub fn tenant(&self) -> TenantId {
        self.trail.tenant
    }

    /// The number of the last event in this view of the journal.
    pub fn last_seq(&self) -> u64 {
        self.trail.reader.last_seq()
    }

    /// Where to start in order to continue from here.
    pub fn rest_start(&self) -> StartPoint {
        if self.walk.is_some() { StartPoint::After(self.reached()) } else { self.start }
    }

    /// The number of the last event that was read.
    pub fn reached(&self) -> u64 {
        match (&self.walk, self.start) {
            (Some(walk), _) => walk.next_seq().saturating_sub(1),
            (None, StartPoint::After(seq)) => seq,
            (None, StartPoint::Oldest | StartPoint::At(_)) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::entry::AuditKinds;
    use crate::domain::author::By;
    use crate::domain::event::{Change, ChangeRecord};
    use crate::domain::time::DAY_MS;
    use crate::domain::{Event, Moment, TenantSettings};
    use crate::journal::{DataDir, JournalOptions, NewFolder};
    use crate::store::codec;

    #[test]
    fn a_resting_reader_reads_no_piece_twice() {
        const EVENTS: u64 = 2 * STEP_EVENTS as u64 + 10;
        let folder = tempfile::tempdir().unwrap();
        let tenant = TenantId::generate(Timestamp::default(), [7; 10]).unwrap();
        let change =
            Change::TenantCreated { id: tenant, name: "acme".into(), slug: None, settings: TenantSettings::default() };
        let mut bytes = Vec::new();
        let event = Event::Changed(ChangeRecord::new(By::Operator, change));
        codec::encode_event(Moment::new(Timestamp::default(), 1), &event, &mut bytes).unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let (label, options) = (b"{}".as_slice(), JournalOptions::default());
        let (name, tenant_bytes, events) = (tenant.folder_name(), tenant.bytes(), [bytes.clone()]);
        let new = NewFolder { name: &name, label, tenant: tenant_bytes, now_ms: 0, events: &events, options };
        let mut journal = data.create_tenant(new).unwrap();
        for seq in 2..=EVENTS {
            journal.append(seq, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
        }
        journal.flush().unwrap();
        assert!(journal.rotate_if_due(DAY_MS).unwrap());
        journal.append(EVENTS + 1, |buffer| buffer.extend_from_slice(&bytes)).unwrap();
        journal.flush().unwrap();
        let trail = || AuditTrail { tenant, reader: journal.reader(), horizon: None, caller_until: None };
        // The filter matches nothing, so nothing else ends a step.
        let filter = Arc::new(AuditFilter { kind: AuditKinds::Usage, ..AuditFilter::default() });
        let steps = |mut reading: OldestFirst| {
            let mut reached = Vec::new();
            while !reading.step(&mut |_| Ok(ControlFlow::Break(()))).unwrap() {
                reached.push(reading.reached());
            }
            reached
        };
        let step = STEP_EVENTS as u64;
        assert_eq!(steps(OldestFirst::new(trail(), Arc::clone(&filter), StartPoint::Oldest)), [step, 2 * step]);
        assert_eq!(steps(OldestFirst::new(trail(), filter, StartPoint::Oldest).resting()), [EVENTS]);
    }
}
