//! Named layers: each defined by its expansion into operators and tensor operations.

use crate::op::Op;

mod attention;

/// The operations of this group.
pub static ALL: &[&Op] = &[&attention::OP];
