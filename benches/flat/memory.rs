//! Memory of an agent: how much a fresh process grows when a tenant gets its agents, and when it is loaded from disk.
//! Only Linux reports a process's memory.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kavach::domain::agent::commands::NewAgent;
use kavach::domain::tenant::Caller;
use kavach::journal::{DataDir, JournalOptions};
use kavach::store::codec;
use kavach::store::loader;

use crate::claim;
use crate::common::{World, call, create_folder, measuring, now, permission, tenant_id, usual_agent};

/// The most that an agent may take.
const GOAL_BYTES: f64 = 1_024.0;

/// Runs the processes and prints what they found.
pub fn run() {
    let agents: usize = if measuring() { 1_000_000 } else { 200 };
    for (kind, what) in [("roles", "agents of 20 roles"), ("unlike", "agents of which no two may do the same")] {
        let root = tempfile::tempdir().unwrap();
        for (task, when) in [("grow", "as they come"), ("read", "after a restart")] {
            let (bytes, peak) = process(task, kind, agents, root.path());
            let what = format!("{agents} {what}, {when}");
            match kind {
                "roles" => claim::at_most(&format!("memory of each of {what}"), bytes, "bytes", GOAL_BYTES),
                _ => claim::note(&format!("memory of each of {what}"), bytes, "bytes"),
            }
            claim::note("    the most there was at any time, a snapshot included", peak, "bytes");
        }
    }
}

/// Runs this program again. Returns the memory it grew by for each agent: at the end, and at its peak.
fn process(task: &str, kind: &str, agents: usize, root: &Path) -> (f64, f64) {
    let args = ["--memory", task, kind, &agents.to_string()];
    let run = Command::new(std::env::current_exe().unwrap()).args(args).arg(root).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8_lossy(&run.stdout);
    let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    (figures[0] / agents as f64, figures[1] / agents as f64)
}

/// The work of such a process; its arguments are the task, the kind of agents, their number, and the folder.
pub fn child(args: &[String]) {
    let (task, kind, agents, root) = (&*args[0], &*args[1], args[2].parse::<usize>().unwrap(), Path::new(&args[3]));
    let data = DataDir::open(root).unwrap();
    // The memory that all agents share, such as the fixture, is not counted.
    let mut world = World::new();
    world.add(agent(kind, 0));
    let before = resident("VmRSS:");
    match task {
        "grow" => grow(&mut world, &data, kind, agents),
        _ => {
            let folder = data.folder(&tenant_id(0).to_string()).unwrap();
            world.tenant = loader::load(
                &folder,
                &kavach::journal::Tail::default(),
                tenant_id(0),
                now(),
                JournalOptions::default(),
            )
            .unwrap()
            .tenant;
        }
    }
    assert_eq!(world.tenant.agents().len(), agents);
    serve(&mut world);
    println!("{} {}", resident("VmRSS:") - before, resident("VmHWM:") - before);
}

/// Decides calls for a while, so that the allocator gives back what only loading needed.
fn serve(world: &mut World) {
    let request = call(&permission(0), 7);
    let (begun, mut buffer) = (Instant::now(), Vec::new());
    for slot in (0..world.tenant.agents().len() as u32).cycle() {
        if begun.elapsed() > Duration::from_millis(if measuring() { 1_500 } else { 1 }) {
            break;
        }
        buffer.clear();
        world.decide(&Caller::Agent(slot), &request, &mut buffer);
    }
}

fn agent(kind: &str, n: usize) -> NewAgent {
    let mut agent = usual_agent(n);
    if kind == "unlike" {
        agent.permissions.iter_mut().for_each(|permission| permission.resource += &format!(":{n}"));
    }
    agent
}

/// Adds the agents to a tenant and its journal, as its actor would, and writes a snapshot.
fn grow(world: &mut World, data: &DataDir, kind: &str, agents: usize) {
    let mut journal = create_folder(data, 0, &world.events);
    world.events.clear();
    for n in 1..agents {
        world.add(agent(kind, n));
        for event in world.events.drain(..) {
            journal.append(journal.next_seq(), |buffer| buffer.extend_from_slice(&event)).unwrap();
        }
        if n % 64 == 0 {
            journal.flush().unwrap();
            journal.rotate_if_due(now().millis()).unwrap();
        }
    }
    journal.flush().unwrap();
    let state = world.tenant.state();
    journal.begin_snapshot(journal.written_seq()).run(|file| codec::write_state(&state, file)).unwrap();
    journal.close(now().millis()).unwrap();
}

/// Bytes in that line of the kernel's report about this process.
fn resident(line: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let kilobytes = status.lines().find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: i64| kilobytes * 1_024)
}
