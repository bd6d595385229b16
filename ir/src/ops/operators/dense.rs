//! A matrix given by its elements.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `dense`.
pub static OP: Op = Op {
    name: "dense",
    group: Group::Operator,
    doc: "M[i,j] = w[i,j], full support. w [.., T, S].",
    example: "\
func @main(%w: f32[5, 7], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = dense %w
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("w", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (batch, [rows, cols]) = trailing(call, 0, "[.., T, S]")?;
    Ok(operator(call.tensor(0)?.dtype, batch.to_vec(), rows.clone(), cols.clone()))
}

fn structure(_: &Call<'_>) -> Structure {
    Structure::of(Support::full())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let w = e.tensor(0)?;
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let lead = w.shape.len() - 2;
        let (rows, cols) = (w.shape[lead], w.shape[lead + 1]);
        let w0 = (batch::offset(&out, at, &w.shape[..lead]) * rows + i) * cols;
        Row::from_fn(cols, |j| Some(w.at(w0 + j)))
    })
}
