//! A factor a token.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `diagonal`.
pub static OP: Op = Op {
    name: "diagonal",
    group: Group::Operator,
    doc: "M[i,j] = d[i], support i == j. d [.., T].",
    example: "\
func @main(%d: f32[2, 5], %x: f32[2, 5, 3]) -> f32[2, 5, 3] {
  %m = diagonal %d
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("d", OperandKind::Data)],
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
    Structure::of(Support::diagonal())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let d = e.tensor(0)?;
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let lead = d.shape.len() - 1;
        let tokens = d.shape[lead];
        let own = d.at(batch::offset(&out, at, &d.shape[..lead]) * tokens + i);
        Row::from_fn(tokens, |j| (i == j).then_some(own))
    })
}
