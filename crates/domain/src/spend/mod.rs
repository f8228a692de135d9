//! Spend reports: what the entries of audit trails add up to, in groups.
//!
//! A report counts events, never counters: its sums are those of the audit entries of the same time, to the last
//! millionth.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a decision or a usage report adds | [`sums`] |
//! | what a report groups by | [`group_by`] |
//! | which labels an agent had at an event | [`labels`] |
//! | which local day an event belongs to | [`local_day`] |
//! | adding up, in bounded memory | [`tally`] |

pub mod group_by;
pub mod labels;
pub mod local_day;
pub mod sums;
pub mod tally;
