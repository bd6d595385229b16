//! Softmax attention over all pairs of two sequences' keys: [`super::flash`] over S^2 keys, each the product of two. Pairs are
//! made as they are read where storing them would take many times the memory of the sequences.

use super::{ApplyForm, all_visited, flash, window};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "tensor_flash",
    applies: |cx, a| (flash::FORM.applies)(cx, a) && a.mix.products.iter().any(|p| p.of_pairs),
    open: |cx, apply, shape, dtype| flash::named(FORM.name, cx, apply, shape, dtype),
    instead_of: &[flash::FORM.name, window::FORM.name],
    share: all_visited,
};
