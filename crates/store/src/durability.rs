//! When a decision's answer may leave.

use std::fmt;
use std::str::FromStr;

/// When a decision's answer may leave. Administrative changes always wait for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the kernel has its event, so a killed process loses nothing; the disk has it within a second.
    #[default]
    Interval,
    /// Once the disk has its event.
    Fsync,
}

impl Durability {
    /// The names of all, as options spell them.
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
