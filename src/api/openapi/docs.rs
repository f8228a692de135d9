//! What is told of each route, by what it is about. Errors of the guard and of reading the input are not told here.

pub mod agents;
pub mod audit;
pub mod budgets;
pub mod decisions;
pub mod delegations;
pub mod server;
pub mod tenants;
