//! Products of matrices: how much work an association is, and which rows are the products of all pairs of others.

use super::{Argument, Outcome, attr, holds, number, tensor};
use crate::rewrite::facts::Surroundings;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::{Dim, DimError};
use mixc_ir::op::Call;
use mixc_ir::ty::{TensorType, Type};

/// Whether to go from (a b) c to a (b c) or back may save work: the numbers of multiplications differ, and neither a b nor
/// b c is the square of what is computed itself. A power by squaring is one product where its factors would be many.
pub fn association_pays(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (x, y, z) = (tensor(a, 0)?, tensor(a, 1)?, tensor(a, 2)?);
    let [[m, k], [_, n], [_, p]] = [matrix(x)?, matrix(y)?, matrix(z)?];
    let square = |i: usize, j: usize| match (&a[i], &a[j]) {
        (Argument::Value(v, one), Argument::Value(_, other)) => one == other && v.input.is_none(),
        _ => false,
    };
    let alike = [x, y, z].iter().all(|t| lead(t) == lead(x));
    let work = |first: [&Dim; 3], then: [&Dim; 3]| -> Result<Dim, DimError> {
        let of = |dims: [&Dim; 3]| dims[0].mul(dims[1])?.mul(dims[2]);
        of(first)?.add(&of(then)?)
    };
    let (left, right) = (work([m, k, n], [m, n, p]).ok()?, work([k, n, p], [m, k, p]).ok()?);
    holds(!square(0, 1) && !square(1, 2) && (!alike || left != right))
}

/// Rows and columns.
fn matrix(t: &TensorType) -> Option<[&Dim; 2]> {
    match t.shape.as_slice() {
        [.., rows, columns] => Some([rows, columns]),
        _ => None,
    }
}

/// All dims but the last two.
fn lead(t: &TensorType) -> &[Dim] {
    &t.shape[..t.rank().saturating_sub(2)]
}

/// The dims that `reshape` gives `x`.
fn reshaped(around: &Surroundings, x: &TensorType, a: &[Argument], shape: usize) -> Option<Vec<Dim>> {
    let (ty, attrs) = (Type::Tensor(x.clone()), Attrs::new().with("shape", attr(a, shape)?.clone()));
    let call = Call {
        op: mixc_ir::ops::find("reshape")?,
        types: vec![Some(&ty)],
        structures: vec![None],
        values: vec![None],
        attrs: &attrs,
        written: &[],
        bounds: &around.bounds,
    };
    call.check().ok()?.pop().map(|t| t.dims())
}

/// The dims of `t` with an axis of length 1 before the axis that lies `from_end` from the end.
fn with_one(t: &TensorType, from_end: usize) -> Option<Vec<Dim>> {
    let mut dims = t.shape.clone();
    dims.insert(t.rank().checked_sub(from_end)?, Dim::constant(1));
    (t.rank() >= 2).then_some(dims)
}

/// `(?w, ?second, ?u, ?first)`: w `[.., S, r]` becomes `[.., 1, S, r]`, u `[.., S, 1, r]`, not the other way round.
pub fn pair_reversed(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (w, u) = (tensor(a, 0)?, tensor(a, 2)?);
    let (second, first) = (reshaped(around, w, a, 1)?, reshaped(around, u, a, 3)?);
    holds(second == with_one(w, 2)? && first == with_one(u, 1)? && second != with_one(w, 1)?)
}

/// `(?u, ?first, ?w, ?second, ?rows)`: u `[.., S, r]` as `[.., S, 1, r]` times w `[.., R, r]` as `[.., 1, R, r]` becomes
/// `[.., S R, r]`.
pub fn pairs(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (u, w) = (tensor(a, 0)?, tensor(a, 2)?);
    let (first, second) = (reshaped(around, u, a, 1)?, reshaped(around, w, a, 3)?);
    let [[s, _], [r, _]] = [matrix(u)?, matrix(w)?];
    let all = mixc_ir::batch::join(&[(0, &first), (1, &second)], false).ok()?;
    let rows = reshaped(around, &TensorType::new(u.dtype, all.clone()), a, 4)?;
    let [batch @ .., _, _, features] = all.as_slice() else { return None };
    let expected = [batch, &[s.mul(r).ok()?, features.clone()]].concat();
    holds(first == with_one(u, 1)? && second == with_one(w, 2)? && rows == expected)
}

/// `(?c, ?u, ?o)`: the number c for every row of u `[.., S, r]` and column of o `[.., D]`.
pub fn rows_of_number(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (u, o) = (tensor(a, 1)?, tensor(a, 2)?);
    let shape = vec![matrix(u)?[0].clone(), o.shape.last()?.clone()];
    Some(Outcome::Constant(number(a, 0)?, Type::tensor(o.dtype, shape)))
}
