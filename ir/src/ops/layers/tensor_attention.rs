//! Attention over pairs of keys.

use super::rules::{self, View};
use super::steps::{Step, cast, plain, reshape, shape, spread_heads, value, widen};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `tensor_attention`.
pub static OP: Op = Op {
    name: "tensor_attention",
    group: Group::Layer,
    doc: "Softmax over all pairs (j1, j2) of scale * sum_r q[i,r] k1[j1,r] k2[j2,r], applied to v1[j1] * v2[j2]: \
          q [.., T, r], k1 [.., S1, r], k2 [.., S2, r], v1 [.., S1, D], v2 [.., S2, D] -> [.., T, D].",
    example: "\
func @main(%q: f32[5, 4], %k1: f32[3, 4], %k2: f32[2, 4], %v1: f32[3, 6], %v2: f32[2, 6]) -> f32[5, 6] {
  %y = tensor_attention %q, %k1, %k2, %v1, %v2
  return %y
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k1", OperandKind::Data),
        operand("k2", OperandKind::Data),
        operand("v1", OperandKind::Data),
        operand("v2", OperandKind::Data),
    ],
    variadic: false,
    attrs: &[attr("scale", AttrKind::Float, "factor of the scores, default 1/sqrt(r)")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let all = rules::tokens(call, [0, 1, 2, 3, 4])?;
    let [q, k1, k2, v1, v2] = all;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k1 differ", k1.features, q.features);
    rules::same(&mut faults, 2, "features of q and k2 differ", k2.features, q.features);
    rules::same(&mut faults, 3, "tokens of k1 and v1 differ", v1.tokens, k1.tokens);
    rules::same(&mut faults, 4, "tokens of k2 and v2 differ", v2.tokens, k2.tokens);
    rules::same(&mut faults, 4, "features of v1 and v2 differ", v2.features, v1.features);
    rules::settle(faults)?;
    rules::root_scale(call.attrs, q.features)?;
    let mut shape = batch::join(&all.map(|t| (t.operand, t.lead)), true)?;
    shape.extend([q.tokens.clone(), v1.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

/// x [.., S1, r] and y [.., S2, r] as the products of all pairs of tokens, [.., S1*S2, r].
fn pairs(b: &mut Builder, x: ValueId, y: ValueId, batch: &[Dim]) -> Step {
    let (x, y) = (widen(b, x)?, widen(b, y)?);
    let (x, y) = (spread_heads(b, x, batch, 2)?, spread_heads(b, y, batch, 2)?);
    let axis = |b: &mut Builder, v: ValueId, from_end: usize| -> Step {
        let mut axes = shape(b, v);
        axes.insert(axes.len() - from_end, Dim::constant(1));
        reshape(b, v, axes)
    };
    let (x, y) = (axis(b, x, 1)?, axis(b, y, 2)?);
    let all = plain(b, "mul", &[x, y])?;
    let mut axes = shape(b, all);
    let n = axes.len();
    let tokens = axes[n - 3].mul(&axes[n - 2]).map_err(|e| vec![e.into()])?;
    axes.splice(n - 3..n - 1, [tokens]);
    reshape(b, all, axes)
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let whole = infer(call)?[0].clone();
    let dims = whole.dims();
    let batch = &dims[..dims.len() - 2];
    let [q] = rules::tokens(call, [0])?;
    let scale = rules::root_scale(call.attrs, q.features)?;
    let keys = pairs(b, value(call, 1)?, value(call, 2)?, batch)?;
    let values = pairs(b, value(call, 3)?, value(call, 4)?, batch)?;
    let q = value(call, 0)?;
    let q = widen(b, q)?;
    let m = b.op("gram", &[q, keys], Attrs::new().with_float("scale", scale))?;
    let p = plain(b, "softmax", &[m])?;
    let y = plain(b, "apply", &[p, values])?;
    Ok(vec![cast(b, y, whole.dtype())?])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let [q, k1, k2, v1, v2] = [0, 1, 2, 3, 4].map(|k| View::new(e, k, 2));
    let (q, k1, k2, v1, v2) = (q?, k1?, k2?, v1?, v2?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (rows, width, r) = (tail[0], tail[1], q.axis_len(1));
    let (first, second) = (k1.axis_len(2), k2.axis_len(2));
    let scale = e.attrs.float("scale").unwrap_or(1.0 / (r.max(1) as f64).sqrt());
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let [q0, k10, k20, v10, v20] = [&q, &k1, &k2, &v1, &v2].map(|t| t.base(out, at));
        for i in 0..rows {
            let score = |pair: usize| {
                let (j1, j2) = (pair / second, pair % second);
                let term = |n: usize| q.at(q0 + i * r + n) * k1.at(k10 + j1 * r + n) * k2.at(k20 + j2 * r + n);
                scale * (0..r).map(term).sum::<f64>()
            };
            let scores: Vec<f64> = (0..first * second).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..width {
                let term = |(pair, w): (usize, &f64)| {
                    let (j1, j2) = (pair / second, pair % second);
                    w / sum * v1.at(v10 + j1 * width + d) * v2.at(v20 + j2 * width + d)
                };
                y.push(weights.iter().enumerate().map(term).sum::<f64>());
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
