//! Budgets: what a policy limits, how much is used, and what a call may still charge.
//!
//! | to find | look in |
//! | --- | --- |
//! | a policy and its limits; how much of each is used | [`policy`], [`policy_limits`]; [`counts`], `policy_at`, [`meter`], [`used_view`], [`window_view`] |
//! | the hours, days, weeks and months it counts in | [`window`], [`calendar`], [`zone`]; [`opening`], [`completion`] |
//! | how a policy is created and changed; how many agents it is about | [`policy_commands`]; [`coverage`] |
//! | which policies bind an agent, which a call, and which an event charges | [`policy_index`]; [`scope`], [`scope_index`]; [`charged`] |
//! | the check before a call and the charge after it | [`check`] |
//! | what a call really cost, and how that settles an estimate | [`usage`], [`settlement`] |
//! | estimates that are held until then | [`hold`], [`hold_commands`]; how many are kept cheaply, [`chunked`] |
//! | exact money | [`cost`] |

pub mod calendar;
pub mod charged;
pub mod check;
pub mod chunked;
pub mod completion;
pub mod cost;
pub mod counts;
pub mod coverage;
pub mod crossed;
pub mod hold;
pub mod hold_commands;
#[cfg(test)]
mod hold_model_tests;
#[cfg(test)]
mod hold_tests;
pub mod meter;
pub mod opening;
pub mod policy;
pub(crate) mod policy_at;
pub mod policy_commands;
pub mod policy_index;
pub mod policy_limits;
pub mod scope;
pub mod scope_index;
pub mod settlement;
pub mod terms_view;
pub mod threshold;
#[cfg(test)]
mod threshold_tests;
pub mod usage;
pub mod used_view;
pub mod window;
pub mod window_view;
pub mod zone;
