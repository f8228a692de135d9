//! Rounds of load on one data directory, each ended at a random moment: by `kill -9` under load, or while it starts,
//! writes snapshots, compresses segments or shuts down; or by SIGTERM. After each, everything that was acknowledged
//! must be there, once, and nothing that was refused.
//!
//! ```sh
//! KAVACH_CRASH_ROUNDS=100 cargo nextest run -E 'test(rounds::)' --no-capture   # 3 to 5 without
//! KAVACH_CRASH_SEED=7     cargo nextest run -E 'test(rounds::)' --no-capture   # the random choices of that run
//! ```
//!
//! This repeats the choices, not the machine's timing.

mod calls;
mod changes;
mod many_tenants;
mod trouble;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::budgets::settle_into_the_day;
use crate::client::Client;
use crate::harness::{Options, Server};
use crate::places::{Frozen, Mount};
use crate::world::{Agent, permits};
use calls::Site;
use changes::{Changes, ThingKind};
use trouble::Trouble;

/// What a caller knows about a request.
#[derive(Debug)]
enum Outcome<T> {
    /// It happened.
    Done(T),
    /// It did not happen.
    Refused,
    /// It may have happened.
    Unknown,
}

impl<T> Outcome<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(f(value)),
            Self::Refused => Outcome::Refused,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

/// Sends a request that should succeed unless the server ends, its storage fails, or a limit is reached.
fn send(client: &Client, method: &str, path: &str, body: Option<Value>) -> Outcome<Value> {
    let body = body.map(|body| body.to_string());
    let Ok(answer) = client.try_send(method, path, &[], body.as_deref().map(str::as_bytes)) else {
        // The server is gone for a while: a caller in a loop should not retry a million times.
        std::thread::sleep(Duration::from_millis(1));
        return Outcome::Unknown;
    };
    let code = answer.code().unwrap_or_default();
    match answer.status {
        200..300 if answer.body.is_empty() => Outcome::Done(Value::Null),
        200..300 => Outcome::Done(answer.json()),
        503 => {
            std::thread::sleep(Duration::from_millis(1));
            let refused = ["STORAGE_UNAVAILABLE", "SHUTTING_DOWN", "OVERLOADED", "NOT_READY"];
            if refused.contains(&&*code) { Outcome::Refused } else { Outcome::Unknown }
        }
        _ if code.ends_with("LIMIT_EXCEEDED") => Outcome::Refused,
        _ => panic!("{method} {path}: {} {}", answer.status, answer.text()),
    }
}

/// How a round ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Terminate,
    /// It is killed while it shuts down.
    TerminateAndKill,
}

struct World {
    server: Server,
    sites: Vec<Site>,
    changes: Vec<Changes>,
    /// How long a start takes.
    start: Duration,
    /// Makes large entries, which fill segments.
    bulk: Agent,
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Calls with entries of most of a megabyte.
fn large_calls() -> Value {
    let one = json!({ "action": "write", "resource": "bulk:1", "arguments": { "text": "x".repeat(30_000) } });
    json!({ "requests": vec![one; 30] })
}

impl World {
    fn new(options: Options) -> Self {
        let server = Server::start_with(options);
        let operator = server.operator();
        let sites: Vec<_> = ["default", "acme", "globex", "initech"].map(|name| Site::new(&operator, name)).into();
        let changes = [
            (ThingKind::Agent, None),
            (ThingKind::Agent, Some("acme")),
            (ThingKind::Policy, Some("acme")),
            (ThingKind::Delegation, Some("globex")),
            (ThingKind::Key, Some("globex")),
            (ThingKind::Suspension, Some("initech")),
            (ThingKind::Tenant, None),
        ];
        let changes = changes.map(|(kind, tenant)| Changes::new(&operator, kind, tenant)).into();
        let bulk = operator.agent("acme", permits("bulk:*", &["write"]));
        Self { server, sites, changes, start: Duration::from_millis(100), bulk }
    }

    /// One round: a start that may be cut short a few times, a check of the round before, load, and an end.
    fn round(&mut self, number: usize, seed: u64, trouble: &mut dyn Trouble) {
        let mut rng = Rng::with_seed(seed.wrapping_add(number as u64));
        let durability = ["interval", "fsync"][rng.usize(0..2)];
        let workers = ["1", "2", "3"][rng.usize(0..3)];
        // With a trusted proxy, each invalid secret can be tried from its own address.
        let args = ["--durability", durability, "--workers", workers, "--trusted-proxies", "127.0.0.1"];
        self.server.set_args(&args);
        for _ in 0..[0, 0, 1, 3][rng.usize(0..4)] {
            self.server.start_and_kill(self.start.mul_f64(1.2 * rng.f64()));
        }
        let begun = Instant::now();
        self.server.start_again();
        self.start = begun.elapsed();
        self.check();
        let operator = self.server.operator();
        self.sites.iter_mut().for_each(|site| site.begin(&operator, number));
        if rng.usize(0..3) == 0 {
            self.fill_segment();
        }
        let end = [End::Kill, End::Kill, End::Kill, End::Terminate, End::TerminateAndKill][rng.usize(0..5)];
        self.load(number, &mut rng, end, trouble);
        // Only one of them, since a long trail takes a while; all at the end.
        self.sites[rng.usize(0..self.sites.len())].verify(&self.server.data_dir());
        trouble.pass(&mut self.server);
        let decided: u64 = self.sites.iter().map(|site| site.decisions).sum();
        let acknowledged: usize = self.changes.iter().map(|changes| changes.acknowledged).sum();
        let start = self.start.as_millis();
        eprintln!(
            "round {number}: {durability}, {workers} workers, start {start} ms, {end:?}; so far {decided} decisions, {acknowledged} changes"
        );
    }

    /// Loads the server until that end.
    fn load(&mut self, number: usize, rng: &mut Rng, end: End, trouble: &mut dyn Trouble) {
        let lasts = Duration::from_micros(rng.u64(5_000..900_000));
        let shuts_down = Duration::from_micros(rng.u64(0..60_000));
        let Self { server, sites, changes, bulk, .. } = self;
        let (operator, stop) = (&server.operator(), &AtomicBool::new(false));
        std::thread::scope(|scope| {
            for changes in changes.iter_mut() {
                let rng = rng.fork();
                scope.spawn(move || changes.run(operator, number, rng, stop));
            }
            for (site, thread) in sites.iter().flat_map(|site| [(site, 0), (site, 1)]) {
                let rng = rng.fork();
                scope.spawn(move || site.call(operator, thread, rng, stop));
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    send(operator, "POST", "/v1/snapshot", Some(json!({})));
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let large = operator.acting_for(&bulk.token);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    send(&large, "POST", "/v1/authorize/batch", Some(large_calls()));
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
            std::thread::sleep(lasts);
            trouble.strike(rng, server);
            match end {
                End::Kill => server.kill(),
                End::Terminate => {
                    // Callers continue until the end.
                    server.stop();
                }
                End::TerminateAndKill => {
                    server.terminate();
                    std::thread::sleep(shuts_down);
                    server.kill();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Makes acme's newest segment almost full.
    fn fill_segment(&self) {
        let folder = self.server.folder(&self.sites[1].folder);
        let client = self.server.with_key(&self.bulk.token);
        let size = || {
            let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let newest = files.filter(|path| path.extension().is_some_and(|end| end == "journal")).max().unwrap();
            std::fs::metadata(newest).unwrap().len()
        };
        while size() < 15 << 20 {
            client.post("/v1/authorize/batch", large_calls()).expect(200);
            // A read has the events go into the folder.
            self.server.operator().get("/v1/audit?tenantId=acme&limit=1").expect(200);
        }
    }

    /// Checks that everything acknowledged is there.
    fn check(&mut self) {
        settle_into_the_day();
        let operator = self.server.operator();
        let data_dir = self.server.data_dir();
        assert_eq!(operator.get("/readyz").expect(200)["unavailableTenants"], json!([]));
        self.changes.iter_mut().for_each(|changes| changes.check(&operator, &data_dir));
        let mut made: HashMap<String, usize> = HashMap::new();
        for site in &mut self.sites {
            site.created(&operator).into_iter().for_each(|id| *made.entry(id).or_default() += 1);
            site.check(&operator);
        }
        for changes in &mut self.changes {
            for id in std::mem::take(&mut changes.created) {
                // A tenant's creation is in its own trail.
                let times = made.get(&id).copied().unwrap_or(usize::from(id.starts_with("tnt_")));
                assert_eq!(times, 1, "how often the trail records the creation of {id}");
            }
        }
    }
}

/// Plays that many rounds, unless the environment sets the number.
fn play(mut world: World, trouble: &mut dyn Trouble, rounds: u64) {
    let rounds = setting("KAVACH_CRASH_ROUNDS", rounds) as usize;
    let seed = setting("KAVACH_CRASH_SEED", fastrand::u64(..));
    eprintln!("KAVACH_CRASH_SEED={seed}, {rounds} rounds");
    world.server.kill();
    for number in 0..rounds {
        world.round(number, seed, trouble);
    }
    world.server.start_again();
    world.check();
    let operator = world.server.operator();
    let decisions: u64 = world.sites.iter().map(|site| site.check_all(&operator)).sum();
    assert!(decisions > 0);
    world.server.stop();
    let data_dir = world.server.data_dir();
    world.sites.iter().for_each(|site| site.verify(&data_dir));
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_at_any_end() {
    play(World::new(Options::default()), &mut trouble::Nothing, 5);
}

#[test]
fn nor_on_a_disk_that_is_full_at_times() {
    let place = tempfile::tempdir().unwrap();
    let Some(_mount) = Mount::new(place.path(), "320m") else {
        eprintln!("skipped: a file system can't be mounted here; files that can't grow, below, are the nearest thing");
        return;
    };
    let options = Options { data_dir: Some(place.path().join("data")), ..Options::default() };
    play(World::new(options), &mut trouble::FullDisk(place.path().join("ballast")), 3);
}

#[test]
fn nor_when_files_cannot_grow_at_times() {
    let options = Options { ignore_file_size_signal: true, ..Options::default() };
    play(World::new(options), &mut trouble::Limit, 3);
}

#[test]
fn nor_in_a_directory_that_is_read_only_at_times() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data_dir = home.path().join("data");
    let world = World::new(Options { data_dir: Some(data_dir.clone()), ..Options::default() });
    let mut freeze = trouble::Freeze(Frozen::new(&data_dir));
    play(world, &mut freeze, 3);
}
