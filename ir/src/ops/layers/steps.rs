//! Steps that expansions of layers share: casts, constants, and laying out batch dims for tensor operations, which
//! broadcast as NumPy does and know nothing of groups of heads.

use crate::attr::Attrs;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::Call;
use crate::program::{Builder, Const, ValueId};
use crate::ty::Type;

/// What a step gives.
pub type Step = Result<ValueId, Vec<Fault>>;

/// Operand `k` of the call.
pub fn value(call: &Call<'_>, k: usize) -> Step {
    call.value(k).ok_or_else(|| vec![Fault::operand(k, "this operand is missing")])
}

/// The shape of a tensor value (of an operator, all its dims).
pub fn shape(b: &Builder, v: ValueId) -> Vec<Dim> {
    b.ty(v).dims()
}

/// `v` in element type `to`.
pub fn cast(b: &mut Builder, v: ValueId, to: DType) -> Step {
    if b.ty(v).dtype() == to { Ok(v) } else { b.op("cast", &[v], Attrs::new().with_name("to", to.name())) }
}

/// `v` in the element type that sums over it are held in.
pub fn widen(b: &mut Builder, v: ValueId) -> Step {
    let to = b.ty(v).dtype().accumulator();
    cast(b, v, to)
}

/// A scalar constant.
pub fn scalar(b: &mut Builder, x: f64, dtype: DType) -> ValueId {
    b.constant(None, Const::Splat(x), Type::tensor(dtype, Vec::new()))
}

/// One number all over `shape`.
pub fn splat(b: &mut Builder, x: f64, dtype: DType, shape: Vec<Dim>) -> ValueId {
    b.constant(None, Const::Splat(x), Type::tensor(dtype, shape))
}

/// The operation without attributes.
pub fn plain(b: &mut Builder, name: &str, operands: &[ValueId]) -> Step {
    b.op(name, operands, Attrs::new())
}

/// `v` times a number.
pub fn times(b: &mut Builder, v: ValueId, factor: f64) -> Step {
    if factor == 1.0 {
        return Ok(v);
    }
    let dtype = b.ty(v).dtype();
    let factor = scalar(b, factor, dtype);
    plain(b, "mul", &[v, factor])
}

/// `v` viewed in `to`.
pub fn reshape(b: &mut Builder, v: ValueId, to: Vec<Dim>) -> Step {
    if shape(b, v) == to { Ok(v) } else { b.op("reshape", &[v], Attrs::new().with_dims("shape", to)) }
}

/// `v` repeated to the shape `to`.
pub fn broadcast(b: &mut Builder, v: ValueId, to: Vec<Dim>) -> Step {
    if shape(b, v) == to { Ok(v) } else { b.op("broadcast", &[v], Attrs::new().with_dims("shape", to)) }
}

/// `v` with leading axes of length 1 up to `rank` axes.
pub fn with_rank(b: &mut Builder, v: ValueId, rank: usize) -> Step {
    let own = shape(b, v);
    let mut to = vec![Dim::constant(1); rank.saturating_sub(own.len())];
    to.extend(own);
    reshape(b, v, to)
}

/// `v` with its last axis of length n viewed as `[n, 1]`.
pub fn column(b: &mut Builder, v: ValueId) -> Step {
    let mut to = shape(b, v);
    to.push(Dim::constant(1));
    reshape(b, v, to)
}

/// `v [.., H/g, tail..]` with every head repeated for its group, when `batch` ends in a multiple of its heads, so that
/// NumPy's broadcasting pairs head h with group h / g. Other batch dims stay as they are.
pub fn spread_heads(b: &mut Builder, v: ValueId, batch: &[Dim], tail: usize) -> Step {
    let own = shape(b, v);
    let Some(axis) = own.len().checked_sub(tail + 1) else { return Ok(v) };
    let (Some(heads), Some(wide)) = (own[axis].as_constant(), batch.last().and_then(Dim::as_constant)) else {
        return Ok(v);
    };
    if heads <= 1 || wide == heads || wide % heads != 0 {
        return Ok(v);
    }
    let with_group = |group: i64| {
        let mut to = own.clone();
        to.insert(axis + 1, Dim::constant(group));
        to
    };
    let v = reshape(b, v, with_group(1))?;
    let v = broadcast(b, v, with_group(wide / heads))?;
    let mut to = own.clone();
    to[axis] = Dim::constant(wide);
    reshape(b, v, to)
}

/// `v [.., tail..]` repeated to exactly the batch dims `batch`.
pub fn to_batch(b: &mut Builder, v: ValueId, batch: &[Dim], tail: usize) -> Step {
    let v = spread_heads(b, v, batch, tail)?;
    let own = shape(b, v);
    let mut to = batch.to_vec();
    to.extend_from_slice(&own[own.len() - tail..]);
    broadcast(b, v, to)
}

/// `v` with its last two axes exchanged.
pub fn swap_last(b: &mut Builder, v: ValueId) -> Step {
    let rank = shape(b, v).len();
    let mut perm: Vec<Dim> = (0..rank).map(Dim::from).collect();
    perm.swap(rank - 2, rank - 1);
    b.op("transpose", &[v], Attrs::new().with_dims("perm", perm))
}

/// Rows `start..end` of `axis`, counted from the end (-1 is the last).
pub fn slice(b: &mut Builder, v: ValueId, axis: i64, start: Dim, end: Dim) -> Step {
    b.op("slice", &[v], Attrs::new().with_int("axis", axis).with_dim("start", start).with_dim("end", end))
}

/// The sum over `axis`, which is kept with length 1.
pub fn sum_keep(b: &mut Builder, v: ValueId, axis: i64) -> Step {
    b.op("reduce", &[v], Attrs::new().with_name("op", "sum").with_int("axis", axis).with_flag("keep", true))
}

/// 0, 1, .. along axis `axis` of `shape`, as reals.
pub fn counting(b: &mut Builder, dtype: DType, shape: Vec<Dim>, axis: usize) -> Step {
    b.op_typed("iota", &[], Attrs::new().with_int("axis", axis as i64), Some(Type::tensor(dtype, shape)))
}
