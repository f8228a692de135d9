//! Kavach.
