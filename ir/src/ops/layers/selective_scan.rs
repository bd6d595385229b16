//! The selective scan: a diagonal state per channel whose step size comes from the data.

use super::recurrence::{self, Decay, Factors, initial};
use super::rules::{self, View};
use super::steps::{
    Step, broadcast, cast, column, plain, reshape, shape, spread_heads, swap_last, to_batch, value, widen,
};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `selective_scan`.
pub static OP: Op = Op {
    name: "selective_scan",
    group: Group::Layer,
    doc: "h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t, y_t = <C_t, h_t> + D u_t for every channel: u, dt [.., T, D], \
          A [D, N], B and C [.., T, N], or [D, N] with {constant_b}, {constant_c}, D [D] -> [.., T, D]. With \
          {softplus} dt is softplus(dt) throughout. The state [.., D, N] may be given as s0 (`_` stands for an absent \
          D before it) and is returned with {state}.",
    example: "\
dim T = 1..64
func @main(%u: f32[T, 6], %dt: f32[T, 6], %A: f32[6, 4], %B: f32[T, 4], %C: f32[T, 4], %D: f32[6]) -> f32[T, 6] {
  %y = selective_scan %u, %dt, %A, %B, %C, %D {softplus}
  return %y
}
",
    operands: &[
        operand("u", OperandKind::Data),
        operand("dt", OperandKind::Beside),
        operand("A", OperandKind::Beside),
        operand("B", OperandKind::Beside),
        operand("C", OperandKind::Beside),
        optional("D", OperandKind::Beside),
        optional("s0", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[
        attr("softplus", AttrKind::Bool, "the step sizes are softplus(dt)"),
        attr("constant_b", AttrKind::Bool, "B is [D, N], the same at every token"),
        attr("constant_c", AttrKind::Bool, "C is [D, N], the same at every token"),
        attr("state", AttrKind::Bool, "return the state after the last token too"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Causal, Law::Streams],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [u, dt] = rules::tokens(call, [0, 1])?;
    let (none, decay) = rules::split(call, 2, 2, "[channels, states]")?;
    let states = &decay[1];
    let mut faults = Vec::new();
    if !none.is_empty() {
        faults.push(Fault::operand(2, format!("expected [{}, states], found {}", u.features, call.tensor(2)?)));
    }
    rules::same(&mut faults, 1, "tokens of u and dt differ", dt.tokens, u.tokens);
    rules::same(&mut faults, 1, "channels of u and dt differ", dt.features, u.features);
    rules::same(&mut faults, 2, "channels of u and A differ", &decay[0], u.features);
    let mut lead = vec![(0, u.lead), (1, dt.lead)];
    for (k, flag) in [(3, "constant_b"), (4, "constant_c")] {
        if call.attrs.flag(flag) {
            rules::exactly(&mut faults, call, k, decay);
            continue;
        }
        let [m] = rules::tokens(call, [k])?;
        lead.push((k, m.lead));
        rules::same(&mut faults, k, "tokens differ from u's", m.tokens, u.tokens);
        rules::same(&mut faults, k, "states differ from A's", m.features, states);
        let (found, data) = (call.tensor(k)?.dtype, call.tensor(0)?.dtype);
        if found != data {
            faults.push(
                Fault::operand(k, format!("element types differ: {data} and {found}"))
                    .help(format!("convert one with `cast %x {{to = {data}}}`")),
            );
        }
    }
    rules::exactly(&mut faults, call, 5, std::slice::from_ref(u.features));
    rules::settle(faults)?;
    recurrence::result_types(
        call,
        call.tensor(0)?.dtype,
        lead,
        [u.tokens.clone(), u.features.clone()],
        [u.features.clone(), states.clone()],
        6,
    )
}

/// B or C for every channel: `[.., 1, T, N]`, or `[D, T, N]` when it is the same at every token.
fn per_channel(b: &mut Builder, call: &Call<'_>, k: usize, constant: bool, tokens: &Dim) -> Step {
    let v = value(call, k)?;
    let v = widen(b, v)?;
    let mut axes = shape(b, v);
    let states = axes.len() - 1;
    if constant {
        axes.insert(states, Dim::constant(1));
        let v = reshape(b, v, axes.clone())?;
        axes[states] = tokens.clone();
        return broadcast(b, v, axes);
    }
    axes.insert(states - 1, Dim::constant(1));
    reshape(b, v, axes)
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let whole = types[0].dims();
    let (batch, tail) = whole.split_at(whole.len() - 2);
    let (tokens, channels) = (&tail[0], &tail[1]);
    let wide = |b: &mut Builder, k: usize| -> Step {
        let v = value(call, k)?;
        widen(b, v)
    };
    let (u, mut dt, decay) = (wide(b, 0)?, wide(b, 1)?, wide(b, 2)?);
    // Batch dims may have groups, which elementwise products know nothing of.
    let u = to_batch(b, u, batch, 2)?;
    dt = to_batch(b, dt, batch, 2)?;
    if call.attrs.flag("softplus") {
        dt = plain(b, "softplus", &[dt])?;
    }
    let write = per_channel(b, call, 3, call.attrs.flag("constant_b"), tokens)?;
    let read = per_channel(b, call, 4, call.attrs.flag("constant_c"), tokens)?;
    let (write, read) = (spread_heads(b, write, batch, 3)?, spread_heads(b, read, batch, 3)?);

    // dt A: [.., D, T, 1] * [D, 1, N].
    let steps = swap_last(b, dt)?;
    let steps = column(b, steps)?;
    let mut axes = shape(b, decay);
    axes.insert(1, Dim::constant(1));
    let decay = reshape(b, decay, axes)?;
    let a = plain(b, "mul", &[steps, decay])?;
    let x = plain(b, "mul", &[dt, u])?;
    let operator = recurrence::semiseparable(b, read, write, Some((a, Decay::Channel)))?;
    let mut y = b.op("apply", &[operator, x], Attrs::new().with_flag("channelwise", true))?;

    let s0 = match call.value(6) {
        None => None,
        Some(s) => {
            let s = widen(b, s)?;
            let s = to_batch(b, s, batch, 2)?;
            // A state [D, N] as D columns.
            Some(column(b, s)?)
        }
    };
    let mut state_batch = batch.to_vec();
    state_batch.push(channels.clone());
    let factors = match s0.is_some() || types.len() > 1 {
        true => Some(Factors::of_logs(b, a, Decay::Channel)?),
        false => None,
    };
    if let Some(s0) = s0 {
        let part = recurrence::from_state(b, read, factors, s0, &state_batch)?;
        let mut axes = shape(b, part);
        axes.pop();
        let part = reshape(b, part, axes)?;
        let part = swap_last(b, part)?;
        y = plain(b, "add", &[y, part])?;
    }
    if call.has(5) {
        let skip = wide(b, 5)?;
        let skipped = plain(b, "mul", &[u, skip])?;
        y = plain(b, "add", &[y, skipped])?;
    }
    y = to_batch(b, y, batch, 2)?;
    let mut results = vec![cast(b, y, types[0].dtype())?];
    if let Some(ty) = types.get(1) {
        let columns = swap_last(b, x)?;
        let columns = column(b, columns)?;
        let s = recurrence::last_state(b, write, columns, factors, s0, &state_batch)?;
        let s = reshape(b, s, ty.dims())?;
        results.push(cast(b, s, ty.dtype())?);
    }
    Ok(results)
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (u, dt, decay) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?, View::new(e, 2, 2)?);
    let (constant_b, constant_c) = (e.attrs.flag("constant_b"), e.attrs.flag("constant_c"));
    let (write, read) = (View::new(e, 3, 2)?, View::new(e, 4, 2)?);
    let (skip, state) = (View::optional(e, 5, 1)?, View::optional(e, 6, 2)?);
    let softplus = e.attrs.flag("softplus");
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, channels, states) = (tail[0], tail[1], decay.axis_len(1));
    let mut y = Vec::with_capacity(shape.iter().product());
    let mut last = Vec::new();
    batch::for_each(out, |at| {
        let [u0, dt0, write0, read0] = [&u, &dt, &write, &read].map(|t| t.base(out, at));
        let mut h = initial(state.as_ref(), out, at, channels * states);
        for t in 0..tokens {
            for d in 0..channels {
                let x = u.at(u0 + t * channels + d);
                let mut step = dt.at(dt0 + t * channels + d);
                if softplus {
                    step = step.max(0.0) + (-step.abs()).exp().ln_1p();
                }
                let mut sum = skip.as_ref().map_or(0.0, |s| s.at(d) * x);
                for n in 0..states {
                    let row = |constant: bool| if constant { d } else { t } * states + n;
                    let cell = &mut h[d * states + n];
                    *cell *= (step * decay.at(d * states + n)).exp();
                    *cell += step * write.at(write0 + row(constant_b)) * x;
                    sum += read.at(read0 + row(constant_c)) * *cell;
                }
                y.push(sum);
            }
        }
        last.extend(h);
    });
    recurrence::results(e, y, last)
}
