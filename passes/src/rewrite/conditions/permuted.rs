//! Views of tokens for operators that only move them.

use super::{Argument, Outcome, dims_attr, int, tensor};
use mixc_ir::dim::Dim;

/// `(?x, ?m)`: the shape of tokens x `[.., S, D]` with S in two axes, of which the last (`inner`) or the first has length m.
pub fn view(a: &[Argument], inner: bool) -> Option<Outcome> {
    let (x, m) = (tensor(a, 0)?, int(a, 1)?);
    let (features, rest) = x.shape.split_last()?;
    let (tokens, batch) = rest.split_last()?;
    let count = tokens.div(m).ok()?;
    let stride = Dim::constant(m);
    let mut shape = batch.to_vec();
    shape.extend(if inner { [count, stride] } else { [stride, count] });
    shape.push(features.clone());
    dims_attr(shape)
}

/// `(?x)`: the permutation that exchanges the two axes before the features of a view of tokens x.
pub fn tokens_exchanged(a: &[Argument]) -> Option<Outcome> {
    let rank = tensor(a, 0)?.rank() + 1;
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank.checked_sub(3)?, rank - 2);
    dims_attr(axes.into_iter().map(Dim::from).collect())
}

/// `(?b)`: for blocks b `[.., n, 1, 1]`, the shape without the last two axes.
pub fn single_elements(a: &[Argument]) -> Option<Outcome> {
    match tensor(a, 0)?.shape.as_slice() {
        [rest @ .., p, q] if p.is(1) && q.is(1) => dims_attr(rest.to_vec()),
        _ => None,
    }
}
