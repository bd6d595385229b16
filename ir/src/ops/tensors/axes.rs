//! What type rules, meanings and expansions of tensor operations have in common: naming an axis, walking along it,
//! picking elements, and the element type that sums are held in.

use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::expr::{Kind, Scalar};
use crate::op::Call;
use crate::program::{Builder, Const, ValueId};
use crate::tensor::Tensor;
use crate::ty::Type;

/// The axis of operand `k` that `axis` names, or `default` where it is not given.
pub fn axis_of(call: &Call<'_>, k: usize, default: i64) -> Result<usize, Vec<Fault>> {
    let t = call.tensor(k)?;
    let axis = call.attrs.int("axis").unwrap_or(default);
    t.axis(axis).ok_or_else(|| {
        let help = match t.rank() {
            0 => "a scalar has no axes".to_string(),
            n => format!("axes are 0 to {}, or counted from the end -{n} to -1", n - 1),
        };
        vec![Fault::attr("axis", format!("{t} has no axis {axis}")).help(help)]
    })
}

/// The same for a value with `rank` axes.
pub fn axis_at(attrs: &Attrs, rank: usize, default: i64) -> Result<usize, String> {
    let axis = attrs.int("axis").unwrap_or(default);
    let own = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(own).ok().filter(|&k| k < rank).ok_or_else(|| format!("no axis {axis} among {rank}"))
}

/// The dim arithmetic's outcome in a type rule.
pub fn checked(d: Result<Dim, DimError>) -> Result<Dim, Vec<Fault>> {
    d.map_err(|e| vec![e.into()])
}

/// The product of dims; 1 for none.
pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Result<Dim, DimError> {
    dims.into_iter().try_fold(Dim::constant(1), |p, d| p.mul(d))
}

/// The faults of dims that are negative whatever the symbols are.
pub fn demand_possible(call: &Call<'_>, attr: &'static str, dims: &[(Dim, &str)]) -> Result<(), Vec<Fault>> {
    let impossible = |d: &Dim| d.bounds(call.bounds).is_ok_and(|(_, high)| high < 0);
    let faults: Vec<Fault> =
        dims.iter().filter(|(d, _)| impossible(d)).map(|(_, message)| Fault::attr(attr, *message)).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A shape as `outer x len x inner` around one axis.
#[derive(Clone, Copy, Debug)]
pub struct Lanes {
    /// Product of the lengths before the axis.
    pub outer: usize,
    /// Length of the axis.
    pub len: usize,
    /// Product of the lengths after the axis.
    pub inner: usize,
}

impl Lanes {
    /// Around `axis` of `shape`.
    pub fn of(shape: &[usize], axis: usize) -> Lanes {
        Lanes { outer: shape[..axis].iter().product(), len: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// The flat index of element `j` of lane (o, i).
    pub fn at(self, o: usize, j: usize, i: usize) -> usize {
        (o * self.len + j) * self.inner + i
    }
}

/// Every lane of `x` along `axis` replaced by the `len` elements that `f` makes of it.
pub fn map_lanes(
    x: &Tensor,
    axis: usize,
    kind: Kind,
    len: usize,
    mut f: impl FnMut(&[Scalar]) -> Vec<Scalar>,
) -> Tensor {
    let from = Lanes::of(&x.shape, axis);
    let mut shape = x.shape.clone();
    shape[axis] = len;
    let to = Lanes { len, ..from };
    let mut out = vec![Scalar::Int(0); shape.iter().product()];
    for o in 0..from.outer {
        for i in 0..from.inner {
            let lane: Vec<Scalar> = (0..from.len).map(|j| x.get(from.at(o, j, i))).collect();
            for (j, v) in f(&lane).into_iter().take(len).enumerate() {
                out[to.at(o, j, i)] = v;
            }
        }
    }
    Tensor::from_fn(kind, &shape, |k| out[k])
}

/// Every lane of reals of `x` along `axis` replaced by reals.
pub fn map_real_lanes(x: &Tensor, axis: usize, len: usize, mut f: impl FnMut(&[f64]) -> Vec<f64>) -> Tensor {
    map_lanes(x, axis, Kind::Float, len, |lane| {
        let lane: Vec<f64> = lane.iter().map(|v| v.as_float()).collect();
        f(&lane).into_iter().map(Scalar::Float).collect()
    })
}

/// A tensor of `x`'s kind whose element at an index is the element of `x` at the flat index that `from` gives, or
/// `fill` where it gives none.
pub fn pick(x: &Tensor, shape: &[usize], fill: f64, mut from: impl FnMut(&[usize]) -> Option<usize>) -> Tensor {
    let mut places = Vec::with_capacity(shape.iter().product());
    batch::for_each(shape, |at| places.push(from(at)));
    Tensor::from_fn(x.kind(), shape, |k| places[k].map_or(Scalar::Float(fill), |p| x.get(p)))
}

/// The flat index of `at` in a tensor with those strides.
pub fn flat(at: &[usize], strides: &[usize]) -> usize {
    at.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// Operand `k` of a call under expansion.
pub fn value(call: &Call<'_>, k: usize) -> Result<ValueId, Vec<Fault>> {
    call.value(k).ok_or_else(|| vec![Fault::operand(k, "this operand is missing")])
}

/// The scalar constant `x`.
pub fn scalar(b: &mut Builder, x: f64, dtype: DType) -> ValueId {
    b.constant(None, Const::Splat(x), Type::tensor(dtype, Vec::new()))
}

/// `v` in another element type; itself when it has that one already.
pub fn cast(b: &mut Builder, v: ValueId, to: DType) -> Result<ValueId, Vec<Fault>> {
    if b.ty(v).dtype() == to { Ok(v) } else { b.op("cast", &[v], Attrs::new().with_name("to", to.name())) }
}

/// `v` with the dims `shape`; itself when it has them already.
pub fn reshape(b: &mut Builder, v: ValueId, shape: Vec<Dim>) -> Result<ValueId, Vec<Fault>> {
    if b.ty(v).dims() == shape { Ok(v) } else { b.op("reshape", &[v], Attrs::new().with_dims("shape", shape)) }
}

/// Elements `start..end` of `axis` of `v`.
pub fn slice(b: &mut Builder, v: ValueId, axis: i64, start: Dim, end: Dim) -> Result<ValueId, Vec<Fault>> {
    let attrs = Attrs::new().with_int("axis", axis).with_dim("start", start).with_dim("end", end);
    b.op("slice", &[v], attrs)
}
