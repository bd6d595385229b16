//! The language of mixc and everything that is said about programs without transforming or running them natively:
//! types, operations with their meaning, text, verifier, reference interpreter, tile programs, plans.
//!
//! Depends on no other crate of the project. Knows no e-graph, no machine code, no command line.

pub mod attr;
pub mod batch;
pub mod diag;
pub mod dim;
pub mod dtype;
pub mod expr;
pub mod lowered;
pub mod lowered_interp;
mod lowered_print;
pub mod machine;
pub mod op;
pub mod ops;
pub mod plan;
pub mod program;
pub mod reference;
pub mod support;
pub mod tensor;
pub mod text;
pub mod tile;
pub mod ty;
pub mod verify;
pub mod weights;
