//! Sums of operators.

use super::signature::{batch_of_result, elementwise};
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::Structure;

/// `sum`.
pub static OP: Op = Op {
    name: "sum",
    group: Group::Operator,
    doc: "A[i,j] + B[i,j] over the union of the supports; where one is absent it counts as 0. Both mix [.., T, S].",
    example: "\
func @main(%h: f32[5], %w: f32[5, 5], %x: f32[5, 3]) -> f32[5, 3] {
  %a = toeplitz %h
  %b = dense %w
  %m = sum %a, %b
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("A", OperandKind::Mix), operand("B", OperandKind::Mix)],
    variadic: false,
    attrs: &[],
    infer: elementwise,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn structure(call: &Call<'_>) -> Structure {
    let (a, b) = (call.structure(0), call.structure(1));
    Structure {
        support: a.support.union(&b.support),
        non_negative: a.non_negative && b.non_negative,
        toeplitz: a.toeplitz && b.toeplitz,
        // Where one is absent and the other is not, the sum agrees with neither completion.
        rank: a.rank.zip(b.rank).filter(|_| a.support == b.support).and_then(|(x, y)| x.add(&y).ok()),
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, b) = (e.operator(0)?, e.operator(1)?);
    let out = batch_of_result(e)?;
    let like = a.clone();
    e.operator_result(Some(&like), move |at, i| {
        let (a, b) = (a.row_for(&out, at, i), b.row_for(&out, at, i));
        Row::from_fn(a.values.len(), |j| (a.present[j] || b.present[j]).then(|| a.values[j] + b.values[j]))
    })
}
