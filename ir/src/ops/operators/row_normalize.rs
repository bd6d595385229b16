//! Rows divided by their sums.

use super::signature::by_row;
use crate::attr::AttrKind;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `row_normalize`.
pub static OP: Op = Op {
    name: "row_normalize",
    group: Group::Operator,
    doc: "M[i,j] / (sum_j M[i,j] + eps), the sum over the support, which is kept; a row without support is zero.",
    example: "\
func @main(%w: f32[5, 7], %x: f32[7, 3]) -> f32[5, 3] {
  %m = dense %w
  %a = map %m {fn = exp}
  %n = row_normalize %a
  %y = apply %n, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[attr("eps", AttrKind::Float, "added to every sum, default 0")],
    infer: |call| Ok(vec![Type::Mix(call.mix(0)?.clone())]),
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let eps = call.attrs.float("eps").unwrap_or(0.0);
    // Rows are scaled, so the rank stays; equal values of one diagonal are scaled differently.
    Structure { non_negative: s.non_negative && eps >= 0.0, toeplitz: false, ..s }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let eps = e.attrs.float("eps").unwrap_or(0.0);
    by_row(e, move |row, _| {
        let sum = row.entries().map(|(_, x)| x).sum::<f64>() + eps;
        row.map(|_, x| x / sum)
    })
}
