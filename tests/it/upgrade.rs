//! Upgrades: data directories that released versions wrote, at their first start with this one.
//!
//! `tests/golden` has the directories and what has to hold of each. Most of that is what the old version answered itself:
//! this one has to answer at least the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use kavach::ServerSettings;
use kavach::domain::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::harness::{Options, Server, eventually};
use crate::panics;
use crate::rounds::setting;

/// A data directory that an older version wrote.
struct Golden {
    name: String,
    folder: PathBuf,
    expected: Value,
}

impl Golden {
    /// Every golden directory of every version.
    fn all() -> Vec<Self> {
        let folders = |place: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
            let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
            folders.sort();
            folders
        };
        let versions = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
        let all: Vec<_> = versions.iter().flat_map(|version| folders(version)).map(Self::read).collect();
        assert!(all.len() >= 3);
        all
    }

    fn read(folder: PathBuf) -> Self {
        let read = |folder: &Path| -> Value {
            serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap()
        };
        let mut expected = read(&folder);
        // What it does not say itself, another directory says.
        if let Some(like) = expected["like"].as_str() {
            let mut base = read(&folder.with_file_name(like));
            let own = expected.as_object_mut().unwrap();
            let reads = own.remove("reads").unwrap();
            base.as_object_mut().unwrap().append(own);
            base["reads"].as_object_mut().unwrap().extend(reads.as_object().unwrap().clone());
            expected = base;
        }
        let name = folder.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        Self { name, folder, expected }
    }

    /// A fresh copy of it, in `data`.
    fn copy(&self) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        copy_folder(&self.folder.join("data"), &home.path().join("data"));
        home
    }

    fn key(&self) -> &str {
        self.expected["operatorKey"].as_str().unwrap()
    }

    /// The tenant with a full segment. Its trail is too long to be listed.
    fn busy(&self) -> Option<&str> {
        self.expected["busy"]["tenant"].as_str()
    }

    fn tenants(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.expected["checkpoints"].as_object().unwrap().iter()
    }

    /// Paths and what the old version answered.
    fn answers(&self, member: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.expected[member].as_object().unwrap().iter()
    }

    /// Requests that must be answered as the old version did. Returns the entries of what was decided.
    fn ask(&self, operator: &Client, member: &str) -> Vec<String> {
        let calls = self.expected[member].as_array().unwrap();
        calls.iter().filter_map(|call| self.ask_one(operator, call)).collect()
    }

    fn ask_one(&self, operator: &Client, call: &Value) -> Option<String> {
        let text = |member: &str| call[member].as_str().unwrap();
        let client = call["key"].as_str().map_or_else(|| operator.clone(), |key| operator.acting_for(key));
        let body = (!call["body"].is_null()).then(|| call["body"].to_string());
        let answer = client.send(text("method"), text("path"), body.as_deref().map(str::as_bytes));
        let shown = format!("{}: {call}: {} {}", self.name, answer.status, answer.text());
        assert_eq!(json!(answer.status), call["status"], "{shown}");
        if answer.status == 200 || !call["code"].is_null() {
            assert_eq!(answer.code().as_deref(), call["code"].as_str(), "{shown}");
        }
        (text("path") == "/v1/authorize" && answer.status == 200).then(|| id_of(&answer.json()["auditId"]))
    }
}

fn id_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// What an answer lacks of the old one, or says otherwise. It may have more members, and `parameters` where there were
/// none.
fn missing(old: &Value, new: &Value, ignored: &[&str]) -> Option<String> {
    match (old, new) {
        (Value::Object(old), _) => old.iter().find_map(|(name, value)| {
            if ignored.contains(&name.as_str()) || (name == "parameters" && value.is_null()) {
                return None;
            }
            missing(value, &new[name], ignored).map(|what| format!(".{name}{what}"))
        }),
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let mut pairs = old.iter().zip(new).enumerate();
            pairs.find_map(|(n, (old, new))| missing(old, new, ignored).map(|what| format!("[{n}]{what}")))
        }
        _ if old == new || (old.is_number() && old.as_f64() == new.as_f64()) => None,
        _ => Some(format!(": it was {old} and is {new}")),
    }
}

/// A copy of a golden directory, and what this version has added to it.
struct Upgraded<'g> {
    golden: &'g Golden,
    home: TempDir,
    /// Entries of decisions that were answered.
    acknowledged: BTreeSet<String>,
}

impl<'g> Upgraded<'g> {
    fn new(golden: &'g Golden) -> Self {
        Self { golden, home: golden.copy(), acknowledged: BTreeSet::new() }
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Decides what the old version said how to decide.
    fn decide(&mut self, server: &Server) {
        let ids = self.golden.ask(&server.with_key(self.golden.key()), "calls");
        assert!(!ids.is_empty());
        for id in ids {
            assert!(self.acknowledged.insert(id.clone()), "{id} was answered twice");
        }
    }

    /// Checks that all of the old version's is there, and that what was added since is all that was acknowledged.
    fn check(&self, server: &Server) {
        let Golden { name, expected, .. } = self.golden;
        let operator = server.with_key(self.golden.key());
        // A tenant may be loaded only once somebody asks for it, here by its slug.
        for tenant in expected["reads"]["/v1/tenants"].as_array().unwrap() {
            let slug = tenant["slug"].as_str().unwrap();
            let found = operator.get(&format!("/v1/tenants/{slug}")).expect(200);
            assert_eq!(found["id"], tenant["id"], "{name}: {slug}");
            let again = json!({ "name": "another", "slug": slug });
            operator.post("/v1/tenants", again).problem(409, "SLUG_TAKEN");
        }
        let ready = server.anonymous().get("/readyz").expect(200);
        assert_eq!(
            (&ready["unavailableTenants"], &ready["refusedFolders"]),
            (&json!([]), &json!([])),
            "{name}: {ready}"
        );

        let mut added = BTreeSet::new();
        let mut take_added = |entries: Vec<Value>, old: &Value| {
            let known: BTreeSet<_> = old.as_array().unwrap().iter().map(|entry| id_of(&entry["id"])).collect();
            let (old, new): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| known.contains(&id_of(&entry["id"])));
            added.extend(new.iter().map(|entry| id_of(&entry["id"])));
            Value::Array(old)
        };
        // What decisions change.
        let changing: &[&str] = &["lastActiveAt", "currentUsage", "lastDeniedAt"];
        let ignored = if self.acknowledged.is_empty() { &[] } else { changing };
        for (path, old) in self.golden.answers("reads") {
            let answer = operator.get(path);
            let new = if path.contains("kind=decision") { take_added(answer.items(), old) } else { answer.expect(200) };
            assert_eq!(missing(old, &new, ignored), None, "{name}: {path}");
        }
        if let Some(busy) = self.golden.busy() {
            let old = &expected["busy"]["newest"];
            let limit = old.as_array().unwrap().len() + self.acknowledged_of(busy);
            let newest = operator.get(&format!("/v1/audit?tenantId={busy}&limit={limit}")).items();
            let new = take_added(newest, old);
            assert_eq!(missing(old, &new, &[]), None, "{name}: {busy}");
        }
        assert_eq!(added, self.acknowledged, "{name}");
    }

    /// How many decisions of that tenant were answered. Their ids end with 32 bits of the tenant's.
    fn acknowledged_of(&self, tenant: &str) -> usize {
        let tag = &tenant[tenant.len() - 8..];
        self.acknowledged.iter().filter(|id| id.ends_with(tag)).count()
    }

    /// Checks all trails with no server on them.
    fn verify(&self) {
        let report = self.audit_verify(&[]);
        assert_eq!(report["tenants"].as_array().unwrap().len(), self.golden.tenants().count());
    }

    /// Checks that all trails continue what the old version vouched for.
    fn verify_checkpoints(&self) {
        for (tenant, checkpoint) in self.golden.tenants() {
            let report = self.audit_verify(&["--tenant", tenant, "--checkpoint", &checkpoint.to_string()]);
            assert_eq!(report["checkpoint"], "passed", "{}: {report}", self.golden.name);
        }
    }

    fn audit_verify(&self, args: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kavach"));
        command.args(["audit", "verify", "--json", "--data-dir"]).arg(self.data_dir()).args(args);
        let output = command.output().unwrap();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        assert!(output.status.success(), "{}: {}", self.golden.name, String::from_utf8_lossy(&said));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], true, "{}: {report}", self.golden.name);
        report
    }
}

fn options(data_dir: PathBuf) -> Options {
    Options { data_dir: Some(data_dir), own_operator_key: true, ..Options::default() }
}

#[test]
fn every_old_directory_is_there_after_its_first_start_and_later_ones() {
    for golden in &Golden::all() {
        let mut upgraded = Upgraded::new(golden);
        let mut server = Server::start_with(options(upgraded.data_dir()));
        upgraded.check(&server);
        server.stop();
        assert!(!upgraded.data_dir().join("log.manifest").exists(), "{}", golden.name);
        upgraded.verify();
        server.start_again();
        upgraded.check(&server);
        upgraded.decide(&server);
        server.crash_and_start();
        upgraded.check(&server);
        upgraded.decide(&server);
        if let Some(busy) = golden.busy() {
            let mut entries = 0;
            let path = format!("/v1/audit/export?format=ndjson&tenantId={busy}");
            server.with_key(golden.key()).lines(&path, |_| entries += 1);
            let old = entries - upgraded.acknowledged_of(busy);
            assert_eq!(json!(old), golden.expected["busy"]["decisions"], "{}", golden.name);
        }
        server.stop();
        upgraded.verify_checkpoints();
        server.start_again();
        upgraded.check(&server);
    }
}

#[test]
fn budgets_and_rates_go_on_where_the_old_version_stopped() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for golden in &Golden::all() {
        let at = golden.expected["at"].as_str().unwrap().replace(' ', "T") + "Z";
        let at: Timestamp = serde_json::from_value(json!(at)).unwrap();
        let soon = at.millis() + 5 * 60_000;
        if soon > now {
            // Its clock was ahead, and a clock that jumps ahead is not believed at once.
            continue;
        }
        let home = golden.copy();
        let server = panics::start(ServerSettings::new(home.path().join("data")));
        server.kavach.inject_clock_step(soon - now);
        let operator = server.with_key(golden.key());
        for (path, old) in golden.answers("budgets") {
            assert_eq!(missing(old, &operator.get(path).expect(200), &[]), None, "{}: {path}", golden.name);
        }
        golden.ask(&operator, "then");
        server.end();
    }
}

/// When a server is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// This part of the time that a start takes.
    Starting(f64),
    /// Once that file is there, which the old version did not have; if it takes too long, after a while.
    Written(&'static str),
    Ready,
    /// After it answered some calls.
    Decided,
    /// After a read and a snapshot: folders have everything.
    Folded,
    /// So long after it was told to stop.
    Stopping(Duration),
}

impl Moment {
    fn pick(number: usize, rng: &mut Rng) -> Self {
        match number % 8 {
            0 | 4 => Self::Starting(1.2 * rng.f64()),
            1 => Self::Written("log.manifest"),
            2 => Self::Written("catalog"),
            3 => Self::Ready,
            5 => Self::Decided,
            6 => Self::Folded,
            _ => Self::Stopping(Duration::from_micros(rng.u64(0..20_000))),
        }
    }

    /// Starts the server and kills it then.
    fn strike(self, server: &mut Server, upgraded: &mut Upgraded, start: Duration) {
        match self {
            Self::Starting(part) => return server.start_and_kill(start.mul_f64(part)),
            Self::Written(name) => {
                let file = upgraded.data_dir().join(name);
                let begun = Instant::now();
                let is_there = || (file.exists() || begun.elapsed() > 2 * start).then_some(());
                return server.start_and_kill_when(|| eventually("it is written", is_there));
            }
            _ => server.start_again(),
        }
        match self {
            Self::Decided | Self::Stopping(_) => upgraded.decide(server),
            Self::Folded => {
                upgraded.check(server);
                let operator = server.with_key(upgraded.golden.key());
                operator.post("/v1/snapshot", json!({})).expect(200);
            }
            _ => {}
        }
        if let Self::Stopping(after) = self {
            server.terminate();
            std::thread::sleep(after);
        }
        server.kill();
    }
}

#[test]
fn a_first_start_that_is_killed_at_any_moment_loses_nothing() {
    let rounds = setting("KAVACH_CRASH_ROUNDS", 8) as usize;
    let seed = setting("KAVACH_CRASH_SEED", fastrand::u64(..));
    eprintln!("KAVACH_CRASH_SEED={seed}, {rounds} rounds");
    let all = Golden::all();
    let scratch = all[0].copy();
    let begun = Instant::now();
    let mut server = Server::start_with(options(scratch.path().join("data")));
    let start = begun.elapsed();
    server.kill();
    for number in 0..rounds {
        let mut rng = Rng::with_seed(seed.wrapping_add(number as u64));
        let golden = &all[rng.usize(0..all.len())];
        let mut upgraded = Upgraded::new(golden);
        server.move_to(upgraded.data_dir());
        // With one tenant in memory each is read again and again.
        let few = rng.bool();
        server.set_args(if few { &["--resident-tenants", "1"] } else { &[] });
        let mut moments = vec![Moment::pick(number, &mut rng)];
        if rng.usize(0..4) == 0 {
            moments.push(Moment::pick(rng.usize(..), &mut rng));
        }
        eprintln!("round {number}: {}, few tenants in memory: {few}, killed at {moments:?}", golden.name);
        for moment in moments {
            moment.strike(&mut server, &mut upgraded, start);
        }
        server.start_again();
        upgraded.check(&server);
        upgraded.decide(&server);
        server.stop();
        upgraded.verify();
    }
}
