//! The convolution kernel of a state space in companion form.

use super::krylov::{length, powers};
use super::rules::{self, View};
use super::steps::{
    Step, cast, column, counting, plain, reshape, scalar, shape, splat, swap_last, to_batch, value, widen,
};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Build, Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{Align, MixType, Type};

/// `companion_kernel`.
pub static OP: Op = Op {
    name: "companion_kernel",
    group: Group::Layer,
    doc: "k_l = c A^l b for l = 0..len with A = shift + a e_d^T: A has ones below the diagonal and a in its last \
          column, so (A s)_n = s_(n-1) + a_n s_d. a, b, c [.., d] -> [.., len]. a is l1-normalised by the caller, \
          which keeps the powers bounded.",
    example: "\
func @main(%x: f32[9, 3], %a: f32[3, 4], %b: f32[3, 4], %c: f32[3, 4]) -> f32[9, 3] {
  %k = companion_kernel %a, %b, %c {len = 9}
  %y = long_conv %x, %k
  return %y
}
",
    operands: &[operand("a", OperandKind::Data), operand("b", OperandKind::Data), operand("c", OperandKind::Data)],
    variadic: false,
    attrs: &[required("len", AttrKind::Dim, "how many powers, A^0 included")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[
        Law::LinearIn(1),
        Law::LinearIn(2),
        Law::Recurs(Build {
            build: recurrence,
            says: "toeplitz(p)⁻¹ toeplitz(p * k) with p = (1, −a_(d−1), .., −a_0); p * k has d taps",
        }),
    ],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (a, a_tail) = rules::split(call, 0, 1, "[.., d]")?;
    let (b, b_tail) = rules::split(call, 1, 1, "[.., d]")?;
    let (c, c_tail) = rules::split(call, 2, 1, "[.., d]")?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "states of a and b differ", &b_tail[0], &a_tail[0]);
    rules::same(&mut faults, 2, "states of a and c differ", &c_tail[0], &a_tail[0]);
    rules::settle(faults)?;
    let mut shape = batch::join(&[(0, a), (1, b), (2, c)], true)?;
    shape.push(length(call)?.clone());
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let whole = infer(call)?[0].dims();
    let batch = &whole[..whole.len() - 1];
    let (_, tail) = rules::split(call, 0, 1, "[.., d]")?;
    let dtype = call.tensor(0)?.dtype;
    let mut wide = |k: usize| -> Step {
        let v = value(call, k)?;
        let v = widen(b, v)?;
        to_batch(b, v, batch, 1)
    };
    let (a, from, to) = (wide(0)?, wide(1)?, wide(2)?);
    let matrix = companion(b, a, &tail[0])?;
    let k = powers(b, matrix, from, to, length(call)?, call.bounds)?;
    Ok(vec![cast(b, k, dtype)?])
}

/// shift + a e_d^T, `[.., d, d]`, from positions: ones where row = column + 1, a where column = d - 1.
fn companion(b: &mut Builder, a: ValueId, d: &Dim) -> Step {
    let dtype = b.ty(a).dtype();
    let one = Dim::constant(1);
    let row = counting(b, DType::I64, vec![d.clone(), one.clone()], 0)?;
    let col = counting(b, DType::I64, vec![one, d.clone()], 1)?;
    let unit = scalar(b, 1.0, DType::I64);
    let next = plain(b, "add", &[col, unit])?;
    let below = plain(b, "eq", &[row, next])?;
    let shift = cast(b, below, dtype)?;
    // The last column is the first one counted from the other end.
    let from_end = b.op("reverse", &[col], Attrs::new().with_int("axis", 1))?;
    let zero = scalar(b, 0.0, DType::I64);
    let last = plain(b, "eq", &[from_end, zero])?;
    let last = cast(b, last, dtype)?;
    let a = column(b, a)?;
    let outer = plain(b, "mul", &[a, last])?;
    plain(b, "add", &[shift, outer])
}

/// The filter over len tokens as a recurrence of its results. By Cayley and Hamilton A^d = sum_n a_n A^n, hence
/// k_l = sum_j a_(d-j) k_(l-j) for l >= d: with the taps p = (1, -a_(d-1), .., -a_0) the convolution p * k ends after d
/// taps, and y = k * x solves p * y = (p * k) * x.
fn recurrence(b: &mut Builder, call: &Call<'_>) -> Step {
    let whole = infer(call)?[0].dims();
    let (len, batch) = whole.split_last().ok_or_else(|| vec![Fault::operand(0, "expected [.., d]")])?;
    let (_, tail) = rules::split(call, 0, 1, "[.., d]")?;
    let states = &tail[0];
    let mut wide = |k: usize| -> Step {
        let v = value(call, k)?;
        let v = widen(b, v)?;
        to_batch(b, v, batch, 1)
    };
    let (a, from, to) = (wide(0)?, wide(1)?, wide(2)?);
    let dtype = b.ty(a).dtype();

    let mut single = batch.to_vec();
    single.push(Dim::constant(1));
    let first = splat(b, 1.0, dtype, single);
    let backwards = b.op("reverse", &[a], Attrs::new().with_int("axis", -1))?;
    let backwards = plain(b, "neg", &[backwards])?;
    let poles = b.op("concat", &[first, backwards], Attrs::new().with_int("axis", -1))?;

    // The d taps of p * k, with those of every channel as tokens.
    let start = b.op("companion_kernel", &[a, from, to], Attrs::new().with_dim("len", states.clone()))?;
    let whole = shape(b, start);
    let of_channels = |b: &mut Builder, v: ValueId| -> Step {
        let mut one = shape(b, v);
        one.insert(0, Dim::constant(1));
        if batch.is_empty() { reshape(b, v, one) } else { Ok(v) }
    };
    let tokens = of_channels(b, start)?;
    let tokens = swap_last(b, tokens)?;
    let taps = of_channels(b, poles)?;
    let zeros = plain(b, "long_conv", &[tokens, taps])?;
    let zeros = swap_last(b, zeros)?;
    let zeros = if batch.is_empty() { reshape(b, zeros, whole)? } else { zeros };

    let mut filter = |taps: ValueId| -> Step {
        let (batch, rows, cols) = (batch.to_vec(), len.clone(), len.clone());
        let ty = MixType { dtype, batch, rows, cols, align: Align::End };
        b.op_typed("toeplitz", &[taps], Attrs::new(), Some(Type::Mix(ty)))
    };
    let (poles, zeros) = (filter(poles)?, filter(zeros)?);
    let undone = plain(b, "inverse", &[poles])?;
    plain(b, "compose", &[undone, zeros])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, from, to) = (View::new(e, 0, 1)?, View::new(e, 1, 1)?, View::new(e, 2, 1)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 1);
    let d = a.axis_len(1);
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let [a0, from0, to0] = [&a, &from, &to].map(|v| v.base(out, at));
        let mut state: Vec<f64> = (0..d).map(|n| from.at(from0 + n)).collect();
        for _ in 0..tail[0] {
            y.push((0..d).map(|n| to.at(to0 + n) * state[n]).sum::<f64>());
            let last = state.last().copied().unwrap_or(0.0);
            state = (0..d).map(|n| if n > 0 { state[n - 1] } else { 0.0 } + a.at(a0 + n) * last).collect();
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
