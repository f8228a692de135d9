//! `kavach load`: sends load to a running server and measures what its callers would wait.
//!
//! Requests follow a fixed schedule, and each latency counts from the time its request was due. So a server that stalls
//! can't hide behind requests that were not sent meanwhile (coordinated omission). Requests are rendered before the
//! start, and one thread does all the work, so that measuring takes little from what is measured.
//!
//! | it may know | why |
//! | --- | --- |
//! | its own HTTP clients | it measures a server from outside, as any client would |
//! | `kavach-fixture`: real tool calls | the load is made of them |
//! | `kavach-domain`: a few limits, and the form of secrets | it keeps within the server's limits, and prints no token |
//! | nothing of the server, the journal or the store | whatever they do, the load tool has to see what a client sees |
//!
//! | file | what is in it |
//! | --- | --- |
//! | `calls` | the permissions of the agents, and calls that they grant or deny |
//! | `targets`, `setup` | tenants, agents and tokens: kept in a file, created over the API |
//! | `traffic` | the requests as bytes |
//! | `schedule` | when each is due |
//! | `connection`, `answer` | one connection; answers out of its bytes |
//! | `engine` | the loop that sends and reads |
//! | `tally`, `report` | the counts; the result as JSON and as a table |
//! | `plot` | the result as a picture |
//! | `progress` | bars on a terminal |
//! | `options` | the command line |

mod answer;
mod calls;
mod connection;
mod engine;
mod options;
mod plot;
mod progress;
mod report;
mod schedule;
mod setup;
mod tally;
mod targets;
mod traffic;

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::engine::{CONNECT_TIMEOUT, Plan};
pub use crate::options::{BaseUrl, LoadSettings, LoopMode};
use crate::progress::RunBar;
use crate::report::LoadReport;
use crate::setup::Setup;
use crate::targets::{TargetFile, Targets};
use crate::traffic::{Mix, RenderedRequests};

/// Runs `kavach load`.
pub fn run(settings: &LoadSettings) -> ExitCode {
    match execute(settings) {
        Ok(code) => code,
        Err(problem) => {
            // If even that fails, there is no way left to report it.
            let _ = writeln!(io::stderr(), "kavach: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn execute(settings: &LoadSettings) -> Result<ExitCode, String> {
    let stop = stop_on_signal().map_err(|problem| format!("signals can't be awaited: {problem}"))?;
    let (address, own_ip) = find_server(&settings.url)?;
    let setup = match &settings.key {
        Some(key) => Some(Setup::new(&settings.url, key, &stop)),
        None if settings.clean_up => return Err("--clean-up needs --key or KAVACH_OPERATOR_KEY".to_owned()),
        None => None,
    };
    let targets = match (&settings.targets, &setup) {
        (Some(path), _) => Targets::read(path)?,
        (None, Some(setup)) => make_targets(settings, setup, own_ip)?,
        (None, None) => return Err("--key or KAVACH_OPERATOR_KEY is needed to make tenants and agents".to_owned()),
    };
    if settings.setup_only {
        return Ok(ExitCode::SUCCESS);
    }
    let done = measure(settings, &targets, address, &stop);
    // Clean up whatever the outcome, but print the result first.
    let deleted = setup.filter(|_| settings.clean_up).map_or(Ok(()), |setup| setup.delete(&targets));
    done.and_then(|succeeded| deleted.map(|()| succeeded))
}

/// Set by the first signal; a second one ends the program at once.
fn stop_on_signal() -> io::Result<Arc<AtomicBool>> {
    let (stop, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        // In this order: whenever a signal comes it sets `stop`, and only the next one finds `again` set.
        flag::register(signal, Arc::clone(&stop))?;
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
    }
    Ok(stop)
}

/// An address at which the server accepts connections, and the local address of such a connection.
fn find_server(url: &BaseUrl) -> Result<(SocketAddr, Option<IpAddr>), String> {
    let mut problem = "its name has no address".to_owned();
    let addresses =
        url.host_and_port().to_socket_addrs().map_err(|problem| format!("{url} can't be found: {problem}"))?;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok((address, stream.local_addr().ok().map(|own| own.ip().to_canonical()))),
            Err(refused) => problem = refused.to_string(),
        }
    }
    Err(format!("no server can be reached at {url}: {problem}"))
}

fn make_targets(settings: &LoadSettings, setup: &Setup<'_>, own_ip: Option<IpAddr>) -> Result<Targets, String> {
    // The file first: without it, the tenants would be of no use.
    let file = settings.save.as_deref().map(|path| Ok::<_, String>((path, TargetFile::create(path)?))).transpose()?;
    let targets = setup.create(settings, own_ip)?;
    if let Some((path, file)) = file
        && let Err(problem) = file.write(path, &targets)
    {
        // Nobody knows their tokens now.
        setup.delete(&targets)?;
        return Err(problem);
    }
    Ok(targets)
}

/// Sends the load and prints the result. Fails if no request succeeded.
fn measure(
    settings: &LoadSettings,
    targets: &Targets,
    address: SocketAddr,
    stop: &AtomicBool,
) -> Result<ExitCode, String> {
    let plot = settings.plot.as_deref().map(|path| Ok::<_, String>((path, create_plot(path)?))).transpose()?;
    let mix = Mix {
        batch: settings.batch_size(),
        deny_share: settings.deny_share,
        keep_alive: !settings.no_keep_alive,
        idempotency_keys: settings.idempotency_keys,
        seed: settings.seed,
    };
    let mut traffic = RenderedRequests::new(&settings.url, targets, mix);
    let plan = Plan {
        address,
        loop_mode: settings.loop_mode(),
        connections: settings.connection_count(),
        pipeline: settings.pipeline,
        keep_alive: !settings.no_keep_alive,
        warmup: settings.warmup,
        duration: settings.duration,
    };
    let mut bar = RunBar::new(settings);
    let outcome = engine::run(&plan, &mut traffic, stop, &mut |progress| bar.show(settings, progress));
    bar.clear();
    let outcome = outcome.map_err(|problem| format!("the load on {} could not be run: {problem}", settings.url))?;
    let report = LoadReport::new(settings, &outcome);
    print(settings, &report).map_err(|problem| format!("the result can't be written: {problem}"))?;
    if let Some((path, mut file)) = plot {
        let svg = plot::draw(&report, &outcome.tally.latency);
        file.write_all(svg.as_bytes()).map_err(|problem| unwritable_plot(path, &problem))?;
    }
    match report.total.requests {
        0 => Err(format!("no request to {} succeeded", settings.url)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print(settings: &LoadSettings, report: &LoadReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if settings.json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()
}

/// Creates the file before the load, so that a bad path fails early.
fn create_plot(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|problem| unwritable_plot(path, &problem))
}

fn unwritable_plot(path: &Path, problem: &io::Error) -> String {
    format!("the plot can't be written to {}: {problem}", path.display())
}
