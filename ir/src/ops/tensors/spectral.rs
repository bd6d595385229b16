//! Discrete Fourier transforms along an axis, of any length.
//!
//! Forward sums are not normalised, inverse ones are divided by n. Twiddles are formed in f64 from an angle that is
//! reduced in integers, (j k mod n) / n of a turn, so their error does not grow with n.

use super::axes::{Lanes, axis_at, axis_of, cast, checked, demand_possible, slice, value};
use super::dft;
use crate::attr::{AttrKind, AttrSpec, Attrs};
use crate::diag::Fault;
use crate::dim::{Dim, DimError};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

const AXIS: AttrSpec = attr("axis", AttrKind::Int, "the axis, default the last");
const LENGTH: AttrSpec = attr("n", AttrKind::Dim, "the length, default the axis's: the input is cut or padded to it");

/// `fft`.
pub static FFT: Op = Op {
    name: "fft",
    group: Group::Tensor,
    doc: "X[k] = sum_j x[j] e^(-2 pi i j k / n) along an axis: re and im (0 when absent) of one shape -> re and im. \
          The axis is cut or padded with zeros to n, which may be odd.",
    example: "\
func @main(%re: f32[2, 5], %im: f32[2, 5]) -> (f32[2, 5], f32[2, 5]) {
  %a, %b = fft %re, %im {axis = -1}
  return %a, %b
}
",
    operands: &[operand("re", OperandKind::Data), optional("im", OperandKind::Data)],
    variadic: false,
    attrs: &[AXIS, LENGTH],
    infer: infer_complex,
    structure: None,
    meaning: Meaning::Eval(|e| eval_complex(e, false)),
    expand: Some(|b, call| expand_complex(b, call, false)),
    laws: &[],
};

/// `ifft`.
pub static IFFT: Op = Op {
    name: "ifft",
    group: Group::Tensor,
    doc: "The inverse of fft: x[j] = 1/n sum_k X[k] e^(2 pi i j k / n) along an axis: re and im (0 when absent) of one \
          shape -> re and im. The axis is cut or padded with zeros to n, which may be odd.",
    example: "\
func @main(%re: f32[2, 5], %im: f32[2, 5]) -> (f32[2, 5], f32[2, 5]) {
  %a, %b = ifft %re, %im {axis = -1}
  return %a, %b
}
",
    operands: &[operand("re", OperandKind::Data), optional("im", OperandKind::Data)],
    variadic: false,
    attrs: &[AXIS, LENGTH],
    infer: infer_complex,
    structure: None,
    meaning: Meaning::Eval(|e| eval_complex(e, true)),
    expand: Some(|b, call| expand_complex(b, call, true)),
    laws: &[],
};

/// `rfft`.
pub static RFFT: Op = Op {
    name: "rfft",
    group: Group::Tensor,
    doc: "The first floor(n/2) + 1 elements of fft of reals, which determine the others: x -> re and im. The axis is \
          cut or padded with zeros to n, which may be odd.",
    example: "\
func @main(%x: f32[2, 7]) -> (f32[2, 4], f32[2, 4]) {
  %re, %im = rfft %x {axis = -1}
  return %re, %im
}
",
    operands: &[operand("x", OperandKind::Data)],
    variadic: false,
    attrs: &[AXIS, LENGTH],
    infer: infer_rfft,
    structure: None,
    meaning: Meaning::Eval(eval_rfft),
    expand: Some(expand_rfft),
    laws: &[Law::LinearIn(0)],
};

/// `irfft`.
pub static IRFFT: Op = Op {
    name: "irfft",
    group: Group::Tensor,
    doc: "The reals of length n whose rfft is (re, im) of one shape; of m elements along the axis n is 2(m-1) unless \
          given, and they are cut or padded with zeros to floor(n/2) + 1. As in NumPy the imaginary parts of element \
          0 and, for an even n, of element n/2 are not read.",
    example: "\
func @main(%re: f32[2, 4], %im: f32[2, 4]) -> f32[2, 7] {
  %x = irfft %re, %im {axis = -1, n = 7}
  return %x
}
",
    operands: &[operand("re", OperandKind::Data), operand("im", OperandKind::Data)],
    variadic: false,
    attrs: &[AXIS, attr("n", AttrKind::Dim, "the length of the result, default 2(m-1) of m elements")],
    infer: infer_irfft,
    structure: None,
    meaning: Meaning::Eval(eval_irfft),
    expand: Some(expand_irfft),
    laws: &[],
};

/// floor(n/2) + 1, which is ceil((n+1)/2).
fn half_length(n: &Dim) -> Result<Dim, DimError> {
    n.add(&Dim::constant(1))?.ceil_div(2)
}

/// The axis and the length of a transform, the length being `n` or what `default` makes of the axis's.
fn plan(call: &Call<'_>, default: fn(&Dim) -> Result<Dim, DimError>) -> Result<(usize, Dim), Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let x = call.tensor(0)?;
    if call.has(1) && call.tensor(1)?.shape != x.shape {
        return Err(vec![Fault::operand(1, format!("the real part is {x}, the imaginary part {}", call.tensor(1)?))]);
    }
    let n = match call.attrs.dim("n") {
        Some(n) => n.clone(),
        None => checked(default(&x.shape[axis]))?,
    };
    demand_possible(call, "n", &[(n.clone(), "the length is negative")])?;
    Ok((axis, n))
}

fn own_length(len: &Dim) -> Result<Dim, DimError> {
    Ok(len.clone())
}

/// 2(m-1).
fn full_length(m: &Dim) -> Result<Dim, DimError> {
    m.sub(&Dim::constant(1))?.scale(2)
}

/// The type of operand 0 with another length of the axis.
fn with_length(call: &Call<'_>, axis: usize, len: Dim) -> Result<Type, Vec<Fault>> {
    let mut t = call.tensor(0)?.clone();
    t.shape[axis] = len;
    Ok(Type::Tensor(t))
}

fn infer_complex(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (axis, n) = plan(call, own_length)?;
    let ty = with_length(call, axis, n)?;
    Ok(vec![ty.clone(), ty])
}

fn infer_rfft(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (axis, n) = plan(call, own_length)?;
    let ty = with_length(call, axis, checked(half_length(&n))?)?;
    Ok(vec![ty.clone(), ty])
}

fn infer_irfft(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (axis, n) = plan(call, full_length)?;
    let rest = checked(n.sub(&Dim::constant(1)))?;
    demand_possible(call, "n", &[(rest, "the inverse needs a length of at least 1: write `n`")])?;
    Ok(vec![with_length(call, axis, n)?])
}

/// Complex numbers as real and imaginary parts.
type Complex = (Vec<f64>, Vec<f64>);

/// The first `count` elements of the transform of length n of `x`, cut or padded, not normalised.
fn transform(x: &Complex, n: usize, count: usize, inverse: bool) -> Complex {
    let turn = 2.0 * std::f64::consts::PI / n as f64;
    let table: Vec<(f64, f64)> = (0..n).map(|j| (turn * j as f64).sin_cos()).collect();
    let sign = if inverse { 1.0 } else { -1.0 };
    let element = |k: usize| {
        let (mut re, mut im, mut place) = (0.0, 0.0, 0);
        for j in 0..n.min(x.0.len()) {
            let (sin, cos) = (sign * table[place].0, table[place].1);
            re += x.0[j] * cos - x.1[j] * sin;
            im += x.1[j] * cos + x.0[j] * sin;
            place = (place + k) % n;
        }
        (re, im)
    };
    (0..count).map(element).unzip()
}

/// Every pair of lanes replaced by the `len` complex numbers that `f` makes of it.
fn map_complex_lanes(
    re: &Tensor,
    im: Option<&Tensor>,
    axis: usize,
    len: usize,
    f: impl Fn(&Complex) -> Complex,
) -> (Tensor, Tensor) {
    let from = Lanes::of(&re.shape, axis);
    let to = Lanes { len, ..from };
    let mut shape = re.shape.clone();
    shape[axis] = len;
    let total = shape.iter().product();
    let mut out = (vec![0.0; total], vec![0.0; total]);
    for o in 0..from.outer {
        for i in 0..from.inner {
            let lane = |t: Option<&Tensor>| {
                (0..from.len).map(|j| t.map_or(0.0, |t| t.at(from.at(o, j, i)))).collect::<Vec<f64>>()
            };
            let (re, im) = f(&(lane(Some(re)), lane(im)));
            for j in 0..len {
                out.0[to.at(o, j, i)] = re[j];
                out.1[to.at(o, j, i)] = im[j];
            }
        }
    }
    (Tensor::floats(&shape, out.0), Tensor::floats(&shape, out.1))
}

/// The axis and the length of the transform of a call with values.
fn plan_at(
    e: &Eval<'_>,
    rank: usize,
    default: impl Fn(usize) -> Option<usize>,
    len: impl Fn(usize) -> usize,
) -> Result<(usize, usize), String> {
    let axis = axis_at(e.attrs, rank, -1)?;
    let n = match e.attr_dim("n")? {
        Some(n) => usize::try_from(n).ok(),
        None => default(len(axis)),
    };
    Ok((axis, n.ok_or("the length is negative")?))
}

fn eval_complex(e: &Eval<'_>, inverse: bool) -> Result<Vec<RefValue>, String> {
    let (re, im) = (e.tensor(0)?, e.tensor_if(1)?);
    let (axis, n) = plan_at(e, re.shape.len(), Some, |axis| re.shape[axis])?;
    let factor = if inverse { 1.0 / n as f64 } else { 1.0 };
    let (re, im) = map_complex_lanes(&re, im.as_deref(), axis, n, |x| {
        let (re, im) = transform(x, n, n, inverse);
        (re.into_iter().map(|v| v * factor).collect(), im.into_iter().map(|v| v * factor).collect())
    });
    Ok(vec![re.into(), im.into()])
}

fn eval_rfft(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let (axis, n) = plan_at(e, x.shape.len(), Some, |axis| x.shape[axis])?;
    // Of length 0 there is one element, a sum over nothing.
    let (re, im) = map_complex_lanes(&x, None, axis, n / 2 + 1, |x| transform(x, n, n / 2 + 1, false));
    Ok(vec![re.into(), im.into()])
}

fn eval_irfft(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (re, im) = (e.tensor(0)?, e.tensor(1)?);
    let twice = |m: usize| m.checked_sub(1).map(|m| 2 * m);
    let (axis, n) = plan_at(e, re.shape.len(), twice, |axis| re.shape[axis])?;
    if n == 0 {
        return Err("the inverse needs a length of at least 1".into());
    }
    let (x, _) = map_complex_lanes(&re, Some(&im), axis, n, |half| {
        let part = |v: &[f64], k: usize| v.get(k).copied().unwrap_or(0.0);
        let element = |k: usize| match k {
            0 => (part(&half.0, 0), 0.0),
            k if 2 * k == n => (part(&half.0, k), 0.0),
            k if 2 * k < n => (part(&half.0, k), part(&half.1, k)),
            k => (part(&half.0, n - k), -part(&half.1, n - k)),
        };
        let (re, im) = transform(&(0..n).map(element).unzip(), n, n, true);
        (re.into_iter().map(|v| v / n as f64).collect(), im)
    });
    Ok(vec![x.into()])
}

/// Operand `k` in the type that sums are held in, its transformed axis last and of length `n`.
fn entered(b: &mut Builder, call: &Call<'_>, k: usize, axis: usize, n: &Dim) -> Result<ValueId, Vec<Fault>> {
    let t = call.tensor(k)?;
    let x = cast(b, value(call, k)?, t.dtype.accumulator())?;
    let x = dft::exchange(b, x, axis, t.rank() - 1)?;
    dft::fitted(b, x, n)
}

/// A result in the operands' type, its axes in their places.
fn left(b: &mut Builder, call: &Call<'_>, v: ValueId, axis: usize) -> Result<ValueId, Vec<Fault>> {
    let t = call.tensor(0)?;
    let v = dft::exchange(b, v, axis, t.rank() - 1)?;
    cast(b, v, t.dtype)
}

fn expand_complex(b: &mut Builder, call: &Call<'_>, inverse: bool) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (axis, n) = plan(call, own_length)?;
    let re = entered(b, call, 0, axis, &n)?;
    let im = if call.has(1) { Some(entered(b, call, 1, axis, &n)?) } else { None };
    let (mut re, mut im) = dft::transform(b, (re, im), &n, &n, inverse)?;
    if inverse {
        (re, im) = (dft::divided(b, re, &n)?, dft::divided(b, im, &n)?);
    }
    Ok(vec![left(b, call, re, axis)?, left(b, call, im, axis)?])
}

fn expand_rfft(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (axis, n) = plan(call, own_length)?;
    let x = entered(b, call, 0, axis, &n)?;
    let (re, im) = dft::transform(b, (x, None), &n, &checked(half_length(&n))?, false)?;
    Ok(vec![left(b, call, re, axis)?, left(b, call, im, axis)?])
}

fn expand_irfft(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (axis, n) = plan(call, full_length)?;
    let half = checked(half_length(&n))?;
    // The spectrum of reals: element n - k is the conjugate of element k. What the imaginary parts of elements 0 and
    // n/2 add is imaginary, and only the real part is kept.
    let end = checked(n.sub(&half).and_then(|rest| rest.add(&Dim::constant(1))))?;
    let mirrored = |b: &mut Builder, v: ValueId, negate: bool| {
        let rest = slice(b, v, -1, Dim::constant(1), end.clone())?;
        let mut rest = b.op("reverse", &[rest], Attrs::new().with_int("axis", -1))?;
        if negate {
            rest = b.op("neg", &[rest], Attrs::new())?;
        }
        b.op("concat", &[v, rest], Attrs::new().with_int("axis", -1))
    };
    let (re, im) = (entered(b, call, 0, axis, &half)?, entered(b, call, 1, axis, &half)?);
    let (re, im) = (mirrored(b, re, false)?, mirrored(b, im, true)?);
    let (x, _) = dft::transform(b, (re, Some(im)), &n, &n, true)?;
    let x = dft::divided(b, x, &n)?;
    Ok(vec![left(b, call, x, axis)?])
}
