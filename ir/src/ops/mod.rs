//! The catalogue of operations: one file each, one line each in the lists of the three groups.

pub mod layers;
pub mod operators;
pub mod tensors;

#[cfg(test)]
mod tests;

use crate::attr::{AttrKind, AttrSpec};
use crate::op::{Op, OperandKind, OperandSpec};

/// Every operation, by group, in the order of the language reference.
pub fn all() -> impl Iterator<Item = &'static Op> {
    operators::ALL.iter().chain(layers::ALL).chain(tensors::ALL).copied()
}

/// The operation of that name.
pub fn find(name: &str) -> Option<&'static Op> {
    all().find(|op| op.name == name)
}

/// A required operand.
pub const fn operand(name: &'static str, kind: OperandKind) -> OperandSpec {
    OperandSpec { name, kind, optional: false }
}

/// An operand that may be left out.
pub const fn optional(name: &'static str, kind: OperandKind) -> OperandSpec {
    OperandSpec { name, kind, optional: true }
}

/// An attribute that may be left out.
pub const fn attr(name: &'static str, kind: AttrKind, doc: &'static str) -> AttrSpec {
    AttrSpec { name, kind, required: false, doc }
}

/// An attribute that must be given.
pub const fn required(name: &'static str, kind: AttrKind, doc: &'static str) -> AttrSpec {
    AttrSpec { name, kind, required: true, doc }
}
