//! Keeps equal permissions of many agents once: most agents of a large tenant have one of a few roles, and their
//! permissions take most of their memory.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::agent::Agent;
use crate::permission::PermissionSet;

/// With this many sets, it is worth checking which ones nobody holds any more.
const FEW: usize = 64;

/// Permission sets by content. It only saves memory: sharing can't be observed.
#[derive(Debug, Default)]
pub struct SharedPermissions {
    known: HashSet<Arc<PermissionSet>>,
    /// How many there were after the last cleanup.
    held: usize,
}

impl SharedPermissions {
    /// An equal set that others hold already, if there is one, else this one.
    pub fn share(&mut self, permissions: &Arc<PermissionSet>) -> Arc<PermissionSet> {
        if let Some(known) = self.known.get(permissions) {
            return Arc::clone(known);
        }
        // The map doubles between two cleanups, so that their cost per set is constant.
        if self.known.len() >= FEW.max(2 * self.held) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.held = self.known.len();
        }
        self.known.insert(Arc::clone(permissions));
        Arc::clone(permissions)
    }
}

/// Reads a snapshot's agents. They share permissions from the start: creating a million sets and dropping them again
/// would fragment the memory.
///
/// # Errors
/// The deserializer's.
pub fn read_agents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Agent>, D::Error> {
    struct AgentsVisitor;
    impl<'de> Visitor<'de> for AgentsVisitor {
        type Value = Vec<Agent>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("agents")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let (mut agents, mut shared) = (Vec::new(), SharedPermissions::default());
            while let Some(mut agent) = seq.next_element::<Agent>()? {
                let permissions = shared.share(&agent.profile.spec.permissions);
                Arc::make_mut(&mut agent.profile).spec.permissions = permissions;
                agents.push(agent);
            }
            agents.shrink_to_fit();
            Ok(agents)
        }
    }
    deserializer.deserialize_seq(AgentsVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::PermissionSpec;

    fn set(resource: &str) -> Arc<PermissionSet> {
        let spec =
            PermissionSpec { resource: resource.to_owned(), actions: vec!["read".to_owned()], constraints: None };
        Arc::new(PermissionSet::parse(vec![spec]).unwrap())
    }

    #[test]
    fn equal_permissions_are_kept_once_and_others_are_not_mixed_up() {
        let mut shared = SharedPermissions::default();
        let (first, again, other) = (shared.share(&set("a")), shared.share(&set("a")), shared.share(&set("b")));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(other, set("b"));
    }

    #[test]
    fn sets_that_nobody_holds_are_forgotten_in_time() {
        let mut shared = SharedPermissions::default();
        let held: Vec<_> = (0..FEW).map(|n| shared.share(&set(&format!("held:{n}")))).collect();
        for n in 0..100 * FEW {
            shared.share(&set(&format!("dropped:{n}")));
        }
        assert!(shared.known.len() <= 3 * FEW);
        assert!(held.iter().all(|set| shared.known.contains(set)));
    }
}
