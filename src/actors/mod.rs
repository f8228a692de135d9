//! The actors: one for every tenant, and the registry that creates, loads, supervises and removes them.
//!
//! | to find | look in |
//! | --- | --- |
//! | how a command becomes an event, and when its caller is answered | [`tenant`], [`reply`], and `kavach_store::commit_pipeline` |
//! | the messages a tenant's actor takes | [`messages`] |
//! | tenants coming and going, start, rebuilding after a panic, shutdown | [`registry`] |
//! | how a message finds its tenant | [`routes`] |
//! | how calls and answers cross between workers | [`lanes`] |
//! | what all actors of a process share | [`core`] |
//! | who reads and follows audit trails, and how many at once | [`desk`], [`turns`], [`news`] |
//! | removing what is past the audit retention | `retention` |

pub mod checkpoint;
pub mod clock;
pub mod core;
mod deletion;
pub mod desk;
pub mod lanes;
pub mod messages;
pub mod news;
pub mod registry;
pub mod reply;
mod retention;
pub mod routes;
pub mod tenant;
pub mod turns;

pub use self::core::{Core, Phase};
pub use registry::Registry;
pub use routes::{Route, Routes};
pub use tenant::TenantActor;
