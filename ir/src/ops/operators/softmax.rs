//! Row-wise softmax over the support.

use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{operand, optional};
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `softmax`.
pub static OP: Op = Op {
    name: "softmax",
    group: Group::Operator,
    doc: "Each row's exponentials divided by their sum over the support; a row without support is zero. \
          s [H] (over the last batch dim) adds exp(s) to the denominator. Keeps the support.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %x: f32[2, 7, 3], %s: f32[2]) -> f32[2, 5, 3] {
  %m = gram %q, %k {scale = 0.5}
  %p = softmax %m, %s
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), optional("s", OperandKind::Tensor)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let mut m = call.mix(0)?.clone();
    if call.has(1) {
        let s = call.tensor(1)?;
        if !s.dtype.is_float() || s.rank() > 1 {
            return Err(vec![Fault::operand(1, format!("expected a floating-point [H], found {s}"))]);
        }
        m.batch = batch::join(&[(0, &m.batch), (1, &s.shape)], true)?;
    }
    Ok(vec![Type::Mix(m)])
}

fn structure(call: &Call<'_>) -> Structure {
    Structure { non_negative: true, ..Structure::of(call.structure(0).support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (m, sink) = (e.operator(0)?, e.tensor_if(1)?);
    let shape = e.result_shape(0)?;
    let out = shape[..shape.len() - 2].to_vec();
    let source = m.clone();
    e.operator_result(Some(&source), move |at, i| {
        let row = m.row_for(&out, at, i);
        let sink = sink.as_ref().map(|s| s.at(batch::offset(&out, at, &s.shape)));
        let max = row.entries().map(|(_, x)| x).chain(sink).fold(f64::NEG_INFINITY, f64::max);
        // All of a row at minus infinity is an empty row: its weights are 0, not NaN. (The maximum passes over NaN.)
        if max == f64::NEG_INFINITY && !row.entries().any(|(_, x)| x.is_nan()) {
            return row.map(|_, _| 0.0);
        }
        let sum: f64 = row.entries().map(|(_, x)| (x - max).exp()).chain(sink.map(|s| (s - max).exp())).sum();
        row.map(|_, x| (x - max).exp() / sum)
    })
}
