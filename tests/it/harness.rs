//! The server under test: started on a free port with its own directory, killed or stopped, started again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::client::Client;

/// The operator key of every server here.
pub const OPERATOR_KEY: &str = "kvo_the-operator-key-of-the-tests-0123456789abcd";

/// How long a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// Start options besides the address and the directory.
#[derive(Clone, Default)]
pub struct Options {
    pub args: Vec<&'static str>,
    pub env: Vec<(&'static str, &'static str)>,
    /// If a file grows past its limit, the process gets an error instead of a deadly signal.
    pub ignore_file_size_signal: bool,
    /// How many files the process may open.
    pub open_files: Option<u32>,
    /// The data directory, if it is not the server's own.
    pub data_dir: Option<PathBuf>,
    /// The process runs as an ordinary user, bound by permissions, even if the tests run as root.
    pub unprivileged: bool,
    /// The operator key is the data directory's own instead of the tests'.
    pub own_operator_key: bool,
}

impl Options {
    pub fn args(args: &[&'static str]) -> Self {
        Self { args: args.to_vec(), ..Self::default() }
    }
}

/// A running server. It is killed when dropped.
pub struct Server {
    child: Child,
    base: String,
    options: Options,
    home: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let home = tempfile::tempdir().unwrap();
        if options.unprivileged && geteuid().is_root() {
            hand_over(home.path());
        }
        let (child, base) =
            launch(home.path(), &options).unwrap_or_else(|said| panic!("the server did not start: {said}"));
        Self { child, base, options, home }
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.home.path().join("data"))
    }

    /// A tenant's folder; `default` names the default tenant's.
    pub fn folder(&self, tenant: &str) -> PathBuf {
        self.data_dir().join(tenant)
    }

    /// Everything that the server wrote to standard error, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.home.path())).unwrap()
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> &str {
        self.base.split_once("://").unwrap().1
    }

    pub fn operator(&self) -> Client {
        self.with_key(OPERATOR_KEY)
    }

    pub fn with_key(&self, key: &str) -> Client {
        Client::new(&self.base, Some(&format!("Bearer {key}")))
    }

    pub fn anonymous(&self) -> Client {
        Client::new(&self.base, None)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills the process at once (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server ends", || child.try_wait().unwrap())
    }

    /// Asks the process to end, and waits until it has, with exit code 0.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    /// Starts the server again on the same directory, on another port.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|said| panic!("the server did not start: {said}"));
    }

    /// Starts the server again, on another port; if it ends, the error is what it wrote to standard error.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        assert!(!self.is_running(), "stop or kill it first");
        (self.child, self.base) = launch(self.home.path(), &self.options)?;
        Ok(())
    }

    /// Kills the server and starts it again.
    pub fn crash_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Starts the server and kills it after that time, whatever it is doing.
    pub fn start_and_kill(&mut self, after: Duration) {
        self.start_and_kill_when(|| std::thread::sleep(after));
    }

    /// Starts the server and kills it once that returns, whatever it is doing.
    pub fn start_and_kill_when(&mut self, moment: impl FnOnce()) {
        assert!(!self.is_running(), "stop or kill it first");
        let log = log_file(self.home.path());
        self.child = command(self.home.path(), &self.options).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        moment();
        self.kill();
    }

    /// Makes the next start use another data directory.
    pub fn move_to(&mut self, data_dir: PathBuf) {
        self.options.data_dir = Some(data_dir);
    }

    /// Sets the arguments of the next start.
    pub fn set_args(&mut self, args: &[&'static str]) {
        self.options.args = args.to_vec();
    }

    /// A command that would start a second server on the same directory.
    pub fn second_process(&self) -> Command {
        command(self.home.path(), &self.options)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(log_path(self.home.path())).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the server's last words:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn log_path(home: &Path) -> PathBuf {
    home.join("stderr.log")
}

/// A user and a group without any rights, as on every Linux.
const NOBODY: u32 = 65_534;

/// Lets `nobody` in, with a copy of the program, since the build may be where `nobody` can't read.
fn hand_over(home: &Path) {
    fs::set_permissions(home, fs::Permissions::from_mode(0o711)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_kavach"), home.join("kavach")).unwrap();
    fs::create_dir(home.join("data")).unwrap();
    chown(home.join("data"), Some(NOBODY), Some(NOBODY)).unwrap();
}

fn log_file(home: &Path) -> File {
    File::options().create(true).append(true).open(log_path(home)).unwrap()
}

fn command(home: &Path, options: &Options) -> Command {
    let binary = env!("CARGO_BIN_EXE_kavach");
    let before = [
        options.ignore_file_size_signal.then(|| "trap '' XFSZ".to_owned()),
        options.open_files.map(|files| format!("ulimit -n {files}")),
    ];
    let before: Vec<_> = before.into_iter().flatten().collect();
    let mut command = if options.unprivileged && geteuid().is_root() {
        let mut command = Command::new(home.join("kavach"));
        command.uid(NOBODY).gid(NOBODY);
        command
    } else if before.is_empty() {
        Command::new(binary)
    } else {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{}; exec \"$@\"", before.join("; ")), "sh", binary]);
        shell
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAVACH_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    let data = options.data_dir.clone().unwrap_or_else(|| home.join("data"));
    command.args(["--addr", "127.0.0.1:0", "--data-dir"]).arg(data).args(&options.args);
    if !options.own_operator_key {
        command.env("KAVACH_OPERATOR_KEY", OPERATOR_KEY);
    }
    command.envs(options.env.iter().copied());
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// Starts the binary and waits for the line with its address. If it ends first, the error is its output.
fn launch(home: &Path, options: &Options) -> Result<(Child, String), String> {
    let log = log_file(home);
    let said_before = log.metadata().unwrap().len() as usize;
    let mut child = command(home, options).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let base = loop {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 {
            break None;
        }
        if let Some(base) = line.strip_prefix("Listening on ") {
            break Some(base.trim_end().to_owned());
        }
    };
    let Some(base) = base else {
        let status = child.wait().unwrap();
        let log = fs::read(log_path(home)).unwrap();
        return Err(format!("{status}\n{}", String::from_utf8_lossy(&log[said_before..])));
    };
    // The rest of its output is read too, so that it never waits for a reader.
    std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
    Ok((child, base))
}

/// Polls until there is an answer. Panics after a time far beyond what any machine takes.
pub fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "it did not come about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
