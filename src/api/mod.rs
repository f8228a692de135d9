//! HTTP: one file for each resource. A handler reads its input, calls the service once, and shapes the response.
//!
//! | to find | look in |
//! | --- | --- |
//! | every route, with its handler | [`routes`] |
//! | what a route is | [`endpoint`] |
//! | how a worker serves the routes | `router` |
//! | how `POST /v1/authorize` is answered before the router | `fast_authorize` |
//! | what every response passes on its way out | `response_middleware` |
//! | how a handler learns who calls | [`auth`] |
//! | how many calls without a valid key an address may make | `auth_throttle` |
//! | how an error becomes an answer | [`error`] |
//! | how bodies and queries are read | [`input`], by the rules of [`strict_json`] |
//! | what those readers do with single values | `plain_visits` |
//! | all that is wrong with a body | `body_problems`, which reads on by `mended_json` |
//! | requests that are carried out once | [`idempotency`] |
//! | changes of what the caller has seen only | [`if_match`] |
//! | what an authorize call sends | [`authorize_body`]; [`fast_authorize_json`] reads most of them |
//! | which trace a call is part of | `traceparent` |
//! | the AuthZEN API for decisions | [`authzen`] |
//! | bodies that are produced while they are sent, or that wait for a slow client | [`streaming`] |
//! | how much memory slow clients may hold | `slow_client_memory` |
//! | the HTTP status of each code | `status` |
//! | the JSON of responses | [`responses`] |
//! | the metrics | `metric_families` |
//! | the OpenAPI document | [`openapi`] |
//! | what browsers get | `pages`, the files of `dashboard` |

pub mod agents;
pub mod audit;
pub mod auth;
mod auth_throttle;
pub mod authorize;
pub mod authorize_body;
pub mod authzen;
mod body_problems;
pub mod delegations;
pub mod endpoint;
pub mod error;
mod etag;
mod fast_authorize;
pub mod fast_authorize_json;
pub mod forward_auth;
pub mod health;
pub mod holds;
pub mod idempotency;
pub mod if_match;
pub mod input;
pub mod introspection;
mod mended_json;
mod metric_families;
pub mod metrics;
pub mod openapi;
pub mod operator_keys;
#[cfg(feature = "dashboard")]
pub mod pages;
mod plain_visits;
pub mod policies;
mod response_middleware;
pub mod responses;
mod router;
pub mod routes;
mod slow_client_memory;
pub mod spend;
pub mod stats;
pub mod status;
pub mod streaming;
pub mod strict_json;
pub mod tenants;
mod traceparent;
mod unreadable;
pub mod usage;
pub mod webhooks;
pub mod whoami;

pub use auth::{RouteAccess, Shared};
pub use endpoint::Endpoint;
pub use error::Problem;
pub use router::service;
pub use routes::{endpoints, openapi_document};
