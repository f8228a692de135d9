//! How much work one decision may still do.

use std::cell::Cell;

use super::limits::MAX_MATCH_STEPS;

/// Steps that a decision may still take. At none, nothing matches.
pub struct Steps(Cell<usize>);

impl Default for Steps {
    fn default() -> Self {
        Self(Cell::new(MAX_MATCH_STEPS))
    }
}

impl Steps {
    /// Takes so many, or all that are left where those are fewer. Answers whether there were enough.
    pub(super) fn take(&self, count: usize) -> bool {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether none are left.
    pub(super) fn are_used_up(&self) -> bool {
        self.0.get() == 0
    }

    /// Lets `work` take from those that are left.
    pub(super) fn spend<T>(&self, work: impl FnOnce(&mut usize) -> T) -> T {
        let mut left = self.0.get();
        let done = work(&mut left);
        self.0.set(left);
        done
    }
}
