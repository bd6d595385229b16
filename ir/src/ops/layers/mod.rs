//! Named layers: each defined by its expansion into operators and tensor operations, and by its own plainest loop,
//! which the tests hold against each other.

use crate::op::Op;

mod eigen;
mod feature;
mod head_norm;
mod recurrence;
mod rules;
pub(super) mod steps;

mod attention;
mod companion_kernel;
mod delta_rule;
mod diag_attention;
mod fourier_mix;
mod gated_linear_attention;
mod hippo;
mod krylov;
mod linear_attention;
mod long_conv;
mod monarch_mix;
mod norm_attention;
mod ot_route;
mod pgn;
mod ptd;
mod retention;
mod s4d_kernel;
mod selective_scan;
mod ssd;
mod ssm2d;
mod tensor_attention;
mod token_mlp;

#[cfg(test)]
mod tests;

/// The operations of this group, in the order of the language reference.
pub static ALL: &[&Op] = &[
    &attention::OP,
    &linear_attention::OP,
    &norm_attention::OP,
    &diag_attention::OP,
    &retention::OP,
    &gated_linear_attention::OP,
    &delta_rule::OP,
    &ssd::OP,
    &selective_scan::OP,
    &s4d_kernel::OP,
    &companion_kernel::OP,
    &krylov::OP,
    &hippo::OP,
    &ptd::OP,
    &long_conv::OP,
    &fourier_mix::OP,
    &monarch_mix::OP,
    &token_mlp::OP,
    &tensor_attention::OP,
    &ssm2d::OP,
    &pgn::OP,
    &ot_route::OP,
];
