//! The result of a run: as an object and as a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::engine::Outcome;
use super::tally::Counts;
use crate::settings::{LoadSettings, Pace};

/// The result of a run. What is not said to be of the whole run is of the requests that were due within the window:
/// after the warm-up, for `durationSeconds`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `open` or `closed` loop.
    pub mode: &'static str,
    /// Connections.
    pub connections: u16,
    /// Requests under way on one connection.
    pub pipeline: u16,
    /// Decisions asked for by one request; 0 where the batch route was not used.
    pub batch: u16,
    /// Whether connections were used again.
    pub keep_alive: bool,
    /// Requests a second that were due; `null` in a closed loop.
    pub target_rate: Option<u32>,
    /// The window's length; shorter than was asked for where the run was interrupted.
    pub duration_seconds: f64,
    /// Requests answered with a status of success.
    pub requests: u64,
    /// Those whose answers came within the window, for each second of it.
    pub requests_per_second: f64,
    /// Decisions in the answers.
    pub decisions: u64,
    /// Those whose answers came within the window, for each second of it.
    pub decisions_per_second: f64,
    /// Decisions that said yes.
    pub allowed: u64,
    /// Decisions that said no.
    pub denied: u64,
    /// Time from when a request was due to its answer.
    pub latency_micros: Latency,
    /// The denied decisions by code.
    pub denials: BTreeMap<String, u64>,
    /// Requests with another status by status and code, and those without an answer by kind: `connect`, `closed`,
    /// `malformed`, `timeout`.
    pub errors: BTreeMap<String, u64>,
    /// Sent during the window.
    pub bytes_sent: u64,
    /// Received during the window.
    pub bytes_received: u64,
    /// Processor time of this program during the window, user and system.
    pub client_cpu_seconds: f64,
    /// Counts of the whole run, warm-up included.
    pub total: Total,
}

/// Latencies in microseconds. A request that was given up counts with the time that it was waited for; one that got
/// another status than of success does not count.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// As long or shorter are 90%.
    pub p90: f64,
    /// 99%.
    pub p99: f64,
    /// 99.9%.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// Counts of a whole run.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Total {
    /// Requests answered with a status of success.
    pub requests: u64,
    /// Decisions that said yes.
    pub allowed: u64,
    /// Decisions that said no.
    pub denied: u64,
    /// Requests with another status or without an answer.
    pub errors: u64,
}

impl Report {
    /// The result of that run.
    pub fn new(settings: &LoadSettings, outcome: &Outcome) -> Self {
        let Outcome { tally, start, end } = outcome;
        let seconds = micros(end.time.saturating_sub(start.time)) / 1e6;
        let per_second =
            |from: u64, to: u64| if seconds > 0.0 { float(to.saturating_sub(from)) / seconds } else { 0.0 };
        let latency = &tally.latency;
        let quantile = |quantile| micros(latency.value_at_quantile(quantile));
        let target_rate = match settings.pace() {
            Pace::Open { rate } => Some(rate),
            Pace::Closed => None,
        };
        let Counts { requests, allowed, denied, errors: _ } = tally.counted;
        Self {
            mode: if target_rate.is_some() { "open" } else { "closed" },
            connections: settings.connection_count(),
            pipeline: settings.pipeline,
            batch: settings.batch_size().unwrap_or(0),
            keep_alive: !settings.no_keep_alive,
            target_rate,
            duration_seconds: seconds,
            requests,
            requests_per_second: per_second(start.requests, end.requests),
            decisions: allowed + denied,
            decisions_per_second: per_second(start.decisions, end.decisions),
            allowed,
            denied,
            latency_micros: if latency.is_empty() {
                Latency::default()
            } else {
                Latency {
                    min: micros(latency.min()),
                    p50: quantile(0.5),
                    p90: quantile(0.9),
                    p99: quantile(0.99),
                    p999: quantile(0.999),
                    max: micros(latency.max()),
                    mean: latency.mean() / 1e3,
                }
            },
            denials: tally.denials.sorted(),
            errors: tally.errors.sorted(),
            bytes_sent: end.bytes_sent - start.bytes_sent,
            bytes_received: end.bytes_received - start.bytes_received,
            client_cpu_seconds: micros(end.cpu.saturating_sub(start.cpu)) / 1e6,
            total: Total {
                requests: tally.total.requests,
                allowed: tally.total.allowed,
                denied: tally.total.denied,
                errors: tally.total.errors,
            },
        }
    }
}

/// Nanoseconds as microseconds.
pub fn micros(nanos: u64) -> f64 {
    float(nanos) / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "52 bits of a count or a time are more than anybody reads")]
fn float(number: u64) -> f64 {
    number as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", serde_json::to_string_pretty(self).unwrap_or_default())
    }
}
