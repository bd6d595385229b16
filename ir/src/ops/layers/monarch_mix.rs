//! Mixing by two Monarch products around a gate.

use super::rules::{self, View};
use super::steps::{cast, plain, to_batch, value, widen};
use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `monarch_mix`.
pub static OP: Op = Op {
    name: "monarch_mix",
    group: Group::Layer,
    doc: "M2 (k * (M1 x)) on the tokens, M1 = monarch(l1, r1), M2 = monarch(l2, r2): x [.., S, D]; r [k, q, p] and \
          l [g, s, m] of an operator from k*p to s*g tokens, g*m = k*q; the gate k is [rows of M1, D] or \
          [rows of M1, 1] -> [.., rows of M2, D].",
    example: "\
func @main(%x: f32[6, 3], %l1: f32[2, 4, 3], %r1: f32[3, 2, 2], %l2: f32[4, 3, 2], %r2: f32[2, 4, 4], %k: f32[8, 1])
    -> f32[12, 3] {
  %y = monarch_mix %x, %l1, %r1, %l2, %r2, %k
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("l1", OperandKind::Beside),
        operand("r1", OperandKind::Beside),
        operand("l2", OperandKind::Beside),
        operand("r2", OperandKind::Beside),
        operand("k", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::LinearIn(0), Law::LinearIn(5)],
};

/// Batch dims of l and r and the rows and columns of their operator.
struct Monarch<'a> {
    lead: [(usize, &'a [Dim]); 2],
    rows: Dim,
    cols: Dim,
}

fn monarch<'a>(call: &Call<'a>, l: usize, r: usize) -> Result<Monarch<'a>, Vec<Fault>> {
    let (l_lead, l_tail) = rules::split(call, l, 3, "[.., g, s, m]")?;
    let (r_lead, r_tail) = rules::split(call, r, 3, "[.., k, q, p]")?;
    let size = |x: &Dim, y: &Dim| x.mul(y).map_err(|e| vec![Fault::from(e)]);
    let (read, written) = (size(&l_tail[0], &l_tail[2])?, size(&r_tail[0], &r_tail[1])?);
    if read != written {
        return Err(vec![
            Fault::operand(l, format!("it reads {read} values, the right factor gives {written}"))
                .help("g*m of the left factor must be k*q of the right"),
        ]);
    }
    Ok(Monarch {
        lead: [(l, l_lead), (r, r_lead)],
        rows: size(&l_tail[1], &l_tail[0])?,
        cols: size(&r_tail[0], &r_tail[2])?,
    })
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let (first, second) = (monarch(call, 1, 2)?, monarch(call, 3, 4)?);
    let (gate, gate_tail) = rules::split(call, 5, 2, "[rows of M1, features]")?;
    let mut faults = Vec::new();
    rules::same(&mut faults, 2, "columns of M1 differ from the tokens of x", &first.cols, x.tokens);
    rules::same(&mut faults, 5, "rows of the gate differ from those of M1", &gate_tail[0], &first.rows);
    if !gate_tail[1].is(1) {
        rules::same(&mut faults, 5, "features of the gate differ from x's", &gate_tail[1], x.features);
    }
    rules::same(&mut faults, 4, "columns of M2 differ from the rows of M1", &second.cols, &first.rows);
    rules::settle(faults)?;
    let mut lead = vec![(0, x.lead), (5, gate)];
    lead.extend(first.lead);
    lead.extend(second.lead);
    let mut shape = batch::join(&lead, true)?;
    shape.extend([second.rows, x.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let whole = infer(call)?[0].clone();
    let dims = whole.dims();
    let batch = &dims[..dims.len() - 2];
    let x = value(call, 0)?;
    let x = widen(b, x)?;
    let first = plain(b, "monarch", &[value(call, 1)?, value(call, 2)?])?;
    let z = plain(b, "apply", &[first, x])?;
    let gate = value(call, 5)?;
    let gate = cast(b, gate, whole.dtype().accumulator())?;
    let (z, gate) = (super::steps::spread_heads(b, z, batch, 2)?, super::steps::spread_heads(b, gate, batch, 2)?);
    let z = plain(b, "mul", &[gate, z])?;
    let second = plain(b, "monarch", &[value(call, 3)?, value(call, 4)?])?;
    let y = b.op("apply", &[second, z], Attrs::new())?;
    let y = cast(b, y, whole.dtype())?;
    Ok(vec![to_batch(b, y, batch, 2)?])
}

/// The product of monarch(l, r) at a batch index with `x`, of `width` features.
fn product(l: (&View, usize), r: (&View, usize), x: &[f64], width: usize) -> Vec<f64> {
    let ((l, l0), (r, r0)) = (l, r);
    let (g, s, m) = (l.axis_len(3), l.axis_len(2), l.axis_len(1));
    let (k, q, p) = (r.axis_len(3), r.axis_len(2), r.axis_len(1));
    let mut y = vec![0.0; s * g * width];
    for d in 0..width {
        let inner = |n: usize| -> f64 {
            let (c, e) = (n / q, n % q);
            (0..p).map(|f| r.at(r0 + (c * q + e) * p + f) * x[(c * p + f) * width + d]).sum()
        };
        let z: Vec<f64> = (0..k * q).map(inner).collect();
        for e in 0..s {
            for b in 0..g {
                y[(e * g + b) * width + d] = (0..m).map(|n| l.at(l0 + (b * s + e) * m + n) * z[n * g + b]).sum();
            }
        }
    }
    y
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = View::new(e, 0, 2)?;
    let [l1, r1, l2, r2] = [1, 2, 3, 4].map(|k| View::new(e, k, 3));
    let (l1, r1, l2, r2) = (l1?, r1?, l2?, r2?);
    let gate = View::new(e, 5, 2)?;
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, width) = (x.axis_len(2), tail[1]);
    let gate_width = gate.axis_len(1);
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = x.base(out, at);
        let data: Vec<f64> = (0..tokens * width).map(|k| x.at(x0 + k)).collect();
        let mut z = product((&l1, l1.base(out, at)), (&r1, r1.base(out, at)), &data, width);
        let gate0 = gate.base(out, at);
        for (n, v) in z.iter_mut().enumerate() {
            let (row, d) = (n / width, n % width);
            *v *= gate.at(gate0 + row * gate_width + if gate_width == 1 { 0 } else { d });
        }
        y.extend(product((&l2, l2.base(out, at)), (&r2, r2.base(out, at)), &z, width));
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
