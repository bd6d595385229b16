//! Measuring candidates on this machine. The only crate that reads a clock.
//!
//! Searching over forms and knobs, and the store of what was found, build on [`measure`] and are still to come.

pub mod measure;
