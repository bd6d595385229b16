//! Restriction to marked elements.

use super::signature::{by_row, matrix_index, with_matrix_tensor};
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `mask_with`.
pub static OP: Op = Op {
    name: "mask_with",
    group: Group::Operator,
    doc: "Restricts the support to m[i,j]. M mix [.., T, S]; m bool broadcasts to [.., T, S]: its last two axes are T \
          and S, or 1, or missing.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %x: f32[2, 7, 3], %b: bool[5, 7]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %c = mask_with %m, %b
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("m", OperandKind::Bool)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    with_matrix_tensor(call, 1, [&m.rows, &m.cols], true)
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let own = call.value(1).map_or(Condition::Data, Condition::Marked);
    Structure { non_negative: s.non_negative, rank: s.rank, ..Structure::of(s.support.intersect(&Support::only(own))) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let m = e.tensor(1)?;
    by_row(e, move |row, place| {
        let index = matrix_index(&m.shape, place);
        row.restrict(|j| m.get(index(j)).as_bool())
    })
}
