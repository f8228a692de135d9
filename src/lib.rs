//! Kavach: a multi-tenant authorization server for AI agents.
//!
//! Before every tool call of an agent, a service asks: may this agent do this action on this resource now? Each
//! tenant is an event-sourced actor that owns its agents, permissions, budgets and audit trail, with a journal and
//! snapshots on disk. See [`App`] for a tenant's life in a few lines.
//!
//! # Layout
//!
//! Dependencies point one way, from the bottom of this table to its top:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`domain`] | the rules: pure, without clock, files, actors or HTTP |
//! | [`measure`] | what the server counts and times, in memory only |
//! | [`journal`] | the durable log and the snapshots; the only code that touches files |
//! | [`actors`] | one actor for each tenant, and the registry over them |
//! | [`service`] | what the server offers, as calls for one caller |
//! | [`gateway`] | from a request that a gateway asks about to the action and the resource |
//! | [`api`] | the same over HTTP |
//! | [`dashboard`] | the files that browsers are served |
//! | [`net`] | connections: how many, how slow they may be, TLS |
//! | [`settings`], [`telemetry`], [`demo`], [`fixture`], [`load`], [`verify`] | the program's own parts |
//! | [`app`], [`server`] | the composition root; with HTTP in front |

pub mod actors;
pub mod api;
pub mod app;
pub mod cli;
#[cfg(feature = "dashboard")]
pub mod dashboard;
pub mod demo;
pub mod gateway;
pub mod measure;
pub mod net;
pub mod server;
pub mod service;
pub mod settings;
pub mod telemetry;

#[doc(inline)]
pub use kavach_domain as domain;
#[doc(hidden)]
pub use kavach_journal as journal;
#[doc(hidden)]
pub use kavach_store as store;

pub use app::App;
pub use server::Server;
pub use service::Kavach;
pub use settings::Settings;
