//! Kavach.

pub mod domain;
