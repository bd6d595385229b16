//! Running sums along one axis: `cumsum`, and `cumlogsumexp` of logarithms.

use super::axes::{axis_at, axis_of, map_lanes, map_real_lanes};
use crate::attr::{AttrKind, AttrSpec};
use crate::diag::Fault;
use crate::dtype::DType;
use crate::expr::{Binary, Scalar, eval_binary};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::reference::{Eval, RefValue};
use crate::ty::Type;

const AXIS: AttrSpec = required("axis", AttrKind::Int, "the axis; negative ones count from the end");

/// `cumsum`.
pub static CUMSUM: Op = Op {
    name: "cumsum",
    group: Group::Tensor,
    doc: "Running sums along an axis: y[i] = sum of x[j] over j <= i, or over j >= i with {reverse}. Half sums \
          accumulate in f32.",
    example: "\
dim T = 0..8
func @main(%x: f32[T, 4]) -> f32[T, 4] {
  %y = cumsum %x {axis = 0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[AXIS, attr("reverse", AttrKind::Bool, "sums run from the end")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval_cumsum),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    axis_of(call, 0, -1)?;
    let x = call.tensor(0)?;
    if x.dtype == DType::Bool {
        return Err(vec![
            Fault::operand(0, "expected numbers, found booleans").help("convert with `cast %x {to = i64}`"),
        ]);
    }
    Ok(vec![Type::Tensor(x.clone())])
}

fn eval_cumsum(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let (reverse, dtype) = (e.attrs.flag("reverse"), e.result_dtype(0));
    let sums = map_lanes(&x, axis, x.kind(), x.shape[axis], |lane| {
        let mut out = lane.to_vec();
        if reverse {
            out.reverse();
        }
        let mut sum = if dtype.is_int() { Scalar::Int(0) } else { Scalar::Float(0.0) };
        for v in &mut out {
            sum = eval_binary(Binary::Add, sum, *v);
            *v = sum;
        }
        if reverse {
            out.reverse();
        }
        out
    });
    Ok(vec![if dtype.is_int() { sums.rounded(dtype) } else { sums }.into()])
}

/// `cumlogsumexp`.
pub static CUMLOGSUMEXP: Op = Op {
    name: "cumlogsumexp",
    group: Group::Tensor,
    doc: "Running sums of exponentials, in logarithms: y[i] = log(sum of e^x[j] over j <= i), with a running maximum \
          so that nothing overflows; minus infinity counts as a term of 0.",
    example: "\
dim T = 0..8
func @main(%x: f32[T, 4]) -> f32[T, 4] {
  %y = cumlogsumexp %x {axis = 0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Data)],
    variadic: false,
    attrs: &[AXIS],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval_cumlogsumexp),
    expand: None,
    laws: &[],
};

fn eval_cumlogsumexp(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let sums = map_real_lanes(&x, axis, x.shape[axis], |lane| {
        // The state is (m, s): the terms so far sum to s e^m, m the greatest exponent so far.
        let (mut m, mut s) = (f64::NEG_INFINITY, 0.0);
        lane.iter()
            .map(|&x| {
                if x.is_nan() {
                    s = f64::NAN;
                } else if x > m {
                    s = s * (m - x).exp() + 1.0;
                    m = x;
                } else if m > f64::NEG_INFINITY {
                    // Two equal infinities differ by NaN; both terms are then the infinite one.
                    s += if x == m { 1.0 } else { (x - m).exp() };
                }
                m + s.ln()
            })
            .collect()
    });
    Ok(vec![sums.into()])
}
