//! A two-layer perceptron along the tokens.

use super::feature;
use super::rules::{self, View};
use super::steps::{cast, column, plain, value, widen};
use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `token_mlp`.
pub static OP: Op = Op {
    name: "token_mlp",
    group: Group::Layer,
    doc: "w2 fn(w1 x + b1) + b2 on the token axis: x [.., S, D], w1 [M, S], b1 [M], w2 [T, M], b2 [T] -> [.., T, D]. \
          fn is gelu unless given.",
    example: "\
func @main(%x: f32[5, 3], %w1: f32[8, 5], %w2: f32[5, 8], %b1: f32[8], %b2: f32[5]) -> f32[5, 3] {
  %y = token_mlp %x, %w1, %w2, %b1, %b2 {fn = relu}
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("w1", OperandKind::Data),
        operand("w2", OperandKind::Data),
        optional("b1", OperandKind::Beside),
        optional("b2", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[attr("fn", AttrKind::Name(feature::NAMES), "the function between the two products, default gelu")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let mut faults = Vec::new();
    for k in [1, 2] {
        let t = call.tensor(k)?;
        if t.rank() != 2 {
            faults.push(Fault::operand(k, format!("expected [tokens out, tokens in], found {t}")));
        }
    }
    rules::settle(faults)?;
    let (w1, w2) = (&call.tensor(1)?.shape, &call.tensor(2)?.shape);
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "columns of w1 differ from the tokens of x", &w1[1], x.tokens);
    rules::same(&mut faults, 2, "columns of w2 differ from the rows of w1", &w2[1], &w1[0]);
    rules::exactly(&mut faults, call, 3, &w1[..1]);
    rules::exactly(&mut faults, call, 4, &w2[..1]);
    rules::settle(faults)?;
    let mut shape = x.lead.to_vec();
    shape.extend([w2[0].clone(), x.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn function(attrs: &crate::attr::Attrs) -> &str {
    attrs.name("fn").unwrap_or("gelu")
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let x = value(call, 0)?;
    let dtype = b.ty(x).dtype();
    let mut y = widen(b, x)?;
    for (w, bias, function) in [(1, 3, Some(function(call.attrs))), (2, 4, None)] {
        let m = plain(b, "dense", &[value(call, w)?])?;
        y = plain(b, "apply", &[m, y])?;
        if let Some(bias) = call.value(bias) {
            let bias = widen(b, bias)?;
            let bias = column(b, bias)?;
            y = plain(b, "add", &[y, bias])?;
        }
        if let Some(function) = function {
            y = feature::expand(b, function, y)?;
        }
    }
    Ok(vec![cast(b, y, dtype)?])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, w1, w2) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?, View::new(e, 2, 2)?);
    let (b1, b2) = (View::optional(e, 3, 1)?, View::optional(e, 4, 1)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, hidden, width) = (x.axis_len(2), w1.axis_len(2), tail[1]);
    let bias = |b: &Option<View>, n: usize| b.as_ref().map_or(0.0, |b| b.at(n));
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = x.base(out, at);
        let inner = |n: usize, d: usize| {
            let sum: f64 = (0..tokens).map(|t| w1.at(n * tokens + t) * x.at(x0 + t * width + d)).sum();
            feature::evaluate(function(e.attrs), sum + bias(&b1, n))
        };
        let h: Vec<f64> = (0..hidden * width).map(|k| inner(k / width, k % width)).collect();
        for t in 0..tail[0] {
            for d in 0..width {
                let sum: f64 = (0..hidden).map(|n| w2.at(t * hidden + n) * h[n * width + d]).sum();
                y.push(sum + bias(&b2, t));
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
