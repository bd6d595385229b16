//! The operator that changes nothing.

use super::signature::written_operator;
use crate::op::{Group, Meaning, Op};
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `identity`.
pub static OP: Op = Op {
    name: "identity",
    group: Group::Operator,
    doc: "M[i,j] = 1, support i == j. Its type is written: mix f32[.., T, T] (T x S keeps the first min(T, S) tokens).",
    example: "\
func @main(%w: f32[5, 5], %x: f32[5, 3]) -> f32[5, 3] {
  %e = identity : mix f32[5, 5]
  %d = dense %w
  %m = sum %e, %d
  %y = apply %m, %x
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[],
    infer: |call| Ok(vec![Type::Mix(written_operator(call)?)]),
    structure: Some(|_| Structure { toeplitz: true, non_negative: true, ..Structure::of(Support::diagonal()) }),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let cols = e.result_shape(0)?.last().copied().unwrap_or(0);
    e.operator_result(None, move |_, i| Row::from_fn(cols, |j| (i == j).then_some(1.0)))
}
