//! What is asked of attention that is written with tensor operations: axes, shapes, and masks of positions.

use super::{Argument, Outcome, dims_attr, holds, int, mix, number, tensor, value};
use crate::rewrite::positions::Positions;
use mixc_ir::attr::{AttrValue, Attrs};
use mixc_ir::dim::Dim;
use mixc_ir::ty::{Align, Type};

/// Whether a reduction sums, as it does when nothing is said.
pub fn is_sum(a: &[Argument]) -> Option<Outcome> {
    match a.first()? {
        Argument::Attr(None) => holds(true),
        Argument::Attr(Some(AttrValue::Name(name))) => holds(name == "sum"),
        _ => None,
    }
}

/// The axis that stands as argument `axis`, counted from the end of the tensor that stands as argument `x`; the last when
/// it is not given.
fn from_end(a: &[Argument], x: usize, axis: usize) -> Option<i64> {
    let rank = tensor(a, x)?.rank() as i64;
    let axis = match a.get(axis)? {
        Argument::Attr(None) => -1,
        _ => int(a, axis)?,
    };
    Some(if axis < 0 { axis } else { axis - rank })
}

/// `(?s, ?a, ?b)`: both are one axis of s.
pub fn same_axis(a: &[Argument]) -> Option<Outcome> {
    holds(from_end(a, 0, 1)? == from_end(a, 0, 2)?)
}

/// `(?x, ?axis)`: the axis is the last but one.
pub fn second_last_axis(a: &[Argument]) -> Option<Outcome> {
    holds(from_end(a, 0, 1)? == -2)
}

/// The permutation that exchanges the last two axes of a tensor of this rank.
fn exchange(rank: usize) -> Option<Outcome> {
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank.checked_sub(2)?, rank - 1);
    dims_attr(axes.into_iter().map(Dim::from).collect())
}

/// `(?x)`: the permutation that exchanges its last two axes.
pub fn exchanging(a: &[Argument]) -> Option<Outcome> {
    exchange(tensor(a, 0)?.rank())
}

/// `(?x, ?y)`: the permutation that exchanges the last two axes of their product.
pub fn exchanging_product(a: &[Argument]) -> Option<Outcome> {
    exchange(tensor(a, 0)?.rank().max(tensor(a, 1)?.rank()))
}

/// The flags of a product whose operands change places, so that it gives the transposed matrix.
pub fn exchanged_operands(a: &[Argument]) -> Option<Outcome> {
    let given = super::attrs(a, 0)?;
    let flags = Attrs::new().with_flag("transpose_a", !given.flag("transpose_b"));
    Some(Outcome::Attrs(flags.with_flag("transpose_b", !given.flag("transpose_a"))))
}

/// `(?s, ?t)`: over the batch dims, the shape of a factor t that is one number for each matrix of s, and no number that
/// is known: such a one is an attribute.
pub fn factor_shape(a: &[Argument]) -> Option<Outcome> {
    let (s, t) = (tensor(a, 0)?, value(a, 1)?);
    let shape = &t.ty.as_tensor()?.shape;
    let (batch, matrix) = shape.split_at(shape.len().saturating_sub(2));
    let one_each = matrix.iter().all(|d| d.is(1)) && s.rank() >= 2;
    (one_each && t.splat.is_none() && !t.ty.dtype().is_half()).then(|| dims_attr(batch.to_vec()))?
}

/// `(?d, ?g)`: as [`factor_shape`], of a number that may be known.
pub fn base_shape(a: &[Argument]) -> Option<Outcome> {
    let (d, g) = (tensor(a, 0)?, tensor(a, 1)?);
    let (batch, matrix) = g.shape.split_at(g.shape.len().saturating_sub(2));
    (matrix.iter().all(|n| n.is(1)) && d.rank() >= 2).then(|| dims_attr(batch.to_vec()))?
}

/// `(?n, ?s)`: a constant of the number n over the matrix of s.
pub fn number_over(a: &[Argument]) -> Option<Outcome> {
    let (n, s) = (number(a, 0)?, tensor(a, 1)?);
    let matrix = s.shape.len().checked_sub(2)?;
    Some(Outcome::Constant(n, Type::tensor(s.dtype, s.shape[matrix..].to_vec())))
}

/// `(?x)`: the shape of a column `[.., T, 1]` without its last axis.
pub fn column_of(a: &[Argument]) -> Option<Outcome> {
    match tensor(a, 0)?.shape.as_slice() {
        [rest @ .., tokens, one] if one.is(1) => dims_attr([rest, std::slice::from_ref(tokens)].concat()),
        _ => None,
    }
}

/// `(?x)`: the shape of a row `[.., 1, S]` without its last axis but one.
pub fn row_of(a: &[Argument]) -> Option<Outcome> {
    match tensor(a, 0)?.shape.as_slice() {
        [rest @ .., one, tokens] if one.is(1) => dims_attr([rest, std::slice::from_ref(tokens)].concat()),
        _ => None,
    }
}

/// `(?x, ?y)`: x has one axis less than y.
pub fn one_axis_less(a: &[Argument]) -> Option<Outcome> {
    holds(tensor(a, 0)?.rank() + 1 == tensor(a, 1)?.rank())
}

/// The mask that argument `k` is, of a matrix like that of argument 0, an operator or a tensor.
fn positions(a: &[Argument], k: usize) -> Option<&Positions> {
    let matrix = match mix(a, 0) {
        Some(m) => [m.rows.clone(), m.cols.clone()],
        None => last_two(&tensor(a, 0)?.shape)?,
    };
    let mask = value(a, k)?;
    let found = mask.positions.as_ref()?;
    (last_two(&mask.ty.as_tensor()?.shape)? == matrix).then_some(found)
}

fn last_two(shape: &[Dim]) -> Option<[Dim; 2]> {
    match shape {
        [.., rows, cols] => Some([rows.clone(), cols.clone()]),
        _ => None,
    }
}

/// `(?m, ?b)`: the mask that the marks b are.
pub fn marked(a: &[Argument]) -> Option<Outcome> {
    match positions(a, 1)? {
        Positions::True(attrs) => Some(Outcome::Attrs(attrs.clone())),
        _ => None,
    }
}

/// `(?m, ?b)`: the mask of what b does not mark, where it is one bound: the bound from the other side.
pub fn unmarked(a: &[Argument]) -> Option<Outcome> {
    let Positions::True(attrs) = positions(a, 1)? else { return None };
    let (bound, other) = match (attrs.int("left"), attrs.int("right")) {
        (Some(l), None) => (l, "right"),
        (None, Some(r)) => (r, "left"),
        _ => return None,
    };
    if attrs.has("block") || attrs.has("dilation") {
        return None;
    }
    let bound = bound.checked_neg()?.checked_sub(1)?;
    Some(Outcome::Attrs(Attrs::new().with_name("align", "start").with_int(other, bound)))
}

/// `(?m, ?t)`: the mask that a bias of 0 and minus infinity is under a softmax.
pub fn unbiased(a: &[Argument]) -> Option<Outcome> {
    match positions(a, 1)? {
        Positions::Zero(attrs) => Some(Outcome::Attrs(attrs.clone())),
        _ => None,
    }
}

/// `(?m, ?w)`: the mask that factors of 1 and 0 are where rows are summed.
pub fn counted(a: &[Argument]) -> Option<Outcome> {
    match positions(a, 1)? {
        Positions::One(attrs) => Some(Outcome::Attrs(attrs.clone())),
        _ => None,
    }
}

/// `(?m, ?d)`: d is by how much the row is behind the column, i - j, for every position of the square operator.
pub fn behind(a: &[Argument]) -> Option<Outcome> {
    let m = mix(a, 0)?;
    holds(m.rows == m.cols && m.align == Align::End && *positions(a, 1)? == Positions::Behind)
}

/// `(?w, ?x)`: w has ones where columns are not after rows, for as many tokens as x has.
pub fn earlier(a: &[Argument]) -> Option<Outcome> {
    let (w, x) = (tensor(a, 0)?, tensor(a, 1)?);
    let Positions::One(attrs) = value(a, 0)?.positions.as_ref()? else { return None };
    let causal = attrs.int("right") == Some(0) && attrs.iter().count() == 2;
    holds(causal && w.rank() == 2 && w.shape[0] == w.shape[1] && x.rank() >= 2)
}
