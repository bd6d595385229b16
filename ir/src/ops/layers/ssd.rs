//! The state-space layer with one decay a head and token.

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

/// `ssd`.
pub static OP: Op = Op {
    name: "ssd",
    group: Group::Layer,
    doc: "apply(semiseparable(c, b, a), x) for every head: S_t = exp(a_t) S_{t-1} + b_t x_t^T, y_t = S_t^T c_t. \
          x [.., H, T, P], log decays a [.., H, T], b and c [.., T, N] with one head, a group of heads or all -> \
          [.., H, T, P]; the state [.., H, N, P] may be given as s0 and is returned with {state}.",
    example: "\
dim T = 1..64
func @main(%x: f32[4, T, 3], %a: f32[4, T], %b: f32[2, T, 5], %c: f32[2, T, 5], %s: f32[4, 5, 3])
    -> (f32[4, T, 3], f32[4, 5, 3]) {
  %y, %f = ssd %x, %a, %b, %c, %s {state}
  return %y, %f
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("a", OperandKind::Beside),
        operand("b", OperandKind::Data),
        operand("c", OperandKind::Data),
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
    let [x, b, c] = rules::tokens(call, [0, 2, 3])?;
    let rank = x.lead.len().max(b.lead.len()).max(c.lead.len()) + 2;
    Decay::of_operand(call, 1, rank, b.tokens, b.features)
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [x, b, c] = rules::tokens(call, [0, 2, 3])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 2, "tokens of x and b differ", b.tokens, x.tokens);
    rules::same(&mut faults, 3, "tokens of x and c differ", c.tokens, x.tokens);
    rules::same(&mut faults, 3, "features of b and c differ", c.features, b.features);
    rules::settle(faults)?;
    let tail = decay(call)?.map_or(0, Decay::tail);
    let (a, _) = rules::split(call, 1, tail, "log decays")?;
    recurrence::result_types(
        call,
        call.tensor(0)?.dtype,
        vec![(0, x.lead), (1, a), (2, b.lead), (3, c.lead)],
        [x.tokens.clone(), x.features.clone()],
        [b.features.clone(), x.features.clone()],
        4,
    )
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let (c, write) = (value(call, 3)?, value(call, 2)?);
    let decays = call.value(1).zip(decay(call)?);
    let operator = recurrence::semiseparable(b, c, write, decays)?;
    let parts = Parts { operator, c, write, x: value(call, 0)?, s0: call.value(4), types: &types };
    recurrence::finish(b, &parts, |b| decays.map(|(a, decay)| Factors::of_logs(b, a, decay)).transpose())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let r = Recurrence {
        c: View::new(e, 3, 2)?,
        b: View::new(e, 2, 2)?,
        x: View::new(e, 0, 2)?,
        state: View::optional(e, 4, 2)?,
    };
    let decay = recurrence::LogDecay::new(e, 1, [0, 2, 3], 2)?;
    r.run(e, |out, at, j, n| decay.factor(out, at, j, n))
}
