//! When the reply to a decision may leave.

use std::fmt;
use std::str::FromStr;

/// When the reply to a decision may leave. The reply to an administrative change always waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the kernel has the event. A killed process loses nothing; the disk gets it within a second.
    #[default]
    Interval,
    /// Once the disk has the event.
    Fsync,
}

impl Durability {
    /// The names of all variants, as options spell them.
    pub const NAMES: [&str; 2] = ["interval", "fsync"];
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interval => "interval",
            Self::Fsync => "fsync",
        })
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "interval" => Ok(Self::Interval),
            "fsync" => Ok(Self::Fsync),
            _ => Err(format!("must be one of {}", Self::NAMES.join(", "))),
        }
    }
}
