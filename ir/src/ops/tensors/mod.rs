//! Tensor operations: elementwise, products, reductions, norms, layout, gathers, spectra.

use crate::op::Op;

mod pointwise;

/// The operations of this group.
pub static ALL: &[&Op] = &[&pointwise::ADD];
