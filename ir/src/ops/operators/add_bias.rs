//! A tensor added to an operator.

use super::signature::{by_row, fits_values, matrix_index, with_matrix_tensor};
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `add_bias`.
pub static OP: Op = Op {
    name: "add_bias",
    group: Group::Operator,
    doc: "M[i,j] + t[i,j] on the support of M, which is kept. t broadcasts to [.., T, S]: its last two axes are T and \
          S, or 1, or missing.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %t: f32[5, 7], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %b = add_bias %m, %t
  %p = softmax %b
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("t", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(|call| Structure::of(call.structure(0).support)),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    fits_values(1, call.tensor(1)?, m.dtype)?;
    with_matrix_tensor(call, 1, [&m.rows, &m.cols], true)
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let t = e.tensor(1)?;
    by_row(e, move |row, place| {
        let index = matrix_index(&t.shape, place);
        row.map(|j, x| x + t.at(index(j)))
    })
}
