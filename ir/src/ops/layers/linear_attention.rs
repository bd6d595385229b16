//! Linear (kernel) attention.

use super::feature;
use super::recurrence::{self, Parts, Recurrence};
use super::rules::{self, View};
use super::steps::{plain, value};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `linear_attention`.
pub static OP: Op = Op {
    name: "linear_attention",
    group: Group::Layer,
    doc: "apply(mask(gram(f(q), f(k))), v) with an elementwise feature map f: q [.., T, r], k [.., S, r], \
          v [.., S, P] -> [.., T, P]. With {normalize} every row is divided by its sum. Causal without normalize it \
          is a recurrence, S_t = S_{t-1} + f(k_t) v_t^T, y_t = S_t^T f(q_t), with a state [.., r, P] that may be given \
          as s0 and returned with {state} (then T = S).",
    example: "\
dim T = 1..64
func @main(%q: f32[2, T, 4], %k: f32[2, T, 4], %v: f32[2, T, 3]) -> (f32[2, T, 3], f32[2, 4, 3]) {
  %y, %s = linear_attention %q, %k, %v {feature = elu1, causal, state}
  return %y, %s
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k", OperandKind::Data),
        operand("v", OperandKind::Data),
        optional("s0", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[
        attr("feature", AttrKind::Name(feature::NAMES), "the map of queries and keys, default identity"),
        attr("causal", AttrKind::Bool, "only keys up to the query's position"),
        attr("normalize", AttrKind::Bool, "divide every row by its sum"),
        attr("state", AttrKind::Bool, "return the state after the last token too"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Streams],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 2, "tokens of k and v differ", v.tokens, k.tokens);
    if call.has(3) || call.attrs.flag("state") {
        if !call.attrs.flag("causal") || call.attrs.flag("normalize") {
            faults.push(
                Fault::call("a state needs a causal layer without normalize")
                    .help("add `causal`, drop `normalize`, or drop the state"),
            );
        }
        rules::same(&mut faults, 1, "a state needs as many keys as queries", k.tokens, q.tokens);
    }
    rules::settle(faults)?;
    recurrence::result_types(
        call,
        call.tensor(2)?.dtype,
        vec![(0, q.lead), (1, k.lead), (2, v.lead)],
        [q.tokens.clone(), v.features.clone()],
        [k.features.clone(), v.features.clone()],
        3,
    )
}

/// The name of the feature map.
pub fn feature_of(attrs: &Attrs) -> &str {
    attrs.name("feature").unwrap_or("identity")
}

/// The operator of the layer: masked scores of mapped queries and keys, not normalised.
pub fn scores(b: &mut Builder, call: &Call<'_>) -> Result<[ValueId; 3], Vec<Fault>> {
    let f = feature_of(call.attrs);
    let (q, k) = (value(call, 0)?, value(call, 1)?);
    let (q, k) = (feature::expand(b, f, q)?, feature::expand(b, f, k)?);
    let mut m = plain(b, "gram", &[q, k])?;
    if call.attrs.flag("causal") {
        m = b.op("mask", &[m], Attrs::new().with_flag("causal", true))?;
    }
    Ok([m, q, k])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let [mut operator, c, write] = scores(b, call)?;
    if call.attrs.flag("normalize") {
        operator = plain(b, "row_normalize", &[operator])?;
    }
    let parts = Parts { operator, c, write, x: value(call, 2)?, s0: call.value(3), types: &types };
    recurrence::finish(b, &parts, |_| Ok(None))
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    if e.attrs.flag("causal") && !e.attrs.flag("normalize") {
        let f = feature_of(e.attrs).to_string();
        let mapped = |k: usize| -> Result<View, String> {
            let t = e.tensor(k)?;
            let data = (0..t.len()).map(|n| feature::evaluate(&f, t.at(n))).collect();
            Ok(View::of(Tensor::floats(&t.shape, data).into(), 2))
        };
        let r = Recurrence { c: mapped(0)?, b: mapped(1)?, x: View::new(e, 2, 2)?, state: View::optional(e, 3, 2)? };
        return r.run(e, |_, _, _, _| 1.0);
    }
    Ok(vec![mix(e, e.attrs.flag("normalize"))?.into()])
}

/// y by sums over all pairs of tokens, as `[batch.., T, P]`.
pub fn mix(e: &Eval<'_>, normalize: bool) -> Result<Tensor, String> {
    let f = feature_of(e.attrs);
    let causal = e.attrs.flag("causal");
    let (q, k, v) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?, View::new(e, 2, 2)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (rows, width, tokens, r) = (tail[0], tail[1], k.axis_len(2), k.axis_len(1));
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let [q0, k0, v0] = [&q, &k, &v].map(|t| t.base(out, at));
        for i in 0..rows {
            let seen = if causal { (i + 1 + tokens).saturating_sub(rows).min(tokens) } else { tokens };
            let (mut sum, mut row) = (0.0, vec![0.0; width]);
            for j in 0..seen {
                let map = |t: &View, at: usize| feature::evaluate(f, t.at(at));
                let w: f64 = (0..r).map(|n| map(&q, q0 + i * r + n) * map(&k, k0 + j * r + n)).sum();
                sum += w;
                for (p, cell) in row.iter_mut().enumerate() {
                    *cell += w * v.at(v0 + j * width + p);
                }
            }
            let divisor = if normalize && seen > 0 { sum } else { 1.0 };
            y.extend(row.iter().map(|x| x / divisor));
        }
    });
    Ok(Tensor::floats(&shape, y))
}
