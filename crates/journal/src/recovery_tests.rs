//! What recovery makes of folders a crash, a disk or a person has changed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::folder::Folder;
use crate::tests::*;
use crate::*;

#[test]
fn every_crash_while_compressing_is_survived() {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
    for _ in 0..3 {
        append(&mut journal, 100);
        journal.flush().unwrap();
        journal.rotate_if_due(0).unwrap();
    }
    sync(&mut journal, 0);
    let folder = Folder::open(dir.path()).unwrap();
    let raw = fs::read(folder.raw(1)).unwrap();
    let job = journal.take_compression_jobs().remove(0);
    job.run().unwrap();
    job.run().unwrap();
    assert!(!folder.raw(1).exists());
    // Renamed, not yet removed; and another one half written.
    fs::write(folder.raw(1), &raw).unwrap();
    let half = files::temporary(&folder.compressed(2));
    fs::write(&half, b"half").unwrap();
    journal.close(1).unwrap();
    let (mut journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
    assert_eq!(events.len(), 3);
    assert!(!half.exists());
    assert!(journal.is_dirty(), "rotated segments wait to be compressed");
    sync(&mut journal, 2);
    compress(&mut journal);
    assert!(!folder.raw(1).exists() && !folder.raw(2).exists());
    assert_eq!(read_all(&journal.reader()), events);
}

#[test]
fn a_lost_active_segment_goes_on_after_a_compressed_one() {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
    append(&mut journal, 100);
    journal.flush().unwrap();
    journal.rotate_if_due(0).unwrap();
    sync(&mut journal, 0);
    compress(&mut journal);
    let folder = Folder::open(dir.path()).unwrap();
    drop(journal);
    for torn in [Some(0), Some(40), None] {
        match torn {
            Some(len) => fs::write(folder.raw(2), vec![0; len]).unwrap(),
            None => fs::remove_file(folder.raw(2)).unwrap(),
        }
        let (mut journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!((events.len(), journal.synced_seq()), (1, 1));
        append(&mut journal, 20);
        journal.flush().unwrap();
        assert_eq!(journal.reader().verify().unwrap().seq, 1);
        drop(journal);
        assert_eq!(recovered(dir.path(), TENANT, 0).unwrap().1.len(), 2);
    }
}

#[test]
fn an_uncompressed_predecessor_of_a_lost_segment_takes_the_next_events() {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
    append(&mut journal, 100);
    journal.flush().unwrap();
    journal.rotate_if_due(0).unwrap();
    journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state")).unwrap();
    drop(journal);
    let folder = Folder::open(dir.path()).unwrap();
    // A copy that was compressed already must not outlive the raw file's growth.
    let compressed = zstd::encode_all(&fs::read(folder.raw(1)).unwrap()[..], 1).unwrap();
    fs::write(folder.compressed(1), compressed).unwrap();
    fs::write(folder.raw(2), b"torn").unwrap();
    let (mut journal, events) = recovered(dir.path(), TENANT, 1).unwrap();
    assert!(events.is_empty());
    assert_eq!(journal.active.first_seq, 1);
    assert!(!folder.compressed(1).exists() && !folder.raw(2).exists());
    append(&mut journal, 1);
    journal.close(4).unwrap();
    assert_eq!(recovered(dir.path(), TENANT, 1).unwrap().1.len(), 1);
}

#[test]
fn damage_is_refused_and_touches_nothing() {
    type Damage = (&'static str, fn(&Path, &Folder));
    let damage: [Damage; 6] = [
        ("the header is torn", |_, f| {
            let path = last_raw(f);
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("be decompressed", |_, f| {
            let path = f.compressed(1);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("event 1 is missing", |_, f| {
            fs::remove_file(f.compressed(1)).unwrap();
        }),
        ("where event", |_, f| {
            let second = f.list().unwrap().segments[1];
            fs::remove_file(f.current(second)).unwrap();
        }),
        ("cut short", |_, f| {
            let path = last_raw(f);
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend_from_within(HEADER_AND_SOME..);
            let upto = bytes.len() - 1;
            bytes[HEADER_AND_SOME - 4] ^= 0x10;
            fs::write(path, &bytes[..upto]).unwrap();
        }),
        ("event 1 is missing", |dir, _| {
            for name in names(dir) {
                fs::remove_file(dir.join(name)).unwrap();
            }
        }),
    ];
    for (detail, change) in damage {
        let (dir, _) = several_segments();
        let folder = Folder::open(dir.path()).unwrap();
        change(dir.path(), &folder);
        fs::write(dir.path().join("left.tmp"), b"").unwrap();
        let before: Vec<_> = sizes(dir.path());
        let error = recovered(dir.path(), TENANT, 0).unwrap_err();
        assert!(matches!(error, RecoveryError::Damaged { .. }));
        let text = error.to_string();
        assert!(text.contains("backup"), "{text}");
        assert!(text.contains(detail) || text.contains("checksum") || text.contains("length"), "{detail}: {text}");
        assert_eq!(sizes(dir.path()), before);
    }
}

const HEADER_AND_SOME: usize = 78 + 4;

fn last_raw(folder: &Folder) -> PathBuf {
    folder.current(*folder.list().unwrap().segments.last().unwrap())
}

fn sizes(dir: &Path) -> Vec<(String, u64)> {
    let size = |name: String| (fs::metadata(dir.join(&name)).unwrap().len(), name);
    let swap = |(size, name)| (name, size);
    names(dir).into_iter().map(size).map(swap).collect()
}

#[test]
fn another_tenants_folder_a_newer_format_and_a_strange_event_are_distinguished() {
    let (dir, _) = several_segments();
    let error = recovered(dir.path(), [1; 16], 0).unwrap_err();
    assert!(error.to_string().contains("another tenant"));
    let refuse = &mut |seq, _: &[u8]| match seq {
        7 => Err("no such kind".to_owned()),
        _ => Ok(()),
    };
    let error =
        recover(&Folder::open(dir.path()).unwrap(), TENANT, 0, 0, JournalOptions::default(), refuse).unwrap_err();
    assert!(matches!(error, RecoveryError::Undecodable { seq: 7, .. }));
    assert!(error.to_string().contains("no such kind"));
    // A snapshot behind the end means that the end is missing.
    let error = recovered(dir.path(), TENANT, SEVERAL + 1).unwrap_err();
    assert!(error.to_string().contains("before the snapshot"), "{error}");
    let path = last_raw(&Folder::open(dir.path()).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..74]);
    bytes[74..78].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
    assert!(matches!(recovered(dir.path(), TENANT, 0), Err(RecoveryError::TooNew { version: 2, supported: 1, .. })));
}

#[test]
fn a_tail_of_zeros_or_noise_is_cut() {
    for tail in [vec![0; 5000], vec![0xFF; 3], payload(9, 700)] {
        let (dir, mut journal) = fresh(JournalOptions::default());
        append(&mut journal, 10);
        journal.close(3).unwrap();
        let path = Folder::open(dir.path()).unwrap().raw(1);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &tail].concat()).unwrap();
        let (journal, events) = recovered(dir.path(), TENANT, 0).unwrap();
        assert_eq!((events.len(), journal.synced_seq()), (1, 1));
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_marker_vouches_for_nothing_behind_its_sync_point() {
    let (dir, mut journal) = fresh(JournalOptions::default());
    append(&mut journal, 10);
    journal.flush().unwrap();
    let job = journal.begin_sync();
    append(&mut journal, 10);
    journal.flush().unwrap();
    let second = journal.reader().end as usize - 1;
    journal.finish_sync(job.run().unwrap(), 3).unwrap();
    append(&mut journal, 10);
    journal.flush().unwrap();
    drop(journal);
    let path = Folder::open(dir.path()).unwrap().raw(1);
    let whole = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        recovered(dir.path(), TENANT, 0).map(|(_, events)| events.len())
    };
    assert_eq!(flipped(second).unwrap(), 1, "written, not synced: cut");
    assert!(matches!(flipped(second - 26), Err(RecoveryError::Damaged { offset: 78, .. })));
}

#[test]
fn an_edited_event_breaks_the_chain_even_with_a_right_checksum() {
    let (dir, mut journal) = fresh(JournalOptions::default());
    for _ in 0..3 {
        append(&mut journal, 10);
        journal.flush().unwrap();
        sync(&mut journal, 0);
    }
    assert_eq!(journal.reader().verify().unwrap(), journal.checkpoint());
    let path = Folder::open(dir.path()).unwrap().raw(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[78 + 16] ^= 1;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[78..82]);
    crc.update(&bytes[86..78 + 26]);
    bytes[82..86].copy_from_slice(&crc.finalize().to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(journal.reader().get(1).is_ok());
    let error = journal.reader().verify().unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
}

/// Two events in two segments, neither ever synced.
fn two_unsynced() -> (tempfile::TempDir, Folder) {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 1 });
    append(&mut journal, 10);
    journal.flush().unwrap();
    journal.rotate_if_due(0).unwrap();
    append(&mut journal, 10);
    journal.flush().unwrap();
    drop(journal);
    let folder = Folder::open(dir.path()).unwrap();
    (dir, folder)
}

#[test]
fn bad_bytes_in_a_compressed_segment_are_damage_whatever_the_markers_say() {
    let (dir, folder) = two_unsynced();
    let mut bytes = fs::read(folder.raw(1)).unwrap();
    bytes[100] ^= 1;
    fs::write(folder.compressed(1), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    // Beside the raw file it does not count, until that one is bad too.
    assert_eq!(recovered(dir.path(), TENANT, 0).unwrap().1.len(), 2);
    fs::write(folder.raw(1), &bytes).unwrap();
    assert!(recovered(dir.path(), TENANT, 0).is_err());
    fs::remove_file(folder.raw(1)).unwrap();
    assert!(recovered(dir.path(), TENANT, 0).is_err());
}

#[test]
fn a_segment_that_does_not_continue_the_chain_is_cut_or_damage() {
    for synced in [false, true] {
        let (dir, folder) = two_unsynced();
        if synced {
            let mut journal = recovered(dir.path(), TENANT, 0).unwrap().0;
            sync(&mut journal, 0);
        }
        let mut bytes = fs::read(folder.raw(2)).unwrap();
        bytes[50] ^= 1;
        let crc = crc32fast::hash(&bytes[..74]);
        bytes[74..78].copy_from_slice(&crc.to_le_bytes());
        fs::write(folder.raw(2), bytes).unwrap();
        match recovered(dir.path(), TENANT, 0) {
            Ok((_, events)) => assert!(!synced && events.len() == 1),
            Err(error) => assert!(synced && error.to_string().contains("hash chain")),
        }
    }
}

#[test]
fn a_whole_frame_in_the_wrong_place_is_not_an_event() {
    let (dir, folder) = two_unsynced();
    let whole = fs::read(folder.raw(2)).unwrap();
    fs::write(folder.raw(2), [&whole[..], &whole[78..]].concat()).unwrap();
    assert_eq!(recovered(dir.path(), TENANT, 0).unwrap().1.len(), 2);
    assert_eq!(fs::read(folder.raw(2)).unwrap(), whole);
}

#[test]
fn a_few_kilobytes_that_claim_to_be_gigabytes_are_not_believed() {
    let (dir, mut journal) = fresh(JournalOptions { segment_bytes: 100 });
    append(&mut journal, 100);
    journal.flush().unwrap();
    journal.rotate_if_due(0).unwrap();
    sync(&mut journal, 0);
    compress(&mut journal);
    journal.close(1).unwrap();
    let path = Folder::open(dir.path()).unwrap().compressed(1);
    let mut bomb = zstd::stream::write::Encoder::new(fs::File::create(&path).unwrap(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..=(segment::MAX_COMPRESSIBLE >> 20) {
        bomb.write_all(&zeros).unwrap();
    }
    bomb.finish().unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 100_000);
    let error = recovered(dir.path(), TENANT, 0).unwrap_err();
    assert!(error.to_string().contains("more than the 268435456 bytes"), "{error}");
}
