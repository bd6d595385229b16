//! The (gated) delta rule: a state that is corrected towards what it should have recalled.

use super::recurrence::{self, Decay, Factors, LogDecay, initial};
use super::rules::{self, View};
use super::steps::{cast, column, plain, spread_heads, times, to_batch, value, widen};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::{Align, MixType, Type};

/// `delta_rule`.
pub static OP: Op = Op {
    name: "delta_rule",
    group: Group::Layer,
    doc: "u = apply(inverse(sum(identity, mask(semiseparable(beta*k, k, a)) {right=-1})), beta*v), \
          y = apply(semiseparable(scale*q, k, a), u); as a recurrence S' = exp(a_t) S_{t-1}, \
          u_t = beta_t (v_t - S'^T k_t), S_t = S' + k_t u_t^T, y_t = scale S_t^T q_t. q, k [.., T, r], v [.., T, P], \
          beta [.., T], log decays a [.., T] or [.., T, r] (0 when absent; `_` before a state) -> [.., T, P]; fewer \
          query and key heads are shared by groups of value heads. The state [.., r, P] may be given as s0 and is \
          returned with {state}.",
    example: "\
dim T = 1..64
func @main(%q: f32[2, T, 4], %k: f32[2, T, 4], %v: f32[4, T, 3], %b: f32[4, T], %a: f32[4, T]) -> f32[4, T, 3] {
  %y = delta_rule %q, %k, %v, %b, %a {scale = 0.5}
  return %y
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k", OperandKind::Data),
        operand("v", OperandKind::Data),
        operand("beta", OperandKind::Beside),
        optional("a", OperandKind::Beside),
        optional("s0", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[
        attr("scale", AttrKind::Float, "factor of the queries, default 1"),
        attr("state", AttrKind::Bool, "return the state after the last token too"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Causal, Law::Streams],
};

fn decay(call: &Call<'_>) -> Result<Option<Decay>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let rank = q.lead.len().max(k.lead.len()).max(v.lead.len()) + 2;
    Decay::of_operand(call, 4, rank, k.tokens, k.features)
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let (beta, beta_tokens) = rules::split(call, 3, 1, "[.., tokens]")?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 1, "tokens of q and k differ", k.tokens, q.tokens);
    rules::same(&mut faults, 2, "tokens of q and v differ", v.tokens, q.tokens);
    rules::same(&mut faults, 3, "tokens of q and beta differ", &beta_tokens[0], q.tokens);
    rules::settle(faults)?;
    let mut lead = vec![(0, q.lead), (1, k.lead), (2, v.lead), (3, beta)];
    if let Some(decay) = decay(call)? {
        lead.push((4, rules::split(call, 4, decay.tail(), "log decays")?.0));
    }
    recurrence::result_types(
        call,
        call.tensor(2)?.dtype,
        lead,
        [q.tokens.clone(), v.features.clone()],
        [k.features.clone(), v.features.clone()],
        5,
    )
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let whole = types[0].dims();
    let batch = &whole[..whole.len() - 2];
    let tokens = whole[whole.len() - 2].clone();
    // The inverse amplifies rounding, so all of it is done in the type of sums.
    let wide = |b: &mut Builder, k: usize| -> super::steps::Step {
        let v = value(call, k)?;
        widen(b, v)
    };
    let (q, k, v, beta) = (wide(b, 0)?, wide(b, 1)?, wide(b, 2)?, wide(b, 3)?);
    let beta = column(b, beta)?;
    let beta = spread_heads(b, beta, batch, 2)?;
    let decays = call.value(4).zip(decay(call)?);
    let s0 = call.value(5);
    let factors = match decays {
        Some((a, decay)) if s0.is_some() || types.len() > 1 => Some(Factors::of_logs(b, a, decay)?),
        _ => None,
    };

    let k_heads = spread_heads(b, k, batch, 2)?;
    let beta_k = plain(b, "mul", &[beta, k_heads])?;
    let recalled = recurrence::semiseparable(b, beta_k, k, decays)?;
    let recalled = b.op("mask", &[recalled], Attrs::new().with_int("right", -1))?;
    let identity = Type::Mix(MixType {
        dtype: b.ty(recalled).dtype(),
        batch: Vec::new(),
        rows: tokens.clone(),
        cols: tokens,
        align: Align::End,
    });
    let identity = b.op_typed("identity", &[], Attrs::new(), Some(identity))?;
    let system = plain(b, "sum", &[identity, recalled])?;
    let solve = plain(b, "inverse", &[system])?;

    let v = spread_heads(b, v, batch, 2)?;
    let mut target = plain(b, "mul", &[beta, v])?;
    if let Some(s0) = s0 {
        let known = recurrence::from_state(b, beta_k, factors, s0, batch)?;
        target = plain(b, "sub", &[target, known])?;
    }
    let u = plain(b, "apply", &[solve, target])?;

    let q = times(b, q, call.attrs.float("scale").unwrap_or(1.0))?;
    let read = recurrence::semiseparable(b, q, k, decays)?;
    let mut y = plain(b, "apply", &[read, u])?;
    if let Some(s0) = s0 {
        let part = recurrence::from_state(b, q, factors, s0, batch)?;
        y = spread_heads(b, y, batch, 2)?;
        y = plain(b, "add", &[y, part])?;
    }
    y = to_batch(b, y, batch, 2)?;
    let mut results = vec![cast(b, y, types[0].dtype())?];
    if let Some(ty) = types.get(1) {
        let s = recurrence::last_state(b, k, u, factors, s0, batch)?;
        results.push(cast(b, s, ty.dtype())?);
    }
    Ok(results)
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (q, k, v) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?, View::new(e, 2, 2)?);
    let beta = View::new(e, 3, 1)?;
    let decay = if e.has(4) { Some(LogDecay::new(e, 4, [0, 1, 2], 1)?) } else { None };
    let state = View::optional(e, 5, 2)?;
    let scale = e.attrs.float("scale").unwrap_or(1.0);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, width, r) = (tail[0], tail[1], k.axis_len(1));
    let mut y = Vec::with_capacity(shape.iter().product());
    let mut last = Vec::new();
    batch::for_each(out, |at| {
        let [q0, k0, v0, beta0] = [&q, &k, &v, &beta].map(|t| t.base(out, at));
        let mut s = initial(state.as_ref(), out, at, r * width);
        for t in 0..tokens {
            for n in 0..r {
                let keep = decay.as_ref().map_or(1.0, |d| d.factor(out, at, t, n));
                s[n * width..(n + 1) * width].iter_mut().for_each(|x| *x *= keep);
            }
            for p in 0..width {
                let recalled: f64 = (0..r).map(|n| k.at(k0 + t * r + n) * s[n * width + p]).sum();
                let u = beta.at(beta0 + t) * (v.at(v0 + t * width + p) - recalled);
                for n in 0..r {
                    s[n * width + p] += k.at(k0 + t * r + n) * u;
                }
                y.push(scale * (0..r).map(|n| q.at(q0 + t * r + n) * s[n * width + p]).sum::<f64>());
            }
        }
        last.extend(s);
    });
    recurrence::results(e, y, last)
}
