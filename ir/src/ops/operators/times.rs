//! Elementwise products of operators.

use super::signature::{batch_of_result, elementwise};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::Structure;

/// `times`.
pub static OP: Op = Op {
    name: "times",
    group: Group::Operator,
    doc: "A[i,j] * B[i,j] over the intersection of the supports. Both mix [.., T, S].",
    example: "\
func @main(%h: f32[5], %q: f32[5, 2], %k: f32[5, 2], %x: f32[5, 3]) -> f32[5, 3] {
  %a = toeplitz %h
  %b = gram %q, %k
  %m = times %a, %b
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
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn structure(call: &Call<'_>) -> Structure {
    let (a, b) = (call.structure(0), call.structure(1));
    Structure {
        // The elementwise product of sums of x and of y outer products is a sum of x*y of them.
        rank: a.rank.zip(b.rank).and_then(|(x, y)| x.mul(&y).ok()),
        support: a.support.intersect(&b.support),
        non_negative: a.non_negative && b.non_negative,
        toeplitz: a.toeplitz && b.toeplitz,
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, b) = (e.operator(0)?, e.operator(1)?);
    let out = batch_of_result(e)?;
    let like = a.clone();
    e.operator_result(Some(&like), move |at, i| {
        let (a, b) = (a.row_for(&out, at, i), b.row_for(&out, at, i));
        Row::from_fn(a.values.len(), |j| (a.present[j] && b.present[j]).then(|| a.values[j] * b.values[j]))
    })
}
