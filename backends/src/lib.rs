//! (see the crate list in README.md)
