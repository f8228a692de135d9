//! The command line of `kavach load`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ureq::http::Uri;

use kavach_domain::limits::MAX_BATCH;
use kavach_domain::secret::OperatorKey;

/// Requests a second where neither a rate nor a number of connections is given.
pub const DEFAULT_RATE: u32 = 1000;
/// Connections where none are given: as many as a busy client library keeps.
pub const DEFAULT_CONNECTIONS: u16 = 64;
/// Tenants that one run makes, at most.
const MAX_TENANTS: i64 = 100_000;
/// Agents of one tenant that one run makes, at most: as many as a tenant can have.
const MAX_AGENTS: i64 = 2_000_000;
/// Policies of every agent, at most: far past any real number, and few enough to make.
const MAX_BUDGETS: i64 = 1_000;

/// Settings of `load`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Requests are sent by a fixed schedule (open loop), and a latency counts from the time its request was due: one that \
waits for a free connection, or for a server that stalls, counts from then. With --connections and no --rate each \
connection sends its next request once it has the answer to the one before (closed loop), which shows the most a \
server can do, but not what its callers would wait.

Examples:
  kavach load --rate 5000 --duration 30s --plot latency.svg
  kavach load --connections 64 --duration 10s
  kavach load --tenants 100 --agents 10 --setup-only --save targets.json
  kavach load --targets targets.json --connections 8 --batch 100 --json")]
pub struct LoadSettings {
    /// URL of the server; plain HTTP only.
    #[arg(long, env = "KAVACH_URL", hide_env_values = true, default_value = "http://127.0.0.1:7600")]
    pub url: BaseUrl,
    /// Operator key, to create the tenants and agents. Not needed with --targets.
    #[arg(long, env = "KAVACH_OPERATOR_KEY", hide_env_values = true)]
    pub key: Option<OperatorKey>,
    /// Requests a second, sent by a fixed schedule [default: 1000, unless --connections is given].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// Connections. Without --rate each sends a request as soon as it has the answer to the one before [default: 64].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    pub connections: Option<u16>,
    /// How long to count, such as 10s, 2m or 1m30s; a number alone is seconds.
    #[arg(long, default_value = "10s", value_parser = read_some_time)]
    pub duration: Duration,
    /// How long to send before counting starts.
    #[arg(long, default_value = "1s", value_parser = read_time)]
    pub warmup: Duration,
    /// Open a new connection for each request.
    #[arg(long, conflicts_with = "pipeline")]
    pub no_keep_alive: bool,
    /// Requests under way on one connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub pipeline: u16,
    /// Decisions asked for by one request, through /v1/authorize/batch [default: none, through /v1/authorize].
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=i64::try_from(MAX_BATCH).unwrap_or(i64::MAX)))]
    pub batch: Option<u16>,
    /// Send a new idempotency key with each request.
    #[arg(long, conflicts_with = "batch")]
    pub idempotency_keys: bool,
    /// Tenants to make.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_TENANTS))]
    pub tenants: u32,
    /// Agents to make in each tenant.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MAX_AGENTS))]
    pub agents: u32,
    /// Budget policies on every agent: the first is its tenant's, the second its owner's, the third its own, any more
    /// its tenant's. All are checked and charged; none is ever used up.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=MAX_BUDGETS))]
    pub budgets: u32,
    /// Share of calls that should be denied, 0 to 1.
    #[arg(long, default_value_t = 0.1, value_parser = read_share)]
    pub deny_share: f64,
    /// Chooses the calls and the order of the agents: equal seeds send equal requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Save what was created to a file that only its owner can read: it holds the agents' tokens.
    #[arg(long, value_name = "FILE", conflicts_with = "targets")]
    pub save: Option<PathBuf>,
    /// Use the agents in a file written by --save instead of creating any.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenants", "agents", "budgets"])]
    pub targets: Option<PathBuf>,
    /// Make the tenants and agents, save them, and send no load.
    #[arg(long, requires = "save", conflicts_with_all = ["targets", "clean_up", "json", "plot"])]
    pub setup_only: bool,
    /// Delete the tenants afterwards, those of --targets too if `kavach load` made them.
    #[arg(long)]
    pub clean_up: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Draw the latency by percentile to an SVG file.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopMode {
    /// At a fixed rate, by a schedule that does not wait for answers.
    Open {
        /// Requests a second.
        rate: u32,
    },
    /// Each as soon as its connection has the answer to the one before.
    Closed,
}

impl LoadSettings {
    /// When requests are sent.
    pub fn loop_mode(&self) -> LoopMode {
        match (self.rate, self.connections) {
            (Some(rate), _) => LoopMode::Open { rate },
            (None, Some(_)) => LoopMode::Closed,
            (None, None) => LoopMode::Open { rate: DEFAULT_RATE },
        }
    }

    /// Connections to keep.
    pub fn connection_count(&self) -> u16 {
        self.connections.unwrap_or(DEFAULT_CONNECTIONS)
    }

    /// Decisions in one request to the batch route; `None` if single calls are sent.
    pub fn batch_size(&self) -> Option<u16> {
        self.batch.filter(|size| *size > 0)
    }
}

/// A server's address: `http://host:port`, perhaps with a path that all its routes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `host:port` for a resolver, or an address in brackets.
    authority: String,
    /// Empty, or a path that starts with a slash and does not end with one.
    path: String,
}

impl BaseUrl {
    /// The value of the `Host` header.
    pub fn host(&self) -> &str {
        &self.authority
    }

    /// `host:port`, with port 80 if the URL names none.
    pub fn host_and_port(&self) -> String {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if has_port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }

    /// The path of a route.
    pub fn path_of(&self, route: &str) -> String {
        format!("{}{route}", self.path)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|problem| format!("not a URL such as http://127.0.0.1:7600: {problem}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let problem =
                    "the load speaks no TLS, which would measure that too: name an address without, with http://";
                return Err(problem.to_owned());
            }
            _ => return Err("must start with http://".to_owned()),
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or("must name a host, without a user")?;
        if uri.query().is_some() {
            return Err("must have no query".to_owned());
        }
        Ok(Self { authority: authority.as_str().to_owned(), path: uri.path().trim_end_matches('/').to_owned() })
    }
}

fn read_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|problem| problem.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|problem| problem.to_string())?,
    };
    // A day: what is counted over more says nothing of any hour of it, and sums of times stay far from overflow.
    if time > Duration::from_secs(24 * 60 * 60) { Err("must be at most a day".to_owned()) } else { Ok(time) }
}

fn read_some_time(text: &str) -> Result<Duration, String> {
    read_time(text).and_then(|time| if time.is_zero() { Err("must be more than 0".to_owned()) } else { Ok(time) })
}

fn read_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be between 0 and 1".to_owned()) }
}

#[cfg(test)]
pub(crate) mod for_tests {
    use clap::Parser;

    use super::LoadSettings;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        load: LoadSettings,
    }

    /// The options of `kavach load` as a command line gives them.
    pub fn try_parse(args: &[&str]) -> Result<LoadSettings, clap::Error> {
        CommandLine::try_parse_from(["load"].iter().chain(args)).map(|line| line.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::for_tests::try_parse as load;

    #[test]
    fn connections_without_a_rate_close_the_loop() {
        let shape = |args: &[&str]| {
            let settings = load(args).unwrap();
            (settings.loop_mode(), settings.connection_count())
        };
        assert_eq!(shape(&[]), (LoopMode::Open { rate: 1000 }, 64));
        assert_eq!(shape(&["--rate", "5000"]), (LoopMode::Open { rate: 5000 }, 64));
        assert_eq!(shape(&["--connections", "8"]), (LoopMode::Closed, 8));
        assert_eq!(shape(&["--connections", "8", "--rate", "20"]), (LoopMode::Open { rate: 20 }, 8));
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let duration = |text| load(&["--duration", text]).map(|settings| settings.duration.as_millis());
        for (text, millis) in [("10s", 10_000), ("7", 7_000), ("0.25", 250), ("1m30s", 90_000), ("500ms", 500)] {
            assert_eq!(duration(text).unwrap(), millis, "{text}");
        }
        for text in ["0", "0s", "-1", "soon", "NaN", "inf", "1e300", "25h", ""] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(load(&["--warmup", "0"]).unwrap().warmup.is_zero());
    }

    #[test]
    fn a_url_is_plain_http() {
        let url: BaseUrl = "http://kavach.internal:7600/auth/".parse().unwrap();
        assert_eq!(url.path_of("/v1/authorize"), "/auth/v1/authorize");
        assert_eq!((url.host(), &*url.host_and_port()), ("kavach.internal:7600", "kavach.internal:7600"));
        assert_eq!(url.to_string(), "http://kavach.internal:7600/auth");
        let port = |text: &str| text.parse::<BaseUrl>().unwrap().host_and_port();
        assert_eq!(port("http://localhost"), "localhost:80");
        assert_eq!(port("http://[::1]"), "[::1]:80");
        assert_eq!(port("http://[::1]:7600"), "[::1]:7600");
        for text in ["127.0.0.1:7600", "https://x", "http://", "http://u:p@x", "http://x/?a=b", "/x", ""] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for args in [
            &["--targets", "f", "--save", "g"][..],
            &["--targets", "f", "--agents", "5"],
            &["--setup-only"],
            &["--setup-only", "--save", "f", "--json"],
            &["--no-keep-alive", "--pipeline", "4"],
            &["--batch", "1001"],
            &["--batch", "10", "--idempotency-keys"],
            &["--rate", "0"],
            &["--deny-share", "1.5"],
            &["--deny-share", "NaN"],
            &["--key", "short"],
        ] {
            assert!(load(args).is_err(), "{args:?}");
        }
        assert_eq!(load(&["--batch", "0"]).unwrap().batch_size(), None);
        assert_eq!(load(&["--batch", "100"]).unwrap().batch_size(), Some(100));
    }
}
