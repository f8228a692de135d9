//! Spend reports: what the entries of audit trails add up to, in groups.
//!
//! A report counts events, never counters: its sums are those of the audit entries of the same time, to the last
//! millionth.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a decision or a usage report adds | [`sums`] |
//! | what a report groups by | [`group_by`] |
//! | adding up, in bounded memory | [`tally`] |

pub mod group_by;
pub mod sums;
pub mod tally;
