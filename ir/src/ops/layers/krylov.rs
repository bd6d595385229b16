//! The impulse response of a dense state space, c A^l b.

use super::rules::{self, View};
use super::steps::{Step, cast, column, plain, reshape, shape, slice, swap_last, to_batch, value, widen};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::{Dim, DimBounds};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `krylov`.
pub static OP: Op = Op {
    name: "krylov",
    group: Group::Layer,
    doc: "k_l = c A^l b for l = 0..len: A [.., d, d], b and c [.., d] -> [.., len].",
    example: "\
func @main(%A: f32[4, 4], %b: f32[4], %c: f32[4]) -> f32[9] {
  %k = krylov %A, %b, %c {len = 9}
  return %k
}
",
    operands: &[operand("A", OperandKind::Data), operand("b", OperandKind::Data), operand("c", OperandKind::Data)],
    variadic: false,
    attrs: &[required("len", AttrKind::Dim, "how many powers, A^0 included")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::LinearIn(1), Law::LinearIn(2)],
};

/// The attribute `len`, at least 0; a fault otherwise.
pub fn length<'a>(call: &Call<'a>) -> Result<&'a Dim, Vec<Fault>> {
    let mut faults = Vec::new();
    rules::at_least(&mut faults, call.attrs, "len", 0);
    rules::settle(faults)?;
    call.attrs.dim("len").ok_or_else(|| vec![Fault::attr("len", "the length is missing")])
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (a, square) = rules::split(call, 0, 2, "[.., d, d]")?;
    let (b, b_tail) = rules::split(call, 1, 1, "[.., d]")?;
    let (c, c_tail) = rules::split(call, 2, 1, "[.., d]")?;
    let d = &square[0];
    let mut faults = Vec::new();
    rules::same(&mut faults, 0, "A is not square", &square[1], d);
    rules::same(&mut faults, 1, "states of A and b differ", &b_tail[0], d);
    rules::same(&mut faults, 2, "states of A and c differ", &c_tail[0], d);
    rules::settle(faults)?;
    let mut shape = batch::join(&[(0, a), (1, b), (2, c)], true)?;
    shape.push(length(call)?.clone());
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let whole = infer(call)?[0].dims();
    let batch = &whole[..whole.len() - 1];
    let (a, from, to) = (value(call, 0)?, value(call, 1)?, value(call, 2)?);
    let dtype = b.ty(a).dtype();
    let mut wide = |v: ValueId, tail: usize| -> Step {
        let v = widen(b, v)?;
        to_batch(b, v, batch, tail)
    };
    let (a, from, to) = (wide(a, 2)?, wide(from, 1)?, wide(to, 1)?);
    let k = powers(b, a, from, to, length(call)?, call.bounds)?;
    Ok(vec![cast(b, k, dtype)?])
}

/// c A^l b for l below `len`, of operands with equal batch dims: `[.., len]`.
///
/// With l = i m + j, m a power of two near the root of the greatest length: rows c A^(i m) times columns A^j b, each
/// set doubled log2 times by a product with a power of A that is squared on the way.
pub fn powers(b: &mut Builder, a: ValueId, from: ValueId, to: ValueId, len: &Dim, bounds: &DimBounds) -> Step {
    let most = len.bounds(bounds).map_err(|e| vec![e.into()])?.1.max(1);
    let doublings = i64::BITS - (most - 1).leading_zeros();
    let (inner, outer) = (doublings.div_ceil(2), doublings / 2);
    let mut power = a;
    let mut columns = column(b, from)?;
    for _ in 0..inner {
        let next = plain(b, "matmul", &[power, columns])?;
        columns = b.op("concat", &[columns, next], Attrs::new().with_int("axis", -1))?;
        power = plain(b, "matmul", &[power, power])?;
    }
    let mut rows = column(b, to)?;
    rows = swap_last(b, rows)?;
    for k in 0..outer {
        let next = plain(b, "matmul", &[rows, power])?;
        rows = b.op("concat", &[rows, next], Attrs::new().with_int("axis", -2))?;
        if k + 1 < outer {
            power = plain(b, "matmul", &[power, power])?;
        }
    }
    let products = plain(b, "matmul", &[rows, columns])?;
    let mut axes = shape(b, products);
    axes.truncate(axes.len() - 2);
    axes.push(Dim::constant(1i64 << doublings));
    let all = reshape(b, products, axes)?;
    slice(b, all, -1, Dim::constant(0), len.clone())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, from, to) = (View::new(e, 0, 2)?, View::new(e, 1, 1)?, View::new(e, 2, 1)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 1);
    let d = a.axis_len(1);
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let [a0, from0, to0] = [&a, &from, &to].map(|v| v.base(out, at));
        let mut state: Vec<f64> = (0..d).map(|n| from.at(from0 + n)).collect();
        for _ in 0..tail[0] {
            y.push((0..d).map(|n| to.at(to0 + n) * state[n]).sum::<f64>());
            state = (0..d).map(|n| (0..d).map(|k| a.at(a0 + n * d + k) * state[k]).sum()).collect();
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
