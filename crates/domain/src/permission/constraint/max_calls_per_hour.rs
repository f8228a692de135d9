//! `maxCallsPerHour`: a rate. The window that counts the calls is the holder's, so `permission/check.rs` checks it.

#[cfg(feature = "schema")]
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::error::Error;
use crate::permission::constraint::kind::Constraint;

/// Granted calls in a sliding hour.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxCallsPerHour(pub(super) u32);

impl Constraint for MaxCallsPerHour {
    type Spec = u32;
    type Stored = u32;

    #[cfg(feature = "schema")]
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Granted calls in a sliding hour.",
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": u32::MAX,
        })
    }

    fn parse(_: &str, spec: u32) -> Result<Self, Error> {
        Ok(Self(spec))
    }

    fn spec(&self) -> u32 {
        self.0
    }

    fn restore(_: &str, stored: u32) -> Result<Self, Error> {
        Ok(Self(stored))
    }

    fn stored(&self) -> u32 {
        self.0
    }

    fn restricts(&self) -> bool {
        true
    }

    fn steps(&self) -> usize {
        0
    }
}
