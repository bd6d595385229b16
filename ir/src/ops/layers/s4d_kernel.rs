//! The convolution kernel of a diagonal complex state space, discretised by zero-order hold.

use super::krylov::length;
use super::rules::{self, View};
use super::steps::{Step, broadcast, cast, counting, plain, reshape, scalar, shape, slice, times, value};
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Build, Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `s4d_kernel`.
pub static OP: Op = Op {
    name: "s4d_kernel",
    group: Group::Layer,
    doc: "k_l = 2 Re sum_n C_n (e^(dt A_n) - 1)/A_n e^(l dt A_n) for l = 0..len, with A = A_re + i A_im, \
          C = C_re + i C_im, dt = exp(log_dt); where A_n = 0 the quotient is its limit dt. log_dt [D], the others \
          [D, N] -> [D, len].",
    example: "\
func @main(%x: f32[9, 3], %dt: f32[3], %ar: f32[3, 2], %ai: f32[3, 2], %cr: f32[3, 2], %ci: f32[3, 2]) -> f32[9, 3] {
  %k = s4d_kernel %dt, %ar, %ai, %cr, %ci {len = 9}
  %y = long_conv %x, %k
  return %y
}
",
    operands: &[
        operand("log_dt", OperandKind::Data),
        operand("A_re", OperandKind::Data),
        operand("A_im", OperandKind::Data),
        operand("C_re", OperandKind::Data),
        operand("C_im", OperandKind::Data),
    ],
    variadic: false,
    attrs: &[required("len", AttrKind::Dim, "length of the kernel")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Recurs(Build {
        build: recurrence,
        says: "semiseparable(c, b, Re(λ dt)), c and b turned by the angles Im(λ dt) i",
    })],
};

/// Lags of the inner table. Lag l = i m + j is split so that exponentials are formed for len/m + m lags and the rest is
/// a product of matrices; a power of two near the roots of the lengths in use (1024..16384).
const INNER: i64 = 64;

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let dt = call.tensor(0)?;
    let a = call.tensor(1)?;
    let mut faults = Vec::new();
    let [channels, _] = a.shape.as_slice() else {
        return Err(vec![Fault::operand(1, format!("expected [channels, states], found {a}"))]);
    };
    rules::exactly(&mut faults, call, 0, std::slice::from_ref(channels));
    for k in 2..5 {
        rules::exactly(&mut faults, call, k, &a.shape);
    }
    rules::settle(faults)?;
    Ok(vec![Type::tensor(dt.dtype, vec![channels.clone(), length(call)?.clone()])])
}

/// A complex value as two tensors.
#[derive(Clone, Copy)]
struct Complex {
    re: ValueId,
    im: ValueId,
}

/// The complex product.
fn product(b: &mut Builder, x: Complex, y: Complex) -> Result<Complex, Vec<Fault>> {
    let rr = plain(b, "mul", &[x.re, y.re])?;
    let ii = plain(b, "mul", &[x.im, y.im])?;
    let ri = plain(b, "mul", &[x.re, y.im])?;
    let ir = plain(b, "mul", &[x.im, y.re])?;
    Ok(Complex { re: plain(b, "sub", &[rr, ii])?, im: plain(b, "add", &[ri, ir])? })
}

/// e^z.
fn exponential(b: &mut Builder, z: Complex) -> Result<Complex, Vec<Fault>> {
    let size = plain(b, "exp", &[z.re])?;
    let (cos, sin) = (plain(b, "cos", &[z.im])?, plain(b, "sin", &[z.im])?);
    Ok(Complex { re: plain(b, "mul", &[size, cos])?, im: plain(b, "mul", &[size, sin])? })
}

/// e^z - 1 without cancellation near 0: with z = x + iy its real part is tanh(x/2) (e^x + 1) cos y - 2 sin^2(y/2).
fn exponential_less_one(b: &mut Builder, z: Complex) -> Result<Complex, Vec<Fault>> {
    let one = scalar(b, 1.0, b.ty(z.re).dtype());
    let size = plain(b, "exp", &[z.re])?;
    let half = times(b, z.re, 0.5)?;
    let half = plain(b, "tanh", &[half])?;
    let above = plain(b, "add", &[size, one])?;
    let grown = plain(b, "mul", &[half, above])?;
    let cos = plain(b, "cos", &[z.im])?;
    let grown = plain(b, "mul", &[grown, cos])?;
    let turn = times(b, z.im, 0.5)?;
    let turn = plain(b, "sin", &[turn])?;
    let turn = plain(b, "mul", &[turn, turn])?;
    let turn = times(b, turn, 2.0)?;
    let sin = plain(b, "sin", &[z.im])?;
    Ok(Complex { re: plain(b, "sub", &[grown, turn])?, im: plain(b, "mul", &[size, sin])? })
}

/// dt A and C (e^(dt A) - 1) / A, each `[D, N]` in f64: angles grow with the lag.
fn discretised(b: &mut Builder, call: &Call<'_>) -> Result<[Complex; 2], Vec<Fault>> {
    let channels = call.tensor(1)?.shape[0].clone();
    let wide = |b: &mut Builder, k: usize| -> Step {
        let v = value(call, k)?;
        cast(b, v, DType::F64)
    };
    let (log_dt, a_re, a_im, c_re, c_im) = (wide(b, 0)?, wide(b, 1)?, wide(b, 2)?, wide(b, 3)?, wide(b, 4)?);
    let dt = plain(b, "exp", &[log_dt])?;
    let dt = reshape(b, dt, vec![channels, Dim::constant(1)])?;
    let step = Complex { re: plain(b, "mul", &[dt, a_re])?, im: plain(b, "mul", &[dt, a_im])? };

    // (e^(dt A) - 1) / A = (e^(dt A) - 1) conj(A) / |A|^2.
    let rr = plain(b, "mul", &[a_re, a_re])?;
    let ii = plain(b, "mul", &[a_im, a_im])?;
    let size = plain(b, "add", &[rr, ii])?;
    let (zero, one) = (scalar(b, 0.0, DType::F64), scalar(b, 1.0, DType::F64));
    let none = plain(b, "eq", &[size, zero])?;
    let divisor = plain(b, "select", &[none, one, size])?;
    let grown = exponential_less_one(b, step)?;
    let against = plain(b, "neg", &[a_im])?;
    let held = product(b, grown, Complex { re: a_re, im: against })?;
    let held_re = plain(b, "div", &[held.re, divisor])?;
    let held_re = plain(b, "select", &[none, dt, held_re])?;
    let held = Complex { re: held_re, im: plain(b, "div", &[held.im, divisor])? };
    let weight = product(b, Complex { re: c_re, im: c_im }, held)?;
    Ok([step, weight])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let dtype = call.tensor(0)?.dtype;
    let a_shape = call.tensor(1)?.shape.clone();
    let len = length(call)?;
    // Only the product of tables is in the type of sums.
    let [step, weight] = discretised(b, call)?;

    // Tables of e^(i m z), [D, len/m, N], and e^(j z), [D, N, m].
    let outer = len.ceil_div(INNER).map_err(|e| vec![e.into()])?;
    let one = Dim::constant(1);
    let at_lags = |b: &mut Builder, lags: ValueId, axes: Vec<Dim>| -> Result<Complex, Vec<Fault>> {
        let (re, im) = (reshape(b, step.re, axes.clone())?, reshape(b, step.im, axes)?);
        let z = Complex { re: plain(b, "mul", &[lags, re])?, im: plain(b, "mul", &[lags, im])? };
        exponential(b, z)
    };
    let wide_axes = vec![a_shape[0].clone(), one.clone(), a_shape[1].clone()];
    let starts = counting(b, DType::F64, vec![outer.clone(), one.clone()], 0)?;
    let starts = times(b, starts, INNER as f64)?;
    let starts = at_lags(b, starts, wide_axes.clone())?;
    let weight = Complex { re: reshape(b, weight.re, wide_axes.clone())?, im: reshape(b, weight.im, wide_axes)? };
    let starts = product(b, weight, starts)?;
    let offsets = counting(b, DType::F64, vec![one.clone(), Dim::constant(INNER)], 1)?;
    let offsets = at_lags(b, offsets, vec![a_shape[0].clone(), a_shape[1].clone(), one])?;

    // 2 Re sum_n starts_n offsets_n = [2 re, -2 im] [re; im], one product over 2N.
    let doubled = (times(b, starts.re, 2.0)?, times(b, starts.im, -2.0)?);
    let left = b.op("concat", &[doubled.0, doubled.1], Attrs::new().with_int("axis", -1))?;
    let right = b.op("concat", &[offsets.re, offsets.im], Attrs::new().with_int("axis", -2))?;
    let (left, right) = (cast(b, left, dtype.accumulator())?, cast(b, right, dtype.accumulator())?);
    let k = plain(b, "matmul", &[left, right])?;
    let all = outer.scale(INNER).map_err(|e| vec![e.into()])?;
    let channels = shape(b, k)[0].clone();
    let k = reshape(b, k, vec![channels, all])?;
    let k = slice(b, k, -1, Dim::constant(0), len.clone())?;
    Ok(vec![cast(b, k, dtype)?])
}

/// The filter over len tokens as a recurrence of real states, two for each complex one, which do not turn: what they are
/// written with and read with turns instead, since Re(w e^(i t (i-j))) = Re(w e^(i t i)) cos(t j) + Im(w e^(i t i)) sin(t j).
fn recurrence(b: &mut Builder, call: &Call<'_>) -> Step {
    let to = call.tensor(0)?.dtype.accumulator();
    let [channels, states] = [0, 1].map(|k| call.tensor(1).map(|t| t.shape[k].clone()));
    let (channels, states, len) = (channels?, states?, length(call)?.clone());
    let [step, weight] = discretised(b, call)?;
    let one = Dim::constant(1);
    let mut row = |v: ValueId| reshape(b, v, vec![channels.clone(), one.clone(), states.clone()]);
    let (fading, turning) = (row(step.re)?, row(step.im)?);
    let weight = Complex { re: row(weight.re)?, im: row(weight.im)? };
    let tokens = counting(b, DType::F64, vec![len.clone(), one.clone()], 0)?;
    let angle = plain(b, "mul", &[tokens, turning])?;
    let turn = Complex { re: plain(b, "cos", &[angle])?, im: plain(b, "sin", &[angle])? };
    let read = product(b, weight, turn)?;
    let read = Complex { re: times(b, read.re, 2.0)?, im: times(b, read.im, 2.0)? };
    let mut pair = |re: ValueId, im: ValueId| -> Step {
        let both = b.op("concat", &[re, im], Attrs::new().with_int("axis", -1))?;
        cast(b, both, to)
    };
    let (c, write, a) = (pair(read.re, read.im)?, pair(turn.re, turn.im)?, pair(fading, fading)?);
    let a = broadcast(b, a, vec![channels, len, states.scale(2).map_err(|e| vec![e.into()])?])?;
    plain(b, "semiseparable", &[c, write, a])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let log_dt = View::new(e, 0, 1)?;
    let (a_re, a_im, c_re, c_im) = (View::new(e, 1, 2)?, View::new(e, 2, 2)?, View::new(e, 3, 2)?, View::new(e, 4, 2)?);
    let shape = e.result_shape(0)?;
    let (len, states) = (shape[1], a_re.axis_len(1));
    let mut y = Vec::with_capacity(shape.iter().product());
    for d in 0..shape[0] {
        let dt = log_dt.at(d).exp();
        for l in 0..len {
            let term = |n: usize| {
                let k = d * states + n;
                let (re, im) = (a_re.at(k), a_im.at(k));
                // e^(dt A) - 1, then divided by A.
                let (x, w) = (dt * re, dt * im);
                let grown = (x.exp_m1() * w.cos() - 2.0 * (w / 2.0).sin().powi(2), x.exp() * w.sin());
                let size = re * re + im * im;
                let held = if size == 0.0 {
                    (dt, 0.0)
                } else {
                    ((grown.0 * re + grown.1 * im) / size, (grown.1 * re - grown.0 * im) / size)
                };
                let weight = (c_re.at(k) * held.0 - c_im.at(k) * held.1, c_re.at(k) * held.1 + c_im.at(k) * held.0);
                let (size, angle) = ((l as f64 * x).exp(), l as f64 * w);
                2.0 * size * (weight.0 * angle.cos() - weight.1 * angle.sin())
            };
            y.push((0..states).map(term).sum::<f64>());
        }
    }
    Ok(vec![Tensor::floats(&shape, y).into()])
}
