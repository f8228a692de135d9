//! What the server offers, as plain async calls. The HTTP API and programs that embed the server use the same ones.
//!
//! [`Kavach`] acts for one caller. The one that [`crate::App`] hands out acts as an operator; [`Kavach::acting_for`]
//! makes one for a key or a token.
//!
//! | to find | look in |
//! | --- | --- |
//! | the caller: its credential, its reason, its details | `kavach` |
//! | which tenants a caller may reach | `tenant_access` |
//! | how a call reaches a tenant's actor, and full mailboxes | `tenant_calls` |
//! | decisions: single, batched, explained | `authorize`; searches for what is allowed: `search` |
//! | what policies of the whole instance say to a budget check | `budget_check` |
//! | changes and look-ups of one resource | `tenants`, `agents`, `delegations`, `policies`, `usage`, `holds` |
//! | requests that came before with the same idempotency key | `repeats`; the key, `once_key` |
//! | webhooks: their changes and look-ups; who sends their messages | `webhooks`; `courier` |
//! | operators' keys; what a token is | `operator_keys`; `introspection` |
//! | lists over several tenants, and their pages | `lists` |
//! | the audit trail: queries, exports, live streams, checkpoints, spend reports | `audit` |
//! | statistics for people, and metrics for a monitoring system; what both count | `stats`, `metrics`, `tenant_counts` |
//! | health of the process and its storage | `health` |
//! | faults that tests inject | `fault_injection` |

mod agents;
mod audit;
mod authorize;
mod budget_check;
mod courier;
mod delegations;
#[cfg(feature = "test-hooks")]
mod fault_injection;
mod health;
mod holds;
mod introspection;
mod kavach;
mod lists;
mod metrics;
mod once_key;
mod operator_keys;
mod policies;
mod repeats;
mod search;
mod stats;
mod tenant_access;
mod tenant_calls;
mod tenant_counts;
mod tenants;
mod usage;
mod webhooks;

pub use crate::measure::metric_values::{TenantCounts, TenantMemory};
pub use agents::{AgentFilter, Agents};
pub use audit::{
    Audit, AuditQuery, AuditStream, Export, ExportFormat, KEEP_ALIVE, SpendQuery, SpendReport, StreamItem, WriteEntry,
    guard_cell, write_line,
};
pub use budget_check::{CheckedBudgets, CheckedCall, InstanceAmounts, InstanceCheck};
pub(crate) use courier::CourierThread;
pub use delegations::Delegations;
pub use holds::{HoldFilter, Holds};
pub use kavach::Kavach;
pub use lists::{Page, PageRequest};
pub use operator_keys::OperatorKeys;
pub use policies::{AgentPolicies, Policies, PolicyFilter};
pub use search::{SearchPage, SearchResult};
pub use stats::{SlowTenant, Stats, TenantIdentity};
pub use tenants::{KeyWithSecret, Tenants};
pub use webhooks::{DeliveryFilter, WebhookWithSecret, Webhooks};
