//! How a message leaves: whom it may reach, how it is written, signed and sent. Nothing here knows a tenant's actor; the
//! courier in `service` decides what is sent when.
//!
//! | to find | look in |
//! | --- | --- |
//! | the key that all secrets are made from | [`signing_key`] |
//! | signatures as Standard Webhooks has them | [`signature`] |
//! | which addresses a webhook may reach | [`address`] |
//! | the text of a message | [`message_body`] |
//! | one attempt over HTTP, with all its limits | [`post`] |
//! | how long to wait after a failure | [`backoff`] |
//! | the last attempt of a message that is tried again | [`failing`] |
//! | how the courier hears that something is to be sent | [`bell`] |

pub mod address;
pub mod backoff;
pub mod bell;
pub mod failing;
pub mod message_body;
pub mod post;
pub mod signature;
pub mod signing_key;

use ipnet::IpNet;

use bell::Bell;
use failing::FailedAttempts;
use signing_key::SigningKeyFile;

/// What webhooks share in a process.
pub struct Webhooks {
    /// Networks that they may reach although they are not public, also without TLS.
    pub allowed: Vec<IpNet>,
    /// The key that all secrets are made from.
    pub key: SigningKeyFile,
    /// How the courier hears of messages.
    pub bell: Bell,
    /// What failed and is tried again.
    pub failing: FailedAttempts,
}

impl Webhooks {
    /// The webhooks of a process with that data directory.
    pub fn new(data_dir: &std::path::Path, allowed: Vec<IpNet>) -> Self {
        let (bell, failing) = Default::default();
        Self { allowed, key: SigningKeyFile::within(data_dir), bell, failing }
    }
}
