//! Tensor operations: elementwise, products, reductions, norms, layout, gathers, spectra.
//!
//! The **core** are those without an expansion; a back end that runs the core runs them all.

use crate::op::Op;

mod axes;
pub mod matmul;
pub mod norms;
pub mod pointwise;
pub mod reduce;
pub mod reshape;
pub mod scans;
pub mod slices;
pub mod softmax_axis;
#[cfg(test)]
mod tests;

/// Those that are not elementwise.
const OTHERS: &[&Op] = &[
    &matmul::MATMUL,
    &matmul::LINEAR,
    &matmul::LORA,
    &reduce::REDUCE,
    &scans::CUMSUM,
    &scans::CUMLOGSUMEXP,
    &softmax_axis::SOFTMAX_AXIS,
    &norms::LAYER_NORM,
    &norms::RMS_NORM,
    &norms::L2_NORMALIZE,
    &reshape::RESHAPE,
    &slices::SLICE,
    &slices::CONCAT,
    &slices::SPLIT,
    &slices::PAD,
    &reshape::BROADCAST,
    &slices::REVERSE,
    &reshape::SPLIT_HEADS,
    &reshape::MERGE_HEADS,
];

/// The operations of this group.
pub static ALL: &[&Op] = &joined();

const fn joined() -> [&'static Op; pointwise::ALL.len() + OTHERS.len()] {
    let mut all = [OTHERS[0]; pointwise::ALL.len() + OTHERS.len()];
    let mut k = 0;
    while k < all.len() {
        all[k] = if k < pointwise::ALL.len() { pointwise::ALL[k] } else { OTHERS[k - pointwise::ALL.len()] };
        k += 1;
    }
    all
}
