//! Normalisation of features. In all three eps is inside the root.

use super::axes::{axis_at, axis_of, cast, map_real_lanes, scalar, value};
use crate::attr::{AttrKind, AttrSpec, Attrs};
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `layer_norm`.
pub static LAYER_NORM: Op = Op {
    name: "layer_norm",
    group: Group::Tensor,
    doc: "(x - mean) / sqrt(variance + eps) * g + b over the last axis; x [.., D], g and b [D], 1 and 0 when absent; \
          the variance is the mean of squared distances from the mean.",
    example: "\
func @main(%x: f32[5, 4], %g: f32[4], %b: f32[4]) -> f32[5, 4] {
  %y = layer_norm %x, %g, %b {eps = 1e-5}
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        optional("g", OperandKind::Beside),
        optional("b", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[attr("eps", AttrKind::Float, "added to the variance, default 1e-5")],
    infer: infer_features,
    structure: None,
    meaning: Meaning::Eval(eval_layer_norm),
    expand: None,
    laws: &[],
};

/// `rms_norm`.
pub static RMS_NORM: Op = Op {
    name: "rms_norm",
    group: Group::Tensor,
    doc: "x / sqrt(mean of x^2 + eps) * g over the last axis; x [.., D], g [D], 1 when absent.",
    example: "\
func @main(%x: f32[5, 4], %g: f32[4]) -> f32[5, 4] {
  %y = rms_norm %x, %g
  return %y
}
",
    operands: &[operand("x", OperandKind::Data), optional("g", OperandKind::Beside)],
    variadic: false,
    attrs: &[attr("eps", AttrKind::Float, "added to the mean square, default 1e-6")],
    infer: infer_features,
    structure: None,
    meaning: Meaning::Eval(eval_rms_norm),
    expand: None,
    laws: &[],
};

fn infer_features(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let x = call.tensor(0)?;
    let Some(d) = x.shape.last() else {
        return Err(vec![Fault::operand(0, format!("expected [.., features], found {x}"))]);
    };
    let mut faults = eps_faults(call);
    for k in 1..call.types.len() {
        if let Some(t) = call.ty(k).and_then(Type::as_tensor).filter(|t| t.shape != [d.clone()]) {
            faults.push(Fault::operand(k, format!("`{}` must be [{d}], found {t}", call.op.operands[k].name)));
        }
    }
    if faults.is_empty() { Ok(vec![Type::Tensor(x.clone())]) } else { Err(faults) }
}

fn eps_faults(call: &Call<'_>) -> Vec<Fault> {
    match call.attrs.float("eps") {
        Some(eps) if eps < 0.0 => vec![Fault::attr("eps", format!("expected at least 0, found {eps}"))],
        _ => Vec::new(),
    }
}

fn eval_layer_norm(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, g, b) = (e.tensor(0)?, e.tensor_if(1)?, e.tensor_if(2)?);
    let eps = e.attrs.float("eps").unwrap_or(1e-5);
    let last = x.shape.len() - 1;
    let y = map_real_lanes(&x, last, x.shape[last], |lane| {
        let n = lane.len() as f64;
        let mean = lane.iter().sum::<f64>() / n;
        let variance = lane.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let factor = 1.0 / (variance + eps).sqrt();
        let gain = |d: usize| g.as_ref().map_or(1.0, |g| g.at(d));
        let bias = |d: usize| b.as_ref().map_or(0.0, |b| b.at(d));
        lane.iter().enumerate().map(|(d, x)| (x - mean) * factor * gain(d) + bias(d)).collect()
    });
    Ok(vec![y.into()])
}

fn eval_rms_norm(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, g) = (e.tensor(0)?, e.tensor_if(1)?);
    let eps = e.attrs.float("eps").unwrap_or(1e-6);
    let last = x.shape.len() - 1;
    let y = map_real_lanes(&x, last, x.shape[last], |lane| {
        let factor = 1.0 / (lane.iter().map(|x| x * x).sum::<f64>() / lane.len() as f64 + eps).sqrt();
        lane.iter().enumerate().map(|(d, x)| x * factor * g.as_ref().map_or(1.0, |g| g.at(d))).collect()
    });
    Ok(vec![y.into()])
}

/// Added to the sum of squares by default: far below the squares of features of ordinary size.
const L2_EPS: f64 = 1e-6;
const L2_ATTRS: &[AttrSpec] = &[
    attr("axis", AttrKind::Int, "the axis, default the last"),
    attr("eps", AttrKind::Float, "added to the sum of squares, default 1e-6"),
];

/// `l2_normalize`.
pub static L2_NORMALIZE: Op = Op {
    name: "l2_normalize",
    group: Group::Tensor,
    doc: "x / sqrt(sum of x^2 + eps) along an axis.",
    example: "\
func @main(%x: f32[5, 4]) -> f32[5, 4] {
  %y = l2_normalize %x {axis = -1, eps = 1e-6}
  return %y
}
",
    operands: &[operand("x", OperandKind::Data)],
    variadic: false,
    attrs: L2_ATTRS,
    infer: infer_l2,
    structure: None,
    meaning: Meaning::Eval(eval_l2),
    expand: Some(expand_l2),
    laws: &[],
};

fn infer_l2(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    axis_of(call, 0, -1)?;
    let faults = eps_faults(call);
    if faults.is_empty() { Ok(vec![Type::Tensor(call.tensor(0)?.clone())]) } else { Err(faults) }
}

fn eval_l2(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let eps = e.attrs.float("eps").unwrap_or(L2_EPS);
    let y = map_real_lanes(&x, axis, x.shape[axis], |lane| {
        let factor = 1.0 / (lane.iter().map(|x| x * x).sum::<f64>() + eps).sqrt();
        lane.iter().map(|x| x * factor).collect()
    });
    Ok(vec![y.into()])
}

fn expand_l2(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let dtype = call.tensor(0)?.dtype;
    let wide = dtype.accumulator();
    let axis = axis_of(call, 0, -1)? as i64;
    let x = cast(b, value(call, 0)?, wide)?;
    let squares = b.op("mul", &[x, x], Attrs::new())?;
    let attrs = Attrs::new().with_name("op", "sum").with_int("axis", axis).with_flag("keep", true);
    let sum = b.op("reduce", &[squares], attrs)?;
    let eps = scalar(b, call.attrs.float("eps").unwrap_or(L2_EPS), wide);
    let shifted = b.op("add", &[sum, eps], Attrs::new())?;
    let factor = b.op("rsqrt", &[shifted], Attrs::new())?;
    let y = b.op("mul", &[x, factor], Attrs::new())?;
    Ok(vec![cast(b, y, dtype)?])
}
