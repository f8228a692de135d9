//! How much work one decision may still do.

use std::cell::Cell;

use crate::limits::MAX_MATCH_STEPS;

/// The work that a decision may still do, in steps: units of work whose prices are in [`limits`](crate::limits). With
/// none left, nothing matches.
pub struct WorkBudget(Cell<usize>);

impl Default for WorkBudget {
    fn default() -> Self {
        Self(Cell::new(MAX_MATCH_STEPS))
    }
}

impl WorkBudget {
    /// Takes `steps`, or all that are left if those are fewer. Returns whether there were enough.
    pub(crate) fn take(&self, steps: usize) -> bool {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether no steps are left.
    pub(crate) fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Lets `work` take some of the steps that are left.
    pub(crate) fn spend<T>(&self, work: impl FnOnce(&mut usize) -> T) -> T {
        let mut left = self.0.get();
        let done = work(&mut left);
        self.0.set(left);
        done
    }
}
