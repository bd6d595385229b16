//! Linear biases by distance.

use super::signature::{by_row, with_batch_tensor};
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::support::Structure;

/// `alibi`.
pub static OP: Op = Op {
    name: "alibi",
    group: Group::Operator,
    doc: "M[i,j] - slope * abs(i' - j) on the support, which is kept; i' = i + S - T, or as `mask_lengths {align}` \
          says. The slopes broadcast to the batch dims.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %s: f32[2], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %b = alibi %m, %s
  %p = softmax %b
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("slopes", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer: |call| with_batch_tensor(call, 1),
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    Structure { toeplitz: s.toeplitz, ..Structure::of(s.support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let slopes = e.tensor(1)?;
    by_row(e, move |row, place| {
        let slope = slopes.at(place.offset(&slopes.shape));
        row.map(|j, x| x - slope * (place.position - j as i64).unsigned_abs() as f64)
    })
}
