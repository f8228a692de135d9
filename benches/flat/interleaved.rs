//! Compares costs on a machine that is never quiet: the sides run in turn, round after round, so that whatever slows
//! one down slows down the others too.

use crate::claim;
use crate::common::measuring;

/// Flat means at most this many times the cost of the first.
pub const GOAL: f64 = 1.1;

/// One side of a comparison.
pub struct Side<'a> {
    pub name: String,
    /// Runs it many times. Returns the nanoseconds of one run.
    pub run: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Side<'a> {
    pub fn new(name: String, run: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Runs the sides, prints the cost of each, and claims that the others cost at most `at_most` times the first.
pub fn compare(what: &str, mut sides: Vec<Side<'_>>, at_most: f64) {
    let rounds = if measuring() { 31 } else { 1 };
    let mut times = vec![Vec::new(); sides.len()];
    if measuring() {
        // The first run is cold.
        sides.iter_mut().for_each(|side| _ = (side.run)());
    }
    for _ in 0..rounds {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            times.push((side.run)());
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for (side, median) in sides.iter().zip(&medians) {
        claim::note(&format!("{what}, {}", side.name), *median, "ns");
    }
    for (side, median) in sides.iter().zip(&medians).skip(1) {
        claim::at_most(&format!("{what}, {}", side.name), median / medians[0], "times the first", at_most);
    }
}

/// The median.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
