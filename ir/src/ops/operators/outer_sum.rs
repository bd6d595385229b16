//! Sums of a value a row and a value a column.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `outer_sum`.
pub static OP: Op = Op {
    name: "outer_sum",
    group: Group::Operator,
    doc: "M[i,j] = u[i] + v[j], full support. u [.., T], v [.., S].",
    example: "\
func @main(%u: f32[2, 5], %v: f32[2, 7], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = outer_sum %u, %v
  %p = softmax %m
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("u", OperandKind::Data), operand("v", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (u_lead, [rows]) = trailing(call, 0, "[.., T]")?;
    let (v_lead, [cols]) = trailing(call, 1, "[.., S]")?;
    let batch = batch::join(&[(0, u_lead), (1, v_lead)], true)?;
    Ok(operator(call.tensor(0)?.dtype, batch, rows.clone(), cols.clone()))
}

fn structure(_: &Call<'_>) -> Structure {
    Structure { rank: Some(Dim::constant(2)), ..Structure::of(Support::full()) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (u, v) = (e.tensor(0)?, e.tensor(1)?);
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let (un, vn) = (u.shape.len() - 1, v.shape.len() - 1);
        let (rows, cols) = (u.shape[un], v.shape[vn]);
        let own = u.at(batch::offset(&out, at, &u.shape[..un]) * rows + i);
        let v0 = batch::offset(&out, at, &v.shape[..vn]) * cols;
        Row::from_fn(cols, |j| Some(own + v.at(v0 + j)))
    })
}
