//! The product of an operator and tokens: where mixing happens.

use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `apply`.
pub static OP: Op = Op {
    name: "apply",
    group: Group::Operator,
    doc: "y[i] = sum_j M[i,j] x[j] over the support; x [.., S, D] -> [.., T, D]. With {channelwise} M is \
          mix [.., D, T, S] and channel d of x meets M_d (or fewer channels than D, shared by groups of them). The result \
          has x's element type.",
    example: "\
func @main(%w: f32[5, 7], %x: f32[7, 3]) -> f32[5, 3] {
  %m = dense %w
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("x", OperandKind::Data)],
    variadic: false,
    attrs: &[attr("channelwise", AttrKind::Bool, "the operator's last batch dim is the channel of x")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (m, x) = (call.mix(0)?, call.tensor(1)?);
    if x.rank() < 2 {
        return Err(vec![Fault::operand(1, format!("expected [.., tokens, features], found {x}"))]);
    }
    let (lead, tail) = x.shape.split_at(x.rank() - 2);
    if tail[0] != m.cols {
        return Err(vec![Fault::operand(1, format!("the operator reads {} tokens, x has {}", m.cols, tail[0]))]);
    }
    let mut batch_of_m = m.batch.as_slice();
    if call.attrs.flag("channelwise") {
        let Some((channels, rest)) = m.batch.split_last() else {
            return Err(vec![Fault::operand(0, "a channelwise operator needs a batch dim for the channels")]);
        };
        let wide = [tail[1].clone()];
        if batch::join(&[(0, std::slice::from_ref(channels)), (1, &wide)], true)? != wide {
            return Err(vec![Fault::operand(1, format!("the operator has {channels} channels, x has {}", tail[1]))]);
        }
        batch_of_m = rest;
    }
    let mut shape = batch::join(&[(0, batch_of_m), (1, lead)], true)?;
    shape.extend([m.rows.clone(), tail[1].clone()]);
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (m, x) = (e.operator(0)?, e.tensor(1)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (rows, features) = (tail[0], tail[1]);
    let xn = x.shape.len();
    let channelwise = e.attrs.flag("channelwise");
    // Rows that nobody asks for stay 0.
    let all: Vec<usize> = (0..rows).collect();
    let asked = e.rows.as_deref().unwrap_or(&all);
    let mut y = vec![0.0; shape.iter().product()];
    let mut first = 0;
    batch::for_each(out, |at| {
        let x0 = batch::offset(out, at, &x.shape[..xn - 2]) * x.shape[xn - 2] * features;
        for &i in asked.iter().filter(|i| **i < rows) {
            let y = &mut y[first + i * features..first + (i + 1) * features];
            if channelwise {
                for (d, y) in y.iter_mut().enumerate() {
                    let (mut wide, mut index) = (out.to_vec(), at.to_vec());
                    wide.push(features);
                    index.push(d);
                    let row = m.row_for(&wide, &index, i);
                    *y = row.entries().map(|(j, w)| w * x.at(x0 + j * features + d)).sum();
                }
            } else {
                let row = m.row_for(out, at, i);
                for (j, w) in row.entries() {
                    for (d, y) in y.iter_mut().enumerate() {
                        *y += w * x.at(x0 + j * features + d);
                    }
                }
            }
        }
        first += rows * features;
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
