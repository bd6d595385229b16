//! Restriction to pairs of tokens of one segment: packed sequences.

use super::signature::{by_row, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `mask_segments`.
pub static OP: Op = Op {
    name: "mask_segments",
    group: Group::Operator,
    doc: "Restricts the support to s[i] == s[j]. M mix [.., T, T], s [.., T]: the segment of each token.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 5, 4], %x: f32[2, 5, 3], %s: i64[5]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %c = mask_segments %m, %s
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("s", OperandKind::Int)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let mut m = call.mix(0)?.clone();
    let (lead, [tokens]) = trailing(call, 1, "[.., T]")?;
    if m.rows != m.cols {
        let message = format!("rows and columns must be the same tokens, not {} x {}", m.rows, m.cols);
        return Err(vec![Fault::operand(0, message).help("build the mask yourself and use `mask_with`")]);
    }
    if *tokens != m.rows {
        return Err(vec![Fault::operand(1, format!("the operator has {} tokens, s has {tokens}", m.rows))]);
    }
    m.batch = batch::join(&[(0, &m.batch), (1, lead)], true)?;
    Ok(vec![Type::Mix(m)])
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let own = call.value(1).map_or(Condition::Data, Condition::Segments);
    Structure { non_negative: s.non_negative, rank: s.rank, ..Structure::of(s.support.intersect(&Support::only(own))) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let s = e.tensor(1)?;
    by_row(e, move |row, place| {
        let lead = s.shape.len() - 1;
        let start = place.offset(&s.shape[..lead]) * s.shape[lead];
        let own = s.get(start + place.i);
        row.restrict(|j| s.get(start + j) == own)
    })
}
