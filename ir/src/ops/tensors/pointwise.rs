//! Elementwise operations: a table of scalar expressions. Operands broadcast as NumPy does.

use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::ty::Type;

/// The NumPy broadcast of shapes, or which operand does not fit.
pub fn broadcast(call: &Call<'_>) -> Result<Vec<Dim>, Vec<Fault>> {
    let mut out: Vec<Dim> = Vec::new();
    for k in 0..call.types.len() {
        let t = call.tensor(k)?;
        while out.len() < t.rank() {
            out.insert(0, Dim::constant(1));
        }
        let lead = out.len() - t.rank();
        for (axis, d) in t.shape.iter().enumerate() {
            let o = &mut out[lead + axis];
            if o.is(1) {
                *o = d.clone();
            } else if d != o && !d.is(1) {
                return Err(vec![
                    Fault::operand(k, format!("axis of length {d} does not broadcast with {o}"))
                        .help("axes are matched from the last; each must be equal or 1"),
                ]);
            }
        }
    }
    Ok(out)
}

fn same_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let first = call.tensor(0)?.dtype;
    for k in 1..call.types.len() {
        let t = call.tensor(k)?;
        if t.dtype != first {
            return Err(vec![
                Fault::operand(k, format!("element types differ: {first} and {}", t.dtype))
                    .help(format!("convert one with `cast %x {{to = {first}}}`")),
            ]);
        }
    }
    Ok(vec![Type::tensor(first, broadcast(call)?)])
}

/// `add`.
pub static ADD: Op = Op {
    name: "add",
    group: Group::Tensor,
    doc: "a + b, elementwise.",
    example: "\
func @main(%a: f32[2, 3], %b: f32[3]) -> f32[2, 3] {
  %y = add %a, %b
  return %y
}
",
    operands: &[operand("a", OperandKind::Tensor), operand("b", OperandKind::Tensor)],
    variadic: false,
    attrs: &[],
    infer: same_type,
    structure: None,
    meaning: Meaning::Pointwise(|_, x| x[0].clone() + x[1].clone()),
    expand: None,
    laws: &[],
};
