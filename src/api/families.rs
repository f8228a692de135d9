//! The metrics that are told, each with its name, what it means, and its samples.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::actors::tenant::MAILBOX_CAPACITY;
use crate::domain::{Code, Timestamp};
use crate::measure::figures::{Figures, TenantDecisions};
use crate::measure::times::TimesRead;

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
type Label = (&'static str, String);

#[derive(Debug)]
struct Sample {
    labels: Vec<Label>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Times(TimesRead),
}

/// Connections, as far as the process has any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// How many are open.
    pub open: usize,
    /// How many may be.
    pub most: usize,
    /// How many were refused.
    pub refused: u64,
}

impl From<u64> for Value {
    fn from(whole: u64) -> Self {
        Self::Whole(whole)
    }
}

impl From<usize> for Value {
    fn from(whole: usize) -> Self {
        Self::Whole(whole as u64)
    }
}

impl From<f64> for Value {
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

fn histogram(stem: &'static str, help: &'static str, times: &TimesRead) -> Family {
    let sample = Sample { labels: Vec::new(), value: Value::Times(times.clone()) };
    Family { samples: vec![sample], ..family(MetricType::Histogram, stem, Some(Unit::Seconds), help) }
}

impl Family {
    fn is(mut self, value: impl Into<Value>) -> Self {
        self.samples.push(Sample { labels: Vec::new(), value: value.into() });
        self
    }

    fn with<V: Into<Value>>(mut self, label: &'static str, values: impl IntoIterator<Item = (String, V)>) -> Self {
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

/// Decisions by how they came out.
fn by_result(results: [u64; 3]) -> impl Iterator<Item = (String, u64)> {
    ["allowed", "denied", "rate_limited"].map(str::to_owned).into_iter().zip(results)
}

/// The codes that a decision may have, and how often each was the reason of a denial.
fn by_code(denials: &[(Code, u64)]) -> impl Iterator<Item = (String, u64)> {
    let count = |code: Code| denials.iter().find(|(of, _)| *of == code).map_or(0, |(_, count)| *count);
    let counts = Code::ALL.iter().map(move |code| (*code, count(*code)));
    counts.filter(|(code, count)| *count > 0 || code.denies()).map(|(code, count)| (code.to_string(), count))
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1e3
}

/// All metrics with what was measured.
pub fn families(figures: &Figures, connections: Connections) -> Vec<Family> {
    let Figures { tenants, agents, process, .. } = figures;
    let mut all = decisions(figures);
    all.extend(storage(figures));
    all.extend([
        gauge("kavach_tenants", None, "Tenants by status, the default one included.").with(
            "status",
            [
                ("active".to_owned(), tenants.active),
                ("suspended".to_owned(), tenants.suspended),
                ("unavailable".to_owned(), tenants.unavailable),
            ],
        ),
        gauge("kavach_agents", None, "Agents by status, but for those of unavailable tenants.").with(
            "status",
            [
                ("active".to_owned(), agents.active),
                ("revoked".to_owned(), agents.revoked),
                ("expired".to_owned(), agents.expired),
            ],
        ),
        counter("kavach_http_requests", None, "Requests that were answered, by the class of the status.")
            .with("code", (1..).map(|class| format!("{class}xx")).zip(figures.answers)),
        counter(
            "kavach_authentication_failures",
            None,
            "Requests without a valid key or token, those refused as too many included.",
        )
        .is(figures.unauthenticated),
        gauge("kavach_http_connections", None, "Open connections.").is(connections.open),
        gauge("kavach_http_connections_limit", None, "Connections that may be open.").is(connections.most),
        counter("kavach_http_connections_refused", None, "Connections that were refused as too many.")
            .is(connections.refused),
        gauge("kavach_ready", None, "1 while calls are served, 0 while tenants are read or closed.")
            .is(u64::from(figures.ready)),
        gauge("kavach_build_info", None, "1, with the version of the server.")
            .with("version", [(env!("CARGO_PKG_VERSION").to_owned(), 1_u64)]),
        counter("process_cpu", Some(Unit::Seconds), "Time on a core, of users' and the system's code.")
            .is(process.cpu_seconds),
        gauge("process_resident_memory", Some(Unit::Bytes), "Memory that the process has.").is(process.resident_bytes),
        gauge("process_virtual_memory", Some(Unit::Bytes), "Addresses that the process has.").is(process.virtual_bytes),
        gauge("process_open_fds", None, "Open files, sockets included.").is(process.open_files),
        gauge("process_max_fds", None, "Files that may be open.").is(process.max_files),
        gauge("process_threads", None, "Threads.").is(process.threads),
        gauge("process_start_time", Some(Unit::Seconds), "When the process began, in Unix time.")
            .is(seconds(figures.started_at)),
    ]);
    all
}

/// What was decided, and what waits to be.
fn decisions(figures: &Figures) -> Vec<Family> {
    let mut all = vec![
        counter("kavach_decisions", None, "Recorded decisions by result.").with("result", by_result(figures.results)),
        counter("kavach_denials", None, "Recorded denials by code, those by a rate included.")
            .with("code", by_code(&figures.denials)),
        histogram(
            "kavach_decision_duration",
            "Time from a request's arrival to its decision: the wait in its tenant's mailbox included, the write not.",
            &figures.decisions,
        ),
        gauge("kavach_mailbox_calls", None, "Calls and batches that wait in all tenants' mailboxes.")
            .is(figures.waiting),
        gauge("kavach_mailbox_calls_max", None, "Calls and batches that wait in the fullest mailbox.")
            .is(figures.most_waiting),
        gauge("kavach_mailbox_capacity", None, "Messages that a mailbox takes.").is(MAILBOX_CAPACITY),
        counter("kavach_mailbox_rejections", None, "Authorize calls that a full mailbox did not take.")
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

/// What becomes of decisions and changes: journals, snapshots, and reading them again.
fn storage(figures: &Figures) -> Vec<Family> {
    vec![
        counter("kavach_journal_written", Some(Unit::Bytes), "Bytes written to tenants' journals.")
            .is(figures.journal_bytes),
        histogram(
            "kavach_journal_flush_duration",
            "Time to hand the kernel a batch of a tenant's events, with one write.",
            &figures.flushes,
        ),
        histogram(
            "kavach_journal_fsync_duration",
            "Time the disk took to take all that waited for it by then, of one tenant or of many.",
            &figures.syncs,
        ),
        counter("kavach_clock_jumps", None, "Jumps of the system's clock that were followed, by direction.")
            .with("direction", ["ahead", "back"].map(str::to_owned).into_iter().zip(figures.clock_jumps)),
        gauge(
            "kavach_clock_held_back",
            Some(Unit::Seconds),
            "How far the system's clock jumped ahead without being believed yet; 0 while it is believed.",
        )
        .is(figures.clock_held_back),
        gauge(
            "kavach_clock_behind_events",
            Some(Unit::Seconds),
            "How far the clock is behind the newest event, which was recorded under a clock that was ahead; else 0.",
        )
        .is(figures.clock_behind_events),
        gauge(
            "kavach_storage_failing_tenants",
            None,
            "Tenants whose journal could not be written and was not seen to work since.",
        )
        .is(figures.storage_failures),
        histogram("kavach_snapshot_duration", "Time to write a snapshot, its syncs included.", &figures.snapshots),
        counter("kavach_snapshot_failures", None, "Snapshots that could not be written.").is(figures.failed_snapshots),
        gauge(
            "kavach_snapshot_last_timestamp",
            Some(Unit::Seconds),
            "When the newest snapshot was there, in Unix time; 0 before the first.",
        )
        .is(figures.last_snapshot.map_or(0.0, seconds)),
        gauge(
            "kavach_snapshot_age",
            Some(Unit::Seconds),
            "The longest time that events of a tenant have waited for a snapshot that holds them.",
        )
        .is(figures.unsaved_seconds),
        gauge("kavach_recovery_duration", Some(Unit::Seconds), "Time to read all tenants at the start.")
            .is(figures.recovery_seconds),
        counter("kavach_recovery_events", None, "Events that were replayed, at the start and by rebuilt tenants.")
            .is(figures.replayed),
        counter(
            "kavach_tenant_restarts",
            None,
            "Tenants whose actor ended by a defect or its storage, and was rebuilt.",
        )
        .is(figures.lost_actors),
    ]
}

/// All metrics, as something that can be encoded.
#[derive(Debug)]
pub struct Families(
    /// In the order in which they are told.
    pub Vec<Family>,
);

impl Collector for Families {
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

fn write(metric: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Whole(whole)) => metric.encode_counter::<NoLabelSet, _, u64>(whole, None),
        (MetricType::Counter, Value::Real(real)) => metric.encode_counter::<NoLabelSet, _, u64>(real, None),
        (_, Value::Whole(whole)) => metric.encode_gauge(&i64::try_from(*whole).unwrap_or(i64::MAX)),
        (_, Value::Real(real)) => metric.encode_gauge(real),
        (_, Value::Times(times)) => {
            metric.encode_histogram::<NoLabelSet>(times.seconds(), times.count(), &times.buckets(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Family> {
        let figures = Figures { by_tenant: Some(Vec::new()), ..Figures::default() };
        families(&figures, Connections::default())
    }

    /// `docs/metrics.md`, as the families make it.
    fn page() -> String {
        let mut page = String::from(
            "# Metrics\n\nMade from `src/api/families.rs`; `KAVACH_BLESS=1 cargo test metrics` writes it anew.\n\n\
             `GET /metrics` tells them in the text format of Prometheus, or as OpenMetrics to who prefers that. It takes no\n\
             key, and names no tenant and no agent. Times are in buckets that each end at twice the time of the one before,\n\
             from 32 microseconds to 8.4 seconds. Who asks more often than once a second gets the same figures again.\n\n\
             With `--metrics-per-tenant 100` decisions of so many tenants are told apart, by their ids (`default` is the\n\
             default tenant's); the busiest have the first places and keep them until they are erased. The label\n\
             value `other` stands for all others; a decision stays under the label that it was first counted under.\n\n\
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
    fn every_metric_that_the_dashboard_and_the_alerts_use_is_told() {
        let mut told: Vec<String> = all().iter().map(Family::name).collect();
        for family in all().iter().filter(|family| matches!(family.kind, MetricType::Histogram)) {
            told.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", family.name())));
        }
        for file in ["grafana-dashboard.json", "alerts.yml"] {
            let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let used: Vec<_> =
                words.filter(|word| word.starts_with("kavach_") || word.starts_with("process_")).collect();
            assert!(used.len() > 10, "{file}: {used:?}");
            for name in used {
                assert!(told.iter().any(|known| known == name), "{file} uses {name}, which is not told");
            }
        }
    }
}
