//! Restriction to the valid keys of each sequence of a batch.

use super::signature::{Place, batch_of_result};
use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, Operator, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::tensor::Tensor;
use crate::ty::{Align, Type};
use std::sync::Arc;

/// `mask_lengths`.
pub static OP: Op = Op {
    name: "mask_lengths",
    group: Group::Operator,
    doc: "Restricts the support to j < n[b], b the index of the first batch dim, n [B] clamped to 0..=S. With {align} \
          the operator is aligned by the lengths: i' = i + n[b] - T in what `mask`, `alibi` and `decay` read from then \
          on, so that the last query is the last valid key. Operators of different alignment do not combine.",
    example: "\
func @main(%q: f32[2, 3, 4], %k: f32[2, 7, 4], %x: f32[2, 7, 3], %n: i64[2]) -> f32[2, 3, 3] {
  %m = gram %q, %k
  %l = mask_lengths %m, %n {align}
  %c = mask %l {causal}
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("n", OperandKind::Int)],
    variadic: false,
    attrs: &[attr("align", AttrKind::Bool, "rows line up with the last valid key instead of the last key")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (mut m, n) = (call.mix(0)?.clone(), call.tensor(1)?);
    let found = Type::Tensor(n.clone());
    let [sequences] = n.shape.as_slice() else {
        return Err(vec![Fault::operand(1, format!("expected one length a sequence, [B], found {found}"))]);
    };
    // B over the first batch dim, 1 over the others.
    let mut lengths = vec![Dim::constant(1); m.batch.len().max(1)];
    lengths[0] = sequences.clone();
    m.batch = batch::join(&[(0, &m.batch), (1, &lengths)], m.batch.len() > 1)?;
    if call.attrs.flag("align") {
        m.align = Align::Lengths(call.value(1).ok_or_else(|| vec![Fault::operand(1, "this operand is missing")])?);
    }
    Ok(vec![Type::Mix(m)])
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let own = match call.value(1) {
        Some(n) => Condition::Lengths(n),
        None => Condition::Data,
    };
    let support = s.support.intersect(&Support::only(own));
    Structure { non_negative: s.non_negative, rank: s.rank, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (m, n) = (e.operator(0)?, e.tensor(1)?);
    let out = batch_of_result(e)?;
    let cols = m.cols as i64;
    let mut shape = vec![1; out.len()];
    shape[0] = n.len();
    let n = Arc::new(Tensor::ints(&shape, (0..n.len()).map(|k| n.get(k).as_int().clamp(0, cols)).collect()));
    let aligned = e.attrs.flag("align").then(|| n.clone()).or_else(|| m.lengths.clone());
    let like = Operator { lengths: aligned, ..m.clone() };
    e.operator_result(Some(&like), move |at, i| {
        let place = Place { out: &out, at, i, position: 0 };
        let length = n.get(place.offset(&n.shape)).as_int();
        m.row_for(&out, at, i).restrict(|j| (j as i64) < length)
    })
}
