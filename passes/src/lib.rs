//! Transformations: rewriting, lowering to tile programs, memory planning. Values in, values out.
//!
//! Only this crate names egg. It knows no machine code, prints nothing, reads no clock.

pub mod forms;
pub mod lower;
pub mod memory;
pub mod rewrite;
