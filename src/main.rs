//! The `mixc` command line.
fn main() {}
