//! Retention: attention without softmax whose weights decay with distance.

use super::recurrence::{self, Factors, Parts, Recurrence};
use super::rules::{self, View};
use super::steps::{Step, counting, plain, reshape, shape, splat, sum_keep, value, widen};
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `retention`.
pub static OP: Op = Op {
    name: "retention",
    group: Group::Layer,
    doc: "y_i = sum_{j <= i'} g^(i'-j) <q_i, k_j> v_j: q [.., T, r], k [.., S, r], v [.., S, P] -> [.., T, P], \
          g [H] or any shape that broadcasts to the batch dims. As a recurrence S_t = g S_{t-1} + k_t v_t^T, \
          y_t = S_t^T q_t, with a state [.., r, P] that may be given as s0 and returned with {state} (then T = S).",
    example: "\
dim T = 1..64
func @main(%q: f32[2, T, 4], %k: f32[2, T, 4], %v: f32[2, T, 3], %g: f32[2]) -> f32[2, T, 3] {
  %y = retention %q, %k, %v, %g
  return %y
}
",
    operands: &[
        operand("q", OperandKind::Data),
        operand("k", OperandKind::Data),
        operand("v", OperandKind::Data),
        operand("g", OperandKind::Beside),
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

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [q, k, v] = rules::tokens(call, [0, 1, 2])?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "features of q and k differ", k.features, q.features);
    rules::same(&mut faults, 2, "tokens of k and v differ", v.tokens, k.tokens);
    if call.has(4) || call.attrs.flag("state") {
        rules::same(&mut faults, 1, "a state needs as many keys as queries", k.tokens, q.tokens);
    }
    rules::settle(faults)?;
    recurrence::result_types(
        call,
        call.tensor(2)?.dtype,
        vec![(0, q.lead), (1, k.lead), (2, v.lead), (3, &call.tensor(3)?.shape)],
        [q.tokens.clone(), v.features.clone()],
        [k.features.clone(), v.features.clone()],
        4,
    )
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let [k] = rules::tokens(call, [1])?;
    let (c, write, g) = (value(call, 0)?, value(call, 1)?, value(call, 3)?);
    let m = plain(b, "gram", &[c, write])?;
    let m = b.op("mask", &[m], Attrs::new().with_flag("causal", true))?;
    let operator = plain(b, "decay", &[m, g])?;
    let parts = Parts { operator, c, write, x: value(call, 2)?, s0: call.value(4), types: &types };
    recurrence::finish(b, &parts, |b| powers(b, g, k.tokens).map(Some))
}

/// The powers of g between tokens and the ends: g^(t+1), g^(T-1-t) and g^T, by whole exponents (g may be 0).
fn powers(b: &mut Builder, g: ValueId, tokens: &Dim) -> Result<Factors, Vec<Fault>> {
    let g = widen(b, g)?;
    let dtype = b.ty(g).dtype();
    let mut axes = shape(b, g);
    axes.extend([Dim::constant(1), Dim::constant(1)]);
    let g = reshape(b, g, axes)?;
    let column = vec![tokens.clone(), Dim::constant(1)];
    let before = counting(b, dtype, column.clone(), 0)?;
    let power = |b: &mut Builder, exponent: ValueId| -> Step { plain(b, "pow", &[g, exponent]) };
    let ones = splat(b, 1.0, dtype, column);
    let upto = plain(b, "add", &[before, ones])?;
    let after = b.op("reverse", &[before], Attrs::new().with_int("axis", 0))?;
    let all = sum_keep(b, ones, 0)?;
    Ok(Factors { from_start: power(b, upto)?, to_end: power(b, after)?, whole: power(b, all)? })
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let g = View::new(e, 3, 0)?;
    let r = Recurrence {
        c: View::new(e, 0, 2)?,
        b: View::new(e, 1, 2)?,
        x: View::new(e, 2, 2)?,
        state: View::optional(e, 4, 2)?,
    };
    r.run(e, |out, at, _, _| g.at(g.base(out, at)))
}
