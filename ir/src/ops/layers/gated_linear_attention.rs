//! Linear attention with decays from the data.

use super::recurrence::{self, Decay, Factors, Parts, Recurrence};
use super::rules::{self, View};
use super::steps::value;
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `gated_linear_attention`.
pub static OP: Op = Op {
    name: "gated_linear_attention",
    group: Group::Layer,
    doc: "apply(semiseparable(q, k, a), v): S_t = exp(a_t) S_{t-1} + k_t v_t^T, y_t = S_t^T q_t, where a [.., T, r] \
          holds log decays of the channels, or [.., T] of all channels at once. q, k [.., T, r], v [.., T, P] -> \
          [.., T, P]; the state [.., r, P] may be given as s0 and is returned with {state}.",
    example: "\
dim T = 1..64
func @main(%q: f32[2, T, 4], %k: f32[2, T, 4], %v: f32[2, T, 3], %a: f32[2, T, 4]) -> f32[2, T, 3] {
  %y = gated_linear_attention %q, %k, %v, %a
  return %y
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k", OperandKind::Data),
        operand("v", OperandKind::Data),
        operand("a", OperandKind::Beside),
        optional("s0", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[attr("state", AttrKind::Bool, "return the state after the last token too")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Causal, Law::Streams],
};

fn decay(call: &Call<'_>) -> Result<Option<Decay>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let rank = q.lead.len().max(k.lead.len()).max(v.lead.len()) + 2;
    Decay::of_operand(call, 3, rank, k.tokens, k.features)
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 1, "tokens of q and k differ", k.tokens, q.tokens);
    rules::same(&mut faults, 2, "tokens of q and v differ", v.tokens, q.tokens);
    rules::settle(faults)?;
    let tail = decay(call)?.map_or(0, Decay::tail);
    let (a, _) = rules::split(call, 3, tail, "log decays")?;
    recurrence::result_types(
        call,
        call.tensor(2)?.dtype,
        vec![(0, q.lead), (1, k.lead), (2, v.lead), (3, a)],
        [q.tokens.clone(), v.features.clone()],
        [k.features.clone(), v.features.clone()],
        4,
    )
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let (c, write) = (value(call, 0)?, value(call, 1)?);
    let decays = call.value(3).zip(decay(call)?);
    let operator = recurrence::semiseparable(b, c, write, decays)?;
    let parts = Parts { operator, c, write, x: value(call, 2)?, s0: call.value(4), types: &types };
    recurrence::finish(b, &parts, |b| decays.map(|(a, decay)| Factors::of_logs(b, a, decay)).transpose())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let r = Recurrence {
        c: View::new(e, 0, 2)?,
        b: View::new(e, 1, 2)?,
        x: View::new(e, 2, 2)?,
        state: View::optional(e, 4, 2)?,
    };
    let decay = recurrence::LogDecay::new(e, 3, [0, 1, 2], 1)?;
    r.run(e, |out, at, j, n| decay.factor(out, at, j, n))
}
