//! A snapshot with arbitrary bytes.

use std::fs;

use super::folder::{Scratch, number, use_it};
use kavach_domain::Tenant;
use kavach_fixture::small_tenant::round_trip;
use kavach_journal::load_snapshot;
use kavach_store::codec;

/// Bytes of a snapshot's header.
const HEADER: usize = 46;
/// The tenant that it belongs to.
const TENANT: [u8; 16] = [7; 16];

/// The first byte says what the rest is: 0 for a file, 1 for a file with its checksum and length to be fixed, anything
/// else for the state alone.
pub fn snapshot(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    let file = match kind {
        0 => rest.to_vec(),
        1 => with_right_header(rest),
        _ => whole(rest),
    };
    let seq = number::<8>(&file, 26).clamp(1, (1 << 63) - 1);
    let scratch = Scratch::new();
    fs::write(scratch.path().join(format!("{seq:020}.snapshot")), &file).unwrap();
    let before = scratch.files();
    let loaded = load_snapshot(&scratch.folder(), TENANT);
    assert_eq!(scratch.files(), before, "loading changes nothing");
    let Ok(loaded) = loaded else { return };
    let Some(snapshot) = loaded.snapshot else {
        assert_eq!(loaded.warnings.len(), 1, "whoever passes over a snapshot says so");
        return;
    };
    assert_eq!(snapshot.seq, seq);
    let Ok(state) = codec::read_state(snapshot) else { return };
    // Reading from a file and from memory agree.
    assert_eq!(codec::decode_state(&file[HEADER..]).unwrap(), state);
    let tenant = Tenant::restore(state);
    if tenant.validate().is_ok() {
        round_trip(&tenant);
        use_it(&tenant);
    }
}

fn whole(state: &[u8]) -> Vec<u8> {
    with_right_header(&[&[0; HEADER], state].concat())
}

fn with_right_header(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    if file.len() < HEADER {
        return file;
    }
    file[..8].copy_from_slice(b"KAVACHS\n");
    file[8..10].copy_from_slice(&1u16.to_le_bytes());
    file[10..26].copy_from_slice(&TENANT);
    let length = (file.len() - HEADER) as u64;
    file[34..42].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&[&file[..42], &file[HEADER..]].concat());
    file[42..HEADER].copy_from_slice(&crc.to_le_bytes());
    file
}
