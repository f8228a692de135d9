//! The rules of Kavach, and nothing else: what a tenant is, who may do what, and what is recorded.
//!
//! This crate is pure. It knows no actor, HTTP, file, async runtime or clock: time and randomness are arguments, and
//! every function depends on its arguments alone. State changes only in [`Tenant::apply`], so replaying a tenant's
//! events rebuilds its state bit for bit.
//!
//! | to find | look in |
//! | --- | --- |
//! | a tenant's whole state, and how an event changes it | [`tenant`] |
//! | what an administrative command checks, and the change it makes | [`tenant::commands`], [`agent::commands`], [`delegation::commands`], [`budget::policy_commands`] |
//! | the authorize decision: its order and its reasons | [`decision`] |
//! | what a permission matches and demands, and which one grants a call | [`permission`] |
//! | delegations: which ones count, and what they form | [`delegation`] |
//! | budgets: policies, windows, usage, settlement | [`budget`] |
//! | limits over all tenants, and how tenants get slices of them | [`instance`] |
//! | keys of requests that may be sent again, and what is remembered of them | [`idempotency`] |
//! | webhooks: what they are told, what waits, what became of it | [`webhook`] |
//! | events, and the audit entries that are read back from them | [`event`], [`before`], [`audit`] |
//! | spend reports: what entries add up to, in groups | [`spend`] |
//! | versions of what can be changed, and changes of what was seen only | [`version`], [`tenant::if_unchanged`] |
//! | every error and denial code | [`error`] |
//! | every limit | [`limits`] |
//! | JSON Schemas of requests and answers (feature `schema`) | `schema`, and beside each type |

pub mod agent;
pub mod audit;
pub mod author;
pub mod before;
pub mod budget;
pub mod decision;
pub mod delegation;
pub mod error;
pub mod event;
pub mod id;
pub mod idempotency;
pub mod instance;
pub mod limits;
pub mod moment;
pub mod permission;
#[cfg(feature = "schema")]
pub mod schema;
pub mod secret;
pub mod secret_scan;
pub mod slot_lookup;
pub mod spend;
pub mod tenant;
pub mod text;
pub mod time;
pub mod trace_id;
pub mod version;
pub mod webhook;

pub use agent::{Agent, AgentProfile, AgentStatus, AgentType};
pub use audit::entry::AuditEntry;
pub use audit::filter::AuditFilter;
pub use decision::Decision;
pub use decision::request::Request;
pub use delegation::{Delegation, DelegationStatus};
pub use error::{Code, Error};
pub use event::{Change, Event, Record};
pub use id::{AgentId, AuditId, DelegationId, KeyId, MessageId, PolicyId, TenantId, TenantRef, TenantTag, WebhookId};
pub use moment::Moment;
pub use secret::{Credential, OperatorCredential, Secret, SecretHash};
pub use tenant::settings::TenantSettings;
pub use tenant::{Command, KeyRole, OperatorRole, Right, Tenant};
pub use time::Timestamp;
pub use trace_id::TraceId;
pub use version::{SeenVersions, Version};

#[cfg(not(feature = "schema"))]
mod schema {
    macro_rules! inline_schema {
        ($($_:tt)*) => {};
    }
    pub(crate) use inline_schema;
}
