//! Short mixing along tokens with given taps: `token_shift`, `short_conv` (a filter a channel), `conv1d` (a matrix a
//! tap).

use super::axes::{cast, checked, demand_possible, reshape, slice, value};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{TensorType, Type};

/// A tensor [.., tokens, features]: leading dims, tokens, features.
fn tokens<'a>(call: &Call<'a>, k: usize) -> Result<(&'a [Dim], &'a Dim, &'a Dim), Vec<Fault>> {
    let x = call.tensor(k)?;
    match x.shape.as_slice() {
        [lead @ .., tokens, features] => Ok((lead, tokens, features)),
        _ => Err(vec![Fault::operand(k, format!("expected [.., tokens, features], found {x}"))]),
    }
}

/// An attribute that is a number of at least 1, default 1.
fn positive(call: &Call<'_>, name: &'static str) -> Result<i64, Vec<Fault>> {
    match call.attrs.int(name).unwrap_or(1) {
        n if n >= 1 => Ok(n),
        n => Err(vec![Fault::attr(name, format!("expected at least 1, found {n}"))]),
    }
}

/// The same in a meaning.
fn positive_at(attrs: &Attrs, name: &str) -> Result<usize, String> {
    let n = attrs.int(name).unwrap_or(1);
    usize::try_from(n).ok().filter(|&n| n >= 1).ok_or_else(|| format!("`{name}` is {n}"))
}

/// `token_shift`.
pub static TOKEN_SHIFT: Op = Op {
    name: "token_shift",
    group: Group::Tensor,
    doc: "Tokens moved towards the end, zeros entering: y[i] = x[i - by]; x [.., T, D]. A negative number moves \
          towards the start; a dim expression must not be negative at the call.",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 3]) -> f32[T, 3] {
  %y = token_shift %x {by = 1}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[attr("by", AttrKind::Dim, "how many tokens, default 1")],
    infer: infer_token_shift,
    structure: None,
    meaning: Meaning::Eval(eval_token_shift),
    expand: Some(expand_token_shift),
    laws: &[Law::LinearIn(0)],
};

fn shift(attrs: &Attrs) -> Dim {
    attrs.dim("by").cloned().unwrap_or_else(|| Dim::constant(1))
}

/// Dims that a call of `token_shift` needs not to be negative.
pub fn shift_requirements(attrs: &Attrs) -> Vec<Dim> {
    let by = shift(attrs);
    if by.as_constant().is_some() { Vec::new() } else { vec![by] }
}

fn infer_token_shift(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    tokens(call, 0)?;
    for by in shift_requirements(call.attrs) {
        demand_possible(call, "by", &[(by, "a shift by a dim expression must not be negative")])?;
    }
    Ok(vec![Type::Tensor(call.tensor(0)?.clone())])
}

fn eval_token_shift(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let by = e.attr_dim("by")?.unwrap_or(1);
    if let Some(d) = shift_requirements(e.attrs).first().filter(|_| by < 0) {
        return Err(format!("shift by {d}, which is {by}"));
    }
    let n = x.shape.len();
    let (len, features) = (x.shape[n - 2], x.shape[n - 1]);
    let shifted = super::axes::pick(&x, &x.shape, 0.0, |at| {
        let i = (at[n - 2] as i64).checked_sub(by).and_then(|i| usize::try_from(i).ok()).filter(|&i| i < len)?;
        let lead = batch::offset(&x.shape[..n - 2], &at[..n - 2], &x.shape[..n - 2]);
        Some((lead * len + i) * features + at[n - 1])
    });
    Ok(vec![shifted.into()])
}

fn expand_token_shift(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (x, by) = (value(call, 0)?, shift(call.attrs));
    let len = tokens(call, 0)?.1.clone();
    let pad = Attrs::new().with_int("axis", -2);
    if by.as_constant().is_some_and(|n| n < 0) {
        let by = checked(by.scale(-1))?;
        let padded = b.op("pad", &[x], pad.with_dim("after", by.clone()))?;
        let end = checked(len.add(&by))?;
        return Ok(vec![slice(b, padded, -2, by, end)?]);
    }
    let padded = b.op("pad", &[x], pad.with_dim("before", by))?;
    Ok(vec![slice(b, padded, -2, Dim::constant(0), len)?])
}

/// `short_conv`.
pub static SHORT_CONV: Op = Op {
    name: "short_conv",
    group: Group::Tensor,
    doc: "A filter of K taps a channel: x [.., T, D], w [D, K], b [D], 0 when absent. With {causal} y[i] = b + sum_t \
          w[:,t] x[i - (K-1-t) dilation], else centred: x[i + (t - floor((K-1)/2)) dilation]; zeros outside. The \
          causal form streams: s0 [.., (K-1) dilation, D] are the tokens before the first, and with {state} the \
          second result are the last that many, of s0's element type where it is given. K is a number.",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 3], %w: f32[3, 4], %b: f32[3], %s0: f32[3, 3]) -> (f32[T, 3], f32[3, 3]) {
  %y, %s = short_conv %x, %w, %b, %s0 {causal, state}
  return %y, %s
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("w", OperandKind::Data),
        optional("b", OperandKind::Beside),
        optional("s0", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[
        attr("causal", AttrKind::Bool, "only tokens up to the present one"),
        attr("dilation", AttrKind::Int, "the distance of taps, default 1"),
        attr("state", AttrKind::Bool, "a second result: the tokens that the next call needs"),
    ],
    infer: infer_short_conv,
    structure: None,
    meaning: Meaning::Eval(eval_short_conv),
    expand: Some(expand_short_conv),
    laws: &[Law::Streams],
};

/// The most taps: an expansion has a term a tap; longer filters are `long_conv`'s.
const MOST_TAPS: i64 = 256;

/// K and the number of tokens before the first that the causal form reads.
fn taps(call: &Call<'_>) -> Result<(i64, i64), Vec<Fault>> {
    let w = call.tensor(1)?;
    let taps = match w.shape.as_slice() {
        [_, k] => k.as_constant().unwrap_or(-1),
        _ => -1,
    };
    if !(1..=MOST_TAPS).contains(&taps) {
        return Err(vec![
            Fault::operand(1, format!("`w` must be [channels, taps] with 1 to {MOST_TAPS} taps, found {w}"))
                .help("`long_conv` takes longer filters"),
        ]);
    }
    match (taps - 1).checked_mul(positive(call, "dilation")?) {
        Some(before) => Ok((taps, before)),
        None => Err(vec![Fault::attr("dilation", "the filter is longer than any sequence")]),
    }
}

fn infer_short_conv(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (lead, _, features) = tokens(call, 0)?;
    let x = call.tensor(0)?;
    let (_, before) = taps(call)?;
    let w = call.tensor(1)?;
    let mut faults = Vec::new();
    if w.shape[0] != *features {
        faults.push(Fault::operand(1, format!("x has {features} channels, w {}", w.shape[0])));
    }
    if let Some(b) = call.ty(2).and_then(Type::as_tensor).filter(|b| b.shape != [features.clone()]) {
        faults.push(Fault::operand(2, format!("`b` must be [{features}], found {b}")));
    }
    let causal = call.attrs.flag("causal");
    if call.attrs.flag("state") && !causal {
        faults.push(Fault::attr("state", "only the causal form has a state").help("add `causal`"));
    }
    if call.has(3) {
        let s = call.tensor(3)?;
        let fits = matches!(s.shape.as_slice(), [.., n, d] if n.is(before) && d == features);
        if !causal {
            faults.push(Fault::operand(3, "only the causal form has a state").help("add `causal`"));
        } else if !fits {
            faults.push(Fault::operand(3, format!("`s0` must be [.., {before}, {features}], found {s}")));
        } else if batch::join(&[(0, lead), (3, &s.shape[..s.rank() - 2])], false)? != lead {
            faults.push(Fault::operand(3, format!("the batch dims of {s} are more than x's")));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut types = vec![Type::Tensor(x.clone())];
    if call.attrs.flag("state") {
        types.push(state_type(call, before)?);
    }
    Ok(types)
}

fn state_type(call: &Call<'_>, before: i64) -> Result<Type, Vec<Fault>> {
    let (lead, _, features) = tokens(call, 0)?;
    let dtype = call.ty(3).map_or(call.tensor(0)?.dtype, Type::dtype);
    let mut shape = lead.to_vec();
    shape.extend([Dim::constant(before), features.clone()]);
    Ok(Type::tensor(dtype, shape))
}

fn eval_short_conv(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, w, bias, s0) = (e.tensor(0)?, e.tensor(1)?, e.tensor_if(2)?, e.tensor_if(3)?);
    let (lead, tail) = x.shape.split_at(x.shape.len() - 2);
    let (len, features, k) = (tail[0], tail[1], w.shape[1]);
    let dilation = positive_at(e.attrs, "dilation")?;
    let before = (k - 1) * dilation;
    // The offset of tap 0 from the present token.
    let first = if e.attrs.flag("causal") { before } else { (k - 1) / 2 * dilation } as i64;
    let (mut y, mut state) = (Vec::with_capacity(x.len()), Vec::new());
    batch::for_each(lead, |at| {
        let x0 = batch::offset(lead, at, lead) * len;
        let s0_at = s0.as_ref().map(|s| batch::offset(lead, at, &s.shape[..s.shape.len() - 2]) * before);
        let read = |i: i64, d: usize| match usize::try_from(i) {
            Ok(i) if i < len => x.at((x0 + i) * features + d),
            Ok(_) => 0.0,
            Err(_) => match (&s0, s0_at, usize::try_from(i + before as i64)) {
                (Some(s), Some(start), Ok(row)) => s.at((start + row) * features + d),
                _ => 0.0,
            },
        };
        for i in 0..len as i64 {
            for d in 0..features {
                let taps = (0..k).map(|t| w.at(d * k + t) * read(i - first + (t * dilation) as i64, d));
                y.push(bias.as_ref().map_or(0.0, |b| b.at(d)) + taps.sum::<f64>());
            }
        }
        for i in len as i64 - before as i64..len as i64 {
            state.extend((0..features).map(|d| read(i, d)));
        }
    });
    let mut results = vec![Tensor::floats(&x.shape, y).into()];
    if e.attrs.flag("state") {
        results.push(Tensor::floats(&[lead, &[before, features]].concat(), state).into());
    }
    Ok(results)
}

fn expand_short_conv(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (taps, before) = taps(call)?;
    let dilation = positive(call, "dilation")?;
    let TensorType { dtype, shape } = call.tensor(0)?.clone();
    let (_, len, features) = tokens(call, 0)?;
    let wide = dtype.accumulator();
    let x = cast(b, value(call, 0)?, wide)?;
    let w = cast(b, value(call, 1)?, wide)?;
    let joined = match call.value(3) {
        Some(s) => {
            let s = cast(b, s, wide)?;
            let mut full = shape.clone();
            full[shape.len() - 2] = Dim::constant(before);
            let s = if b.ty(s).dims() == full {
                s
            } else {
                b.op("broadcast", &[s], Attrs::new().with_dims("shape", full))?
            };
            b.op("concat", &[s, x], Attrs::new().with_int("axis", -2))?
        }
        None => {
            let left = if call.attrs.flag("causal") { before } else { (taps - 1) / 2 * dilation };
            let pad = Attrs::new().with_int("axis", -2).with_int("before", left).with_int("after", before - left);
            b.op("pad", &[x], pad)?
        }
    };
    let mut sum = match call.value(2) {
        Some(bias) => Some(cast(b, bias, wide)?),
        None => None,
    };
    for t in 0..taps {
        let start = Dim::constant(t * dilation);
        let end = checked(start.add(len))?;
        let moved = slice(b, joined, -2, start, end)?;
        let column = slice(b, w, 1, Dim::constant(t), Dim::constant(t + 1))?;
        let column = reshape(b, column, vec![features.clone()])?;
        let term = b.op("mul", &[moved, column], Attrs::new())?;
        sum = Some(match sum {
            Some(sum) => b.op("add", &[sum, term], Attrs::new())?,
            None => term,
        });
    }
    let y = sum.ok_or_else(|| vec![Fault::operand(1, "a filter without taps")])?;
    let mut results = vec![cast(b, y, dtype)?];
    if call.attrs.flag("state") {
        let end = checked(len.add(&Dim::constant(before)))?;
        let last = slice(b, joined, -2, len.clone(), end)?;
        results.push(cast(b, last, state_type(call, before)?.dtype())?);
    }
    Ok(results)
}

/// `conv1d`.
pub static CONV1D: Op = Op {
    name: "conv1d",
    group: Group::Tensor,
    doc: "Convolution over tokens: x [.., T, c], w [d, c/groups, K], b [d], 0 when absent -> [.., T', d]: y[i,o] = b[o] \
          + sum_{e,t} w[o,e,t] x[i stride - before + t dilation, g c/groups + e], o in group g = floor(o groups / d), \
          zeros outside; T' = ceil((T + before + after - (K-1) dilation) / stride). Half sums accumulate in f32.",
    example: "\
dim T = 3..8
func @main(%x: f32[T, 4], %w: f32[6, 2, 3], %b: f32[6]) -> f32[ceil(T/2), 6] {
  %y = conv1d %x, %w, %b {stride = 2, before = 1, after = 1, groups = 2}
  return %y
}
",
    operands: &[operand("x", OperandKind::Data), operand("w", OperandKind::Data), optional("b", OperandKind::Beside)],
    variadic: false,
    attrs: &[
        attr("stride", AttrKind::Int, "the distance of windows, default 1"),
        attr("dilation", AttrKind::Int, "the distance of taps, default 1"),
        attr("before", AttrKind::Dim, "zeros before the first token, default 0"),
        attr("after", AttrKind::Dim, "zeros after the last token, default 0"),
        attr("groups", AttrKind::Int, "groups of channels that do not meet, default 1"),
    ],
    infer: infer_conv1d,
    structure: None,
    meaning: Meaning::Eval(eval_conv1d),
    expand: None,
    laws: &[],
};

fn infer_conv1d(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (lead, len, c) = tokens(call, 0)?;
    let (x, w) = (call.tensor(0)?, call.tensor(1)?);
    let [d, c_in_group, k] = w.shape.as_slice() else {
        return Err(vec![Fault::operand(1, format!("`w` must be [outputs, inputs of a group, taps], found {w}"))]);
    };
    let (stride, dilation, groups) =
        (positive(call, "stride")?, positive(call, "dilation")?, positive(call, "groups")?);
    let mut faults = Vec::new();
    if checked(c_in_group.scale(groups))? != *c {
        faults.push(Fault::operand(1, format!("x has {c} channels, w takes {groups} groups of {c_in_group}")));
    }
    if groups > 1 && d.as_constant().is_none_or(|d| d % groups != 0) {
        faults.push(Fault::attr("groups", format!("{d} outputs do not divide into {groups} groups")));
    }
    if k.is(0) {
        faults.push(Fault::operand(1, "a filter without taps"));
    }
    if let Some(b) = call.ty(2).and_then(Type::as_tensor).filter(|b| b.shape != [d.clone()]) {
        faults.push(Fault::operand(2, format!("`b` must be [{d}], found {b}")));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let [before, after] = super::slices::pad_widths(call.attrs);
    demand_possible(call, "before", &[(before.clone(), "a number of zeros is negative")])?;
    demand_possible(call, "after", &[(after.clone(), "a number of zeros is negative")])?;
    let span = k.sub(&Dim::constant(1)).and_then(|k| k.scale(dilation));
    let windows = span.and_then(|span| len.add(&before)?.add(&after)?.sub(&span));
    let windows = checked(windows)?;
    if windows.bounds(call.bounds).is_ok_and(|(_, high)| high < 0) {
        return Err(vec![Fault::operand(1, format!("the filter's {k} taps span more than the padded tokens"))]);
    }
    let mut shape = lead.to_vec();
    shape.extend([checked(windows.ceil_div(stride))?, d.clone()]);
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval_conv1d(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, w, bias) = (e.tensor(0)?, e.tensor(1)?, e.tensor_if(2)?);
    let shape = e.result_shape(0)?;
    let (lead, tail) = shape.split_at(shape.len() - 2);
    let (len, c) = (x.shape[lead.len()], x.shape[lead.len() + 1]);
    let (d, in_group, k) = (w.shape[0], w.shape[1], w.shape[2]);
    let (stride, dilation) = (positive_at(e.attrs, "stride")?, positive_at(e.attrs, "dilation")?);
    let outputs = (d / positive_at(e.attrs, "groups")?).max(1);
    let [before, after] = super::slices::pad_widths(e.attrs);
    let (before, _) = (e.dim(&before)?, e.dim(&after)?);
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(lead, |at| {
        let x0 = batch::offset(lead, at, lead) * len;
        for i in 0..tail[0] {
            for o in 0..d {
                let mut sum = bias.as_ref().map_or(0.0, |b| b.at(o));
                for t in 0..k {
                    let Some(row) = (i * stride + t * dilation).checked_sub(before).filter(|&r| r < len) else {
                        continue;
                    };
                    for f in 0..in_group {
                        let channel = o / outputs * in_group + f;
                        sum += w.at((o * in_group + f) * k + t) * x.at((x0 + row) * c + channel);
                    }
                }
                y.push(sum);
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
