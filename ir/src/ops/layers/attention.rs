//! Softmax attention.

use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dtype::DType;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::ty::Type;

/// `attention`.
pub static OP: Op = Op {
    name: "attention",
    group: Group::Layer,
    doc: "apply(softmax(mask(gram(q, k))), v): q [.., T, r], k [.., S, r], v [.., S, D] -> [.., T, D]; the last batch \
          dim is heads, and fewer key heads are shared by groups of query heads. mask is a boolean support or a \
          float bias (minus infinity counts as absent), broadcast to [.., T, S].",
    example: "\
dim T = 1..64
func @main(%q: f32[4, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> f32[4, T, 8] {
  %y = attention %q, %k, %v {causal}
  return %y
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k", OperandKind::Data),
        operand("v", OperandKind::Data),
        optional("mask", OperandKind::Tensor),
    ],
    variadic: false,
    attrs: &[
        attr("scale", AttrKind::Float, "factor of the scores, default 1/sqrt(r)"),
        attr("causal", AttrKind::Bool, "only keys up to the query's position"),
        attr("window", AttrKind::Dim, "only this many nearest keys (both sides unless causal)"),
        attr("left", AttrKind::Dim, "at most this many keys before the query's position"),
        attr("right", AttrKind::Dim, "at most this many keys after it; may be negative"),
        attr("sink", AttrKind::Dim, "with window: the first keys are seen too"),
        attr("block", AttrKind::Int, "only keys of the query's block of this many tokens"),
        attr("align", AttrKind::Name(&["start", "end"]), "whether rows line up with the first or the last keys"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Expansion,
    expand: Some(expand),
    laws: &[Law::LinearIn(2)],
};

/// The attributes that are handed to `mask`.
const MASK_ATTRS: [&str; 7] = ["causal", "window", "left", "right", "sink", "block", "align"];

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (q, k, v) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let mut faults = Vec::new();
    for (n, t) in [(0, q), (1, k), (2, v)] {
        if t.rank() < 2 {
            faults.push(Fault::operand(n, format!("expected [.., tokens, features], found {t}")));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let (qn, kn, vn) = (q.rank(), k.rank(), v.rank());
    if q.shape[qn - 1] != k.shape[kn - 1] {
        faults.push(Fault::operand(1, format!("features differ: q {}, k {}", q.shape[qn - 1], k.shape[kn - 1])));
    }
    if k.shape[kn - 2] != v.shape[vn - 2] {
        faults.push(Fault::operand(2, format!("tokens differ: k {}, v {}", k.shape[kn - 2], v.shape[vn - 2])));
    }
    if let Some(m) = call.ty(3).and_then(Type::as_tensor)
        && m.dtype != DType::Bool
        && !m.dtype.is_float()
    {
        faults.push(Fault::operand(3, format!("a mask is boolean or floating-point, found {m}")));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut lead = vec![(0, &q.shape[..qn - 2]), (1, &k.shape[..kn - 2]), (2, &v.shape[..vn - 2])];
    if let Some(m) = call.ty(3).and_then(Type::as_tensor).filter(|m| m.rank() > 2) {
        lead.push((3, &m.shape[..m.rank() - 2]));
    }
    let mut shape = batch::join(&lead, true)?;
    shape.extend([q.shape[qn - 2].clone(), v.shape[vn - 1].clone()]);
    Ok(vec![Type::tensor(v.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let value = |k: usize| call.value(k).ok_or_else(|| vec![Fault::operand(k, "this operand is missing")]);
    let (q, k, v) = (value(0)?, value(1)?, value(2)?);
    let features = call.tensor(0)?.shape.last().and_then(|d| d.as_constant());
    let scale = match (call.attrs.float("scale"), features) {
        (Some(s), _) => s,
        (None, Some(r)) => 1.0 / (r.max(1) as f64).sqrt(),
        (None, None) => {
            return Err(vec![Fault::attr("scale", "the scale must be given when the features are symbolic")]);
        }
    };
    let mut m = b.op("gram", &[q, k], Attrs::new().with_float("scale", scale))?;
    if let Some(mask) = call.value(3) {
        let op = if b.ty(mask).dtype() == DType::Bool { "mask_with" } else { "add_bias" };
        m = b.op(op, &[m, mask], Attrs::new())?;
    }
    let mut attrs = Attrs::new();
    for name in MASK_ATTRS {
        if let Some(value) = call.attrs.get(name) {
            attrs = attrs.with(name, value.clone());
        }
    }
    if !attrs.is_empty() {
        m = b.op("mask", &[m], attrs)?;
    }
    let p = b.op("softmax", &[m], Attrs::new())?;
    Ok(vec![b.op("apply", &[p, v], Attrs::new())?])
}
