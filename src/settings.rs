//! The server's options, on the command line and in the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use actix_web::http::Uri;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use ipnet::IpNet;

use crate::domain::permission::constraint::ip_allowlist::parse_net;
use crate::domain::secret::OperatorKey;
use crate::gateway::GatewayKind;
use crate::measure::process;
use crate::store::Durability;

/// What a tenant in memory takes, with a few dozen agents and some traffic.
const TENANT_BYTES: usize = 64 << 10;

/// A server's settings.
#[derive(Clone, Debug, Args)]
pub struct ServerSettings {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, env = "KAVACH_ADDR", default_value = "127.0.0.1:7600")]
    pub addr: SocketAddr,
    /// Directory that holds one folder per tenant.
    #[arg(long, env = "KAVACH_DATA_DIR", default_value = "./snapshots")]
    pub data_dir: PathBuf,
    /// HTTP worker threads, which also run the tenants' actors [default: one per core].
    #[arg(long, env = "KAVACH_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// How many tenants are kept in memory. The others are read when somebody calls them, which takes about a millisecond
    /// [default: as many as fit in a quarter of the memory, at 64 KiB each].
    #[arg(long, env = "KAVACH_RESIDENT_TENANTS", value_name = "TENANTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub resident_tenants: Option<u32>,
    /// When a decision's answer may leave: once the kernel has the decision, or once the disk has it.
    #[arg(long, env = "KAVACH_DURABILITY", default_value_t = Durability::Interval, value_parser = PossibleValuesParser::new(Durability::NAMES).try_map(|name| name.parse::<Durability>()))]
    pub durability: Durability,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, comma-separated.
    #[arg(long, env = "KAVACH_TRUSTED_PROXIES", value_delimiter = ',', value_parser = read_net)]
    pub trusted_proxies: Vec<IpNet>,
    /// Networks that webhooks may reach although they are not public, also by http: addresses or networks, comma-separated.
    #[arg(long, env = "KAVACH_WEBHOOK_ALLOW", value_name = "CIDR", value_delimiter = ',', value_parser = read_net)]
    pub webhook_allow: Vec<IpNet>,
    /// The URL that clients use, for AuthZEN's metadata: https, or http for development. Without it, the URL comes from
    /// the request's Host, with https if this server speaks TLS.
    #[arg(long, env = "KAVACH_PUBLIC_URL", value_name = "URL", hide_env_values = true)]
    pub public_url: Option<PublicUrl>,
    /// The gateway that asks /v1/forward-auth. It decides where the original request is read from.
    #[arg(long, env = "KAVACH_FORWARD_AUTH", value_name = "GATEWAY", value_enum, default_value_t = GatewayKind::Envoy)]
    pub forward_auth: GatewayKind,
    /// JSON file of rules that turn the original request into an action and a resource; see docs/gateways.md.
    #[arg(long, env = "KAVACH_FORWARD_AUTH_RULES", value_name = "FILE")]
    pub forward_auth_rules: Option<PathBuf>,
    /// PEM file with the server's certificate followed by its chain: serves TLS. Read again on SIGHUP.
    #[arg(long, env = "KAVACH_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key, without a password.
    #[arg(long, env = "KAVACH_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How many tenants /metrics shows separately, by id; the rest are added up. Without it, /metrics names no tenant.
    #[arg(long, env = "KAVACH_METRICS_PER_TENANT", value_name = "TENANTS", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub metrics_per_tenant: Option<u32>,
    /// Fill an empty data directory with a tenant, agents and traffic to explore.
    #[arg(long, env = "KAVACH_DEMO")]
    pub demo: bool,
    /// Write the log as JSON lines.
    #[arg(long, env = "KAVACH_LOG_JSON")]
    pub log_json: bool,
    /// The operator key: 32 to 256 visible characters. Without it, the first start makes one, which is best.
    #[arg(long, env = "KAVACH_OPERATOR_KEY", hide_env_values = true)]
    pub operator_key: Option<OperatorKey>,
}

impl ServerSettings {
    /// The defaults, with this data directory and a free port.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.into(),
            workers: None,
            resident_tenants: None,
            durability: Durability::Interval,
            trusted_proxies: Vec::new(),
            webhook_allow: Vec::new(),
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

    /// How many tenants may be in memory.
    pub fn resident_tenants(&self) -> usize {
        self.resident_tenants.map_or_else(|| process::memory() / 4 / TENANT_BYTES, |tenants| tenants as usize)
    }

    /// How many worker threads to run: one for each core unless set.
    pub fn worker_count(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }
}

/// An `https` or `http` URL without user, query, fragment or trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The URL's text.
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
        // Parsing a URI drops its fragment.
        if uri.query().is_some() || text.contains('#') {
            return Err("must have no query and no fragment".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

fn read_net(text: &str) -> Result<IpNet, String> {
    parse_net(text.trim()).ok_or_else(|| "not an IP address or a network such as 10.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_ends_without_a_slash() {
        let read = |text: &str| text.parse::<PublicUrl>().unwrap().as_str().to_owned();
        assert_eq!(read("https://pdp.example.com/"), "https://pdp.example.com");
        assert_eq!(read("http://localhost:7600/kavach/"), "http://localhost:7600/kavach");
    }
}
