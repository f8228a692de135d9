//! The actors: one for each tenant, and the registry that creates, loads, supervises and removes them.
//!
//! | to find | look in |
//! | --- | --- |
//! | what a tenant's actor does with a message | [`tenant`], one file for each kind |
//! | the messages, which are data | [`messages`], [`registry_messages`] |
//! | tenants coming and going, start, rebuilding after a panic, shutdown | [`registry`] |
//! | how a message finds its tenant, in memory or not | [`core`], [`tenant_directory`], [`mailbox`] |
//! | the threads where actors live | [`homes`] |
//! | how calls and answers cross between workers | [`worker_channels`] |
//! | replies, and those that are held until their events are durable | [`reply`], [`tenant_reply`] |
//! | the log: a thread's turns, and its own threads | [`log_turns`], [`log_keeper`] |
//! | the catalog: what is known of tenants that are not in memory | [`catalog_keeper`] |
//! | operators' keys, as every thread sees them | [`operator_keys`] |
//! | what actors share, and the process as a whole | [`resources`], [`core`] |
//! | the server's clock, and what holds while the system's is wrong | [`clock`] |
//! | instance policies, and the way between their lender and tenants | [`leases`], [`lease_exchange`] |
//! | who reads and follows audit trails, and how many at once | [`audit_limits`], [`fair_semaphore`], [`reader_threads`], [`journal_watch`] |

pub mod audit_limits;
pub mod catalog_keeper;
pub mod clock;
pub mod core;
pub mod fair_semaphore;
pub mod homes;
pub mod journal_watch;
pub mod lease_exchange;
pub mod leases;
pub mod log_keeper;
pub mod log_turns;
pub mod mailbox;
pub mod messages;
pub mod operator_keys;
pub mod reader_threads;
pub mod registry;
pub mod registry_messages;
pub mod reply;
pub mod resources;
pub mod tenant;
pub mod tenant_directory;
pub mod tenant_reply;
pub mod worker_channels;

pub use self::core::{Core, Phase, Unreachable, Visit};
pub use registry::Registry;
pub use tenant::TenantActor;
pub use tenant_directory::{Route, TenantDirectory};
