//! Softmax attention.

use super::rules;
use super::steps::{plain, value};
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
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 2, "tokens of k and v differ", v.tokens, k.tokens);
    let mut lead = vec![(0, q.lead), (1, k.lead), (2, v.lead)];
    if let Some(m) = call.ty(3).and_then(Type::as_tensor) {
        if m.dtype != DType::Bool && !m.dtype.is_float() {
            faults.push(Fault::operand(3, format!("a mask is boolean or floating-point, found {m}")));
        }
        let data = call.tensor(0)?.dtype;
        if m.dtype.is_float() && m.dtype.accumulator() != data.accumulator() {
            faults.push(
                Fault::operand(3, format!("element type {} beside data of {data}", m.dtype))
                    .help(format!("convert it with `cast %x {{to = {data}}}`")),
            );
        }
        let (m_lead, m_tail) = m.shape.split_at(m.rank().saturating_sub(2));
        for (found, expected) in m_tail.iter().rev().zip([k.tokens, q.tokens]) {
            if !found.is(1) && found != expected {
                faults.push(
                    Fault::operand(3, format!("the mask {m} does not broadcast to [.., {}, {}]", q.tokens, k.tokens))
                        .help("its last two axes are queries and keys; each must be equal or 1"),
                );
            }
        }
        lead.push((3, m_lead));
    }
    rules::at_least(&mut faults, call.attrs, "block", 1);
    rules::at_least(&mut faults, call.attrs, "window", 0);
    rules::at_least(&mut faults, call.attrs, "sink", 0);
    if call.attrs.has("sink") && !call.attrs.has("window") {
        faults.push(Fault::attr("sink", "it adds the first keys to a window, and none is given").help("add `window`"));
    }
    rules::settle(faults)?;
    rules::root_scale(call.attrs, q.features)?;
    let mut shape = batch::join(&lead, true)?;
    shape.extend([q.tokens.clone(), v.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(2)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let [queries] = rules::tokens(call, [0])?;
    let scale = rules::root_scale(call.attrs, queries.features)?;
    let (q, k, v) = (value(call, 0)?, value(call, 1)?, value(call, 2)?);
    let mut m = b.op("gram", &[q, k], Attrs::new().with_float("scale", scale))?;
    if let Some(mask) = call.value(3) {
        // Minus infinity in a bias needs no support of its own: softmax gives such an element, and a row of nothing
        // else, exactly 0.
        let op = if b.ty(mask).dtype() == DType::Bool { "mask_with" } else { "add_bias" };
        m = plain(b, op, &[m, mask])?;
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
    let p = plain(b, "softmax", &[m])?;
    Ok(vec![plain(b, "apply", &[p, v])?])
}
