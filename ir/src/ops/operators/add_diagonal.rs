//! A diagonal added to an operator.

use super::signature::{by_row, fits_values, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `add_diagonal`.
pub static OP: Op = Op {
    name: "add_diagonal",
    group: Group::Operator,
    doc: "M[i,j] + d[i] on i == j; the support is the union of M's and the diagonal. M mix [.., T, T], d [.., T].",
    example: "\
func @main(%w: f32[2, 5, 5], %d: f32[2, 5], %x: f32[2, 5, 3]) -> f32[2, 5, 3] {
  %m = dense %w
  %n = add_diagonal %m, %d
  %y = apply %n, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("d", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(|call| Structure::of(call.structure(0).support.union(&Support::diagonal()))),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let mut m = call.mix(0)?.clone();
    let (lead, [tokens]) = trailing(call, 1, "[.., T]")?;
    fits_values(1, call.tensor(1)?, m.dtype)?;
    if m.rows != m.cols {
        return Err(vec![Fault::operand(
            0,
            format!("a diagonal needs a square operator, not {} x {}", m.rows, m.cols),
        )]);
    }
    if *tokens != m.rows {
        return Err(vec![Fault::operand(1, format!("the operator has {} tokens, d has {tokens}", m.rows))]);
    }
    m.batch = batch::join(&[(0, &m.batch), (1, lead)], true)?;
    Ok(vec![Type::Mix(m)])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let d = e.tensor(1)?;
    by_row(e, move |row, place| {
        let lead = d.shape.len() - 1;
        let own = d.at(place.offset(&d.shape[..lead]) * d.shape[lead] + place.i);
        Row::from_fn(row.values.len(), |j| {
            if j == place.i { Some(row.values[j] + own) } else { row.present[j].then(|| row.values[j]) }
        })
    })
}
