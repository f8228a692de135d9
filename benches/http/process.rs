//! The measured processes: the server and the yardstick, and the load on them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

/// The program: the server, and the load generator.
const KAVACH: &str = env!("CARGO_BIN_EXE_kavach");
const OPERATOR_KEY: &str = "kvo_a-key-for-a-server-that-lives-for-seconds-only";

/// A running server or yardstick. It ends when this is dropped.
pub struct MeasuredProcess {
    child: Child,
    url: String,
    /// Its data directory, on a real disk.
    folder: TempDir,
}

/// The part of `kavach load --json` that we use.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    pub requests: u64,
    pub requests_per_second: f64,
    pub decisions_per_second: f64,
    pub latency_micros: Latency,
    pub errors: std::collections::BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
}

/// A load, and what it cost the measured process.
pub struct Measured {
    pub load: LoadReport,
    /// User and system time per request, in microseconds.
    pub cpu_micros: f64,
}

impl MeasuredProcess {
    /// The server, on an empty data directory, with everything it does by default.
    pub fn server(durability: &str) -> Self {
        let folder = folder();
        let mut command = Command::new(KAVACH);
        command.args(["serve", "--addr", "127.0.0.1:0", "--durability", durability, "--data-dir"]);
        command.arg(folder.path()).env("KAVACH_OPERATOR_KEY", OPERATOR_KEY);
        Self::start(command, folder)
    }

    /// The yardstick: this program again.
    pub fn bare(batch: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--bare", &batch.to_string()]);
        Self::start(command, folder())
    }

    fn start(mut command: Command, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("server.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| line.find("http://").map(|at| line[at..].to_owned()));
        Self { child, url: url.expect("a server says where it listens"), folder }
    }

    /// Creates tenants with that many agents each, budgets and all. Returns the file of targets.
    pub fn make_targets(&self, tenants: usize, agents: usize) -> PathBuf {
        let file = self.folder.path().join(format!("targets-{tenants}-{agents}.json"));
        let (tenants, agents) = (tenants.to_string(), agents.to_string());
        let mut command = self.load_command();
        command.args(["--setup-only", "--key", OPERATOR_KEY, "--tenants", &tenants, "--agents", &agents, "--save"]);
        let made = command.arg(&file).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        file
    }

    /// Sends load, once to warm up and once to measure.
    pub fn measure(&self, targets: &Path, seconds: f64, load: &[&str]) -> Measured {
        self.load(targets, seconds / 4.0, load);
        self.settle();
        let before = self.cpu_micros();
        let load = self.load(targets, seconds, load);
        // The work left by the load belongs to it, and would otherwise run while the other side is measured.
        self.settle();
        let cpu_micros = (self.cpu_micros() - before) / load.requests as f64;
        assert!(load.errors.is_empty(), "a measured request failed: {load:?}");
        Measured { load, cpu_micros }
    }

    fn load(&self, targets: &Path, seconds: f64, load: &[&str]) -> LoadReport {
        let mut command = self.load_command();
        command.args(["--json", "--warmup", "0s", "--duration", &format!("{}ms", (seconds * 1e3) as u64)]);
        let sent = command.arg("--targets").arg(targets).args(load).output().unwrap();
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        serde_json::from_slice(&sent.stdout).unwrap()
    }

    /// Waits until every full segment is compressed.
    fn settle(&self) {
        let is_raw = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|end| end == "journal");
        let unsealed = || {
            let folders = fs::read_dir(self.folder.path()).unwrap().flatten();
            folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).any(|files| {
                let raw = files.flatten().filter(is_raw);
                raw.count() > 1
            })
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while unsealed() {
            assert!(Instant::now() < deadline, "segments stay as they are");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command that sends load to this process.
    pub fn load_command(&self) -> Command {
        let mut command = Command::new(KAVACH);
        command.args(["load", "--url", &self.url]);
        command
    }

    /// User and system time of all threads so far, in microseconds.
    fn cpu_micros(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the command in parentheses, which may hold spaces; proc(5) counts from 1.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
        (ticks(14) + ticks(15)) as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A folder on the build's disk: the system's folder for temporary files may be in memory.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
