//! What must hold of any state that events can make.
//!
//! A snapshot and a journal are checked for damage by their checksums, which whoever writes to the disk can make right.
//! Searches rely on what is said here to end, and limits to be held, so a state that came from the disk is looked
//! through once.

use super::delegation::{Delegation, position};
use super::limits::MAX_DELEGATION_DEPTH;
use super::tenant::Tenant;

impl Tenant {
    /// Looks whether the state is one that events can make.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_soundness(&self) -> Result<(), String> {
        let mut before = None;
        for link in self.delegations() {
            if before.is_some_and(|before| before >= link.place) {
                return Err("the delegations are not in the order in which they were made".to_owned());
            }
            before = Some(link.place);
            self.check_link(link).map_err(|problem| format!("delegation {} {problem}", link.profile.id))?;
        }
        for (agent, slot) in self.agents().iter().zip(0u32..) {
            let id = agent.profile.id;
            if self.slot_of(id) != Some(slot) {
                return Err(format!("there are two agents {id}"));
            }
            if agent.windows.len() != agent.profile.spec.permissions.rated().len() {
                return Err(format!("agent {id} has not one window for each permission with a rate"));
            }
        }
        Ok(())
    }

    fn check_link(&self, link: &Delegation) -> Result<(), String> {
        let spec = &link.profile.spec;
        if link.windows.len() != spec.permissions.rated().len() {
            return Err("has not one window for each permission with a rate".to_owned());
        }
        if spec.depth > MAX_DELEGATION_DEPTH {
            return Err(format!("is at the end of a chain of {}", spec.depth));
        }
        for below in &spec.stands_on {
            let depth = position(self.delegations(), *below)
                .and_then(|at| self.delegations().get(at))
                .map(|below| below.profile.spec.depth);
            // One that was forgotten is over, and nothing stands on it any more.
            if *below >= link.place || depth.is_some_and(|depth| depth >= spec.depth) {
                return Err("stands on one that came after it".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::rate::RateWindow;
    use crate::domain::tenant::State;
    use crate::fuzz::small::Small;

    #[test]
    fn a_state_that_no_events_make_is_told() {
        let small = Small::new();
        assert_eq!(small.tenant.check_soundness(), Ok(()));
        type Forge = fn(&mut State);
        let forgeries: [(&str, Forge); 7] = [
            ("in the order", |state| state.delegations.swap(0, 1)),
            ("came after it", |state| {
                let place = state.delegations[1].place;
                Arc::make_mut(&mut state.delegations[1].profile).spec.stands_on = vec![place];
            }),
            ("came after it", |state| Arc::make_mut(&mut state.delegations[1].profile).spec.stands_on = vec![0]),
            ("came after it", |state| {
                let spec = &mut Arc::make_mut(&mut state.delegations[0].profile).spec;
                (spec.stands_on, spec.depth) = (vec![1], 2);
            }),
            ("a chain of", |state| Arc::make_mut(&mut state.delegations[0].profile).spec.depth = u32::MAX),
            ("two agents", |state| state.agents.push(state.agents[0].clone())),
            ("one window", |state| state.agents[0].windows.push(RateWindow::default())),
        ];
        for (what, forge) in forgeries {
            let mut state = small.tenant.state();
            forge(&mut state);
            let problem = Tenant::restore(state).check_soundness().unwrap_err();
            assert!(problem.contains(what), "{what}: {problem}");
        }
    }
}
