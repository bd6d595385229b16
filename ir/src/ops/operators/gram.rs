//! Scaled inner products of queries and keys.

use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::{Align, MixType, Type};

/// `gram`.
pub static OP: Op = Op {
    name: "gram",
    group: Group::Operator,
    doc: "M[i,j] = scale * <q_i, k_j>, full support. q [.., T, r], k [.., S, r].",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %x: f32[2, 7, 3]) -> f32[2, 5, 3] {
  %m = gram %q, %k {scale = 0.5}
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("q", OperandKind::Data), operand("k", OperandKind::Data)],
    variadic: false,
    attrs: &[attr("scale", AttrKind::Float, "factor of every product, default 1")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (q, k) = (call.tensor(0)?, call.tensor(1)?);
    let mut faults = Vec::new();
    for (n, t) in [(0, q), (1, k)] {
        if t.rank() < 2 {
            faults.push(Fault::operand(n, format!("expected [.., tokens, features], found {t}")));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let (qn, kn) = (q.rank(), k.rank());
    if q.shape[qn - 1] != k.shape[kn - 1] {
        return Err(vec![Fault::operand(
            1,
            format!("features differ: q has {}, k has {}", q.shape[qn - 1], k.shape[kn - 1]),
        )]);
    }
    let batch = batch::join(&[(0, &q.shape[..qn - 2]), (1, &k.shape[..kn - 2])], true)?;
    Ok(vec![Type::Mix(MixType {
        dtype: q.dtype.accumulator(),
        batch,
        rows: q.shape[qn - 2].clone(),
        cols: k.shape[kn - 2].clone(),
        align: Align::End,
    })])
}

fn structure(call: &Call<'_>) -> Structure {
    let rank = call.ty(0).and_then(Type::as_tensor).and_then(|t| t.shape.last().cloned());
    Structure { rank, ..Structure::of(Support::full()) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (q, k) = (e.tensor(0)?, e.tensor(1)?);
    let scale = e.attrs.float("scale").unwrap_or(1.0);
    let shape = e.result_shape(0)?;
    let (out, cols) = (shape[..shape.len() - 2].to_vec(), shape[shape.len() - 1]);
    e.operator_result(None, move |at, i| {
        let (qn, kn) = (q.shape.len(), k.shape.len());
        let (tokens, r) = (q.shape[qn - 2], q.shape[qn - 1]);
        let q0 = (batch::offset(&out, at, &q.shape[..qn - 2]) * tokens + i) * r;
        let k0 = batch::offset(&out, at, &k.shape[..kn - 2]) * cols * r;
        Row::from_fn(cols, |j| Some(scale * (0..r).map(|n| q.at(q0 + n) * k.at(k0 + j * r + n)).sum::<f64>()))
    })
}
