//! Outer products with a decay between their tokens: what gated linear attention and state-space duality mix with.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
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
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
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
