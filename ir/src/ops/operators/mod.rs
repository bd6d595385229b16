//! Mixing operators: constructors, algebra, masks, and `apply`.

use crate::op::Op;

pub mod map;
pub mod transpose;

mod add_bias;
mod add_diagonal;
mod alibi;
mod apply;
mod block_diagonal;
mod circulant;
mod compose;
mod decay;
mod dense;
mod diagonal;
mod gram;
mod identity;
mod inverse;
mod mask;
mod mask_blocks;
mod mask_lengths;
mod mask_segments;
mod mask_with;
mod monarch;
mod outer_sum;
mod permutation;
mod row_normalize;
mod scale_by;
mod semiseparable;
mod shift;
mod signature;
mod soft_cap;
mod softmax;
mod sum;
mod times;
mod toeplitz;
mod top_k;
mod top_k_tree;
mod walsh_hadamard;

#[cfg(test)]
mod tests;

/// The operations of this group.
pub static ALL: &[&Op] = &[
    &gram::OP,
    &semiseparable::OP,
    &outer_sum::OP,
    &toeplitz::OP,
    &circulant::OP,
    &dense::OP,
    &diagonal::OP,
    &identity::OP,
    &shift::OP,
    &block_diagonal::OP,
    &permutation::OP,
    &monarch::OP,
    &walsh_hadamard::OP,
    &transpose::OP,
    &compose::OP,
    &sum::OP,
    &times::OP,
    &scale_by::OP,
    &add_bias::OP,
    &add_diagonal::OP,
    &alibi::OP,
    &soft_cap::OP,
    &decay::OP,
    &map::OP,
    &softmax::OP,
    &row_normalize::OP,
    &inverse::OP,
    &top_k::OP,
    &top_k_tree::OP,
    &mask::OP,
    &mask_lengths::OP,
    &mask_segments::OP,
    &mask_blocks::OP,
    &mask_with::OP,
    &apply::OP,
];
