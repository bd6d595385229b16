//! Back ends: lowered models to code that runs. Only this crate names Cranelift or writes machine code.
//!
//! A back end reads tile programs, buffers and the memory plan, and nothing else: it knows no operation and no form.

pub mod cpu;
pub mod cuda;
mod distinct;
#[cfg(test)]
mod tests;
