//! Versions of what can be changed, so that a change is made only to what its author has seen.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

const BYTES: usize = 16;

/// The version of an agent, a policy, a webhook or a tenant. Each change makes another; what calls count does not.
///
/// It is a hash of everything that changes set. The time of the last change alone would not do, since two changes may
/// share a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version([u8; BYTES]);

impl Version {
    /// The version of a thing that is made of these parts.
    pub fn of(parts: &impl Serialize) -> Self {
        // What is kept on disk can be written as JSON.
        let json = serde_json::to_vec(parts).unwrap_or_default();
        let mut start = [0; BYTES];
        start.iter_mut().zip(Sha256::digest(&json)).for_each(|(own, byte)| *own = byte);
        Self(start)
    }

    /// Reads a version as it is displayed. `None` for other text, which is no thing's version.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 2 * BYTES || !is_hex {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Versions that the author of a change has seen. It is made if the thing still has one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenVersions(pub Vec<Version>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_displayed() {
        for parts in ["a", "b", ""] {
            let version = Version::of(&parts);
            assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
        assert_ne!(Version::of(&"a"), Version::of(&"b"));
        assert_eq!(Version::of(&()).to_string().len(), 32);
        for other in ["", "a", &"g".repeat(32), &"A".repeat(32), &"a".repeat(33), &format!("+{}", "a".repeat(31))] {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }
}
