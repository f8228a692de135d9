//! The metric families, each with its name, its meaning and its samples.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::actors::mailbox::MAILBOX_CAPACITY;
use crate::domain::{Code, Timestamp};
use crate::measure::histogram::HistogramCounts;
use crate::measure::metric_values::{MetricValues, TenantDecisions};

/// A metric.
#[derive(Debug)]
pub struct Family {
    /// Its name, but for its unit and, of a counter, `_total`.
    stem: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    kind: MetricType,
    samples: Vec<Sample>,
}

/// A label's name and value.
type MetricLabel = (&'static str, String);

#[derive(Debug)]
struct Sample {
    labels: Vec<MetricLabel>,
    value: MetricValue,
}

#[derive(Debug)]
enum MetricValue {
    Whole(u64),
    Real(f64),
    Times(HistogramCounts),
}

/// The process's connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionCounts {
    /// How many are open.
    pub open: usize,
    /// How many may be.
    pub most: usize,
    /// How many were refused.
    pub refused: u64,
}

impl From<u64> for MetricValue {
    fn from(whole: u64) -> Self {
        Self::Whole(whole)
    }
}

impl From<usize> for MetricValue {
    fn from(whole: usize) -> Self {
        Self::Whole(whole as u64)
    }
}

impl From<f64> for MetricValue {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

fn family(kind: MetricType, stem: &'static str, unit: Option<Unit>, help: &'static str) -> Family {
    Family { stem, unit, help, kind, samples: Vec::new() }
}

fn counter(stem: &'static str, unit: Option<Unit>, help: &'static str) -> Family {
    family(MetricType::Counter, stem, unit, help)
}

fn gauge(stem: &'static str, unit: Option<Unit>, help: &'static str) -> Family {
    family(MetricType::Gauge, stem, unit, help)
}

fn histogram(stem: &'static str, help: &'static str, times: &HistogramCounts) -> Family {
    let sample = Sample { labels: Vec::new(), value: MetricValue::Times(times.clone()) };
    Family { samples: vec![sample], ..family(MetricType::Histogram, stem, Some(Unit::Seconds), help) }
}

impl Family {
    fn is(mut self, value: impl Into<MetricValue>) -> Self {
        self.samples.push(Sample { labels: Vec::new(), value: value.into() });
        self
    }

    fn with<V: Into<MetricValue>>(
        mut self,
        label: &'static str,
        values: impl IntoIterator<Item = (String, V)>,
    ) -> Self {
        let sample = |(of, value): (String, V)| Sample { labels: vec![(label, of)], value: value.into() };
        self.samples.extend(values.into_iter().map(sample));
        self
    }

    /// The name that a query uses.
    #[cfg(test)]
    fn name(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let total = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{}{unit}{total}", self.stem)
    }
}

/// Decisions by result.
fn by_result(results: [u64; 3]) -> impl Iterator<Item = (String, u64)> {
    ["allowed", "denied", "rate_limited"].map(str::to_owned).into_iter().zip(results)
}

/// Denials by code, including codes with none.
fn by_code(denials: &[(Code, u64)]) -> impl Iterator<Item = (String, u64)> {
    let count = |code: Code| denials.iter().find(|(of, _)| *of == code).map_or(0, |(_, count)| *count);
    let counts = Code::ALL.iter().map(move |code| (*code, count(*code)));
    counts.filter(|(code, count)| *count > 0 || code.denies()).map(|(code, count)| (code.to_string(), count))
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1e3
}

/// All metrics with these figures.
pub fn families(figures: &MetricValues, connections: ConnectionCounts) -> Vec<Family> {
    let MetricValues { tenants, agents, process, .. } = figures;
    let mut all = decisions(figures);
    all.extend(storage(figures));
    all.extend([
        gauge("kavach_tenants", None, "Tenants by status, including the default one.").with(
            "status",
            [
                ("active".to_owned(), tenants.active),
                ("suspended".to_owned(), tenants.suspended),
                ("unavailable".to_owned(), tenants.unavailable),
            ],
        ),
        gauge("kavach_tenants_known", None, "Tenants, in memory or not.").is(figures.memory.known),
        gauge(
            "kavach_tenants_resident",
            None,
            "Tenants in memory, or on their way into it. The others are read when somebody calls them.",
        )
        .is(figures.memory.resident),
        gauge("kavach_tenants_resident_limit", None, "How many tenants may be in memory.").is(figures.memory.limit),
        histogram("kavach_tenant_load_duration", "Time to read a tenant into memory.", &figures.loads),
        gauge("kavach_agents", None, "Agents by status, without those of unavailable tenants.").with(
            "status",
            [
                ("active".to_owned(), agents.active),
                ("revoked".to_owned(), agents.revoked),
                ("expired".to_owned(), agents.expired),
            ],
        ),
        counter("kavach_webhook_deliveries", None, "Messages that webhooks' endpoints took.")
            .is(figures.webhooks_delivered),
        counter("kavach_webhook_failures", None, "Attempts to send a message that failed.").is(figures.webhooks_failed),
        counter("kavach_webhook_dead_letters", None, "Messages that were given up.").is(figures.webhooks_dead),
        gauge("kavach_webhook_pending", None, "Messages that wait for their endpoint.").is(figures.webhooks_waiting),
        counter("kavach_http_requests", None, "Answered requests by status class.")
            .with("code", (1..).map(|class| format!("{class}xx")).zip(figures.answers)),
        counter(
            "kavach_authentication_failures",
            None,
            "Requests without a valid key or token, including throttled ones.",
        )
        .is(figures.unauthenticated),
        gauge("kavach_http_connections", None, "Open connections.").is(connections.open),
        gauge("kavach_http_connections_limit", None, "The limit on open connections.").is(connections.most),
        counter("kavach_http_connections_refused", None, "Connections refused at the limit.").is(connections.refused),
        gauge("kavach_ready", None, "1 while calls are served, 0 while tenants are loaded or closed.")
            .is(u64::from(figures.ready)),
        gauge("kavach_build_info", None, "1, with the version of the server.")
            .with("version", [(env!("CARGO_PKG_VERSION").to_owned(), 1_u64)]),
        counter("process_cpu", Some(Unit::Seconds), "CPU time, user and system.").is(process.cpu_seconds),
        gauge("process_resident_memory", Some(Unit::Bytes), "Resident memory of the process.")
            .is(process.resident_bytes),
        gauge("process_virtual_memory", Some(Unit::Bytes), "Virtual memory of the process.").is(process.virtual_bytes),
        gauge("process_open_fds", None, "Open files, including sockets.").is(process.open_files),
        gauge("process_max_fds", None, "The limit on open files.").is(process.max_files),
        gauge("process_threads", None, "Threads.").is(process.threads),
        gauge("process_start_time", Some(Unit::Seconds), "When the process started, in Unix time.")
            .is(seconds(figures.started_at)),
    ]);
    all
}

/// Decisions, and the mailboxes that calls wait in.
fn decisions(figures: &MetricValues) -> Vec<Family> {
    let mut all = vec![
        counter("kavach_decisions", None, "Recorded decisions by result.").with("result", by_result(figures.results)),
        counter("kavach_denials", None, "Recorded denials by code, including rate limits.")
            .with("code", by_code(&figures.denials)),
        histogram(
            "kavach_decision_duration",
            "Time from a request's arrival to its decision, including the wait in its tenant's mailbox but not the write.",
            &figures.decisions,
        ),
        gauge("kavach_mailbox_calls", None, "Calls and batches waiting in all mailboxes.").is(figures.waiting),
        gauge("kavach_mailbox_calls_max", None, "Calls and batches waiting in the fullest mailbox.")
            .is(figures.most_waiting),
        gauge("kavach_mailbox_capacity", None, "Messages that a mailbox holds at most.").is(MAILBOX_CAPACITY),
        counter("kavach_mailbox_rejections", None, "Authorize calls refused because a mailbox was full.")
            .is(figures.overloaded),
    ];
    if let Some(tenants) = &figures.by_tenant {
        let mut by_tenant = counter(
            "kavach_tenant_decisions",
            None,
            "Recorded decisions by tenant and result, with --metrics-per-tenant; 'other' is the sum of the others.",
        );
        for TenantDecisions { tenant, results } in tenants {
            let name = tenant.map_or_else(|| "other".to_owned(), |id| id.folder_name());
            by_tenant.samples.extend(by_result(*results).map(|(result, count)| Sample {
                labels: vec![("tenant", name.clone()), ("result", result)],
                value: count.into(),
            }));
        }
        all.push(by_tenant);
    }
    all
}

/// Storage: journals, snapshots and recovery.
fn storage(figures: &MetricValues) -> Vec<Family> {
    vec![
        counter("kavach_log_written", Some(Unit::Bytes), "Bytes of events written to the log.").is(figures.log_written),
        counter(
            "kavach_log_events",
            None,
            "Events written to the log. Divided by the writes, or by the syncs, it says how many share one.",
        )
        .is(figures.log_events),
        histogram(
            "kavach_log_write_duration",
            "Time to hand the kernel what a thread's tenants recorded in one turn, with one write.",
            &figures.flushes,
        ),
        histogram(
            "kavach_log_fsync_duration",
            "Time of one sync of the log, which covers all tenants.",
            &figures.syncs,
        ),
        gauge("kavach_log_size", Some(Unit::Bytes), "Bytes of the log's files.").is(figures.log.bytes),
        gauge(
            "kavach_log_tail",
            Some(Unit::Bytes),
            "Bytes of events that are in the log and in memory, and not in their tenants' folders yet.",
        )
        .is(figures.log.tail_bytes),
        gauge("kavach_log_tail_tenants", None, "Tenants with such events.").is(figures.log.tenants),
        counter("kavach_clock_jumps", None, "Jumps of the system clock that the server followed, by direction.")
            .with("direction", ["ahead", "back"].map(str::to_owned).into_iter().zip(figures.clock_jumps)),
        gauge(
            "kavach_clock_held_back",
            Some(Unit::Seconds),
            "How far the system clock jumped ahead without being trusted yet; 0 while it is trusted.",
        )
        .is(figures.clock_held_back),
        gauge(
            "kavach_clock_behind_events",
            Some(Unit::Seconds),
            "How far the clock is behind the newest event, which was recorded while the clock was ahead; else 0.",
        )
        .is(figures.clock_behind_events),
        gauge(
            "kavach_storage_failing_tenants",
            None,
            "Tenants with a journal that failed to write and has not recovered yet.",
        )
        .is(figures.storage_failures),
        histogram("kavach_snapshot_duration", "Time to write a snapshot, including syncs.", &figures.snapshots),
        counter("kavach_snapshot_failures", None, "Snapshots that could not be written.").is(figures.failed_snapshots),
        gauge(
            "kavach_snapshot_last_timestamp",
            Some(Unit::Seconds),
            "When the newest snapshot was written, in Unix time; 0 before the first.",
        )
        .is(figures.last_snapshot.map_or(0.0, seconds)),
        gauge(
            "kavach_snapshot_age",
            Some(Unit::Seconds),
            "The longest time that events of any tenant have waited for a snapshot.",
        )
        .is(figures.unsaved_seconds),
        gauge(
            "kavach_recovery_duration",
            Some(Unit::Seconds),
            "Time to find out which tenants there are, at the start.",
        )
        .is(figures.recovery_seconds),
        counter("kavach_recovery_events", None, "Events replayed by tenants that were read into memory.")
            .is(figures.replayed),
        counter("kavach_tenant_restarts", None, "Rebuilds of a tenant's actor after a defect or a storage failure.")
            .is(figures.lost_actors),
    ]
}

/// All metrics, as a collector for the encoder.
#[derive(Debug)]
pub struct MetricFamilies(
    /// In the order of the page.
    pub Vec<Family>,
);

impl Collector for MetricFamilies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { stem, unit, help, kind, samples } in &self.0 {
            let mut metric = encoder.encode_descriptor(stem, help, unit.as_ref(), *kind)?;
            for Sample { labels, value } in samples {
                if labels.is_empty() {
                    write(&mut metric, *kind, value)?;
                } else {
                    write(&mut metric.encode_family(labels)?, *kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder<'_>, kind: MetricType, value: &MetricValue) -> Result<(), fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, MetricValue::Whole(whole)) => metric.encode_counter::<NoLabelSet, _, u64>(whole, None),
        (MetricType::Counter, MetricValue::Real(real)) => metric.encode_counter::<NoLabelSet, _, u64>(real, None),
        (_, MetricValue::Whole(whole)) => metric.encode_gauge(&i64::try_from(*whole).unwrap_or(i64::MAX)),
        (_, MetricValue::Real(real)) => metric.encode_gauge(real),
        (_, MetricValue::Times(times)) => {
            metric.encode_histogram::<NoLabelSet>(times.seconds(), times.count(), &times.buckets(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Family> {
        let figures = MetricValues { by_tenant: Some(Vec::new()), ..MetricValues::default() };
        families(&figures, ConnectionCounts::default())
    }

    /// `docs/metrics.md`, as the families make it.
    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\nMade from `src/api/metric_families.rs`; `KAVACH_BLESS=1 cargo test metrics` writes it anew.\n\n\
             `GET /metrics` answers in the text format of Prometheus, or in OpenMetrics for clients that prefer it. It takes no\n\
             key, and names no tenant and no agent. Times are in buckets that each end at twice the time of the one before,\n\
             from 32 microseconds to 8.4 seconds. Figures are renewed at most once a second.\n\n\
             With `--metrics-per-tenant 100` up to 100 tenants get a label of their own for their decisions: the tenant's id, or\n\
             `default`. The busiest tenants get one first and keep it until they are erased. The label value `other` stands for\n\
             the rest; a decision stays under the label that it was first counted under.\n\n\
             [A dashboard for Grafana](grafana-dashboard.json) and [alert rules for Prometheus](alerts.yml) use them.\n\n\
             | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
        );
        for family in all() {
            let labels: std::collections::BTreeSet<_> = match family.stem {
                "kavach_tenant_decisions" => ["`result`", "`tenant`"].map(str::to_owned).into(),
                _ => family.samples.iter().flat_map(|one| &one.labels).map(|(name, _)| format!("`{name}`")).collect(),
            };
            let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
            page += &format!("| `{}` | {} | {labels} | {} |\n", family.name(), family.kind.as_str(), family.help);
        }
        page
    }

    #[test]
    fn the_page_of_metrics_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("KAVACH_BLESS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page(), "write it anew with KAVACH_BLESS=1");
    }

    #[test]
    fn every_metric_that_the_dashboard_and_the_alerts_use_exists() {
        let mut known_names: Vec<String> = all().iter().map(Family::name).collect();
        for family in all().iter().filter(|family| matches!(family.kind, MetricType::Histogram)) {
            known_names.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name())));
        }
        for file in ["grafana-dashboard.json", "alerts.yml"] {
            let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let used: Vec<_> =
                words.filter(|word| word.starts_with("kavach_") || word.starts_with("process_")).collect();
            assert!(used.len() > 10, "{file}: {used:?}");
            for name in used {
                assert!(known_names.iter().any(|known| known == name), "{file} uses {name}, which is no metric");
            }
        }
    }
}
