//! The OpenAPI document (3.1), made from the route table and the types that handlers read and answer.
//!
//! To document a new route, write a function in [`docs`] that returns its [`Docs`] and name it in the route table beside
//! the handler. The method and path come from the table, the credentials from the guard, and parameters, body and their
//! errors from the input. A new type in a request or a response derives [`schemars::JsonSchema`] and has
//! an example in [`examples`]; what a new `{name}` in a path means is in `inputs::path_parameter`.
//!
//! | to find | look in |
//! | --- | --- |
//! | the documentation of each route | [`docs`] |
//! | what such documentation can say | [`route_docs`] |
//! | how a handler's input describes itself | [`inputs`] |
//! | schemas of types | [`schemas`] |
//! | examples of bodies and answers | [`examples`] |
//! | errors, with an example of each code | [`problems`] |
//! | how it all becomes one document | [`document`] |
//!
//! Schemas come from `schemars`, which reads the same serde attributes as the code that reads and writes the JSON. The
//! usual macros for OpenAPI repeat a handler's method, path and parameters; here nothing is written twice.

#![expect(
    clippy::indexing_slicing,
    reason = "the document is made of JSON objects alone and of nothing that a client sends, so a test sees all of it"
)]

pub mod docs;
pub mod document;
pub mod example;
pub mod examples;
pub mod inputs;
pub mod problems;
pub mod route_docs;
pub mod schemas;

pub use route_docs::{Docs, Tag};
