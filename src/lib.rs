//! Kavach: a multi-tenant authorization server for AI agents.
//!
//! Before an agent calls a tool, a service asks: may this agent do this action on this resource now? Each tenant is an
//! event-sourced actor that owns its agents, permissions, budgets and audit trail, with a journal and snapshots on disk.
//!
//! To embed Kavach, start with [`App`], whose page shows a tenant's life in a few lines:
//!
//! | | |
//! | --- | --- |
//! | [`App`], [`ServerSettings`] | opens a data directory in your process, without HTTP |
//! | [`Kavach`] | every operation, for one caller: an operator, a tenant key, or an agent |
//! | [`service`] | what the operations take and return |
//! | [`domain`] | requests, decisions, agents, policies, ids, error codes |
//! | [`Server`] | an [`App`] with HTTP in front |
//!
//! The repository's `examples` run. Everything else in this crate is the server's own, hidden here, and may change at any
//! time; `ARCHITECTURE.md` describes it.

#[doc(hidden)]
pub mod actors;
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod app;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
#[cfg(feature = "dashboard")]
pub mod dashboard;
#[doc(hidden)]
pub mod demo;
#[doc(hidden)]
pub mod gateway;
#[doc(hidden)]
pub mod measure;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod server;
pub mod service;
#[doc(hidden)]
pub mod settings;
#[doc(hidden)]
pub mod telemetry;
#[doc(hidden)]
pub mod webhooks;

#[doc(inline)]
pub use kavach_domain as domain;
#[doc(hidden)]
pub use kavach_journal as journal;
#[doc(hidden)]
pub use kavach_store as store;

#[doc(inline)]
pub use app::App;
#[doc(inline)]
pub use gateway::GatewayKind;
#[doc(inline)]
pub use kavach_store::Durability;
#[doc(inline)]
pub use server::Server;
pub use service::Kavach;
#[doc(inline)]
pub use settings::{PublicUrl, ServerSettings};
