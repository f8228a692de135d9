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
//! | the JSON of answers | [`views`] |
//! | the metrics that are told | `families` |
//! | the OpenAPI document: what is told of each route | [`openapi`] |
//! | what browsers are served | [`pages`], the files of [`crate::dashboard`] |

pub mod agents;
pub mod audit;
pub mod auth;
mod auth_throttle;
pub mod authorize;
pub mod authorize_body;
pub mod authzen;
pub mod delegations;
pub mod endpoint;
pub mod error;
mod etag;
mod fast_authorize;
pub mod fast_authorize_json;
pub mod forward_auth;
pub mod health;
pub mod input;
mod metric_families;
pub mod metrics;
pub mod openapi;
#[cfg(feature = "dashboard")]
pub mod pages;
pub mod policies;
mod response_middleware;
pub mod responses;
mod router;
pub mod routes;
mod slow_client_memory;
pub mod stats;
pub mod streaming;
pub mod strict_json;
pub mod tenants;
pub mod usage;
pub mod whoami;

pub use auth::{RouteAccess, Shared};
pub use endpoint::Endpoint;
pub use error::Problem;
pub use router::service;
pub use routes::{endpoints, openapi_document};
