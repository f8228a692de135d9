//! Figures of several rounds, and their display.

use super::process::Measured;

/// One figure of the server and of the yardstick, with a value of each per round.
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Measured) -> f64,
    kavach: Vec<f64>,
    bare: Vec<f64>,
    goal: Goal,
}

/// The goal of a figure.
#[derive(Clone, Copy)]
pub enum Goal {
    /// The server's divided by the yardstick's, at least this.
    RatioAtLeast(f64),
    /// The server's divided by the yardstick's, at most this.
    RatioAtMost(f64),
    /// The server's own, at least this.
    AtLeast(f64),
    /// For information only.
    None,
}

impl Figure {
    fn new(name: &'static str, unit: &'static str, of: fn(&Measured) -> f64, goal: Goal) -> Self {
        Self { name, unit, of, kavach: Vec::new(), bare: Vec::new(), goal }
    }

    pub fn throughput(goal: Goal) -> Self {
        Self::new("throughput", "requests/s", |measured| measured.load.requests_per_second, goal)
    }

    pub fn decisions(goal: Goal) -> Self {
        Self::new("decisions", "decisions/s", |measured| measured.load.decisions_per_second, goal)
    }

    pub fn server_cpu(goal: Goal) -> Self {
        Self::new("server CPU", "µs/request", |measured| measured.cpu_micros, goal)
    }

    pub fn p50(goal: Goal) -> Self {
        Self::new("p50", "µs", |measured| measured.load.latency_micros.p50, goal)
    }

    pub fn p99(goal: Goal) -> Self {
        Self::new("p99", "µs", |measured| measured.load.latency_micros.p99, goal)
    }

    /// Adds a round. Both sides were measured in quick succession, so their ratio holds even if the machine's speed
    /// drifts from round to round.
    pub fn add(&mut self, kavach: &Measured, bare: &Measured) {
        self.kavach.push((self.of)(kavach));
        self.bare.push((self.of)(bare));
    }

    pub fn show(&self) {
        let Self { name, unit, of: _, kavach, bare, goal } = self;
        let mut ratios: Vec<f64> = kavach.iter().zip(bare).map(|(kavach, bare)| kavach / bare).collect();
        ratios.sort_by(f64::total_cmp);
        let (own, ratio) = (median(kavach), median(&ratios));
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        let verdict = match *goal {
            Goal::RatioAtLeast(wanted) => said(ratio >= wanted, format!("at least {wanted:.2}")),
            Goal::RatioAtMost(wanted) => said(ratio <= wanted, format!("at most {wanted:.2}")),
            Goal::AtLeast(wanted) => said(own >= wanted, format!("at least {wanted:.0} {unit}")),
            Goal::None => String::new(),
        };
        let digits = if own < 100.0 { 1 } else { 0 };
        println!(
            "  {name:<14} {own:>10.digits$} {bare:>10.digits$} {unit:<12} {ratio:>6.3} ({least:.2} to {most:.2})  {verdict}",
            bare = median(bare),
        );
    }
}

fn said(met: bool, goal: String) -> String {
    format!("{} ({goal})", if met { "met" } else { "MISSED" })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
