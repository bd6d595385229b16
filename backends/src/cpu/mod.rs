//! The CPU back end: tile programs to native code, for this process or as an object.
//!
//! Cranelift owns loop nests, addresses, edges and calls; vector kernels own inner bodies. A model becomes a few plain C
//! functions ([`abi`]) that allocate nothing, start no threads and check every argument.

pub mod abi;
mod body;
mod code;
mod element;
mod entry;
mod expression;
mod functions;
pub mod model;
pub mod module;
pub mod pool;
mod statement;
mod storage;
pub mod target;
mod vector;
pub mod vkir;
mod writer;

pub use vector::{WorkReport, report};

#[cfg(test)]
mod tests;

pub use model::{
    BoundWeights, CallError, CompiledModel, Memory, Options, Parallel, compile, compile_object, object_interface,
};
