//! (see the crate list in README.md)
pub mod cpu;
