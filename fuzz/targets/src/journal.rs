//! The segments of a tenant's folder, with arbitrary bytes.

use std::fs;
use std::ops::ControlFlow;

use super::folder::{Scratch, number};
use kavach_journal::{JournalOptions, LogTails, RecoveryError, scan, verify_chain};

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"KAVACHJ\n";
/// Bytes of its header.
const HEADER: usize = 78;
/// The tenant that the folder belongs to.
const TENANT: [u8; 16] = [7; 16];
/// Segments of one folder.
const MOST: usize = 6;

/// Bit 0: fix the checksums of headers and frames, so that the code behind them is reached. Bit 1: also fix the tenant
/// and the first event in each header. Bit 2: set each segment's link to that of the marker before it. Bit 3: seal all
/// but the last segment. Bit 4: take the bytes as those of a sealed file. Bits 5 and 6: the snapshot's event.
///
/// The rest is segments, each from its magic bytes to the next one's.
pub fn journal(bytes: &[u8]) {
    let Some((&flags, rest)) = bytes.split_first() else { return };
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let scratch = Scratch::new();
    let path = |first_seq: u64, ending: &str| scratch.path().join(format!("{first_seq:020}.journal{ending}"));
    if flag(4) {
        fs::write(path(1, ".zst"), rest).unwrap();
        recovery(&scratch, u64::from(flags >> 5 & 3), None);
        return;
    }
    let mut segments: Vec<Vec<u8>> = cut(rest).into_iter().take(MOST).map(<[u8]>::to_vec).collect();
    let (mut expect, mut link) = (1, [0; 32]);
    for segment in &mut segments {
        if flag(1) && segment.len() >= HEADER {
            segment[8..10].copy_from_slice(&1u16.to_le_bytes());
            segment[10..26].copy_from_slice(&TENANT);
            segment[26..34].copy_from_slice(&u64::to_le_bytes(expect));
        }
        if flag(2) && segment.len() >= HEADER && expect > 1 {
            segment[42..74].copy_from_slice(&link);
        }
        if flag(0) {
            make_checksums_right(segment);
        }
        for frame in frames(segment) {
            match frame {
                Naive::Event(..) => expect += 1,
                Naive::Marker(hash) => link = hash,
            }
        }
    }
    let mut names = Vec::new();
    for (segment, at) in segments.iter().zip(1..) {
        let first_seq = match number::<8>(segment, 26) {
            seq @ 1..=0x7fff_ffff_ffff_ffff if segment.len() >= HEADER => seq,
            _ => at,
        };
        if names.contains(&first_seq) {
            return;
        }
        names.push(first_seq);
        if flag(3) && usize::try_from(at).unwrap() < segments.len() {
            fs::write(path(first_seq, ".zst"), zstd::encode_all(&segment[..], 1).unwrap()).unwrap();
        } else {
            fs::write(path(first_seq, ""), segment).unwrap();
        }
    }
    let single = segments.first().filter(|_| segments.len() == 1).map(Vec::as_slice);
    recovery(&scratch, u64::from(flags >> 5 & 3), single);
}

fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = memchr::memmem::find_iter(bytes, MAGIC).collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

fn make_checksums_right(segment: &mut [u8]) {
    if segment.len() < HEADER {
        return;
    }
    let crc = crc32fast::hash(&segment[..HEADER - 4]);
    segment[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    let mut at = HEADER;
    while segment.len() >= at + 8 {
        let length = usize::try_from(number::<4>(segment, at)).unwrap();
        let Some(end) = (at + 8).checked_add(length).filter(|end| *end <= segment.len()) else { return };
        let crc = checksum(&segment[at..end]);
        segment[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// The checksum of a frame's length and payload.
fn checksum(frame: &[u8]) -> u32 {
    crc32fast::hash(&[&frame[..4], &frame[8..]].concat())
}

enum Naive<'a> {
    Event(u64, &'a [u8]),
    Marker([u8; 32]),
}

/// The whole frames of a segment, up to the first bad one, by the table in the journal's documentation alone.
fn frames(segment: &[u8]) -> Vec<Naive<'_>> {
    let mut found = Vec::new();
    let mut at = HEADER;
    while segment.len() >= at + 16 {
        let length = usize::try_from(number::<4>(segment, at)).unwrap();
        let Some(frame) = segment.get(at..at + 8 + length).filter(|_| (8..=4 << 20).contains(&length)) else { break };
        if number::<4>(frame, 4) != u64::from(checksum(frame)) {
            break;
        }
        let seq = number::<8>(frame, 8);
        if seq < 1 << 63 {
            found.push(Naive::Event(seq, &frame[16..]));
        } else if frame.len() == 80 && frame[8..24] == *b"\xFF\xFEKAVA\xFE\xFF\xFF\xFECHMK\xFE\xFF" {
            found.push(Naive::Marker(frame[48..80].try_into().unwrap()));
        } else {
            break;
        }
        at += 8 + length;
    }
    found
}

type Events = Vec<(u64, Vec<u8>)>;

fn recovered(scratch: &Scratch, snapshot_seq: u64) -> Result<(kavach_journal::Journal, Events), RecoveryError> {
    let mut events = Vec::new();
    let options = JournalOptions { segment_bytes: 1_000 };
    let journal = scan(&scratch.folder(), TENANT, snapshot_seq, &mut |seq, payload| {
        events.push((seq, payload.to_vec()));
        Ok(())
    })?
    .reopen(options, 5)?;
    Ok((journal, events))
}

/// Recovery returns a prefix or refuses; what it returns is there the next time, and can be extended.
fn recovery(scratch: &Scratch, snapshot_seq: u64, single: Option<&[u8]>) {
    let before = scratch.files();
    let mut nothing_odd = |_: u64, _: &[u8]| None;
    let _ = verify_chain(&scratch.folder(), &LogTails::default(), None, &mut nothing_odd);
    assert_eq!(scratch.files(), before, "an inspection changes nothing");
    let (journal, events) = match recovered(scratch, snapshot_seq) {
        Ok(recovered) => recovered,
        Err(RecoveryError::Io { .. }) => return,
        Err(error) => {
            assert_eq!(scratch.files(), before, "what is refused is left as it was: {error}");
            return;
        }
    };
    // No event is missing or made up.
    for ((seq, _), expected) in events.iter().zip(snapshot_seq + 1..) {
        assert_eq!(*seq, expected);
    }
    if let Some(segment) = single {
        let first = number::<8>(segment, 26);
        let whole = frames(segment).into_iter().filter_map(|frame| match frame {
            Naive::Event(seq, payload) => Some((seq, payload)),
            Naive::Marker(_) => None,
        });
        let in_order = whole.zip(first..).take_while(|((seq, _), expected)| seq == expected);
        let expected = in_order.map(|(event, _)| event).filter(|(seq, _)| *seq > snapshot_seq);
        assert!(events.iter().map(|(seq, payload)| (*seq, payload.as_slice())).zip(expected).all(|(a, b)| a == b));
    }
    let last = events.last().map_or(snapshot_seq, |(seq, _)| *seq);
    assert_eq!((journal.written_seq(), journal.next_seq()), (last, last + 1));
    read_back(&journal, &events);
    let link = journal.checkpoint();
    assert!(link.seq <= last);
    drop(journal);

    let (mut journal, again) = recovered(scratch, snapshot_seq).expect("what was recovered is recovered again");
    assert_eq!(again, events);
    journal.append(last + 1, |buffer| buffer.extend_from_slice(b"one more")).unwrap();
    journal.flush().unwrap();
    journal.rotate_if_due(6).unwrap();
    let point = journal.begin_sync().run().unwrap();
    journal.finish_sync(point, 7).unwrap();
    for job in journal.take_compression_jobs() {
        job.run().unwrap();
    }
    journal.close(8).unwrap();
    let (journal, more) = recovered(scratch, snapshot_seq).expect("what was written is recovered");
    assert_eq!(more.split_last(), Some((&(last + 1, b"one more".to_vec()), events.as_slice())));
    read_back(&journal, &more);
    let before = scratch.files();
    let _ = verify_chain(&scratch.folder(), &LogTails::default(), None, &mut nothing_odd);
    assert_eq!(scratch.files(), before);
}

/// Readers return what recovery returned, in either direction; before a snapshot they may report damage.
fn read_back(journal: &kavach_journal::Journal, events: &Events) {
    let reader = journal.reader();
    let from = events.first().map_or(u64::MAX, |(seq, _)| *seq);
    let mut forward = Vec::new();
    let mut walk = reader.cursor(from);
    loop {
        match walk.step() {
            Ok(Some((seq, payload))) => forward.push((seq, payload.to_vec())),
            Ok(None) => break,
            // A walk reads whole segments, so damage before the first event can stop it.
            Err(_) => break,
        }
    }
    assert!(events.starts_with(&forward));
    let mut backward = Vec::new();
    let _ = reader.newest_first(None, &mut |seq, payload| {
        if seq < from {
            return ControlFlow::Break(());
        }
        backward.push((seq, payload.to_vec()));
        ControlFlow::Continue(())
    });
    backward.reverse();
    assert!(events.ends_with(&backward));
    let _ = reader.verify();
    let _ = reader.first_late(0, &mut |payload| Ok(payload.len() > 8));
}
