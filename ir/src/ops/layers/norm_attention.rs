//! Linear attention whose denominator is replaced by a norm.

use super::steps::{cast, plain, value, widen};
use super::{feature, head_norm, linear_attention, rules};
use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `norm_attention`.
pub static OP: Op = Op {
    name: "norm_attention",
    group: Group::Layer,
    doc: "Linear attention without denominator, apply(mask(gram(f(q), f(k))), v), then the root-mean-square norm over \
          the heads and features of a token together (no gain, eps 1e-6): q [.., H, T, r], k [.., H, S, r], \
          v [.., H, S, d] -> [.., H, T, d]. Without a head dim the norm is over the features.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 5, 4], %v: f32[2, 5, 3]) -> f32[2, 5, 3] {
  %y = norm_attention %q, %k, %v {feature = elu1, causal}
  return %y
}
",
    operands: &[operand("q", OperandKind::Data), operand("k", OperandKind::Data), operand("v", OperandKind::Data)],
    variadic: false,
    attrs: &[
        attr("feature", AttrKind::Name(feature::NAMES), "the map of queries and keys, default identity"),
        attr("causal", AttrKind::Bool, "only keys up to the query's position"),
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
    rules::settle(faults)?;
    let mut shape = batch::join(&[(0, q.lead), (1, k.lead), (2, v.lead)], true)?;
    shape.extend([q.tokens.clone(), v.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(2)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let v = value(call, 2)?;
    let dtype = b.ty(v).dtype();
    // Sums without denominator grow with the sequence: in a short type they could overflow before the norm.
    let v = widen(b, v)?;
    let [m, _, _] = linear_attention::scores(b, call)?;
    let y = plain(b, "apply", &[m, v])?;
    let y = head_norm::expand(b, y)?;
    Ok(vec![cast(b, y, dtype)?])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    Ok(vec![head_norm::evaluate(&linear_attention::mix(e, false)?).into()])
}
