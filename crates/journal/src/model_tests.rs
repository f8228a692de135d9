//! Random histories, then every cut and flip, compared with a model that knows what was where.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::folder::Folder;
use crate::frame::{self, Frame};
use crate::segment::{HEADER, read_compressed};
use crate::tests::*;
use crate::*;

#[derive(Clone, Debug)]
enum ModelStep {
    Append(usize),
    Flush,
    /// Start a sync; it is finished at the next `Finish`, whatever happened in between.
    Begin,
    Finish,
    Rotate,
    Compress,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let step = prop_oneof![
        6 => (0_usize..60).prop_map(ModelStep::Append),
        4 => Just(ModelStep::Flush),
        2 => Just(ModelStep::Begin),
        2 => Just(ModelStep::Finish),
        2 => Just(ModelStep::Rotate),
        1 => Just(ModelStep::Compress),
        1 => Just(ModelStep::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// Plays a history; returns the events written, and the snapshot-free folder as it was left.
fn play(dir: &Path, steps: &[ModelStep]) -> Events {
    let mut journal = fresh_in(dir, JournalOptions { segment_bytes: 300 });
    let mut under_way = Vec::new();
    for (now, step) in steps.iter().enumerate() {
        let now = now as i64;
        match step {
            ModelStep::Append(size) => append(&mut journal, *size),
            ModelStep::Flush => journal.flush().unwrap(),
            ModelStep::Begin => under_way.push(journal.begin_sync()),
            ModelStep::Finish => {
                for job in under_way.drain(..) {
                    journal.finish_sync(job.run().unwrap(), now).unwrap();
                }
            }
            ModelStep::Rotate => {
                journal.rotate_if_due(now).unwrap();
            }
            ModelStep::Compress => compress(&mut journal),
            ModelStep::Reopen => {
                under_way.clear();
                journal = recovered(dir, TENANT, 0).unwrap().0;
            }
        }
    }
    let mut events = read_all(&journal.reader());
    assert_eq!(events.len() as u64, journal.next_seq() - 1);
    events.truncate(journal.written_seq() as usize);
    events
}

/// A frame, or the header, of the intact folder.
struct FrameSpot {
    segment: u64,
    compressed: bool,
    offset: usize,
    end: usize,
    /// The event that is next here.
    expect: u64,
    marker: Option<(u64, u64)>,
}

fn map_out(folder: &Folder) -> Vec<FrameSpot> {
    let mut spots = Vec::new();
    let mut expect = 1;
    for entry in folder.list().unwrap().segments {
        let bytes = match entry.raw {
            true => fs::read(folder.raw(entry.first_seq)).unwrap(),
            false => read_compressed(&SystemDisk, &folder.compressed(entry.first_seq)).unwrap(),
        };
        let mut spot = |offset, end, expect, marker| {
            spots.push(FrameSpot { segment: entry.first_seq, compressed: !entry.raw, offset, end, expect, marker });
        };
        spot(0, HEADER, expect, None);
        let mut at = HEADER;
        while at < bytes.len() {
            let (frame, len) = frame::parse(&bytes[at..]).unwrap();
            match frame {
                Frame::Event { seq, .. } => {
                    assert_eq!(seq, expect);
                    spot(at, at + len, expect, None);
                    expect += 1;
                }
                Frame::Marker(m) => {
                    let says = Some((m.synced_seq, m.synced_offset));
                    spot(at, at + len, expect, says);
                }
            }
            at += len;
        }
    }
    spots
}

/// The expected result if the first bad bytes are in `bad`, and only the markers that `alive` accepts can be found: the
/// last event left, or `None` for damage.
fn verdict(spots: &[FrameSpot], bad: &FrameSpot, snapshot: u64, alive: impl Fn(&FrameSpot) -> bool) -> Option<u64> {
    let after = |s: &FrameSpot| (s.segment, s.offset) > (bad.segment, bad.offset);
    if bad.expect <= snapshot {
        return None;
    }
    for spot in spots {
        if spot.compressed && spot.segment >= bad.segment {
            return None;
        }
        let Some((seq, offset)) = spot.marker.filter(|_| alive(spot)) else {
            continue;
        };
        let certain = match spot.segment == bad.segment {
            true => after(spot) && offset > bad.offset as u64,
            false => after(spot) && offset > 0,
        };
        if certain || seq >= bad.expect {
            return None;
        }
    }
    let has_one_before = spots.iter().any(|s| s.segment < bad.segment);
    (bad.offset > 0 || has_one_before).then_some(bad.expect - 1)
}

type Files = BTreeMap<String, Vec<u8>>;

fn load(dir: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, fs::read(entry.path()).unwrap());
    }
    files
}

fn store(dir: &Path, files: &Files) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// One changed folder, and what has to come of it.
struct Case<'a> {
    what: String,
    files: &'a Files,
    events: &'a Events,
    snapshot: u64,
    /// The last event left; `None` for damage.
    expected: Option<u64>,
    /// The change is in a segment the snapshot covers, which recovery does not look at.
    unseen: bool,
}

impl Case<'_> {
    fn check(&self, dir: &Path) {
        let what = &self.what;
        store(dir, self.files);
        match (recovered(dir, TENANT, self.snapshot), self.expected) {
            (Ok((journal, found)), Some(left)) => self.go_on(dir, journal, &found, left),
            (Err(RecoveryError::Damaged { .. }), None) => {
                assert_eq!(&load(dir), self.files, "{what}: damage must change nothing");
            }
            (Ok((_, found)), None) => panic!("{what}: {} events instead of damage", found.len()),
            (Err(error), expected) => panic!("{what}: {error} instead of {expected:?}"),
        }
    }

    /// The journal must take more events, and read them back.
    fn go_on(&self, dir: &Path, mut journal: Journal, found: &Events, left: u64) {
        let what = &self.what;
        let kept = &self.events[self.snapshot as usize..left as usize];
        assert_eq!(found, kept, "{what}");
        append(&mut journal, 10);
        journal.rotate_if_due(5).unwrap();
        append(&mut journal, 10);
        journal.close(6).unwrap();
        let (journal, found) = recovered(dir, TENANT, self.snapshot).unwrap();
        assert_eq!(found.len(), kept.len() + 2, "{what}");
        assert_eq!(&found[..kept.len()], kept, "{what}");
        assert_eq!(journal.synced_seq(), left + 2, "{what}");
        if !self.unseen {
            let newest = journal.reader().verify().unwrap();
            assert_eq!(newest, journal.checkpoint(), "{what}");
            let all = read_all(&journal.reader());
            assert_eq!(&all[self.snapshot as usize..], found, "{what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_cut_or_flip_gives_a_prefix_or_is_damage(
        steps in steps(),
        covered in 0_u64..150,
        // Which bytes are tried; trying each of each history takes too long.
        stride in 1_usize..40,
        mask in 1_u8..=255,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let events = play(dir.path(), &steps);
        let folder = Folder::open(dir.path()).unwrap();
        let files = load(dir.path());
        let spots = map_out(&folder);
        let last = events.len() as u64;
        // In a third of the cases there is none.
        let snapshot = last * covered.saturating_sub(50) / 100;
        let check = |what: String, files: &Files, expected, unseen| {
            Case { what, files, events: &events, snapshot, expected, unseen }.check(dir.path());
        };
        check("untouched".into(), &files, Some(last), false);
        let starts = || spots.iter().filter(|s| s.offset == 0);
        // One that ends with the snapshot's event is read for its closing marker.
        let first_read = starts().rfind(|s| s.segment <= snapshot.max(1)).unwrap().segment;
        for segment in starts().filter(|s| !s.compressed).map(|s| s.segment) {
            let name = format!("{segment:020}.journal");
            let size = files[&name].len();
            let unseen = segment < first_read;
            for at in (0..size).rev().step_by(stride) {
                let inside = |s: &&FrameSpot| s.segment == segment && (s.offset..s.end).contains(&at);
                let bad = spots.iter().find(inside).unwrap();
                let mut flipped = files.clone();
                flipped.get_mut(&name).unwrap()[at] ^= mask;
                let alive = |s: &FrameSpot| !std::ptr::eq(s, bad);
                let expected = match unseen {
                    true => Some(last),
                    false => verdict(&spots, bad, snapshot, alive),
                };
                check(format!("flip {at} of {name}"), &flipped, expected, unseen);

                let mut cut = files.clone();
                cut.get_mut(&name).unwrap().truncate(at);
                let alive = |s: &FrameSpot| s.segment != segment || s.end <= at;
                let whole = at == bad.offset && at > 0;
                // A cut between two frames of the last segment leaves a whole, shorter journal; in another
                // segment, the next one's header is what no longer fits.
                let next = spots.iter().find(|s| s.segment > segment);
                let expected = match (whole, next) {
                    _ if unseen => Some(last),
                    (true, None) => Some(bad.expect - 1).filter(|&left| left >= snapshot),
                    (true, Some(next)) => {
                        let bad = FrameSpot { expect: bad.expect, ..*next };
                        verdict(&spots, &bad, snapshot, alive)
                    }
                    _ => verdict(&spots, bad, snapshot, alive),
                };
                check(format!("cut {name} at {at}"), &cut, expected, unseen);
            }
        }
    }
}

/// 40 by default; `KAVACH_CASES` for a longer search.
fn cases() -> u32 {
    let asked = std::env::var("KAVACH_CASES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(40)
}
