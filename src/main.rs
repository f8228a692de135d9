//! The server binary. All it does is read the command line, start the server, and stop it on a signal; or verify an
//! audit trail offline, or send load to a server.

use std::io::{self, Write};
use std::process::ExitCode;

use kavach::settings::{AuditCommand, Cli, Command};
use kavach::{Server, Settings, demo, load, telemetry, verify};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let settings = match Cli::read().into_command() {
        Command::Serve(settings) => settings,
        Command::Audit(AuditCommand::Verify(settings)) => return verify::run(&settings),
        Command::Load(settings) => {
            raise_open_files();
            return load::run(&settings);
        }
    };
    telemetry::start(settings.log_json);
    raise_open_files();
    match actix_rt::System::new().block_on(serve(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // For whoever started it; the log may go elsewhere.
            let _ = writeln!(io::stderr(), "kavach: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Lets the process open as many files as it may at most: each tenant keeps one open, and the usual limit is low.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%problem, allowed = limit.current, "the limit of open files could not be raised; it bounds the number of tenants");
    }
}

async fn serve(settings: &Settings) -> io::Result<()> {
    // A signal that comes while the tenants load is not lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let server = Server::start(settings).await?;
    greet(settings, &server).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = renew_certificate(&server, &mut hang_up) => {}
    }
    info!("stopping: what is under way is answered, everything is written to disk");
    server.stop().await;
    info!("stopped");
    Ok(())
}

/// Reads the certificate again with each SIGHUP. Without TLS there is none, and the signal ends the server as it ends
/// any program.
async fn renew_certificate(server: &Server, hang_up: &mut Signal) {
    while hang_up.recv().await.is_some() {
        let Some(tls) = server.tls() else { return };
        match tls.read_again() {
            Ok(()) => info!("the TLS certificate was read again; new connections are shown it"),
            Err(problem) => error!(%problem, "the TLS certificate was not read again; the old one is still shown"),
        }
    }
}

/// Says on standard output what the caller needs to know: the address, a new operator key, the demo's call.
async fn greet(settings: &Settings, server: &Server) -> io::Result<()> {
    let base_url = server.base_url();
    let mut out = io::stdout();
    if let Some(key) = server.app().new_operator_key() {
        writeln!(out, "Operator key, shown this once: {}", key.reveal())?;
    }
    if settings.demo {
        match demo::fill(&server.app().kavach()).await.map_err(io::Error::other)? {
            Some(made) => {
                let command = demo::sample_command(&base_url, &made).map_err(io::Error::other)?;
                writeln!(out, "The demo's tenant is 'acme'. Authorize a call of its first agent:\n\n{command}\n")?;
            }
            None => {
                writeln!(out, "--demo: {} holds tenants already and was left as it is.", settings.data_dir.display())?
            }
        }
    }
    writeln!(out, "Listening on {base_url}")?;
    out.flush()
}
