//! The result of a run: as an object and as a table.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::{DecimalBytes, HumanCount, HumanFloatCount};
use serde::Serialize;

use crate::engine::RunOutcome;
use crate::options::{LoadSettings, LoopMode};
use crate::tally::Counts;

/// The result of a run. Unless a field says otherwise, it covers the requests that were due within the window: after the
/// warm-up, for `durationSeconds`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
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
    /// Only those with an answer within the window, for each second of the window.
    pub requests_per_second: f64,
    /// Decisions in the answers.
    pub decisions: u64,
    /// Only those with an answer within the window, for each second of the window.
    pub decisions_per_second: f64,
    /// Decisions that said yes.
    pub allowed: u64,
    /// Decisions that said no.
    pub denied: u64,
    /// Time from when a request was due to its answer.
    pub latency_micros: LatencySummary,
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
pub struct LatencySummary {
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

impl LoadReport {
    /// The result of a run with that outcome.
    pub fn new(settings: &LoadSettings, outcome: &RunOutcome) -> Self {
        let RunOutcome { tally, start, end } = outcome;
        let seconds = micros(end.time.saturating_sub(start.time)) / 1e6;
        let per_second =
            |from: u64, to: u64| if seconds > 0.0 { float(to.saturating_sub(from)) / seconds } else { 0.0 };
        let latency = &tally.latency;
        let quantile = |quantile| micros(latency.value_at_quantile(quantile));
        let target_rate = match settings.loop_mode() {
            LoopMode::Open { rate } => Some(rate),
            LoopMode::Closed => None,
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
                LatencySummary::default()
            } else {
                LatencySummary {
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

/// The table for people.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, connections, pipeline, batch, target_rate, duration_seconds, .. } = self;
        write!(f, "{mode} loop, {connections} connections")?;
        if *pipeline > 1 {
            write!(f, ", {pipeline} requests under way on each")?;
        }
        if !self.keep_alive {
            write!(f, ", a new one for each request")?;
        }
        if *batch > 0 {
            write!(f, ", {batch} decisions a request")?;
        }
        writeln!(f, ", {duration_seconds:.1} s")?;
        let mut row = |name: &str, value: &dyn fmt::Display, note: &str| {
            let space = if note.is_empty() { "" } else { "  " };
            writeln!(f, "  {name:<24}{:>14}{space}{note}", value.to_string())
        };
        let due = target_rate.map_or_else(String::new, |rate| format!("of {} due", HumanCount(rate.into())));
        row("requests/s", &rate(self.requests_per_second), &due)?;
        row("decisions/s", &rate(self.decisions_per_second), "")?;
        row("requests", &HumanCount(self.requests), "")?;
        row("decisions", &HumanCount(self.decisions), "")?;
        row("  allowed", &HumanCount(self.allowed), "")?;
        row("  denied", &HumanCount(self.denied), "")?;
        for (code, count) in &self.denials {
            row(&format!("    {code}"), &HumanCount(*count), "")?;
        }
        row("errors", &HumanCount(self.errors.values().sum()), "")?;
        for (kind, count) in &self.errors {
            row(&format!("  {kind}"), &HumanCount(*count), "")?;
        }
        let LatencySummary { min: _, p50, p90, p99, p999, max, mean: _ } = self.latency_micros;
        let since = if target_rate.is_some() { "from when a request was due" } else { "" };
        row("latency p50", &human_time(p50), since)?;
        row("        p90", &human_time(p90), "")?;
        row("        p99", &human_time(p99), "")?;
        row("        p99.9", &human_time(p999), "")?;
        row("        max", &human_time(max), "")?;
        row("bytes sent", &DecimalBytes(self.bytes_sent), "")?;
        row("bytes received", &DecimalBytes(self.bytes_received), "")?;
        let share = if *duration_seconds > 0.0 { 100.0 * self.client_cpu_seconds / duration_seconds } else { 0.0 };
        row("own processor time", &format_args!("{:.2} s", self.client_cpu_seconds), &format!("{share:.0}% of a core"))
    }
}

fn rate(per_second: f64) -> HumanFloatCount {
    HumanFloatCount((per_second * 10.0).round() / 10.0)
}

/// A time in a unit that suits its size.
pub fn human_time(micros: f64) -> String {
    // Three digits, so that a rounded one never looks like one of the next unit.
    let three = |number: f64| match number {
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    };
    match micros {
        ..999.5 => format!("{} µs", three(micros)),
        ..999_500.0 => format!("{} ms", three(micros / 1e3)),
        _ => format!("{} s", three(micros / 1e6)),
    }
}

#[cfg(test)]
pub use tests::test_report;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;
    use crate::engine::Mark;
    use crate::options::for_tests::try_parse;
    use crate::tally::{NoAnswer, RunTally};

    fn settings(args: &[&str]) -> LoadSettings {
        try_parse(args).unwrap()
    }

    fn report(args: &[&str]) -> LoadReport {
        test_report(args).0
    }

    /// A second in which a request was due every millisecond and took as many microseconds as it had a number.
    pub fn test_report(args: &[&str]) -> (LoadReport, Histogram<u64>) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
        let second = nanos(Duration::from_secs(1));
        let mut tally = RunTally::new(second..2 * second).unwrap();
        for n in 1..=1000 {
            let due = second + (n - 1) * second / 1000;
            tally.answered(
                due,
                due + 1000 * n,
                200,
                if n <= 900 { b"{\"allowed\":true}" } else { b"{\"allowed\":false,\"code\":\"X\"}" },
            );
        }
        tally.failed(second, second, NoAnswer::Closed);
        let start = Mark { time: second, cpu: 5, requests: 100, decisions: 100, bytes_sent: 7, bytes_received: 8 };
        let end = Mark {
            time: 3 * second,
            cpu: 5 + second / 4,
            requests: 1100,
            decisions: 1100,
            bytes_sent: 1007,
            bytes_received: 2008,
        };
        let outcome = RunOutcome { tally, start, end };
        (LoadReport::new(&settings(args), &outcome), outcome.tally.latency)
    }

    #[test]
    fn percentiles_and_rates_are_what_was_recorded() {
        let report = report(&[]);
        let LatencySummary { min, p50, p90, p99, p999, max, mean } = report.latency_micros;
        for (found, wanted) in
            [(min, 1.0), (p50, 500.0), (p90, 900.0), (p99, 990.0), (p999, 999.0), (max, 1000.0), (mean, 500.5)]
        {
            assert!((found - wanted).abs() <= wanted / 1000.0, "{found} instead of {wanted}");
        }
        assert_eq!((report.requests_per_second, report.decisions_per_second), (500.0, 500.0));
        assert_eq!((report.requests, report.allowed, report.denied), (1000, 900, 100));
        assert_eq!((report.bytes_sent, report.bytes_received, report.client_cpu_seconds), (1000, 2000, 0.25));
    }

    #[test]
    fn the_object_has_the_promised_members() {
        let object = serde_json::to_value(report(&["--connections", "8", "--batch", "5"])).unwrap();
        assert_eq!((&object["mode"], &object["targetRate"]), (&"closed".into(), &serde_json::Value::Null));
        assert_eq!((&object["connections"], &object["pipeline"], &object["batch"]), (&8.into(), &1.into(), &5.into()));
        assert_eq!((&object["errors"]["closed"], &object["denials"]["X"]), (&1.into(), &100.into()));
        assert_eq!(object["total"]["errors"], 1);
    }

    #[test]
    fn the_table_says_it_all() {
        let table = report(&["--rate", "1000"]).to_string();
        for line in [
            "open loop, 64 connections, 2.0 s",
            "  requests/s                         500  of 1,000 due",
            "      X                              100",
            "    closed                             1",
            "          p99                     990 µs",
            "  own processor time              0.25 s  12% of a core",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
    }

    #[test]
    fn a_run_that_was_interrupted_at_once_has_numbers_too() {
        let tally = RunTally::new(0..1).unwrap();
        let report =
            LoadReport::new(&settings(&[]), &RunOutcome { tally, start: Mark::default(), end: Mark::default() });
        assert_eq!(report.requests_per_second, 0.0);
        assert!(report.to_string().contains("0% of a core"));
        assert!(!serde_json::to_string(&report).unwrap().contains("null"));
    }

    #[test]
    fn times_are_in_the_unit_that_suits_them() {
        let shown = [0.0, 9.996, 99.96, 476.2, 999.7, 4_550.0, 99_960.0, 999_700.0, 2_071_000.0].map(human_time);
        assert_eq!(
            shown,
            ["0.00 µs", "10.0 µs", "100 µs", "476 µs", "1.00 ms", "4.55 ms", "100 ms", "1.00 s", "2.07 s"]
        );
    }
}
