//! Softmax of a tensor along one axis.

use super::axes::{axis_at, axis_of, map_real_lanes};
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

/// `softmax_axis`.
pub static SOFTMAX_AXIS: Op = Op {
    name: "softmax_axis",
    group: Group::Tensor,
    doc: "Exponentials divided by their sum along an axis, less the greatest exponent, so that nothing overflows. \
          Minus infinity gives 0, also where the whole axis is, as in a row without support of `softmax`.",
    example: "\
func @main(%x: f32[2, 5]) -> f32[2, 5] {
  %y = softmax_axis %x {axis = -1}
  return %y
}
",
    operands: &[operand("x", OperandKind::Data)],
    variadic: false,
    attrs: &[attr("axis", AttrKind::Int, "the axis, default the last")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    axis_of(call, 0, -1)?;
    Ok(vec![Type::Tensor(call.tensor(0)?.clone())])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let y = map_real_lanes(&x, axis, x.shape[axis], |lane| {
        if lane.iter().all(|&x| x == f64::NEG_INFINITY) {
            return vec![0.0; lane.len()];
        }
        let max = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = lane.iter().map(|x| (x - max).exp()).sum();
        lane.iter().map(|x| (x - max).exp() / sum).collect()
    });
    Ok(vec![y.into()])
}
