//! A checkpoint: one link of a tenant's hash chain, as JSON that an auditor keeps elsewhere.

use std::fmt::Write as _;

use kavach_domain::{TenantId, Timestamp};
use kavach_journal::Checkpoint;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One link of a tenant's hash chain, to be kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeptCheckpoint {
    /// The tenant; `null` for the default tenant.
    pub tenant_id: TenantId,
    /// The last event that the link covers.
    pub seq: u64,
    /// The link, as 64 hex digits.
    pub hash: String,
    /// When the link was written.
    pub time: Timestamp,
}

impl KeptCheckpoint {
    /// The checkpoint of that tenant's link.
    pub fn new(tenant_id: TenantId, link: Checkpoint) -> Self {
        let hash = link.hash.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { tenant_id, seq: link.seq, hash, time: Timestamp::from_millis(link.time_ms) }
    }

    /// Reads a checkpoint from JSON.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Text {
            tenant_id: Option<String>,
            seq: u64,
            hash: String,
            time: Timestamp,
        }
        let Text { tenant_id, seq, hash, time } = serde_json::from_slice(json)
            .map_err(|problem| format!("the checkpoint is not JSON as expected: {problem}"))?;
        let tenant_id = match tenant_id {
            None => TenantId::DEFAULT,
            Some(id) => TenantId::parse(&id).ok_or("the checkpoint's tenantId is not a tenant id")?,
        };
        let kept = Self { tenant_id, seq, hash, time };
        kept.link().map(|_| kept)
    }

    /// The link, in the journal's form.
    ///
    /// # Errors
    /// The hash is not 64 hex digits.
    pub fn link(&self) -> Result<Checkpoint, String> {
        let problem = "the checkpoint's hash is not 64 hex digits";
        let mut hash = [0; 32];
        if self.hash.len() != 64 {
            return Err(problem.to_owned());
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            let digits = self.hash.get(2 * at..2 * at + 2).ok_or(problem)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| problem)?;
        }
        Ok(Checkpoint { seq: self.seq, hash, time_ms: self.time.millis() })
    }
}
