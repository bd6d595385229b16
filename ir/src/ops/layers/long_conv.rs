//! Convolution along the tokens with a kernel as long as the sequence.

use super::rules::{self, View};
use super::steps::value;
use crate::attr::{AttrKind, Attrs};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{Align, MixType, Type};

/// `long_conv`.
pub static OP: Op = Op {
    name: "long_conv",
    group: Group::Layer,
    doc: "apply(toeplitz(h), x) channel by channel: y[i,d] = sum_j h[d, i-j] x[j,d] over 0 <= i-j < K, x [.., T, D], \
          h [D, K] (K below or above T) -> [.., T, D]. With {two_sided} h is [D, 2K-1] and its middle is lag 0: \
          y[i,d] = sum_j h[d, i-j+K-1] x[j,d] over |i-j| < K.",
    example: "\
dim T = 1..64
func @main(%x: f32[T, 3], %h: f32[3, 9]) -> f32[T, 3] {
  %y = long_conv %x, %h
  return %y
}
",
    operands: &[operand("x", OperandKind::Data), operand("h", OperandKind::Beside)],
    variadic: false,
    attrs: &[attr("two_sided", AttrKind::Bool, "the kernel reaches as far ahead as back")],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let (lead, h) = rules::split(call, 1, 2, "[channels, lags]")?;
    let mut faults = Vec::new();
    if !h[0].is(1) {
        rules::same(&mut faults, 1, "channels of x and h differ", &h[0], x.features);
    }
    if call.attrs.flag("two_sided") && h[1].as_constant().is_some_and(|n| n % 2 == 0) {
        faults.push(
            Fault::operand(1, format!("a two-sided kernel has an odd number of lags, found {}", h[1]))
                .help("it is [.., 2K-1] with lag 0 in the middle"),
        );
    }
    rules::settle(faults)?;
    let mut shape = batch::join(&[(0, x.lead), (1, lead)], true)?;
    shape.extend([x.tokens.clone(), x.features.clone()]);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let [x] = rules::tokens(call, [0])?;
    let h = call.tensor(1)?;
    // The operator is T x T whatever the kernel's length, so its type is written.
    let ty = Type::Mix(MixType {
        dtype: h.dtype.accumulator(),
        batch: h.shape[..h.rank() - 1].to_vec(),
        rows: x.tokens.clone(),
        cols: x.tokens.clone(),
        align: Align::End,
    });
    let two_sided = Attrs::new().with_flag("two_sided", call.attrs.flag("two_sided"));
    let m = b.op_typed("toeplitz", &[value(call, 1)?], two_sided, Some(ty))?;
    let y = b.op("apply", &[m, value(call, 0)?], Attrs::new().with_flag("channelwise", true))?;
    Ok(vec![y])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, h) = (View::new(e, 0, 2)?, View::new(e, 1, 2)?);
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (tokens, channels, lags) = (tail[0], tail[1], h.axis_len(1));
    if e.attrs.flag("two_sided") && lags % 2 == 0 {
        return Err(format!("a two-sided kernel has an odd number of lags, not {lags}"));
    }
    let middle = if e.attrs.flag("two_sided") { lags / 2 } else { 0 };
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let (x0, h0) = (x.base(out, at), h.base(out, at));
        for i in 0..tokens {
            for d in 0..channels {
                let kernel = h0 + if h.axis_len(2) == 1 { 0 } else { d * lags };
                let term = |j: usize| {
                    let lag = (i + middle).checked_sub(j).filter(|l| *l < lags)?;
                    Some(h.at(kernel + lag) * x.at(x0 + j * channels + d))
                };
                y.push((0..tokens).filter_map(term).sum::<f64>());
            }
        }
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
