//! A gated recurrent layer whose memory is a window of past inputs.

use super::rules::{self, View};
use super::steps::{Step, cast, plain, scalar, slice, value, widen};
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, optional};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `pgn`.
pub static OP: Op = Op {
    name: "pgn",
    group: Group::Layer,
    doc: "H[i] = bh + sum_w wh[:,:,w] x[i-width+w] (zeros before the start, the current token not read), \
          g = sigmoid(wg [x; H] + bg), u = tanh(wc [x; H] + bc), y = g H + (1-g) u: x [.., T, c], wh [d, c, width] \
          oldest first, wg and wc [d, c+d], biases [d] -> [.., T, d].",
    example: "\
dim T = 1..64
func @main(%x: f32[T, 2], %wh: f32[4, 2, 3], %wg: f32[4, 6], %wc: f32[4, 6], %bh: f32[4]) -> f32[T, 4] {
  %y = pgn %x, %wh, %wg, %wc, %bh {width = 3}
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("wh", OperandKind::Data),
        operand("wg", OperandKind::Data),
        operand("wc", OperandKind::Data),
        optional("bh", OperandKind::Beside),
        optional("bg", OperandKind::Beside),
        optional("bc", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[attr("width", AttrKind::Int, "how many past tokens are read; must be the last dim of wh")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::Causal],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let wh = call.tensor(1)?;
    let [d, c, width] = wh.shape.as_slice() else {
        return Err(vec![Fault::operand(1, format!("expected [features, channels, width], found {wh}"))]);
    };
    let mut faults = Vec::new();
    rules::same(&mut faults, 1, "channels of x and wh differ", c, x.features);
    let both = c.add(d).map_err(|e| vec![e.into()])?;
    for k in [2, 3] {
        rules::exactly(&mut faults, call, k, &[d.clone(), both.clone()]);
    }
    for k in [4, 5, 6] {
        rules::exactly(&mut faults, call, k, std::slice::from_ref(d));
    }
    if let Some(given) = call.attrs.dim("width").filter(|w| *w != width) {
        faults.push(Fault::attr("width", format!("wh has {width} taps, found {given}")));
    }
    if width.as_constant().is_none() {
        faults.push(Fault::operand(1, format!("the width must be a number, found {width}")));
    }
    rules::settle(faults)?;
    let mut shape = x.lead.to_vec();
    shape.extend([x.tokens.clone(), d.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let tokens = x.tokens.clone();
    let dtype = call.tensor(0)?.dtype;
    let width = call.tensor(1)?.shape[2].clone();
    let mut wide: Vec<Option<ValueId>> = Vec::new();
    for k in 0..7 {
        let v = call.value(k).map(|v| widen(b, v)).transpose()?;
        wide.push(v);
    }
    let with_bias = |b: &mut Builder, name: &str, x: ValueId, w: usize, bias: usize, attrs: Attrs| -> Step {
        let operands: Vec<ValueId> = [Some(x), wide[w], wide[bias]].into_iter().flatten().collect();
        b.op(name, &operands, attrs)
    };
    let x = value(call, 0)?;
    let x = widen(b, x)?;
    // Window i of x after `width` zeros ends just before token i; the last one, past the end, is not needed.
    let windows = with_bias(b, "conv1d", x, 1, 4, Attrs::new().with_dim("before", width))?;
    let memory = slice(b, windows, -2, Dim::constant(0), tokens)?;
    let both = b.op("concat", &[x, memory], Attrs::new().with_int("axis", -1))?;
    let gate = with_bias(b, "linear", both, 2, 5, Attrs::new())?;
    let gate = plain(b, "sigmoid", &[gate])?;
    let fresh = with_bias(b, "linear", both, 3, 6, Attrs::new())?;
    let fresh = plain(b, "tanh", &[fresh])?;
    let kept = plain(b, "mul", &[gate, memory])?;
    let one = scalar(b, 1.0, b.ty(gate).dtype());
    let rest = plain(b, "sub", &[one, gate])?;
    let taken = plain(b, "mul", &[rest, fresh])?;
    let y = plain(b, "add", &[kept, taken])?;
    Ok(vec![cast(b, y, dtype)?])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, wh, wg, wc) = (View::new(e, 0, 2)?, View::new(e, 1, 3)?, View::new(e, 2, 2)?, View::new(e, 3, 2)?);
    let [bh, bg, bc] = [4, 5, 6].map(|k| View::optional(e, k, 1));
    let (bh, bg, bc) = (bh?, bg?, bc?);
    let bias = |b: &Option<View>, n: usize| b.as_ref().map_or(0.0, |b| b.at(n));
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, d, c, width) = (tail[0], tail[1], wh.axis_len(2), wh.axis_len(1));
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = x.base(out, at);
        for i in 0..tokens {
            let recall = |n: usize| {
                let mut sum = bias(&bh, n);
                for w in width.saturating_sub(i)..width {
                    let j = i + w - width;
                    sum += (0..c).map(|m| wh.at((n * c + m) * width + w) * x.at(x0 + j * c + m)).sum::<f64>();
                }
                sum
            };
            let mut both: Vec<f64> = (0..c).map(|m| x.at(x0 + i * c + m)).collect();
            both.extend((0..d).map(recall).collect::<Vec<f64>>());
            let linear =
                |w: &View, n: usize| both.iter().enumerate().map(|(m, v)| w.at(n * (c + d) + m) * v).sum::<f64>();
            for n in 0..d {
                let gate = 1.0 / (1.0 + (-(linear(&wg, n) + bias(&bg, n))).exp());
                let fresh = (linear(&wc, n) + bias(&bc, n)).tanh();
                y.push(gate * both[c + n] + (1.0 - gate) * fresh);
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
