//! The documentation of each route, by topic. Errors of the guard and of reading the input come from their types.

pub mod agents;
pub mod audit;
pub mod authzen;
pub mod budgets;
pub mod decisions;
pub mod delegations;
pub mod holds;
pub mod keys;
pub mod server;
pub mod tenants;
pub mod webhooks;
