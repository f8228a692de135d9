//! A document's commands, as a reader pastes them: block after block into one shell. Each succeeds, each answer that the
//! document shows arrives, and no other request is refused than those that it shows.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::OPERATOR_KEY;

/// How long a block's answers may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Languages of blocks that show what the commands before them print.
const OUTPUTS: [&str; 4] = ["json", "http", "csv", "text"];

/// What the shell says after each block.
const END: &str = "-- end of block --";

/// Runs the blocks whose names it reads. Block and answers share the standard input, as in a terminal.
///
/// Curl writes an answer and the end of its line apart, and what a background process prints may come between. So an
/// answer is held back until it is whole, but for those that are streamed.
const LOOP: &str = r#"
curl() {
  case $1 in
    -sN) command curl "$@" ;;
    *) answer_of_curl=$(command curl "$@") || return; printf '%s\n' "$answer_of_curl" ;;
  esac
}
while read -r block; do . "$block"; echo '-- end of block --'; done"#;

/// A block of commands, and what the document shows of their output.
pub struct Step {
    pub commands: String,
    /// Lines, with `...` for anything.
    pub shown: Vec<String>,
}

/// The blocks of shell commands, in order. Answers are in comments (`# {`), or in blocks behind the commands, where a line
/// that begins with a space continues the one before.
pub fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut parts = document.split("\n```");
    parts.next();
    while let (Some(block), Some(_text)) = (parts.next(), parts.next()) {
        let (language, content) = block.split_once('\n').unwrap();
        if language == "sh" {
            let comments = content.lines().filter_map(|line| line.strip_prefix("# "));
            let shown = comments.filter(|line| line.starts_with('{')).map(str::to_owned).collect();
            steps.push(Step { commands: format!("{content}\n"), shown });
        } else if OUTPUTS.contains(&language) {
            let shown = &mut steps.last_mut().unwrap().shown;
            for line in content.lines() {
                match (line.strip_prefix(' '), shown.last_mut()) {
                    (Some(rest), Some(last)) => last.push_str(rest.trim_start()),
                    _ => shown.push(line.to_owned()),
                }
            }
        }
    }
    steps
}

/// Whether a line is what the document shows.
fn is_shown(line: &str, shown: &str) -> bool {
    let Some((start, rest)) = shown.split_once("...") else { return line == shown };
    let Some(mut left) = line.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once("...").unwrap_or(("", rest));
    for part in middle.split("...") {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

/// What ends with the reader, whatever became of it: the shell, and what it left running.
struct Shell(std::process::Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A reader with a shell and a folder.
pub struct Reader {
    home: PathBuf,
    shell: Shell,
    keyboard: ChildStdin,
    screen: Receiver<String>,
    /// Everything that was printed, and what of it nothing was held against yet.
    printed: Vec<String>,
    unread: Vec<String>,
    refusals_shown: usize,
}

impl Reader {
    /// Sits down in that folder, with the program built.
    pub fn new(home: &Path) -> Self {
        let release = home.join("target/release");
        fs::create_dir_all(&release).unwrap();
        symlink(env!("CARGO_BIN_EXE_kavach"), release.join("kavach")).unwrap();
        // The status of each answer goes to the errors.
        let curlrc = "show-error\nmax-time = 120\nwrite-out = \"%{stderr}status %{http_code}\\n\"\n";
        fs::write(home.join(".curlrc"), curlrc).unwrap();
        let mut shell = Command::new("sh");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KAVACH_")) {
            shell.env_remove(name);
        }
        // A failing command or an unset variable ends the shell.
        shell.args(["-eu", "-c", LOOP]).current_dir(home).env("CURL_HOME", home);
        let errors = File::create(home.join("errors")).unwrap();
        shell.process_group(0);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let (keyboard, out) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        let (say, screen) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| say.send(line).is_ok()));
        let home = home.to_owned();
        let shell = Shell(shell);
        Self { home, shell, keyboard, screen, printed: Vec::new(), unread: Vec::new(), refusals_shown: 0 }
    }

    /// Runs a block, types the operator key if it asks for one, and looks for what it shows.
    pub fn follow(&mut self, step: &Step) {
        let block = self.home.join("block.sh");
        fs::write(&block, &step.commands).unwrap();
        writeln!(self.keyboard, "{}", block.display()).unwrap();
        if step.commands.contains("read -r KEY") {
            writeln!(self.keyboard, "{OPERATOR_KEY}").unwrap();
        }
        for shown in &step.shown {
            self.see(&step.commands, shown);
            self.refusals_shown += usize::from(shown.contains("\"status\":4"));
        }
        self.see(&step.commands, END);
    }

    /// Waits for a line. What a background process prints may come before or after it.
    fn see(&mut self, commands: &str, shown: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.unread.iter().position(|line| is_shown(line, shown)) {
                self.unread.remove(at);
                return;
            }
            let Ok(line) = self.screen.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) else {
                let (printed, errors) = (self.printed.join("\n"), self.errors());
                panic!("nothing printed {shown}\nafter\n{commands}\nbut\n{printed}\n{errors}");
            };
            // A prompt does not end its line.
            let line = line.trim_end_matches('\r').trim_start_matches("Operator key: ").to_owned();
            self.printed.push(line.clone());
            self.unread.push(line);
        }
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.home.join("errors")).unwrap()
    }

    /// Leaves. Each request that was refused has to be one whose refusal the document shows.
    pub fn finish(mut self) {
        drop(self.keyboard);
        let status = self.shell.0.wait().unwrap();
        let errors = fs::read_to_string(self.home.join("errors")).unwrap();
        assert!(status.success(), "{status}\n{errors}");
        let refused =
            errors.lines().filter(|line| line.starts_with("status 4") || line.starts_with("status 5")).count();
        assert_eq!(refused, self.refusals_shown, "requests were refused\n{}\n{errors}", self.printed.join("\n"));
    }
}
