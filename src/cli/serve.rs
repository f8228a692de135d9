//! `kavach serve`: starts the server, prints how to reach it, and stops it on a signal.

use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::server::Server;
use crate::settings::ServerSettings;
use crate::{demo, telemetry};

/// Runs the server until a signal stops it.
pub fn run(settings: &ServerSettings) -> ExitCode {
    telemetry::start(settings.log_json);
    raise_open_files();
    match actix_rt::System::new().block_on(serve(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // The log may go elsewhere; this is for the person who started it.
            let _ = writeln!(io::stderr(), "kavach: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of open files to the maximum allowed: connections need many, and the usual limit is low.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%problem, allowed = limit.current, "could not raise the limit of open files, which bounds the number of connections");
    }
}

async fn serve(settings: &ServerSettings) -> io::Result<()> {
    // Listen first, so that a signal during loading is not lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let server = Server::start(settings).await?;
    greet(settings, &server).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = renew_certificate(&server, &mut hang_up) => {}
    }
    info!("stopping: answering calls in flight and writing everything to disk");
    server.stop().await;
    info!("stopped");
    Ok(())
}

/// Reads the certificate again on each SIGHUP. Returns if there is no TLS: the signal then stops the server, as it stops
/// any program.
async fn renew_certificate(server: &Server, hang_up: &mut Signal) {
    while hang_up.recv().await.is_some() {
        let Some(tls) = server.tls() else { return };
        match tls.read_again() {
            Ok(()) => info!("reloaded the TLS certificate; new connections get it"),
            Err(problem) => error!(%problem, "could not reload the TLS certificate; the old one stays"),
        }
    }
}

/// Prints what the caller needs: the address, a new operator key, the demo's call.
async fn greet(settings: &ServerSettings, server: &Server) -> io::Result<()> {
    let base_url = server.base_url();
    let mut out = io::stdout();
    if let Some(key) = server.app().new_operator_key() {
        writeln!(out, "Operator key, shown this once: {}", key.reveal())?;
    }
    if settings.demo {
        match demo::fill(&server.app().kavach()).await.map_err(io::Error::other)? {
            Some(made) => {
                let command = demo::sample_command(&base_url, &made).map_err(io::Error::other)?;
                writeln!(out, "The demo's tenant is 'acme'. To authorize a call by its first agent:\n\n{command}\n")?;
            }
            None => {
                writeln!(out, "--demo: {} already holds tenants, so nothing was added.", settings.data_dir.display())?
            }
        }
    }
    writeln!(out, "Listening on {base_url}")?;
    out.flush()
}
