//! A small language of vector kernels and its emitters.
//!
//! A kernel is a leaf function over pointers, counts and byte strides: counted loops around operations on registers of
//! W lanes of 32 bits. It is built with [`Builder`], for the lane count of one [`Isa`], and becomes code in three ways:
//! raw AVX-512 or AVX2 bytes with registers assigned here, or a Cranelift function of 128-bit vectors for every other
//! machine. [`interpret()`] says what a kernel means.
//!
//! It promises never to spill: a kernel with too many live registers is refused with
//! [`EmitError::OutOfRegisters`], and whoever chose its tile takes a smaller one. It knows nothing of tensors, models
//! or threads, and there are no calls, no branches but loops, and no data beyond its arguments' memory.

mod allocate;
mod builder;
mod clif;
mod interpret;
mod ir;
mod math;
mod references;
mod x86;

#[cfg(test)]
pub(crate) mod tests;

pub use builder::Builder;
pub use interpret::{Arena, Fault, interpret};
pub use ir::{
    Addr, BinaryOp, Condition, Count, Element, FmaForm, IReg, IntOp, IntSource, Isa, Kernel, MReg, MaskOp, Node, Op,
    ReduceOp, Scale, ShiftOp, Source, Tail, UnaryOp, VReg,
};

use super::module::{CodeError, define_raw};
use super::target::Target;
use cranelift_module::{FuncId, Linkage, Module};
use std::fmt;

/// Why a kernel has no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// More registers of this class are live at once than the machine has. Choose a smaller tile.
    OutOfRegisters(&'static str),
    /// The kernel was built for another lane count.
    Lanes {
        /// Of the kernel.
        kernel: usize,
        /// Of the instruction set.
        isa: usize,
    },
    /// The kernel breaks a rule of the language.
    Malformed(&'static str),
    /// The encoder refused an instruction.
    Encoding(String),
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EmitError::OutOfRegisters(class) => write!(f, "out of {class} registers"),
            EmitError::Lanes { kernel, isa } => {
                write!(f, "the kernel has {kernel} lanes, the instruction set {isa}")
            }
            EmitError::Malformed(what) => write!(f, "malformed kernel: {what}"),
            EmitError::Encoding(what) => write!(f, "instruction not encodable: {what}"),
        }
    }
}

impl std::error::Error for EmitError {}

/// The raw machine code of `kernel`: a System V leaf function `fn(args: *const i64)`, constants behind it, no
/// relocations; to be placed at a multiple of 64 bytes. [`Isa::Clif`] has no raw form.
pub fn emit(kernel: &Kernel, isa: Isa) -> Result<Vec<u8>, EmitError> {
    if kernel.lanes != isa.lanes() {
        return Err(EmitError::Lanes { kernel: kernel.lanes, isa: isa.lanes() });
    }
    x86::emit(kernel, isa)
}

/// Defines `kernel` as a local function `fn(args: *const i64)` of `module`, in whatever way `target` wants.
pub fn define(module: &mut dyn Module, target: &Target, kernel: &Kernel) -> Result<FuncId, CodeError> {
    define_as(module, target, kernel, Linkage::Local)
}

/// As [`define`], with a linkage of one's choice.
pub fn define_as(
    module: &mut dyn Module,
    target: &Target,
    kernel: &Kernel,
    linkage: Linkage,
) -> Result<FuncId, CodeError> {
    if target.isa() == Isa::Clif {
        return clif::define(module, target, kernel, linkage);
    }
    let bytes = emit(kernel, target.isa())?;
    define_raw(module, &kernel.name, linkage, &bytes)
}
