//! Products of matrices: `matmul`, and `linear` and `lora` for weights stored as [outputs, inputs].

use super::axes::{cast, scalar, value};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{TensorType, Type};

/// `matmul`.
pub static MATMUL: Op = Op {
    name: "matmul",
    group: Group::Tensor,
    doc: "a b over the last two axes: a [.., m, k], b [.., k, n] -> [.., m, n]; {transpose_a} reads a as [.., k, m], \
          {transpose_b} b as [.., n, k]. Batch dims broadcast: missing leading ones count as 1, each is equal or 1, \
          and the last may divide the greater one, so that head h reads group h / (H/Hg). Half sums accumulate in f32.",
    example: "\
func @main(%a: f32[2, 3, 4], %b: f32[5, 4]) -> f32[2, 3, 5] {
  %y = matmul %a, %b {transpose_b}
  return %y
}
",
    operands: &[operand("a", OperandKind::Data), operand("b", OperandKind::Data)],
    variadic: false,
    attrs: &[
        attr("transpose_a", AttrKind::Bool, "a is given as [.., k, m]"),
        attr("transpose_b", AttrKind::Bool, "b is given as [.., n, k]"),
    ],
    infer: infer_matmul,
    structure: None,
    meaning: Meaning::Eval(eval_matmul),
    expand: None,
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

/// Batch dims, rows and columns of a matrix operand as the product reads it.
fn matrix<'a>(call: &Call<'a>, k: usize, transposed: &str) -> Result<(&'a [Dim], &'a Dim, &'a Dim), Vec<Fault>> {
    let t = call.tensor(k)?;
    if t.rank() < 2 {
        return Err(vec![
            Fault::operand(k, format!("expected [.., rows, columns], found {t}"))
                .help("give a vector a second axis with `reshape`"),
        ]);
    }
    let (lead, tail) = t.shape.split_at(t.rank() - 2);
    Ok(if call.attrs.flag(transposed) { (lead, &tail[1], &tail[0]) } else { (lead, &tail[0], &tail[1]) })
}

fn infer_matmul(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (a_lead, m, k) = matrix(call, 0, "transpose_a")?;
    let (b_lead, l, n) = matrix(call, 1, "transpose_b")?;
    if k != l {
        let mut fault = Fault::operand(1, format!("a has {k} columns, b has {l} rows"));
        if k == n {
            fault = fault.help("`transpose_b` reads b as [.., columns, rows]");
        }
        return Err(vec![fault]);
    }
    let mut shape = batch::join(&[(0, a_lead), (1, b_lead)], true)?;
    shape.extend([m.clone(), n.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn eval_matmul(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, b) = (e.tensor(0)?, e.tensor(1)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (m, n) = (tail[0], tail[1]);
    // Steps of (row of a, common) and (common, column of b).
    let steps = |t: &Tensor, transposed: bool| {
        let last = t.shape[t.shape.len() - 1];
        if transposed { (1, last) } else { (last, 1) }
    };
    let (am, ak) = steps(&a, e.attrs.flag("transpose_a"));
    let (bk, bn) = steps(&b, e.attrs.flag("transpose_b"));
    let (a_lead, a_tail) = a.shape.split_at(a.shape.len() - 2);
    let (b_lead, b_tail) = b.shape.split_at(b.shape.len() - 2);
    let k = if e.attrs.flag("transpose_a") { a_tail[0] } else { a_tail[1] };
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let a0 = batch::offset(out, at, a_lead) * a_tail[0] * a_tail[1];
        let b0 = batch::offset(out, at, b_lead) * b_tail[0] * b_tail[1];
        for i in 0..m {
            for j in 0..n {
                y.push((0..k).map(|t| a.at(a0 + i * am + t * ak) * b.at(b0 + t * bk + j * bn)).sum::<f64>());
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}

/// `linear`.
pub static LINEAR: Op = Op {
    name: "linear",
    group: Group::Tensor,
    doc: "x w^T + bias: x [.., D], w [O, D], bias [O] -> [.., O]. Half sums accumulate in f32.",
    example: "\
func @main(%x: f32[5, 4], %w: f32[3, 4], %bias: f32[3]) -> f32[5, 3] {
  %y = linear %x, %w, %bias
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("w", OperandKind::Data),
        optional("bias", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[],
    infer: infer_linear,
    structure: None,
    meaning: Meaning::Eval(eval_linear),
    expand: None,
    laws: &[],
};

/// The faults of a weight that is not [outputs, inputs] for these inputs, or its outputs.
fn outputs<'a>(call: &Call<'a>, k: usize, inputs: &Dim) -> Result<&'a Dim, Vec<Fault>> {
    let w = call.tensor(k)?;
    let name = call.op.operands[k].name;
    match w.shape.as_slice() {
        [o, d] if d == inputs => Ok(o),
        [o, d] if o == inputs => Err(vec![
            Fault::operand(k, format!("`{name}` must be [outputs, {inputs}], found [{o}, {d}]"))
                .help(format!("transpose it: `transpose %{name} {{perm = [1, 0]}}`")),
        ]),
        _ => Err(vec![Fault::operand(k, format!("`{name}` must be [outputs, {inputs}], found {w}"))]),
    }
}

fn features<'a>(call: &Call<'a>) -> Result<(&'a TensorType, &'a Dim), Vec<Fault>> {
    let x = call.tensor(0)?;
    match x.shape.last() {
        Some(d) => Ok((x, d)),
        None => Err(vec![Fault::operand(0, format!("expected [.., features], found {x}"))]),
    }
}

fn with_features(x: &TensorType, features: &Dim) -> Type {
    let mut shape = x.shape[..x.rank() - 1].to_vec();
    shape.push(features.clone());
    Type::tensor(x.dtype, shape)
}

fn infer_linear(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (x, d) = features(call)?;
    let o = outputs(call, 1, d)?;
    if call.has(2) {
        let bias = call.tensor(2)?;
        if bias.shape != [o.clone()] {
            return Err(vec![Fault::operand(2, format!("`bias` must be [{o}], found {bias}"))]);
        }
    }
    Ok(vec![with_features(x, o)])
}

/// x w^T for w [O, D].
fn times_transposed(x: &Tensor, w: &Tensor) -> Vec<f64> {
    let (o, d) = (w.shape[0], w.shape[1]);
    let rows: usize = x.shape[..x.shape.len() - 1].iter().product();
    let mut y = Vec::with_capacity(rows * o);
    for i in 0..rows {
        for j in 0..o {
            y.push((0..d).map(|t| x.at(i * d + t) * w.at(j * d + t)).sum::<f64>());
        }
    }
    y
}

fn eval_linear(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, w, bias) = (e.tensor(0)?, e.tensor(1)?, e.tensor_if(2)?);
    let mut y = times_transposed(&x, &w);
    if let Some(bias) = bias {
        for (k, v) in y.iter_mut().enumerate() {
            *v += bias.at(k % bias.len());
        }
    }
    Ok(vec![Tensor::floats(&e.result_shape(0)?, y).into()])
}

/// `lora`.
pub static LORA: Op = Op {
    name: "lora",
    group: Group::Tensor,
    doc: "x w^T + alpha/r (x a^T) b^T: a linear map with a correction of rank r; x [.., D], w [O, D], a [r, D], \
          b [O, r] -> [.., O].",
    example: "\
func @main(%x: f32[5, 4], %w: f32[3, 4], %a: f32[2, 4], %b: f32[3, 2]) -> f32[5, 3] {
  %y = lora %x, %w, %a, %b {alpha = 16.0}
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("w", OperandKind::Data),
        operand("a", OperandKind::Data),
        operand("b", OperandKind::Data),
    ],
    variadic: false,
    attrs: &[required("alpha", AttrKind::Float, "strength of the correction, divided by its rank")],
    infer: infer_lora,
    structure: None,
    meaning: Meaning::Eval(eval_lora),
    expand: Some(expand_lora),
    laws: &[Law::LinearIn(0)],
};

fn infer_lora(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (x, d) = features(call)?;
    let o = outputs(call, 1, d)?;
    let r = outputs(call, 2, d)?;
    let corrected = outputs(call, 3, r)?;
    if corrected != o {
        return Err(vec![Fault::operand(3, format!("`b` must be [{o}, {r}], found {}", call.tensor(3)?))]);
    }
    if r.as_constant().is_none() {
        return Err(vec![Fault::operand(2, format!("the rank must be a number, found {r}"))]);
    }
    Ok(vec![with_features(x, o)])
}

/// alpha / r; 0 for rank 0, whose correction is a sum over nothing.
fn lora_scale(attrs: &Attrs, rank: i64) -> f64 {
    if rank == 0 { 0.0 } else { attrs.float("alpha").unwrap_or(1.0) / rank as f64 }
}

fn eval_lora(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, w, a, b) = (e.tensor(0)?, e.tensor(1)?, e.tensor(2)?, e.tensor(3)?);
    let scale = lora_scale(e.attrs, a.shape[0] as i64);
    let mut inner = x.shape.clone();
    if let Some(last) = inner.last_mut() {
        *last = a.shape[0];
    }
    let low = Tensor::floats(&inner, times_transposed(&x, &a));
    let y = times_transposed(&x, &w).into_iter().zip(times_transposed(&low, &b)).map(|(y, c)| y + scale * c);
    Ok(vec![Tensor::floats(&e.result_shape(0)?, y.collect()).into()])
}

fn expand_lora(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let (x, w, down, up) = (value(call, 0)?, value(call, 1)?, value(call, 2)?, value(call, 3)?);
    let dtype = call.tensor(0)?.dtype;
    let rank = call.tensor(2)?.shape[0].as_constant().unwrap_or(0);
    let main = b.op("linear", &[x, w], Attrs::new())?;
    let low = b.op("linear", &[x, down], Attrs::new())?;
    let correction = b.op("linear", &[low, up], Attrs::new())?;
    // The factor is applied in the type that sums are held in: a half does not hold alpha/r exactly.
    let wide = cast(b, correction, dtype.accumulator())?;
    let scale = scalar(b, lora_scale(call.attrs, rank), dtype.accumulator());
    let scaled = b.op("mul", &[wide, scale], Attrs::new())?;
    let wide_main = cast(b, main, dtype.accumulator())?;
    let sum = b.op("add", &[wide_main, scaled], Attrs::new())?;
    Ok(vec![cast(b, sum, dtype)?])
}
