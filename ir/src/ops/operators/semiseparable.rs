//! Outer products with a decay between their tokens: what gated linear attention and state-space duality mix with.

use super::signature::{batch_of_result, operator, trailing};
use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Build, Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::layers::steps::{
    Step, column, counting, plain, reshape, scalar, shape, slice, sum_keep, swap_last, times, to_batch, value, widen,
};
use crate::ops::operand;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Position, Structure, Support};
use crate::ty::Type;

/// `semiseparable`.
pub static OP: Op = Op {
    name: "semiseparable",
    group: Group::Operator,
    doc: "M[i,j] = sum_n c[i,n] b[j,n] exp(sum_{t=j+1..i} a[t,n]), support i >= j. c, b [.., T, N]; the log decays a \
          have the rank of c with last dim N or 1, or one less: [.., T, N], [.., T, 1] or [.., T].",
    example: "\
func @main(%c: f32[2, 5, 3], %b: f32[2, 5, 3], %a: f32[2, 5], %x: f32[2, 5, 4]) -> f32[2, 5, 4] {
  %m = semiseparable %c, %b, %a
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("c", OperandKind::Data), operand("b", OperandKind::Data), operand("a", OperandKind::Beside)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[
        Law::LinearIn(0),
        Law::LinearIn(1),
        Law::ShiftInvariant(Build { build: filter, says: "toeplitz(k) with k_l = exp(l a) · c b" }),
    ],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (c_lead, [tokens, states]) = trailing(call, 0, "[.., T, N]")?;
    let (b_lead, b_tail) = trailing::<2>(call, 1, "[.., T, N]")?;
    if b_tail != &[tokens.clone(), states.clone()] {
        let [t, n] = b_tail;
        return Err(vec![Fault::operand(1, format!("b is [.., {t}, {n}], but c is [.., {tokens}, {states}]"))]);
    }
    let (c, a) = (call.tensor(0)?, call.tensor(2)?);
    let lead = match c.rank().checked_sub(a.rank()) {
        Some(0 | 1) => c.rank() - 2,
        _ => return Err(vec![Fault::operand(2, format!("log decays have the rank of c ({}) or one less", c.rank()))]),
    };
    let tail = &a.shape[lead..];
    if tail[0] != *tokens || tail.get(1).is_some_and(|n| n != states && !n.is(1)) {
        let found = Type::Tensor(a.clone());
        let expected = format!("[.., {tokens}, {states}], [.., {tokens}, 1] or [.., {tokens}]");
        return Err(vec![Fault::operand(2, format!("expected log decays {expected}, found {found}"))]);
    }
    let batch = batch::join(&[(0, c_lead), (1, b_lead), (2, &a.shape[..lead])], true)?;
    Ok(operator(c.dtype, batch, tokens.clone(), tokens.clone()))
}

fn structure(call: &Call<'_>) -> Structure {
    // c_i exp(A_i) times b_j exp(-A_j), A the running sum of log decays.
    let rank = call.ty(0).and_then(Type::as_tensor).and_then(|t| t.shape.last().cloned());
    Structure { rank, ..Structure::of(Support::only(Condition::AtMost { by: Dim::constant(0), at: Position::Row })) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (c, b, a) = (e.tensor(0)?, e.tensor(1)?, e.tensor(2)?);
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let (cn, bn) = (c.shape.len() - 2, b.shape.len() - 2);
        let (tokens, states) = (c.shape[cn], c.shape[cn + 1]);
        let gates = if a.shape.len() == c.shape.len() { a.shape[cn + 1] } else { 1 };
        let c0 = (batch::offset(&out, at, &c.shape[..cn]) * tokens + i) * states;
        let b0 = batch::offset(&out, at, &b.shape[..bn]) * tokens * states;
        let a0 = batch::offset(&out, at, &a.shape[..cn]) * tokens * gates;
        let mut values = vec![0.0; tokens];
        // The sum of log decays of (j, i], grown from the diagonal to the left.
        let mut decay = vec![0.0_f64; gates];
        for j in (0..=i).rev() {
            values[j] = (0..states)
                .map(|n| c.at(c0 + n) * b.at(b0 + j * states + n) * decay[if gates == 1 { 0 } else { n }].exp())
                .sum();
            for (n, sum) in decay.iter_mut().enumerate() {
                *sum += a.at(a0 + j * gates + n);
            }
        }
        Row::from_fn(tokens, |j| (j <= i).then(|| values[j]))
    })
}

/// Lags of the inner table. Lag l = i m + j is split so that exponentials are formed for T/m + m lags and the rest is a
/// product of matrices; a power of two near the roots of the lengths in use (1024..16384).
const INNER: i64 = 64;

/// The filter `h[l] = sum_n c[n] b[n] exp(l a[n])`, with c, b and a those of the first token.
fn filter(b: &mut Builder, call: &Call<'_>) -> Step {
    let batch = match infer(call)?.first() {
        Some(Type::Mix(m)) => m.batch.clone(),
        _ => Vec::new(),
    };
    let (rank, tokens) = (call.tensor(0)?.rank(), call.tensor(0)?.shape[call.tensor(0)?.rank() - 2].clone());
    let first = |b: &mut Builder, k: usize, axis: i64| -> Step {
        let v = value(call, k)?;
        let v = slice(b, v, axis, Dim::constant(0), Dim::constant(1))?;
        widen(b, v)
    };
    let (c, write) = (first(b, 0, -2)?, first(b, 1, -2)?);
    let decay = match call.tensor(2)?.rank() == rank {
        true => first(b, 2, -2)?,
        false => {
            let one = first(b, 2, -1)?;
            column(b, one)?
        }
    };
    let [c, write, decay] = [c, write, decay].map(|v| to_batch(b, v, &batch, 2));
    let (decay, mut weight) = (decay?, plain(b, "mul", &[c?, write?])?);
    // States that fade alike are one.
    if shape(b, decay).last().is_some_and(|n| n.is(1)) {
        weight = sum_keep(b, weight, -1)?;
    }
    let dtype = b.ty(decay).dtype();
    let outer = tokens.ceil_div(INNER).map_err(|e| vec![e.into()])?;
    let powers = |b: &mut Builder, lags: ValueId, a: ValueId| -> Step {
        // At lag 0 nothing fades, whatever the decay.
        let zero = scalar(b, 0.0, dtype);
        let none = plain(b, "eq", &[lags, zero])?;
        let sum = plain(b, "mul", &[lags, a])?;
        let sum = plain(b, "select", &[none, zero, sum])?;
        plain(b, "exp", &[sum])
    };
    let starts = counting(b, dtype, vec![outer.clone(), Dim::constant(1)], 0)?;
    let starts = times(b, starts, INNER as f64)?;
    let starts = powers(b, starts, decay)?;
    let offsets = counting(b, dtype, vec![Dim::constant(1), Dim::constant(INNER)], 1)?;
    let down = swap_last(b, decay)?;
    let offsets = powers(b, offsets, down)?;
    let left = plain(b, "mul", &[weight, starts])?;
    let taps = plain(b, "matmul", &[left, offsets])?;
    let mut flat = batch;
    flat.push(outer.scale(INNER).map_err(|e| vec![e.into()])?);
    let taps = reshape(b, taps, flat)?;
    let taps = slice(b, taps, -1, Dim::constant(0), tokens)?;
    b.op("toeplitz", &[taps], Attrs::new())
}
