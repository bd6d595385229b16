//! Bounded values.

use super::signature::by_row;
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `soft_cap`.
pub static OP: Op = Op {
    name: "soft_cap",
    group: Group::Operator,
    doc: "cap * tanh(M[i,j] / cap) on the support, which is kept.",
    example: "\
func @main(%q: f32[5, 4], %k: f32[7, 4], %x: f32[7, 3]) -> f32[5, 3] {
  %m = gram %q, %k
  %c = soft_cap %m {cap = 5.0}
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[required("cap", AttrKind::Float, "the bound, above 0")],
    infer,
    structure: Some(|call| Structure { rank: None, ..call.structure(0) }),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    if !call.attrs.float("cap").is_some_and(|c| c > 0.0) {
        return Err(vec![Fault::attr("cap", "the bound must be above 0")]);
    }
    Ok(vec![Type::Mix(call.mix(0)?.clone())])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let cap = e.attrs.float("cap").unwrap_or(f64::INFINITY);
    by_row(e, move |row, _| row.map(|_, x| cap * (x / cap).tanh()))
}
