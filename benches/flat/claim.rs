//! One line for each claim: what it is, the figure, the goal, and whether it is met. A test run, whose figures mean
//! nothing, prints none.

use crate::common::measuring;

/// Prints the line of a claim that something takes no more than it may.
pub fn at_most(what: &str, figure: f64, unit: &str, goal: f64) {
    if !measuring() {
        return;
    }
    let verdict = if figure <= goal { "met   " } else { "MISSED" };
    println!("{verdict}  {what}: {figure:.2} {unit}, goal at most {goal} {unit}");
}

/// Prints a figure that nothing is claimed of.
pub fn note(what: &str, figure: f64, unit: &str) {
    if measuring() {
        println!("        {what}: {figure:.2} {unit}");
    }
}
