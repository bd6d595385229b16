//! Block-local attention.

use super::rules::View;
use super::steps::{cast, plain, value, widen};
use super::{head_norm, rules};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `diag_attention`.
pub static OP: Op = Op {
    name: "diag_attention",
    group: Group::Layer,
    doc: "Attention within blocks of tokens: scores scale * <q_i, k_j> where floor(i'/block) = floor(j/block), with \
          {causal} only j <= i'. kernel = softmax applies their softmax to v; kernel = relu applies their positive \
          parts and then the root-mean-square norm over the heads and features of a token together (eps 1e-6). \
          q [.., T, r], k [.., S, r], v [.., S, d] -> [.., T, d].",
    example: "\
func @main(%q: f32[2, 7, 4], %k: f32[2, 7, 4], %v: f32[2, 7, 3]) -> f32[2, 7, 3] {
  %y = diag_attention %q, %k, %v {block = 3, kernel = relu, causal}
  return %y
}
",
    operands: &[operand("q", OperandKind::Data), operand("k", OperandKind::Data), operand("v", OperandKind::Data)],
    variadic: false,
    attrs: &[
        required("block", AttrKind::Int, "tokens of a block"),
        attr("kernel", AttrKind::Name(&["softmax", "relu"]), "what becomes of the scores, default softmax"),
        attr("causal", AttrKind::Bool, "only keys up to the query's position"),
        attr("scale", AttrKind::Float, "factor of the scores, default 1/sqrt(r)"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 2, "tokens of k and v differ", v.tokens, k.tokens);
    rules::at_least(&mut faults, call.attrs, "block", 1);
    rules::settle(faults)?;
    rules::root_scale(call.attrs, q.features)?;
    let mut shape = batch::join(&[(0, q.lead), (1, k.lead), (2, v.lead)], true)?;
    shape.extend([q.tokens.clone(), v.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(2)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let [q] = rules::tokens(call, [0])?;
    let scale = rules::root_scale(call.attrs, q.features)?;
    let (q, k, mut v) = (value(call, 0)?, value(call, 1)?, value(call, 2)?);
    let dtype = b.ty(v).dtype();
    let m = b.op("gram", &[q, k], Attrs::new().with_float("scale", scale))?;
    let mut mask = Attrs::new().with_flag("causal", call.attrs.flag("causal"));
    if let Some(block) = call.attrs.get("block") {
        mask = mask.with("block", block.clone());
    }
    let m = b.op("mask", &[m], mask)?;
    if call.attrs.name("kernel") != Some("relu") {
        let p = plain(b, "softmax", &[m])?;
        return Ok(vec![plain(b, "apply", &[p, v])?]);
    }
    let m = b.op("map", &[m], Attrs::new().with_name("fn", "relu"))?;
    v = widen(b, v)?;
    let y = plain(b, "apply", &[m, v])?;
    let y = head_norm::expand(b, y)?;
    Ok(vec![cast(b, y, dtype)?])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (q, k, v) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?, View::new(e, 2, 2)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (rows, width, tokens, r) = (tail[0], tail[1], k.axis_len(2), k.axis_len(1));
    let scale = e.attrs.float("scale").unwrap_or(1.0 / (r.max(1) as f64).sqrt());
    let (causal, relu) = (e.attrs.flag("causal"), e.attrs.name("kernel") == Some("relu"));
    let block = e.attrs.int("block").ok_or("`block` is missing")?;
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let [q0, k0, v0] = [&q, &k, &v].map(|t| t.base(out, at));
        for i in 0..rows {
            let position = i as i64 + tokens as i64 - rows as i64;
            let seen =
                |j: &usize| position.div_euclid(block) == *j as i64 / block && (!causal || *j as i64 <= position);
            let score = |j: usize| scale * (0..r).map(|n| q.at(q0 + i * r + n) * k.at(k0 + j * r + n)).sum::<f64>();
            let mut weights: Vec<(usize, f64)> = (0..tokens).filter(seen).map(|j| (j, score(j))).collect();
            if relu {
                weights.iter_mut().for_each(|(_, w)| *w = w.max(0.0));
            } else {
                let max = weights.iter().fold(f64::NEG_INFINITY, |m, (_, w)| m.max(*w));
                let sum: f64 = weights.iter().map(|(_, w)| (w - max).exp()).sum();
                weights.iter_mut().for_each(|(_, w)| *w = (*w - max).exp() / sum);
            }
            y.extend((0..width).map(|p| weights.iter().map(|(j, w)| w * v.at(v0 + j * width + p)).sum::<f64>()));
        }
    });
    let y = Tensor::floats(&shape, y);
    Ok(vec![if relu { head_norm::evaluate(&y) } else { y }.into()])
}
