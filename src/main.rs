//! The kavach server binary.
fn main() {}
