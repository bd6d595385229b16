//! Multiples of operators.

use super::signature::{by_row, with_batch_tensor};
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `scale_by`.
pub static OP: Op = Op {
    name: "scale_by",
    group: Group::Operator,
    doc: "M times a number `by`, or times a tensor t over the batch dims (one factor a matrix): exactly one of them. \
          Keeps the support.",
    example: "\
func @main(%w: f32[2, 5, 7], %t: f32[2], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = dense %w
  %n = scale_by %m, %t
  %o = scale_by %n {by = 0.5}
  %y = apply %o, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), optional("t", OperandKind::Data)],
    variadic: false,
    attrs: &[attr("by", AttrKind::Float, "the factor, when it is a number")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    match (call.has(1), call.attrs.has("by")) {
        (true, false) => with_batch_tensor(call, 1),
        (false, true) => Ok(vec![Type::Mix(call.mix(0)?.clone())]),
        (true, true) => Err(vec![Fault::attr("by", "the factor is given twice: as an operand and as `by`")]),
        (false, false) => Err(vec![
            Fault::call("`scale_by` needs a factor")
                .help("give a number `{by = 0.5}`, or a tensor over the batch dims as second operand"),
        ]),
    }
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    Structure { non_negative: s.non_negative && call.attrs.float("by").is_some_and(|x| x >= 0.0), ..s }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (t, by) = (e.tensor_if(1)?, e.attrs.float("by").unwrap_or(1.0));
    by_row(e, move |row, place| {
        let factor = t.as_ref().map_or(by, |t| t.at(place.offset(&t.shape)));
        row.map(|_, x| factor * x)
    })
}
