//! Every byte of a tenant's files is cut off or flipped. What comes back is the state up to some event, and no less
//! than the disk had confirmed; or the tenant stays down, and the error names the file, the place and what to do.
//! Nothing else may happen.
//!
//! The events are those of a real server. The cost of a cut or a flip is computed here from the byte tables of
//! `src/journal/mod.rs`, not by the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use kavach::domain::{Tenant, TenantId, Timestamp};
use kavach::journal::{DataDir, Folder, Journal, JournalOptions, NewFolder, Tail};
use kavach::store::codec;
use kavach::store::loader;
use serde_json::{Value, json};

use crate::damage::files as files_like;
use crate::harness::{Options, Server};
use crate::world::{Agent, Tenant as Named, call, permits};

const HEADER: usize = 78;
const MARKER: &[u8] = b"\xff\xfeKAVA\xfe\xff\xff\xfeCHMK\xfe\xff";

/// A folder's files by name.
type Files = BTreeMap<String, Vec<u8>>;

fn read(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Makes the folder hold exactly these files.
fn write(folder: &Path, files: &Files) {
    let there = read(folder);
    for name in there.keys().filter(|name| !files.contains_key(*name)) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, bytes) in files.iter().filter(|(name, bytes)| there.get(*name) != Some(*bytes)) {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A header, an event or a marker of a segment file.
struct Piece {
    at: usize,
    end: usize,
    /// The number of the next event at that place.
    next: u64,
    /// What a marker says is on disk: the last event, and bytes of this file.
    says: Option<(u64, u64)>,
    /// An event's payload.
    payload: Vec<u8>,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut next = u64_at(bytes, 26);
    let mut pieces = vec![Piece { at: 0, end: HEADER, next, says: None, payload: Vec::new() }];
    let mut at = HEADER;
    while at < bytes.len() {
        let end = at + 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let payload = &bytes[at + 8..end];
        let mut piece = Piece { at, end, next, says: None, payload: Vec::new() };
        if payload.starts_with(MARKER) {
            piece.says = Some((u64_at(payload, 16), u64_at(payload, 24)));
        } else {
            assert_eq!(u64_at(payload, 0), next);
            piece.payload = payload[8..].to_vec();
            next += 1;
        }
        pieces.push(piece);
        at = end;
    }
    pieces
}

/// The tenant after each of its events, as a snapshot's bytes.
struct History {
    id: TenantId,
    events: Vec<Vec<u8>>,
    states: Vec<Vec<u8>>,
}

impl History {
    fn of(id: TenantId, journal: &[u8]) -> Self {
        let payloads = pieces(journal).into_iter().map(|piece| piece.payload);
        let events: Vec<_> = payloads.filter(|payload| !payload.is_empty()).collect();
        let mut tenant = Tenant::default();
        let mut states = vec![Vec::new()];
        for (seq, event) in (1..).zip(&events) {
            let (moment, event) = codec::decode_event(seq, event).unwrap();
            tenant.apply(moment, &event);
            states.push(codec::encode_state(&tenant.state()).unwrap());
        }
        Self { id, events, states }
    }

    fn last(&self) -> u64 {
        self.events.len() as u64
    }

    /// The result of loading a folder: the last event of a tenant with the right state, or a sentence.
    fn load(&self, folder: &Path) -> Result<u64, String> {
        let now = Timestamp::from_millis(crate::retention::now());
        let loaded =
            loader::load(&Folder::open(folder).unwrap(), &Tail::default(), self.id, now, JournalOptions::default());
        let loaded = loaded.map_err(|error| error.problem)?;
        let state = loaded.tenant.state();
        let as_it_was = self.states.get(state.seq as usize).filter(|_| state.seq > 0);
        assert!(as_it_was.is_some_and(|was| *was == codec::encode_state(&state).unwrap()), "it never was like that");
        assert_eq!(loaded.journal.written_seq(), state.seq);
        Ok(state.seq)
    }

    fn check(&self, folder: &Path, files: &Files, name: &str, what: &str, expected: Expected) {
        write(folder, files);
        let loaded = self.load(folder);
        match (&loaded, expected) {
            (Ok(seq), Expected::Prefix(wanted)) => assert_eq!(*seq, wanted, "{what}"),
            (Ok(seq), Expected::AllOrRefusal) => assert_eq!(*seq, self.last(), "{what}"),
            (Err(sentence), Expected::Refusal | Expected::AllOrRefusal) => {
                let place = folder.join(name).display().to_string();
                // If a whole file is gone, the sentence names the folder.
                let named = sentence.contains(&place) || sentence.contains(&*folder.to_string_lossy());
                assert!(named && sentence.contains("at byte") && sentence.contains("backup"), "{what}: {sentence}");
                // If not even the first event is left, its remains may be cut off.
                if !sentence.contains("none of the tenant's events") {
                    assert_eq!(&read(folder), files, "{what}: it was refused and changed");
                }
            }
            _ => panic!("{what}: {loaded:?} instead of {expected:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The tenant as it was after that event.
    Prefix(u64),
    Refusal,
    /// The change may be in bits without meaning.
    AllOrRefusal,
}

/// What may come of an active segment if `bad` is damaged and these markers are left.
fn verdict(bad: &Piece, markers: impl Iterator<Item = (u64, u64)>, snapshot: u64) -> Expected {
    let mut certain = bad.next <= snapshot;
    for (seq, offset) in markers {
        certain |= seq >= bad.next || offset > bad.at as u64;
    }
    // A tenant without its first event is none.
    if certain || bad.next == 1 { Expected::Refusal } else { Expected::Prefix(bad.next - 1) }
}

/// The bytes to try: all of the last few frames, and some of the rest, different ones each time. All in a long run.
fn tried(len: usize) -> impl Iterator<Item = usize> {
    let all = std::env::var_os("KAVACH_CRASH_ROUNDS").is_some();
    let some = fastrand::usize(0..SOME);
    (0..len).filter(move |at| all || at + 500 >= len || at % SOME == some)
}

const SOME: usize = 17;

/// A folder in memory, if there is one, since recovery syncs what it cuts.
fn fast_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn flipped(files: &Files, name: &str, at: usize) -> Files {
    let mut files = files.clone();
    files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
    files
}

fn cut(files: &Files, name: &str, at: usize) -> Files {
    let mut files = files.clone();
    files.get_mut(name).unwrap().truncate(at);
    files
}

/// Every cut and flip of an active segment, the folder's last. Returns how many are refused.
fn damage_active(history: &History, folder: &Path, snapshot: u64) -> usize {
    let files = read(folder);
    let name = files.keys().rfind(|name| name.ends_with(".journal")).unwrap();
    let pieces = pieces(&files[name]);
    let first = !files.keys().any(|other| other.contains(".journal") && other < name);
    let mut refused = 0;
    for at in tried(files[name].len()) {
        let bad = pieces.iter().position(|piece| (piece.at..piece.end).contains(&at)).unwrap();
        let markers = |upto: usize| {
            let all = pieces.iter().enumerate().filter(move |(n, _)| *n != bad && *n < upto);
            all.filter_map(|(_, piece)| piece.says)
        };
        let mut expected = verdict(&pieces[bad], markers(pieces.len()), snapshot);
        let mut after_cut = verdict(&pieces[bad], markers(bad), snapshot);
        if at == pieces[bad].at && at > 0 && pieces[bad].next > snapshot.max(1) {
            // Cut between two frames: complete, and shorter.
            after_cut = Expected::Prefix(pieces[bad].next - 1);
        }
        if bad == 0 && first {
            // Without a header there is nothing to continue from.
            (expected, after_cut) = (Expected::Refusal, Expected::Refusal);
        }
        refused += usize::from(expected == Expected::Refusal);
        history.check(folder, &flipped(&files, name, at), name, &format!("byte {at} of {name} flipped"), expected);
        history.check(folder, &cut(&files, name, at), name, &format!("{name} cut at {at}"), after_cut);
    }
    write(folder, &files);
    refused
}

/// Every cut and flip of a snapshot costs only the replay.
fn damage_snapshots(history: &History, folder: &Path) {
    let files = read(folder);
    let all = Expected::Prefix(history.last());
    for name in files.keys().filter(|name| name.ends_with(".snapshot")) {
        for at in tried(files[name].len()) {
            history.check(folder, &flipped(&files, name, at), name, &format!("byte {at} of {name} flipped"), all);
            history.check(folder, &cut(&files, name, at), name, &format!("{name} cut at {at}"), all);
        }
    }
    write(folder, &files);
}

/// Two tenants of a server that was killed before the disk had everything.
fn killed() -> (Server, [(Named, Agent); 2]) {
    let mut server = Server::start_with(Options::args(&["--workers", "1"]));
    let operator = server.operator();
    let made = ["acme", "globex"].map(|slug| {
        let tenant = operator.tenant(slug);
        let agent = operator.reader(&tenant);
        let friend = operator.reader(&tenant);
        operator.delegation(&agent.id, &friend.id, permits("docs:2", &["read"]));
        operator.policy(slug, json!({ "limits": { "maxCallsPerMonth": 1_000 } }));
        operator.granted(call(&agent.id));
        operator.delete(&format!("/v1/agents/{}", friend.id)).expect(204);
        (tenant, agent)
    });
    for (tenant, agent) in &made {
        // The folder has what came before, and says what is on disk.
        operator.get(&format!("/v1/audit/checkpoint?tenantId={}", tenant.id)).expect(200);
        let batch = json!({ "requests": vec![call(&agent.id); 5] });
        operator.post("/v1/authorize/batch", batch).expect(200);
        // Another checkpoint has the events go into the folder.
        operator.get(&format!("/v1/audit/checkpoint?tenantId={}", tenant.id)).expect(200);
    }
    server.kill();
    for (tenant, _) in &made {
        // The kernel may lose the marker after them, which is not synced.
        let journal = fs::OpenOptions::new().write(true).open(journal_of(&server.folder(&tenant.id))).unwrap();
        journal.set_len(journal.metadata().unwrap().len() - MARKER_BYTES).unwrap();
    }
    (server, made)
}

/// Bytes of a marker's frame.
const MARKER_BYTES: u64 = 80;

fn journal_of(folder: &Path) -> PathBuf {
    files_like(folder, ".journal").pop().unwrap()
}

#[test]
fn the_files_of_a_killed_server() {
    let (server, [(acme, _), _]) = killed();
    let folder = server.folder(&acme.id);
    let id = TenantId::parse(&acme.id).unwrap();
    let history = History::of(id, &fs::read(journal_of(&folder)).unwrap());
    assert!(history.last() >= 12, "{}", history.last());
    let mut files = read(&folder);
    files.retain(|name, _| !name.ends_with(".snapshot"));
    let home = fast_folder();
    let folder = home.path().to_owned();
    write(&folder, &files);
    assert!(damage_active(&history, &folder, 0) > 0);

    // Once more with snapshots of half of it and of somewhat less.
    for seq in [history.last() / 2 - 1, history.last() / 2] {
        files.insert(format!("{seq:020}.snapshot"), snapshot(&history, seq));
    }
    write(&folder, &files);
    assert_eq!(history.load(&folder), Ok(history.last()));
    write(&folder, &files);
    assert!(damage_active(&history, &folder, history.last() / 2) > 0);
    damage_snapshots(&history, &folder);
}

/// A snapshot's bytes, by the table.
fn snapshot(history: &History, seq: u64) -> Vec<u8> {
    let payload = &history.states[seq as usize];
    let mut bytes = b"KAVACHS\n\x01\x00".to_vec();
    bytes.extend_from_slice(&history.id.bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes);
    crc.update(payload);
    bytes.extend_from_slice(&crc.finalize().to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn a_journal_of_several_segments_some_of_them_compressed() {
    let (server, [(acme, _), _]) = killed();
    let id = TenantId::parse(&acme.id).unwrap();
    let history = History::of(id, &fs::read(journal_of(&server.folder(&acme.id))).unwrap());
    let home = fast_folder();
    let data = DataDir::open(home.path()).unwrap();
    let new = NewFolder {
        name: &acme.id,
        label: b"{}",
        tenant: id.bytes(),
        now_ms: 0,
        events: &history.events[..1],
        options: JournalOptions { segment_bytes: 600 },
    };
    let mut journal = data.create_tenant(new).unwrap();
    let sync = |journal: &mut Journal| {
        let point = journal.begin_sync().run().unwrap();
        journal.finish_sync(point, 0).unwrap();
    };
    for (seq, event) in (1..).zip(&history.events).skip(1) {
        journal.append(seq, |buffer| buffer.extend_from_slice(event)).unwrap();
        journal.flush().unwrap();
        sync(&mut journal);
        // The last segment holds an event, with a marker for what was on disk before it.
        if seq < history.last() {
            journal.rotate_if_due(0).unwrap();
        }
        if seq == history.last() - 5 {
            journal.take_compression_jobs().iter().for_each(|job| job.run().unwrap());
        }
    }
    sync(&mut journal);
    drop(journal);
    let folder = home.path().join(&acme.id);
    let files = read(&folder);
    let sealed: Vec<_> = files.keys().filter(|name| name.ends_with(".zst")).collect();
    let raw: Vec<_> = files.keys().filter(|name| name.ends_with(".journal")).collect();
    assert!(sealed.len() >= 2 && raw.len() >= 2, "{:?}", files.keys());
    damage_active(&history, &folder, 0);
    for name in sealed.iter().copied().chain(raw.iter().copied().rev().skip(1)) {
        for at in tried(files[name].len()) {
            // The markers of later segments say that all of it is on disk.
            let is_raw = name.ends_with(".journal");
            let expected = if is_raw { Expected::Refusal } else { Expected::AllOrRefusal };
            history.check(&folder, &flipped(&files, name, at), name, &format!("byte {at} of {name} flipped"), expected);
            history.check(&folder, &cut(&files, name, at), name, &format!("{name} cut at {at}"), Expected::Refusal);
        }
        let mut gone = files.clone();
        gone.remove(name);
        history.check(&folder, &gone, name, &format!("{name} gone"), Expected::Refusal);
    }
}

#[test]
fn a_server_on_damaged_files_serves_a_prefix_or_names_the_file_and_serves_the_others() {
    let seed = std::env::var("KAVACH_CRASH_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("KAVACH_CRASH_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let (mut server, [(acme, agent), (_, other)]) = killed();
    server.start_again();
    server.operator().post("/v1/snapshot", json!({})).expect(200);
    let operator = server.operator();
    let batch = json!({ "requests": vec![call(&agent.id); 5] });
    operator.post("/v1/authorize/batch", batch).expect(200);
    let (trail, globex) = (operator.trail("tenantId=acme"), operator.all_of("globex"));
    server.kill();
    let folder = server.folder(&acme.id);
    let healthy = read(&folder);
    let (log_folder, manifest) = (server.data_dir().join("log"), server.data_dir().join("log.manifest"));
    let (log, named) = (read(&log_folder), fs::read(&manifest).unwrap());
    let names: Vec<_> = healthy.keys().filter(|name| *name != "tenant.json").collect();
    let (mut down, mut up) = (0, 0);
    for _ in 0..12 {
        // The log of the round before has events that this folder never had.
        write(&log_folder, &log);
        fs::write(&manifest, &named).unwrap();
        let mut files = healthy.clone();
        for _ in 0..rng.usize(1..3) {
            let name = names[rng.usize(0..names.len())].as_str();
            let len = files[name].len();
            // Mostly near the end, where crashes leave their marks.
            let at = if rng.bool() { len.saturating_sub(rng.usize(1..600)) } else { rng.usize(0..len) };
            files = if rng.bool() { flipped(&files, name, at.min(len - 1)) } else { cut(&files, name, at) };
        }
        write(&folder, &files);
        server.start_again();
        let operator = server.operator();
        // A tenant is read when somebody asks for it.
        operator.get("/v1/tenants/acme");
        let missing = operator.get("/readyz").expect(200)["unavailableTenants"].clone();
        if missing == json!([]) {
            up += 1;
            let left = operator.trail("tenantId=acme");
            assert_eq!(left[..], trail[trail.len() - left.len()..], "a prefix, which is newest first");
            // If both snapshot and journal are damaged, the state may be from before the agent was created.
            let is_there = operator.get("/v1/agents?tenantId=acme").items().iter().any(|one| one["id"] == *agent.id);
            let by_token = server.with_key(&agent.token);
            if is_there {
                by_token.granted(call(&agent.id));
            } else {
                by_token.authorize(call(&agent.id)).problem(401, "INVALID_TOKEN");
            }
        } else {
            down += 1;
            assert_eq!(missing[0]["tenant"], Value::from(&*acme.id));
            server.with_key(&agent.token).authorize(call(&agent.id)).problem(503, "TENANT_UNAVAILABLE");
            let log = server.log();
            let said = log.lines().rfind(|line| line.contains("can't be loaded")).unwrap();
            assert!(said.contains(folder.to_str().unwrap()) && said.contains("at byte"), "{said}");
            assert!(said.contains("backup"), "{said}");
            assert_eq!(read(&folder), files, "nothing was written over the damage");
        }
        assert_eq!(operator.all_of("globex"), globex);
        assert_eq!(operator.post("/v1/authorize/explain", call(&other.id)).expect(200)["allowed"], true);
        server.kill();
    }
    eprintln!("{down} times down, {up} times up");
}
