//! What must hold for any state that events can make.
//!
//! Checksums find accidental damage in a snapshot or journal, but anyone who can write to the disk can fix them up.
//! Searches end, and limits hold, only if these rules do, so we check a state from the disk once.

use crate::delegation::{Delegation, position};
use crate::limits::MAX_DELEGATION_DEPTH;
use crate::tenant::Tenant;

impl Tenant {
    /// Checks that events can make this state.
    ///
    /// # Errors
    /// The rule that does not hold, in words.
    pub fn validate(&self) -> Result<(), String> {
        if self.holds().open().iter().any(|hold| hold.decision.seq > self.seq()) {
            return Err("a hold is of a decision that was not made yet".to_owned());
        }
        let mut before = None;
        for link in self.delegations() {
            if before.is_some_and(|before| before >= link.place) {
                return Err("the delegations are not in the order in which they were made".to_owned());
            }
            before = Some(link.place);
            self.check_link(link).map_err(|problem| format!("delegation {} {problem}", link.profile.id))?;
        }
        let mut numbers = self.policies().iter().map(|policy| policy.profile.id.seq());
        if !numbers.by_ref().is_sorted_by(|one, next| one < next) {
            return Err("the policies are not in the order in which they were made".to_owned());
        }
        for (agent, slot) in self.agents().iter().zip(0u32..) {
            let id = agent.profile.id;
            if self.slot_of(id) != Some(slot) {
                return Err(format!("there are two agents {id}"));
            }
            if agent.windows.len() != agent.profile.spec.permissions.rated().len() {
                return Err(format!("agent {id} does not have one window for each permission with a rate"));
            }
        }
        Ok(())
    }

    fn check_link(&self, link: &Delegation) -> Result<(), String> {
        let spec = &link.profile.spec;
        if link.windows.len() != spec.permissions.rated().len() {
            return Err("does not have one window for each permission with a rate".to_owned());
        }
        if spec.depth > MAX_DELEGATION_DEPTH {
            return Err(format!("is at the end of a chain of {}", spec.depth));
        }
        for below in &spec.stands_on {
            let depth = position(self.delegations(), *below)
                .and_then(|at| self.delegations().get(at))
                .map(|below| below.profile.spec.depth);
            // A forgotten link is over, and nothing live stands on it.
            if *below >= link.place || depth.is_some_and(|depth| depth >= spec.depth) {
                return Err("stands on one that came after it".to_owned());
            }
        }
        Ok(())
    }
}
