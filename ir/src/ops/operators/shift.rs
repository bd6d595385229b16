//! Moves tokens; zeros enter.

use super::signature::written_operator;
use crate::attr::AttrKind;
use crate::op::{Call, Group, Meaning, Op};
use crate::ops::required;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Position, Structure, Support};
use crate::ty::Type;

/// `shift`.
pub static OP: Op = Op {
    name: "shift",
    group: Group::Operator,
    doc: "M[i,j] = 1, support i - by == j: token j goes to by + j, zeros enter. Its type is written: mix f32[.., T, T].",
    example: "\
func @main(%x: f32[5, 3]) -> f32[5, 3] {
  %m = shift {by = 2} : mix f32[5, 5]
  %y = apply %m, %x
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[required("by", AttrKind::Dim, "tokens to move by, towards the end; may be negative")],
    infer: |call| Ok(vec![Type::Mix(written_operator(call)?)]),
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn structure(call: &Call<'_>) -> Structure {
    let at = Position::Row;
    let support = match call.attrs.dim("by").map(|by| by.scale(-1)) {
        Some(Ok(by)) => Support::all([Condition::AtMost { by: by.clone(), at }, Condition::AtLeast { by, at }]),
        _ => Support::only(Condition::Data),
    };
    Structure { toeplitz: true, non_negative: true, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let cols = e.result_shape(0)?.last().copied().unwrap_or(0);
    let by = e.attr_dim("by")?.unwrap_or(0);
    e.operator_result(None, move |_, i| {
        let source = (i as i64).checked_sub(by);
        Row::from_fn(cols, |j| (source == Some(j as i64)).then_some(1.0))
    })
}
