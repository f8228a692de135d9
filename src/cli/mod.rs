//! The command line: one file for each command.

mod refusal;
pub mod serve;
pub mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::settings::ServerSettings;

use verify::VerifySettings;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "kavach", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; serve by default.
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    /// Options of `serve`.
    #[command(flatten)]
    pub serve: ServerSettings,
}

/// The program's commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the server.
    Serve(ServerSettings),
    /// Work on audit trails offline.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Send load to a running server and measure how long its callers would wait. Exits with 0 if any request succeeded,
    /// 1 if none did or nothing could be sent.
    #[cfg(feature = "load")]
    Load(Box<kavach_load::LoadSettings>),
}

/// Offline commands for audit trails.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that audit trails are intact: one tenant's, or by default all in the data directory. Exits with 0 if all are,
    /// 1 if one is not or the checkpoint can't vouch for it, else 2 if one could not be read.
    Verify(VerifySettings),
}

impl Cli {
    /// Reads the command line. Exits if it can't be used or only asks for help. Errors repeat no secret.
    pub fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let args: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
            refusal::without_secrets(error, &mut Self::command(), &args).exit()
        })
    }

    /// The command, `serve` by default.
    pub fn into_command(self) -> CliCommand {
        self.command.unwrap_or(CliCommand::Serve(self.serve))
    }
}

/// Carries out the command.
pub fn run(command: CliCommand) -> ExitCode {
    match command {
        CliCommand::Serve(settings) => serve::run(&settings),
        CliCommand::Audit(AuditCommand::Verify(settings)) => verify::run(&settings),
        #[cfg(feature = "load")]
        CliCommand::Load(settings) => {
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
            CliCommand::Serve(settings) => settings,
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
        assert!(matches!(verify(&["--tenant", "acme", "--data-dir", "/x"]), Ok(CliCommand::Audit(_))));
        assert!(matches!(verify(&["--folder", "/x", "--checkpoint", "{}", "--json"]), Ok(CliCommand::Audit(_))));
        assert!(matches!(verify(&["--data-dir", "/x"]), Ok(CliCommand::Audit(_))));
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
