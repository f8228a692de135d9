//! Format version 1, byte for byte: what was once written stays readable.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::tests::*;
use crate::*;

/// Where the committed folder of format version 1 is.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-v1")
}

/// Writes what the golden folder holds: a compressed segment, one in use, a snapshot and a label.
fn write_golden(root: &Path) -> PathBuf {
    let dir = DataDir::open(root).unwrap();
    let first = [b"tenant created".to_vec()];
    let new = NewFolder {
        name: "golden",
        label: b"{\"slug\":\"golden\"}\n",
        tenant: *b"0123456789abcdef",
        now_ms: 1_700_000_000_000,
        events: &first,
        options: JournalOptions { segment_bytes: 400 },
    };
    let mut journal = dir.create_tenant(new).unwrap();
    let mut now = 1_700_000_000_000;
    while journal.next_seq() <= 6 {
        append(&mut journal, 60);
        journal.flush().unwrap();
        now += 1;
        journal.rotate_if_due(now).unwrap();
        if journal.written_seq() == 5 {
            sync(&mut journal, now);
            compress(&mut journal);
            journal.begin_snapshot(journal.written_seq()).run(|file| file.write_all(b"state of five events")).unwrap();
        }
    }
    journal.close(now).unwrap();
    dir.path().join("golden")
}

#[test]
fn format_version_1_is_written_and_read_byte_for_byte() {
    let root = tempfile::tempdir().unwrap();
    let written = write_golden(root.path());
    assert_eq!(names(&written), names(&golden()));
    for name in names(&golden()) {
        let read = |dir: &Path| match name.ends_with(".zst") {
            // What matters is what is inside; another zstd release may pack it differently.
            true => segment::read_compressed(&SystemDisk, &dir.join(&name)).unwrap(),
            false => fs::read(dir.join(&name)).unwrap(),
        };
        assert_eq!(read(&written), read(&golden()), "{name}");
    }
    // Recovery may write, so a copy is opened.
    let copy = tempfile::tempdir().unwrap();
    for name in names(&golden()) {
        fs::copy(golden().join(&name), copy.path().join(&name)).unwrap();
    }
    let tenant = *b"0123456789abcdef";
    let mut snapshot = load_snapshot(&Folder::open(copy.path()).unwrap(), tenant).unwrap().snapshot.unwrap();
    let mut state = Vec::new();
    snapshot.read_to_end(&mut state).unwrap();
    assert_eq!((snapshot.seq, &state[..]), (5, &b"state of five events"[..]));
    let (journal, events) = recovered(copy.path(), tenant, 0).unwrap();
    assert_eq!(events[0], (1, b"tenant created".to_vec()));
    assert_eq!(events[1..], [2, 3, 4, 5, 6].map(|seq| (seq, payload(seq, 60))));
    assert_eq!(journal.reader().verify().unwrap(), journal.checkpoint());
    assert!(!journal.is_dirty());
}

#[test]
#[ignore = "writes the golden folder; run once for each new format version"]
fn make_the_golden_folder() {
    let root = tempfile::tempdir().unwrap();
    let written = write_golden(root.path());
    fs::create_dir_all(golden()).unwrap();
    for name in names(&written) {
        fs::copy(written.join(&name), golden().join(&name)).unwrap();
    }
}
