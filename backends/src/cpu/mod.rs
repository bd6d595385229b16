//! The CPU back end: vector kernels, targets, modules of machine code, and the thread pool that runs them.

pub mod module;
pub mod pool;
pub mod target;
pub mod vkir;
