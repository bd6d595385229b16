//! Models of other tools as readable IR.

mod bert;
mod hf;

pub use hf::hf;
