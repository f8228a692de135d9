//! The command line: one file for each command.

mod refusal;
pub mod serve;
pub mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::settings::Settings;

use verify::VerifySettings;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "kavach", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; without one, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `serve`.
    #[command(flatten)]
    pub serve: Settings,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Settings),
    /// Look after audit trails, offline.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Send load to a running server and measure what its callers would wait. Exits with 0 if any request succeeded,
    /// 1 if none did or there was nothing to send it to.
    #[cfg(feature = "load")]
    Load(Box<kavach_load::LoadSettings>),
}

/// What can be done with audit trails offline.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that audit trails are as they were written: a tenant's, or where none is named, all in the data directory.
    /// Exits with 0 if each is, 1 if one is not or that can't be shown, else 2 if one could not be looked at.
    Verify(VerifySettings),
}

impl Cli {
    /// What the program was called with. Ends it where that can't be used, or only asks for help; no secret is shown.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let args: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
            refusal::without_secrets(error, &mut Self::command(), &args).exit()
        })
    }

    /// What to do.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// Carries out the command.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(settings) => serve::run(&settings),
        Command::Audit(AuditCommand::Verify(settings)) => verify::run(&settings),
        #[cfg(feature = "load")]
        Command::Load(settings) => {
            serve::raise_open_files();
            kavach_load::run(&settings)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;

    #[test]
    fn serving_is_the_default_command() {
        let serve = |args: &[&str]| match Cli::try_parse_from(args).unwrap().into_command() {
            Command::Serve(settings) => settings,
            other => panic!("{other:?} was not asked for"),
        };
        let settings = serve(&["kavach", "--addr", "127.0.0.1:0", "--demo"]);
        assert!(settings.demo);
        let args = ["kavach", "serve", "--durability", "fsync", "--trusted-proxies", "10.0.0.0/8,192.0.2.1"];
        let settings = serve(&args);
        assert_eq!(settings.durability, Durability::Fsync);
        assert_eq!(settings.trusted_proxies.len(), 2);
    }

    #[test]
    fn a_trail_is_verified_by_tenant_or_by_folder() {
        let verify = |args: &[&str]| {
            let args = ["kavach", "audit", "verify"].iter().chain(args);
            Cli::try_parse_from(args).map(Cli::into_command)
        };
        assert!(matches!(verify(&["--tenant", "acme", "--data-dir", "/x"]), Ok(Command::Audit(_))));
        assert!(matches!(verify(&["--folder", "/x", "--checkpoint", "{}", "--json"]), Ok(Command::Audit(_))));
        assert!(matches!(verify(&["--data-dir", "/x"]), Ok(Command::Audit(_))));
        assert!(verify(&["--folder", "/x", "--tenant", "acme"]).is_err());
    }

    #[test]
    fn bad_settings_are_refused() {
        for args in [
            ["kavach", "--addr", "localhost"],
            ["kavach", "--workers", "0"],
            ["kavach", "--durability", "maybe"],
            ["kavach", "--trusted-proxies", "10.0.0.0/40"],
            ["kavach", "--operator-key", "short"],
            ["kavach", "--public-url", "pdp.example.com"],
            ["kavach", "--public-url", "ftp://pdp.example.com"],
            ["kavach", "--public-url", "https://user@pdp.example.com"],
            ["kavach", "--public-url", "https://pdp.example.com/?a=b"],
            ["kavach", "--public-url", "https://pdp.example.com/#part"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
