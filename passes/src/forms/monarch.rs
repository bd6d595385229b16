//! Operators that are products of block-diagonal factors: one batched product of small matrices a factor.
//!
//! A strided factor is a block-diagonal one between two permutations; these are views of the tokens, nothing is moved.

use super::block_diagonal::products;
use super::{ApplyForm, all_visited};
use crate::lower::{Factors, RowStep};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "monarch",
    applies: |_, a| {
        let plain = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::None);
        plain && matches!(&a.mix.factors, Some(Factors::Blocks(f)) if f.len() > 1)
    },
    open: |cx, apply, shape, dtype| match &apply.mix.factors {
        Some(Factors::Blocks(factors)) => products(cx, FORM.name, factors, apply, shape, dtype),
        _ => Err(cx.fail("a product of factors is needed")),
    },
    // Elements of the matrix are made from the factors: it is never cheaper by more than the start of a program.
    instead_of: &[super::dense::FORM.name],
    share: all_visited,
};
