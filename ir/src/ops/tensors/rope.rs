//! Positions as angles: `rope` rotates pairs of channels, `sinusoid` is the table of sines and cosines.
//!
//! Angles are position times frequency in f64: in f32 their error grows with the position and passes a hundredth of a
//! turn at positions of some hundred thousand.

use super::axes::{cast, checked, demand_possible, reshape, slice, value};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional, required};
use crate::program::{Builder, Const, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{TensorType, Type};

/// `rope`.
pub static ROPE: Op = Op {
    name: "rope",
    group: Group::Tensor,
    doc: "Rotary positions: of x [.., T, d] the first `dims` channels are taken in pairs, channel m with m + dims/2, \
          or 2m with 2m + 1 when {interleaved}; pair m at position p turns by the angle p * inv_freq[m]; the other \
          channels are kept. pos is integers [.., T], default 0 to T-1, and its leading dims broadcast with x's (write \
          [B, 1, T] for positions of a batch beside heads); inv_freq is [dims/2], default base^(-2m/dims). Angles \
          are formed in f64.",
    example: "\
dim T = 1..8
func @main(%x: f32[2, T, 6]) -> f32[2, T, 6] {
  %y = rope %x {base = 10000.0, dims = 4}
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        optional("pos", OperandKind::Int),
        optional("inv_freq", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[
        attr("base", AttrKind::Float, "base of the default frequencies, default 10000"),
        attr("dims", AttrKind::Int, "how many channels turn, even, default all"),
        attr("interleaved", AttrKind::Bool, "pairs are neighbouring channels, not the two halves"),
    ],
    infer: infer_rope,
    structure: None,
    meaning: Meaning::Eval(eval_rope),
    expand: Some(expand_rope),
    laws: &[Law::LinearIn(0)],
};

/// How many channels turn.
fn turned(call: &Call<'_>) -> Result<usize, Vec<Fault>> {
    let x = call.tensor(0)?;
    if x.rank() < 2 {
        return Err(vec![Fault::operand(0, format!("expected [.., tokens, channels], found {x}"))]);
    }
    let channels = &x.shape[x.rank() - 1];
    let Some(dims) = call.attrs.int("dims").or(channels.as_constant()) else {
        return Err(vec![Fault::attr("dims", format!("must be given when the channels are symbolic ({channels})"))]);
    };
    if dims < 0 || dims % 2 != 0 {
        return Err(vec![Fault::attr(
            "dims",
            format!("channels turn in pairs: expected an even number, found {dims}"),
        )]);
    }
    demand_few("dims", dims)?;
    let kept = checked(channels.sub(&Dim::constant(dims)))?;
    demand_possible(call, "dims", &[(kept, "more channels are to turn than there are")])?;
    Ok(dims as usize)
}

/// The most channels that have a frequency each: far above any model's, so that a slip of the pen is a fault and not a
/// table of that size.
const MOST_CHANNELS: i64 = 1 << 20;

fn demand_few(attr: &'static str, channels: i64) -> Result<(), Vec<Fault>> {
    if channels <= MOST_CHANNELS {
        return Ok(());
    }
    Err(vec![Fault::attr(attr, format!("expected at most {MOST_CHANNELS} channels, found {channels}"))])
}

fn infer_rope(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let dims = turned(call)?;
    let x = call.tensor(0)?;
    let (lead, tail) = x.shape.split_at(x.rank() - 2);
    let mut batch = lead.to_vec();
    if call.has(1) {
        let pos = call.tensor(1)?;
        match pos.shape.split_last() {
            Some((tokens, rest)) if *tokens == tail[0] => {
                batch = batch::join(&[(0, lead), (1, rest)], false).map_err(|faults| {
                    let help = "write positions of a batch beside heads as [B, 1, T]";
                    faults.into_iter().map(|f| f.help(help)).collect::<Vec<_>>()
                })?;
            }
            _ => return Err(vec![Fault::operand(1, format!("`pos` must be [.., {}], found {pos}", tail[0]))]),
        }
    }
    if call.has(2) {
        let frequencies = call.tensor(2)?;
        if frequencies.shape != [Dim::from(dims / 2)] {
            return Err(vec![Fault::operand(2, format!("`inv_freq` must be [{}], found {frequencies}", dims / 2))]);
        }
    }
    batch.extend_from_slice(tail);
    Ok(vec![Type::tensor(x.dtype, batch)])
}

/// base^(-2m/dims) for m below dims/2.
fn frequencies(attrs: &Attrs, dims: usize) -> Vec<f64> {
    let base = attrs.float("base").unwrap_or(10000.0);
    (0..dims / 2).map(|m| base.powf(-(2.0 * m as f64) / dims as f64)).collect()
}

/// The channels of pair m.
fn pair(m: usize, dims: usize, interleaved: bool) -> (usize, usize) {
    if interleaved { (2 * m, 2 * m + 1) } else { (m, m + dims / 2) }
}

fn eval_rope(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, pos, given) = (e.tensor(0)?, e.tensor_if(1)?, e.tensor_if(2)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, channels) = (tail[0], tail[1]);
    let dims = e.attrs.int("dims").and_then(|d| usize::try_from(d).ok()).unwrap_or(channels);
    if dims > channels {
        return Err(format!("{dims} channels are to turn and there are {channels}"));
    }
    let frequencies = match given {
        Some(f) => (0..f.len()).map(|m| f.at(m)).collect(),
        None => frequencies(e.attrs, dims),
    };
    let interleaved = e.attrs.flag("interleaved");
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = batch::offset(out, at, &x.shape[..x.shape.len() - 2]) * tokens;
        let p0 = pos.as_ref().map_or(0, |p| batch::offset(out, at, &p.shape[..p.shape.len() - 1]) * tokens);
        for i in 0..tokens {
            let mut row: Vec<f64> = (0..channels).map(|c| x.at((x0 + i) * channels + c)).collect();
            let p = pos.as_ref().map_or(i as f64, |p| p.at(p0 + i));
            for (m, f) in frequencies.iter().enumerate() {
                let (a, b) = pair(m, dims, interleaved);
                let (sin, cos) = (p * f).sin_cos();
                (row[a], row[b]) = (row[a] * cos - row[b] * sin, row[b] * cos + row[a] * sin);
            }
            y.extend(row);
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}

/// Sines and cosines in `dtype` of positions [..] times frequencies [m]: [.., m].
fn angles(b: &mut Builder, pos: ValueId, frequencies: ValueId, dtype: DType) -> Result<[ValueId; 2], Vec<Fault>> {
    let mut column = b.ty(pos).dims();
    column.push(Dim::constant(1));
    let pos = cast(b, pos, DType::F64)?;
    let pos = reshape(b, pos, column)?;
    let frequencies = cast(b, frequencies, DType::F64)?;
    let angle = b.op("mul", &[pos, frequencies], Attrs::new())?;
    let (sin, cos) = (b.op("sin", &[angle], Attrs::new())?, b.op("cos", &[angle], Attrs::new())?);
    Ok([cast(b, sin, dtype)?, cast(b, cos, dtype)?])
}

fn counted(b: &mut Builder, len: &Dim) -> Result<ValueId, Vec<Fault>> {
    b.op_typed("iota", &[], Attrs::new(), Some(Type::tensor(DType::I64, vec![len.clone()])))
}

fn vector(b: &mut Builder, v: Vec<f64>) -> ValueId {
    let ty = Type::tensor(DType::F64, vec![Dim::from(v.len())]);
    b.constant(None, Const::Dense(v), ty)
}

/// [.., m] and [.., m] as the even and the odd channels of [.., 2m].
fn interleave(b: &mut Builder, parts: [ValueId; 2]) -> Result<ValueId, Vec<Fault>> {
    let mut dims = b.ty(parts[0]).dims();
    dims.push(Dim::constant(1));
    let parts = [reshape(b, parts[0], dims.clone())?, reshape(b, parts[1], dims.clone())?];
    let pairs = b.op("concat", &parts, Attrs::new().with_int("axis", -1))?;
    dims.pop();
    if let Some(last) = dims.last_mut() {
        *last = checked(last.scale(2))?;
    }
    reshape(b, pairs, dims)
}

fn expand_rope(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let dims = turned(call)?;
    let TensorType { dtype, shape } = call.tensor(0)?.clone();
    let result = infer_rope(call)?.remove(0);
    let wide = dtype.accumulator();
    let (tokens, channels) = (&shape[shape.len() - 2], &shape[shape.len() - 1]);
    let pos = match call.value(1) {
        Some(pos) => pos,
        None => counted(b, tokens)?,
    };
    let frequencies = match call.value(2) {
        Some(f) => f,
        None => vector(b, frequencies(call.attrs, dims)),
    };
    let [sin, cos] = angles(b, pos, frequencies, wide)?;
    let mut x = value(call, 0)?;
    if result.dims() != shape {
        x = b.op("broadcast", &[x], Attrs::new().with_dims("shape", result.dims()))?;
    }
    let (half, all) = (Dim::from(dims / 2), Dim::from(dims));
    let zero = Dim::constant(0);
    let turning = slice(b, x, -1, zero.clone(), all.clone())?;
    let turning = cast(b, turning, wide)?;
    let interleaved = call.attrs.flag("interleaved");
    let halves = if interleaved {
        let mut pairs = b.ty(turning).dims();
        pairs.pop();
        let mut column = pairs.clone();
        pairs.extend([half.clone(), Dim::constant(2)]);
        column.push(half);
        let pairs = reshape(b, turning, pairs)?;
        let even = slice(b, pairs, -1, zero, Dim::constant(1))?;
        let odd = slice(b, pairs, -1, Dim::constant(1), Dim::constant(2))?;
        [reshape(b, even, column.clone())?, reshape(b, odd, column)?]
    } else {
        [slice(b, turning, -1, zero, half.clone())?, slice(b, turning, -1, half, all.clone())?]
    };
    let mut product = |v: ValueId, w: ValueId| b.op("mul", &[v, w], Attrs::new());
    let (a_cos, b_sin) = (product(halves[0], cos)?, product(halves[1], sin)?);
    let (b_cos, a_sin) = (product(halves[1], cos)?, product(halves[0], sin)?);
    let first = b.op("sub", &[a_cos, b_sin], Attrs::new())?;
    let second = b.op("add", &[b_cos, a_sin], Attrs::new())?;
    let turned = if interleaved {
        interleave(b, [first, second])?
    } else {
        b.op("concat", &[first, second], Attrs::new().with_int("axis", -1))?
    };
    let turned = cast(b, turned, dtype)?;
    if *channels == all {
        return Ok(vec![turned]);
    }
    let kept = slice(b, x, -1, all, channels.clone())?;
    Ok(vec![b.op("concat", &[turned, kept], Attrs::new().with_int("axis", -1))?])
}

/// `sinusoid`.
pub static SINUSOID: Op = Op {
    name: "sinusoid",
    group: Group::Tensor,
    doc: "The table of positions [len, dim]: at position p and pair m, sin(p base^(-2m/dim)) in channel 2m and the \
          cosine in channel 2m + 1; of f32 unless the written type says otherwise. Angles are formed in f64.",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 4]) -> f32[T, 4] {
  %p = sinusoid {len = T, dim = 4}
  %y = add %x, %p
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[
        required("len", AttrKind::Dim, "the number of positions"),
        required("dim", AttrKind::Int, "the number of channels, even"),
        attr("base", AttrKind::Float, "base of the frequencies, default 10000"),
    ],
    infer: infer_sinusoid,
    structure: None,
    meaning: Meaning::Eval(eval_sinusoid),
    expand: Some(expand_sinusoid),
    laws: &[],
};

fn infer_sinusoid(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let len = call.attrs.dim("len").cloned().unwrap_or_default();
    let dim = call.attrs.int("dim").unwrap_or(0);
    demand_possible(call, "len", &[(len.clone(), "the number of positions is negative")])?;
    if dim < 0 || dim % 2 != 0 {
        return Err(vec![Fault::attr(
            "dim",
            format!("sines and cosines alternate: expected an even number, found {dim}"),
        )]);
    }
    demand_few("dim", dim)?;
    let dtype = call.written_type().map_or(DType::F32, Type::dtype);
    if !dtype.is_float() {
        return Err(vec![Fault::result(format!("`sinusoid` gives reals, {dtype} is written"))]);
    }
    Ok(vec![Type::tensor(dtype, vec![len, Dim::constant(dim)])])
}

fn eval_sinusoid(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let shape = e.result_shape(0)?;
    let frequencies = frequencies(e.attrs, shape[1]);
    let mut y = Vec::with_capacity(shape.iter().product());
    for p in 0..shape[0] {
        for f in &frequencies {
            let (sin, cos) = (p as f64 * f).sin_cos();
            y.extend([sin, cos]);
        }
    }
    Ok(vec![Tensor::floats(&shape, y).into()])
}

fn expand_sinusoid(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let result = infer_sinusoid(call)?.remove(0);
    let dims = result.dims();
    let channels = dims[1].as_constant().and_then(|d| usize::try_from(d).ok()).unwrap_or(0);
    let pos = counted(b, &dims[0])?;
    let frequencies = vector(b, frequencies(call.attrs, channels));
    let parts = angles(b, pos, frequencies, result.dtype())?;
    Ok(vec![interleave(b, parts)?])
}
