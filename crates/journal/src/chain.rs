//! The hash chain that makes a journal tamper-evident.
//!
//! `H(n) = SHA-256(H(n-1) || every byte of the event frames between marker n-1 and marker n)`, frames with
//! their length and checksum. `H(0) = SHA-256("kavach journal" || tenant uuid)`. Each flush feeds the
//! hash once, off the way of a call.

use sha2::{Digest, Sha256};

/// A link of a tenant's chain. Kept elsewhere, it later proves that no event up to `seq` was changed, added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event the link covers; 0 before the first.
    pub seq: u64,
    /// The SHA-256 link.
    pub hash: [u8; 32],
    /// When the link was written, Unix milliseconds.
    pub time_ms: i64,
}

/// The link before a tenant's first event.
pub(super) fn genesis(tenant: [u8; 16]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"kavach journal");
    hasher.update(tenant);
    hasher.finalize().into()
}

/// The chain up to the last written byte.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    link: Checkpoint,
    hasher: Sha256,
}

impl Chain {
    /// Continues after `link`.
    pub fn resume(link: Checkpoint) -> Self {
        Self { link, hasher: Sha256::new_with_prefix(link.hash) }
    }

    /// Adds event frames that were written.
    pub fn extend(&mut self, frames: &[u8]) {
        self.hasher.update(frames);
    }

    /// The link a marker written now would carry.
    pub fn next_hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// The newest link.
    pub fn link(&self) -> Checkpoint {
        self.link
    }
}
