//! HTTP: one file a resource. A handler extracts, calls the service once, and shapes the answer.
//!
//! | to find | look in |
//! | --- | --- |
//! | every route with who may call it | [`routes`] |
//! | what is answered before the router, and what each answer passes on its way out | `front` |
//! | how a handler comes by its caller | [`auth`] |
//! | how many calls without a good key an address may make | `attempts` |
//! | how an error becomes an answer | [`error`] |
//! | how bodies and queries are read | [`input`]; `plain` is the short cut of most authorize bodies, `objects` says what is an object and what a whole number |
//! | the same decisions as AuthZEN has them | [`authzen`] |
//! | answers that are made while they are sent, or that wait for their client | [`streaming`] |
//! | what is held for clients that take their time | `held` |
//! | the HTTP status of each code | [`status`] |
//! | the JSON of answers | [`views`] |
//! | the metrics that are told | `families` |
//! | the OpenAPI document: what is told of each route | [`openapi`] |
//! | what browsers are served | [`pages`], the files of [`crate::dashboard`] |

pub mod agents;
mod attempts;
pub mod audit;
pub mod auth;
pub mod authorize;
pub mod authzen;
pub mod delegations;
pub mod error;
mod families;
pub mod forward_auth;
mod front;
pub mod health;
mod held;
pub mod input;
pub mod metrics;
pub mod objects;
pub mod openapi;
pub mod pages;
pub mod plain;
pub mod policies;
pub mod routes;
pub mod stats;
pub mod status;
pub mod streaming;
pub mod tenants;
pub mod usage;
pub mod views;
pub mod whoami;

pub use auth::{Access, Shared};
pub use error::Problem;
pub use routes::{Endpoint, endpoints, service};
