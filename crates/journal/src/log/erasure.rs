//! Overwrites what the log still has of erased tenants.
//!
//! A batch keeps its head, and other tenants' events in it stay. So recovery meets a section that is damaged, of a tenant
//! that has no folder any more, and nobody misses it. Only batches that the log says are on disk are touched: in a later
//! one a bad section would look like a torn end.

use std::collections::HashSet;
use std::io;

use super::recovery::{find_batches, sections_of};
use super::slot::{HEADER, SharedSlot};
use super::writer::Log;

impl Log {
    /// Overwrites with zeros everything that the files have of [erased](Log::note_erased) tenants. Tell the log before that
    /// it may forget them, by [`folded`](Log::folded). Blocking, and reads the whole log.
    ///
    /// # Errors
    /// Some of it may be left. Try again.
    pub fn overwrite_erased(&self) -> io::Result<()> {
        // The files must not be read anew meanwhile.
        let _upkeep = self.lock_upkeep();
        let tenants = self.lock_kept().erased.clone();
        if tenants.is_empty() {
            return Ok(());
        }
        // What was appended is on disk with the first, and the second says so.
        self.append_mark(false)?;
        self.append_mark(false)?;
        // No slot is used again while this runs, but for those that are overwritten whole, first of all.
        let certain = {
            let mut state = self.lock();
            state.segments.hold(true);
            state.synced
        };
        let overwritten = self.overwrite_free().and_then(|()| self.append_mark(true)).and_then(|()| {
            // Nothing is appended any more to the segments until now.
            let closed = self.lock().segments.closed();
            closed.iter().try_for_each(|slot| self.overwrite_in(slot, certain, &tenants))
        });
        {
            let mut state = self.lock();
            state.segments.hold(false);
            let floor = state.synced_floor;
            state.segments.floor_synced(floor);
        }
        overwritten?;
        let mut kept = self.lock_kept();
        kept.erased.retain(|tenant| !tenants.contains(tenant));
        self.write_manifest(&kept, false)
    }

    /// Overwrites the free slots, one at a time, so that the log can grow meanwhile.
    fn overwrite_free(&self) -> io::Result<()> {
        let count = self.lock().segments.free();
        for _ in 0..count {
            let Some(slot) = self.lock().segments.take_oldest_free() else { break };
            let overwritten = slot.zero(HEADER, self.options.slot_bytes).and_then(|()| slot.sync());
            self.lock().segments.add_free(slot);
            overwritten?;
        }
        Ok(())
    }

    /// Overwrites the tenants' sections in a slot, and what an earlier use has left behind the last batch.
    fn overwrite_in(&self, slot: &SharedSlot, certain: u64, tenants: &HashSet<[u8; 16]>) -> io::Result<()> {
        let bytes = slot.read()?;
        let mut found = Vec::new();
        find_batches(&bytes, self.id, 0, &mut found);
        // Up to the last batch of the last segment, everything was appended in order. Behind it is what came before.
        let segment = found.iter().map(|batch| batch.head.segment).max().unwrap_or(0);
        let last = found.iter().rev().find(|batch| batch.head.segment == segment);
        let end = last.map_or(HEADER, |last| last.offset + last.length as u64);
        let mut at = HEADER;
        for batch in found.iter().filter(|batch| batch.head.position <= certain && batch.offset < end) {
            if batch.offset < at {
                continue;
            }
            at = batch.offset + batch.length as u64;
            for (section, _, at) in sections_of(batch, &bytes).filter(|(section, ..)| tenants.contains(&section.tenant))
            {
                slot.zero(at, at + u64::from(section.length))?;
            }
        }
        slot.zero(end, self.options.slot_bytes)?;
        slot.sync()
    }
}
