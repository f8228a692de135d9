//! How a server is set up: the command line and the environment, in one place.

mod load;
mod refusal;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ipnet::IpNet;
use ureq::http::Uri;

use crate::actors::Durability;
use crate::domain::constraint::parse_net;
use crate::gateway::GatewayKind;

pub use load::{BaseUrl, LoadSettings, Pace};

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
    Load(Box<LoadSettings>),
}

/// What can be done with audit trails offline.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that audit trails are as they were written: a tenant's, or where none is named, all in the data directory.
    /// Exits with 0 if each is, 1 if one is not or that can't be shown, else 2 if one could not be looked at.
    Verify(VerifySettings),
}

/// Settings of `audit verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifySettings {
    /// The tenant: its id, its slug, or `default` [default: all, one line each].
    #[arg(long, conflicts_with = "folder")]
    pub tenant: Option<String>,
    /// Directory that holds the tenant's folder; no server may be running on it.
    #[arg(long, env = "KAVACH_DATA_DIR", default_value = "./snapshots")]
    pub data_dir: PathBuf,
    /// A tenant's folder, or a copy of one, instead of a data directory and a tenant.
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// A checkpoint kept from earlier (`GET /v1/audit/checkpoint`): a file, or the JSON itself. It is of
    /// one tenant, which has to be named.
    #[arg(long)]
    pub checkpoint: Option<String>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
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

/// Settings of a server.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "KAVACH_ADDR", default_value = "127.0.0.1:7600")]
    pub addr: SocketAddr,
    /// Directory that holds one folder per tenant.
    #[arg(long, env = "KAVACH_DATA_DIR", default_value = "./snapshots")]
    pub data_dir: PathBuf,
    /// HTTP worker threads, which also run the tenants' actors [default: one per core].
    #[arg(long, env = "KAVACH_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// When a decision's answer may leave: once the kernel has it, or once the disk has it.
    #[arg(long, env = "KAVACH_DURABILITY", value_enum, default_value_t = Durability::Interval)]
    pub durability: Durability,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas.
    #[arg(long, env = "KAVACH_TRUSTED_PROXIES", value_delimiter = ',', value_parser = read_net)]
    pub trusted_proxies: Vec<IpNet>,
    /// The URL that clients know this server by, as AuthZEN's metadata gives it: https, but for development. Without
    /// one, what a request's Host says, over TLS where this server itself speaks it.
    #[arg(long, env = "KAVACH_PUBLIC_URL", value_name = "URL", hide_env_values = true)]
    pub public_url: Option<PublicUrl>,
    /// The gateway that asks /v1/forward-auth: it says where the original request is read from.
    #[arg(long, env = "KAVACH_FORWARD_AUTH", value_name = "GATEWAY", value_enum, default_value_t = GatewayKind::Envoy)]
    pub forward_auth: GatewayKind,
    /// Rules that make an action and a resource of the original request, as JSON; see docs/gateways.md.
    #[arg(long, env = "KAVACH_FORWARD_AUTH_RULES", value_name = "FILE")]
    pub forward_auth_rules: Option<PathBuf>,
    /// The certificate to serve TLS with, and those that lead to its authority, as PEM. Read again on SIGHUP.
    #[arg(long, env = "KAVACH_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM without a password.
    #[arg(long, env = "KAVACH_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Tell so many tenants apart in /metrics, by their id; the others are added up. Without it no tenant is named there.
    #[arg(long, env = "KAVACH_METRICS_PER_TENANT", value_name = "TENANTS", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub metrics_per_tenant: Option<u32>,
    /// Fill an empty data directory with a tenant, agents and traffic to look at.
    #[arg(long, env = "KAVACH_DEMO")]
    pub demo: bool,
    /// Write the log as JSON lines.
    #[arg(long, env = "KAVACH_LOG_JSON")]
    pub log_json: bool,
    /// The operator key: 32 to 256 visible characters, best made by the server itself at its first start.
    #[arg(long, env = "KAVACH_OPERATOR_KEY", hide_env_values = true)]
    pub operator_key: Option<OperatorKey>,
}

impl Settings {
    /// Default settings on a data directory and a free port.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.into(),
            workers: None,
            durability: Durability::Interval,
            trusted_proxies: Vec::new(),
            public_url: None,
            forward_auth: GatewayKind::default(),
            forward_auth_rules: None,
            tls_cert: None,
            tls_key: None,
            metrics_per_tenant: None,
            demo: false,
            log_json: false,
            operator_key: None,
        }
    }

    /// Worker threads to run.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
}

/// An `https` or `http` URL without a user, a query, a fragment, or a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri =
            text.parse().map_err(|problem| format!("not a URL such as https://kavach.example: {problem}"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err("must start with https://, or for development with http://".to_owned());
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("must name a host, without a user".to_owned());
        }
        // A URI drops its fragment while it is read.
        if uri.query().is_some() || text.contains('#') {
            return Err("must have no query and no fragment".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

fn read_net(text: &str) -> Result<IpNet, String> {
    parse_net(text.trim()).ok_or_else(|| "not an IP address or a network such as 10.0.0.0/8".to_owned())
}

/// An operator key that somebody chose. It is not shown by `Debug`.
#[derive(Clone)]
pub struct OperatorKey(String);

impl OperatorKey {
    /// The key's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

impl std::str::FromStr for OperatorKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file that a key was read from often ends with a line break, of either kind.
        let text = text.trim();
        if !(32..=256).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "an operator key has 32 to 256 visible ASCII characters; without one the server makes one".into()
            );
        }
        if text.starts_with("kv_") || text.starts_with("kvt_") {
            return Err("an operator key does not start with kv_ or kvt_, which mark tokens and tenant keys".into());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_public_url_ends_without_a_slash() {
        let read = |text: &str| text.parse::<PublicUrl>().unwrap().as_str().to_owned();
        assert_eq!(read("https://pdp.example.com/"), "https://pdp.example.com");
        assert_eq!(read("http://localhost:7600/kavach/"), "http://localhost:7600/kavach");
    }

    #[test]
    fn an_operator_key_is_read_without_the_white_space_around_it() {
        let key = "0123456789-0123456789-0123456789";
        for text in [format!("{key}\r\n"), format!("{key} "), format!("\t{key}"), key.to_owned()] {
            assert_eq!(text.parse::<OperatorKey>().unwrap().reveal(), key);
        }
        for text in [key.replace("-0", " 0"), format!("{key}\u{200b}"), " ".repeat(40)] {
            assert!(!text.parse::<OperatorKey>().unwrap_err().contains("0123"));
        }
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
