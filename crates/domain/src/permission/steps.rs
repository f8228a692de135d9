//! How much work one decision may still do.

use std::cell::Cell;

use crate::limits::MAX_MATCH_STEPS;

/// Steps that a decision may still take. With none left, nothing matches.
pub struct Steps(Cell<usize>);

impl Default for Steps {
    fn default() -> Self {
        Self(Cell::new(MAX_MATCH_STEPS))
    }
}

impl Steps {
    /// Takes `count` steps, or all that are left if those are fewer. Returns whether there were enough.
    pub(crate) fn take(&self, count: usize) -> bool {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether none are left.
    pub(crate) fn are_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Lets `work` take some of the steps left.
    pub(crate) fn spend<T>(&self, work: impl FnOnce(&mut usize) -> T) -> T {
        let mut left = self.0.get();
        let done = work(&mut left);
        self.0.set(left);
        done
    }
}
