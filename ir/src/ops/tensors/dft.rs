//! Discrete Fourier transforms written in core operations: products with tables of cosines and sines, a short table a
//! stage where the length is a number with small divisors (Cooley and Tukey 1965), one whole table otherwise.

use super::axes::{cast, checked, reshape, scalar, slice};
use crate::attr::Attrs;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::program::{Builder, Const, ValueId};
use crate::ty::Type;

/// The longest transform that is one product with its whole table, and the greatest first factor of longer ones: the
/// table of a stage then stays in fast memory.
const WHOLE: i64 = 64;

/// Complex numbers under expansion; an absent imaginary part is 0.
pub type Pair = (ValueId, Option<ValueId>);

/// The first `count` elements of the transform over the last axis, of length `n`, not normalised.
pub fn transform(
    b: &mut Builder,
    x: Pair,
    n: &Dim,
    count: &Dim,
    inverse: bool,
) -> Result<(ValueId, ValueId), Vec<Fault>> {
    let mut dims = b.ty(x.0).dims();
    let dtype = b.ty(x.0).dtype();
    let factor = n.as_constant().filter(|&n| n > WHOLE).and_then(|n| (2..=WHOLE).rev().find(|p| n % p == 0));
    if let Some(p) = factor {
        let (re, im) = staged(b, x, n, p, inverse)?;
        if count == n {
            return Ok((re, im));
        }
        let zero = Dim::constant(0);
        return Ok((slice(b, re, -1, zero.clone(), count.clone())?, slice(b, im, -1, zero, count.clone())?));
    }
    let table = twiddles(b, n, count, n, inverse, dtype)?;
    // A product needs rows: a single vector gets one.
    let rows = |b: &mut Builder, v: ValueId| {
        if dims.len() > 1 { Ok(v) } else { reshape(b, v, vec![Dim::constant(1), n.clone()]) }
    };
    let x = (rows(b, x.0)?, x.1.map(|im| rows(b, im)).transpose()?);
    let (re, im) = turned(b, x, table, |b, v, t| b.op("matmul", &[v, t], Attrs::new()))?;
    if let Some(last) = dims.last_mut() {
        *last = count.clone();
    }
    Ok((reshape(b, re, dims.clone())?, reshape(b, im, dims)?))
}

/// With j = j1 q + j2 and k = k1 + k2 p, n = p q: transforms of length p over j1, a turn by j2 k1 / n, transforms of
/// length q over j2.
fn staged(b: &mut Builder, x: Pair, n: &Dim, p: i64, inverse: bool) -> Result<(ValueId, ValueId), Vec<Fault>> {
    let flat = b.ty(x.0).dims();
    let dtype = b.ty(x.0).dtype();
    let (p, q) = (Dim::constant(p), checked(n.div(p))?);
    let mut cut = flat[..flat.len() - 1].to_vec();
    cut.extend([p.clone(), q.clone()]);
    let x = (reshape(b, x.0, cut.clone())?, x.1.map(|im| reshape(b, im, cut.clone())).transpose()?);
    let table = twiddles(b, &p, &p, &p, inverse, dtype)?;
    let (re, im) = turned(b, x, table, |b, v, t| b.op("matmul", &[t, v], Attrs::new()))?;
    let table = twiddles(b, &p, &q, n, inverse, dtype)?;
    let (re, im) = turned(b, (re, Some(im)), table, |b, v, t| b.op("mul", &[v, t], Attrs::new()))?;
    let (re, im) = transform(b, (re, Some(im)), &q, &q, inverse)?;
    let last = cut.len() - 1;
    let (re, im) = (exchange(b, re, last - 1, last)?, exchange(b, im, last - 1, last)?);
    Ok((reshape(b, re, flat.clone())?, reshape(b, im, flat)?))
}

/// x times (cos + i sin), by `product`.
fn turned(
    b: &mut Builder,
    x: Pair,
    (cos, sin): (ValueId, ValueId),
    product: impl Fn(&mut Builder, ValueId, ValueId) -> Result<ValueId, Vec<Fault>>,
) -> Result<(ValueId, ValueId), Vec<Fault>> {
    let (re_cos, re_sin) = (product(b, x.0, cos)?, product(b, x.0, sin)?);
    let Some(im) = x.1 else { return Ok((re_cos, re_sin)) };
    let (im_cos, im_sin) = (product(b, im, cos)?, product(b, im, sin)?);
    Ok((b.op("sub", &[re_cos, im_sin], Attrs::new())?, b.op("add", &[im_cos, re_sin], Attrs::new())?))
}

/// Cosines and sines [rows, cols] of j k / n of a turn, backwards for the forward transform.
fn twiddles(
    b: &mut Builder,
    rows: &Dim,
    cols: &Dim,
    n: &Dim,
    inverse: bool,
    dtype: DType,
) -> Result<(ValueId, ValueId), Vec<Fault>> {
    let counted = |b: &mut Builder, len: &Dim| {
        b.op_typed("iota", &[], Attrs::new(), Some(Type::tensor(DType::I64, vec![len.clone()])))
    };
    let column = counted(b, rows)?;
    let column = reshape(b, column, vec![rows.clone(), Dim::constant(1)])?;
    let row = counted(b, cols)?;
    let count = value_of(b, n)?;
    let product = b.op("mul", &[column, row], Attrs::new())?;
    // Reduced as integers: the angle of a whole number of turns is then exactly 0.
    let reduced = b.op("mod", &[product, count], Attrs::new())?;
    let (reduced, count) = (cast(b, reduced, DType::F64)?, cast(b, count, DType::F64)?);
    let part = b.op("div", &[reduced, count], Attrs::new())?;
    let turn = scalar(b, if inverse { 1.0 } else { -1.0 } * 2.0 * std::f64::consts::PI, DType::F64);
    let angle = b.op("mul", &[part, turn], Attrs::new())?;
    let (cos, sin) = (b.op("cos", &[angle], Attrs::new())?, b.op("sin", &[angle], Attrs::new())?);
    Ok((cast(b, cos, dtype)?, cast(b, sin, dtype)?))
}

/// The value of a dim as an i64 scalar.
fn value_of(b: &mut Builder, n: &Dim) -> Result<ValueId, Vec<Fault>> {
    match n.as_constant() {
        Some(n) => Ok(scalar(b, n as f64, DType::I64)),
        None => {
            let ones = b.constant(None, Const::Splat(1.0), Type::tensor(DType::I64, vec![n.clone()]));
            b.op("reduce", &[ones], Attrs::new().with_name("op", "sum").with_int("axis", 0))
        }
    }
}

/// `v` divided by the dim `n`.
pub fn divided(b: &mut Builder, v: ValueId, n: &Dim) -> Result<ValueId, Vec<Fault>> {
    let count = value_of(b, n)?;
    let count = cast(b, count, b.ty(v).dtype())?;
    b.op("div", &[v, count], Attrs::new())
}

/// `v` with two axes exchanged.
pub fn exchange(b: &mut Builder, v: ValueId, i: usize, j: usize) -> Result<ValueId, Vec<Fault>> {
    if i == j {
        return Ok(v);
    }
    let mut perm: Vec<usize> = (0..b.ty(v).dims().len()).collect();
    perm.swap(i, j);
    b.op("transpose", &[v], Attrs::new().with_dims("perm", perm.into_iter().map(Dim::from)))
}

/// `v` with its last axis cut or padded with zeros to `n`.
pub fn fitted(b: &mut Builder, v: ValueId, n: &Dim) -> Result<ValueId, Vec<Fault>> {
    let len = b.ty(v).dims().pop().unwrap_or_default();
    let pad =
        |b: &mut Builder, after: Dim| b.op("pad", &[v], Attrs::new().with_int("axis", -1).with_dim("after", after));
    let zero = Dim::constant(0);
    match (len.as_constant(), n.as_constant()) {
        _ if len == *n => Ok(v),
        (Some(have), Some(want)) if have > want => slice(b, v, -1, zero, n.clone()),
        (Some(have), Some(want)) => pad(b, Dim::constant(want - have)),
        // Which is longer only the call can tell: padded by enough for both, then cut.
        _ => {
            let padded = pad(b, n.clone())?;
            slice(b, padded, -1, zero, n.clone())
        }
    }
}
