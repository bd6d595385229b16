//! Mixing operators: constructors, algebra, masks, and `apply`.

use crate::op::Op;

mod apply;
mod gram;
mod softmax;

/// The operations of this group.
pub static ALL: &[&Op] = &[&gram::OP, &softmax::OP, &apply::OP];
