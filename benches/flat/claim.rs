//! One line for each claim: its name, the figure, the goal, and whether it is met. A test run prints none, since its
//! figures mean nothing.

use crate::common::measuring;

/// Prints the line of a claim that a figure is at most `goal`.
pub fn at_most(what: &str, figure: f64, unit: &str, goal: f64) {
    if !measuring() {
        return;
    }
    let verdict = if figure <= goal { "met   " } else { "MISSED" };
    println!("{verdict}  {what}: {figure:.2} {unit}, goal at most {goal} {unit}");
}

/// Prints the line of a claim that a figure is at least `goal`.
pub fn at_least(what: &str, figure: f64, unit: &str, goal: f64) {
    if !measuring() {
        return;
    }
    let verdict = if figure >= goal { "met   " } else { "MISSED" };
    println!("{verdict}  {what}: {figure:.0} {unit}, goal at least {goal} {unit}");
}

/// Prints a figure without a claim.
pub fn note(what: &str, figure: f64, unit: &str) {
    if measuring() {
        println!("        {what}: {figure:.2} {unit}");
    }
}
