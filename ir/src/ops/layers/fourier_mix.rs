//! Mixing by the discrete Fourier transform.

use super::rules::{self, View};
use super::steps::{cast, value, widen};
use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `fourier_mix`.
pub static OP: Op = Op {
    name: "fourier_mix",
    group: Group::Layer,
    doc: "The real part of the unnormalised discrete Fourier transform over features and then tokens: \
          y[t,d] = sum_{s,e} x[s,e] cos(2 pi (t s / T + d e / D)), x [.., T, D] -> [.., T, D].",
    example: "\
func @main(%x: f32[7, 6]) -> f32[7, 6] {
  %y = fourier_mix %x
  return %y
}
",
    operands: &[operand("x", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    rules::tokens(call, [0])?;
    Ok(vec![Type::Tensor(call.tensor(0)?.clone())])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let fft = crate::ops::find("fft").ok_or_else(|| vec![Fault::call("no operation `fft`")])?;
    let dtype = call.tensor(0)?.dtype;
    let x = value(call, 0)?;
    let x = widen(b, x)?;
    let spectrum = b.call(fft, &[Some(x)], Attrs::new().with_int("axis", -1), &[], &[])?;
    let parts: Vec<Option<ValueId>> = spectrum.into_iter().map(Some).collect();
    let mixed = b.call(fft, &parts, Attrs::new().with_int("axis", -2), &[], &[])?;
    Ok(vec![cast(b, mixed[0], dtype)?])
}

/// cos and sin of 2 pi k / n for k = 0..n.
fn turns(n: usize) -> Vec<(f64, f64)> {
    let angle = |k: usize| 2.0 * std::f64::consts::PI * k as f64 / n as f64;
    (0..n).map(|k| (angle(k).cos(), angle(k).sin())).collect()
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = View::new(e, 0, 2)?;
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, features) = (tail[0], tail[1]);
    let (by_token, by_feature) = (turns(tokens), turns(features));
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = x.base(out, at);
        // Over features: (re, im) of sum_e x[s,e] (cos - i sin).
        let inner = |s: usize, d: usize| {
            (0..features).fold((0.0, 0.0), |(re, im), f| {
                let (cos, sin) = by_feature[d * f % features];
                let v = x.at(x0 + s * features + f);
                (re + v * cos, im - v * sin)
            })
        };
        let spectrum: Vec<(f64, f64)> = (0..tokens * features).map(|k| inner(k / features, k % features)).collect();
        for t in 0..tokens {
            for d in 0..features {
                let term = |s: usize| {
                    let ((re, im), (cos, sin)) = (spectrum[s * features + d], by_token[t * s % tokens]);
                    re * cos + im * sin
                };
                y.push((0..tokens).map(term).sum::<f64>());
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
