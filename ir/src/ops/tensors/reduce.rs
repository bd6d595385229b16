//! Reductions over one axis.

use super::axes::{axis_at, axis_of, map_lanes};
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Binary, Kind, Scalar, eval_binary};
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `reduce`.
pub static REDUCE: Op = Op {
    name: "reduce",
    group: Group::Tensor,
    doc: "The sum (default), greatest, least, mean or product over one axis, which is removed, or kept with length 1 \
          by {keep}. Over nothing the sum is 0, the product 1, the greatest minus infinity (of integers their least), \
          the least plus infinity (of integers their greatest), the mean NaN. NaN wins over every number. The mean is \
          of reals only. Half sums accumulate in f32.",
    example: "\
dim T = 0..8
func @main(%x: f32[T, 4]) -> f32[4] {
  %y = reduce %x {op = sum, axis = 0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[
        attr("op", AttrKind::Name(&["sum", "max", "min", "mean", "prod"]), "what is made of the elements, default sum"),
        required("axis", AttrKind::Int, "the axis; negative ones count from the end"),
        attr("keep", AttrKind::Bool, "the axis stays, with length 1"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn which(attrs: &Attrs) -> &str {
    attrs.name("op").unwrap_or("sum")
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let x = call.tensor(0)?;
    let op = which(call.attrs);
    if x.dtype == DType::Bool {
        return Err(vec![
            Fault::operand(0, "expected numbers, found booleans").help("convert with `cast %x {to = i64}`"),
        ]);
    }
    if op == "mean" && !x.dtype.is_float() {
        return Err(vec![
            Fault::operand(0, format!("the mean is of reals, found {x}")).help("convert with `cast %x {to = f32}`"),
        ]);
    }
    let mut shape = x.shape.clone();
    if call.attrs.flag("keep") {
        shape[axis] = Dim::constant(1);
    } else {
        shape.remove(axis);
    }
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let (op, dtype) = (which(e.attrs), e.result_dtype(0));
    let (combine, neutral) = match (op, x.kind(), dtype) {
        ("max", Kind::Float, _) => (Binary::Max, Scalar::Float(f64::NEG_INFINITY)),
        ("max", _, DType::I32) => (Binary::Max, Scalar::Int(i64::from(i32::MIN))),
        ("max", ..) => (Binary::Max, Scalar::Int(i64::MIN)),
        ("min", Kind::Float, _) => (Binary::Min, Scalar::Float(f64::INFINITY)),
        ("min", _, DType::I32) => (Binary::Min, Scalar::Int(i64::from(i32::MAX))),
        ("min", ..) => (Binary::Min, Scalar::Int(i64::MAX)),
        ("prod", Kind::Float, _) => (Binary::Mul, Scalar::Float(1.0)),
        ("prod", ..) => (Binary::Mul, Scalar::Int(1)),
        (_, Kind::Float, _) => (Binary::Add, Scalar::Float(0.0)),
        _ => (Binary::Add, Scalar::Int(0)),
    };
    let kept = map_lanes(&x, axis, x.kind(), 1, |lane| {
        let all = lane.iter().fold(neutral, |a, &b| eval_binary(combine, a, b));
        vec![if op == "mean" { Scalar::Float(all.as_float() / lane.len() as f64) } else { all }]
    });
    let reduced = Tensor { shape: e.result_shape(0)?, data: kept.data };
    Ok(vec![if dtype.is_int() { reduced.rounded(dtype) } else { reduced }.into()])
}
