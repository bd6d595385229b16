//! Circular convolutions.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `circulant`.
pub static OP: Op = Op {
    name: "circulant",
    group: Group::Operator,
    doc: "M[i,j] = h[(i-j) mod T], full support. h [.., T].",
    example: "\
func @main(%h: f32[7], %x: f32[7, 3]) -> f32[7, 3] {
  %m = circulant %h
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("h", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (batch, [tokens]) = trailing(call, 0, "[.., T]")?;
    Ok(operator(call.tensor(0)?.dtype, batch.to_vec(), tokens.clone(), tokens.clone()))
}

fn structure(_: &Call<'_>) -> Structure {
    Structure { toeplitz: true, ..Structure::of(Support::full()) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let h = e.tensor(0)?;
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let lead = h.shape.len() - 1;
        let tokens = h.shape[lead];
        let h0 = batch::offset(&out, at, &h.shape[..lead]) * tokens;
        Row::from_fn(tokens, |j| Some(h.at(h0 + (i + tokens - j) % tokens)))
    })
}
