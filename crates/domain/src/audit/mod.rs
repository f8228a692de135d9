//! The audit trail: a view of the tenant's events, and the filter of a query.

mod change_summary;
pub mod entry;
pub mod filter;
