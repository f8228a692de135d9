//! Permissions that many agents hold alike are kept once: most agents of a large tenant have one of a few roles, and
//! their permissions take most of their memory.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::agent::Agent;
use crate::permission::PermissionSet;

/// Sets from which on it is worth a look which of them nobody holds any more.
const FEW: usize = 64;

/// Permission sets by what they hold. It holds no fact: what is shared is equal, and whether it is shared can't be told.
#[derive(Debug, Default)]
pub struct SharedPermissions {
    known: HashSet<Arc<PermissionSet>>,
    /// How many there were when those that nobody held were forgotten last.
    held: usize,
}

impl SharedPermissions {
    /// The same permissions: those that others hold already, where there are any.
    pub fn share(&mut self, permissions: &Arc<PermissionSet>) -> Arc<PermissionSet> {
        if let Some(known) = self.known.get(permissions) {
            return Arc::clone(known);
        }
        // Each set is looked at twice at most in the time in which as many came.
        if self.known.len() >= FEW.max(2 * self.held) {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.held = self.known.len();
        }
        self.known.insert(Arc::clone(permissions));
        Arc::clone(permissions)
    }
}

/// Reads a snapshot's agents. They share their permissions from the start: a million sets that were made and then
/// thrown away would leave their holes in the memory.
///
/// # Errors
/// The deserializer's.
pub fn read_agents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Agent>, D::Error> {
    struct Agents;
    impl<'de> Visitor<'de> for Agents {
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
    deserializer.deserialize_seq(Agents)
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
    fn what_nobody_holds_is_forgotten_in_time() {
        let mut shared = SharedPermissions::default();
        let held: Vec<_> = (0..FEW).map(|n| shared.share(&set(&format!("held:{n}")))).collect();
        for n in 0..100 * FEW {
            shared.share(&set(&format!("dropped:{n}")));
        }
        assert!(shared.known.len() <= 3 * FEW);
        assert!(held.iter().all(|set| shared.known.contains(set)));
    }
}
