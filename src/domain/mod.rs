//! The rules, and nothing else: what a tenant is, who may do what, and what is written down.
//!
//! This room is pure. It knows no actor, HTTP, file, async runtime or clock: the time is an argument,
//! randomness is an argument, and every function answers from its arguments alone. State changes only
//! in [`Tenant::apply`], so replaying a tenant's events gives the same state again.
//!
//! | to find | look in |
//! | --- | --- |
//! | one tenant's whole state, and how an event changes it | [`tenant`] |
//! | administrative commands: what they check and which change they yield | [`tenant_commands`], [`agent_commands`], [`key`] |
//! | the authorize decision, its order and its reasons | [`decision`] |
//! | what a permission matches, and the index that finds it | [`permission`], [`pattern`] |
//! | what a permission demands besides | [`constraint`], [`arguments`], [`arg_pattern`], [`glob`], [`url_glob`], [`oddity`], [`regexes`], [`rate`] |
//! | what permissions say that may not have been meant | [`warnings`] |
//! | which permission grants a call, own or delegated | [`granting`], [`effective`] |
//! | delegations: what one is, which count, what they form | [`delegation`], [`links`], [`delegation_commands`] |
//! | budgets: policies, what is used, what a call really cost | [`policy`], [`budget`], [`usage`] |
//! | a tenant in a few numbers | [`census`] |
//! | what is recorded, and how an audit entry is read back from it | [`event`], [`audit`], [`trace_id`] |
//! | every error and denial code | [`error`] |
//! | every limit | [`limits`] |
//! | what requests and answers look like as JSON Schemas | [`schema`], and beside each type |

pub mod agent;
pub mod agent_commands;
pub mod arg_pattern;
pub mod arguments;
pub mod audit;
pub mod budget;
pub mod calendar;
pub mod census;
pub mod constraint;
pub mod cost;
pub mod decision;
pub mod delegation;
pub mod delegation_commands;
#[cfg(test)]
mod delegation_limit_tests;
#[cfg(test)]
mod delegation_model_tests;
#[cfg(test)]
mod delegation_tests;
pub mod effective;
pub mod error;
pub mod event;
pub mod explain;
pub mod glob;
pub mod granting;
pub mod id;
pub mod key;
pub mod limits;
pub mod links;
pub mod oddity;
pub mod pattern;
pub mod permission;
pub mod policy;
pub mod policy_commands;
pub mod policy_index;
pub mod rate;
pub mod regexes;
pub mod request;
pub mod schema;
pub mod search;
#[cfg(test)]
mod search_tests;
pub mod secret;
pub mod settings;
pub mod sharing;
pub mod slots;
mod soundness;
pub mod steps;
pub mod tenant;
pub mod tenant_commands;
pub mod text;
pub mod time;
pub mod trace_id;
pub mod url_glob;
pub mod usage;
pub mod warnings;

pub use agent::{Agent, AgentProfile, AgentStatus, AgentType};
pub use audit::{AuditEntry, AuditFilter};
pub use decision::Decision;
pub use delegation::{Delegation, DelegationStatus};
pub use error::{Code, Error};
pub use event::{Change, Event, Record};
pub use id::{AgentId, AuditId, DelegationId, KeyId, PolicyId, TenantId, TenantRef, TenantTag};
pub use request::Request;
pub use secret::{Credential, Secret, SecretHash};
pub use settings::Settings;
pub use tenant::{Command, Moment, Tenant};
pub use time::Timestamp;
pub use trace_id::TraceId;
