//! A state space over two axes at once: variates and time.

use super::rules::{self, View};
use super::steps::{
    Step, broadcast, cast, counting, plain, reshape, scalar, shape, splat, swap_last, to_batch, value, widen,
};
use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{Align, MixType, Type};

/// `ssm2d`.
pub static OP: Op = Op {
    name: "ssm2d",
    group: Group::Layer,
    doc: "h1[v,t] = A1 h1[v,t-1] + A2 h2[v,t-1] + B1 x[v,t], h2[v,t] = A3 h1[v-1,t] + A4 h2[v-1,t] + B2 x[v,t], \
          y = <C1, h1> + <C2, h2> with N diagonal states and zero borders: x [.., V, T]; each of A1..A4, B1, B2, C1, \
          C2 is [N], the same everywhere, or [.., V, T, N] -> [.., V, T].",
    example: "\
func @main(%x: f32[3, 5], %a1: f32[2], %a2: f32[2], %a3: f32[2], %a4: f32[2], %b1: f32[2], %b2: f32[2],
    %c1: f32[2], %c2: f32[3, 5, 2]) -> f32[3, 5] {
  %y = ssm2d %x, %a1, %a2, %a3, %a4, %b1, %b2, %c1, %c2
  return %y
}
",
    operands: &[
        operand("x", OperandKind::Data),
        operand("A1", OperandKind::Beside),
        operand("A2", OperandKind::Beside),
        operand("A3", OperandKind::Beside),
        operand("A4", OperandKind::Beside),
        operand("B1", OperandKind::Beside),
        operand("B2", OperandKind::Beside),
        operand("C1", OperandKind::Beside),
        operand("C2", OperandKind::Beside),
    ],
    variadic: false,
    attrs: &[],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (lead, plane) = rules::split(call, 0, 2, "[.., variates, time]")?;
    let mut leads = vec![(0, lead)];
    let mut states: Option<&Dim> = None;
    let mut faults = Vec::new();
    for k in 1..9 {
        let t = call.tensor(k)?;
        let own = match t.shape.as_slice() {
            [n] => n,
            [lead @ .., v, time, n] => {
                leads.push((k, lead));
                rules::same(&mut faults, k, "variates differ from x's", v, &plane[0]);
                rules::same(&mut faults, k, "times differ from x's", time, &plane[1]);
                n
            }
            _ => {
                let [v, time] = [&plane[0], &plane[1]];
                faults.push(Fault::operand(k, format!("expected [states] or [.., {v}, {time}, states], found {t}")));
                continue;
            }
        };
        rules::same(&mut faults, k, "numbers of states differ", own, states.unwrap_or(own));
        states = states.or(Some(own));
    }
    rules::settle(faults)?;
    let mut shape = batch::join(&leads, true)?;
    shape.extend_from_slice(plane);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, shape)])
}

/// Both states of every place as one sequence, place by place (h1 before h2), variate by variate: h = L h + z, where L
/// is four diagonals below the main one. So h = inverse(identity - L) z, for every state n on its own.
fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let whole = infer(call)?[0].clone();
    let dims = whole.dims();
    let (batch, plane) = dims.split_at(dims.len() - 2);
    let dtype = whole.dtype().accumulator();
    let two = Dim::constant(2);
    let fault = |e: crate::dim::DimError| vec![Fault::from(e)];
    let length = plane[0].mul(&plane[1]).and_then(|n| n.mul(&two)).map_err(fault)?;
    let mut everywhere = Vec::with_capacity(8);
    for k in 1..9 {
        everywhere.push(over_plane(b, value(call, k)?, batch, plane)?);
    }
    let [a1, a2, a3, a4, b1, b2, c1, c2] = everywhere[..] else { return Err(vec![Fault::call("parameters missing")]) };
    let states = shape(b, a1).last().cloned().unwrap_or_default();

    // Nothing comes from before a variate's first time: 0, 1, 1, .. along it.
    let times = counting(b, dtype, vec![plane[1].clone(), Dim::constant(1)], 0)?;
    let one = scalar(b, 1.0, dtype);
    let later = plain(b, "min", &[times, one])?;
    let (a1, a2) = (plain(b, "mul", &[a1, later])?, plain(b, "mul", &[a2, later])?);
    let none = splat(b, 0.0, dtype, shape(b, a1));
    let square =
        Type::Mix(MixType { dtype, batch: Vec::new(), rows: length.clone(), cols: length.clone(), align: Align::End });
    let mut system = b.op_typed("identity", &[], Attrs::new(), Some(square.clone()))?;
    let row = plane[1].mul(&two).map_err(fault)?;
    let row_and_one = row.add(&Dim::constant(1)).map_err(fault)?;
    let bands =
        [([a1, none], two.clone()), ([a2, none], Dim::constant(1)), ([none, a3], row_and_one), ([none, a4], row)];
    for (pair, by) in bands {
        let factors = interleave(b, pair, &length)?;
        let factors = swap_last(b, factors)?;
        let factors = plain(b, "neg", &[factors])?;
        let factors = plain(b, "diagonal", &[factors])?;
        let shift = b.op_typed("shift", &[], Attrs::new().with_dim("by", by), Some(square.clone()))?;
        let band = plain(b, "compose", &[factors, shift])?;
        system = plain(b, "sum", &[system, band])?;
    }
    let solve = plain(b, "inverse", &[system])?;

    let x = value(call, 0)?;
    let x = widen(b, x)?;
    let x = to_batch(b, x, batch, 2)?;
    let mut axes = shape(b, x);
    axes.push(Dim::constant(1));
    let x = reshape(b, x, axes)?;
    let (z1, z2) = (plain(b, "mul", &[b1, x])?, plain(b, "mul", &[b2, x])?);
    let z = interleave(b, [z1, z2], &length)?;
    let h = b.op("apply", &[solve, z], Attrs::new().with_flag("channelwise", true))?;
    let read = interleave(b, [c1, c2], &length)?;
    let y = plain(b, "mul", &[read, h])?;
    // The two states of a place and their channels are adjacent, so one sum takes both.
    let mut axes = dims.clone();
    axes.push(states.mul(&two).map_err(fault)?);
    let y = reshape(b, y, axes)?;
    let y = b.op("reduce", &[y], Attrs::new().with_name("op", "sum").with_int("axis", -1))?;
    Ok(vec![cast(b, y, whole.dtype())?])
}

/// A parameter as `[batch.., V, T, N]`, in the type of sums.
fn over_plane(b: &mut Builder, v: ValueId, batch: &[Dim], plane: &[Dim]) -> Step {
    let mut v = widen(b, v)?;
    if let [states] = shape(b, v).as_slice() {
        v = broadcast(b, v, vec![plane[0].clone(), plane[1].clone(), states.clone()])?;
    }
    to_batch(b, v, batch, 3)
}

/// Two values `[.., V, T, N]` as `[.., 2VT, N]`, place by place.
fn interleave(b: &mut Builder, pair: [ValueId; 2], length: &Dim) -> Step {
    let mut axes = shape(b, pair[0]);
    let n = axes.len();
    axes.insert(n - 1, Dim::constant(1));
    let pair = [reshape(b, pair[0], axes.clone())?, reshape(b, pair[1], axes.clone())?];
    let both = b.op("concat", &pair, Attrs::new().with_int("axis", -2))?;
    axes.splice(n - 3..n, [length.clone()]);
    reshape(b, both, axes)
}

/// A parameter: the same everywhere, or one a place.
struct Parameter {
    view: View,
    everywhere: bool,
}

impl Parameter {
    fn new(e: &Eval<'_>, k: usize) -> Result<Parameter, String> {
        let everywhere = e.tensor(k)?.shape.len() == 1;
        Ok(Parameter { view: View::new(e, k, if everywhere { 1 } else { 3 })?, everywhere })
    }

    /// State n at a place of the plane, for a batch index.
    fn at(&self, out: &[usize], at: &[usize], place: usize, n: usize) -> f64 {
        let states = self.view.axis_len(1);
        let place = if self.everywhere { 0 } else { place };
        self.view.at(self.view.base(out, at) + place * states + n)
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = View::new(e, 0, 2)?;
    let parameters: Vec<Parameter> = (1..9).map(|k| Parameter::new(e, k)).collect::<Result<_, _>>()?;
    let shape = e.result_shape(0)?;
    let (out, tail) = shape.split_at(shape.len() - 2);
    let (variates, times) = (tail[0], tail[1]);
    let states = parameters[0].view.axis_len(1);
    let mut y = Vec::with_capacity(shape.iter().product());
    batch::for_each(out, |at| {
        let x0 = x.base(out, at);
        let mut plane = vec![0.0; variates * times];
        for n in 0..states {
            let mut h1 = vec![0.0; variates * times];
            let mut h2 = vec![0.0; variates * times];
            for v in 0..variates {
                for t in 0..times {
                    let k = v * times + t;
                    let p = |which: usize| parameters[which].at(out, at, k, n);
                    let (left1, left2) = if t > 0 { (h1[k - 1], h2[k - 1]) } else { (0.0, 0.0) };
                    let (up1, up2) = if v > 0 { (h1[k - times], h2[k - times]) } else { (0.0, 0.0) };
                    let here = x.at(x0 + k);
                    h1[k] = p(0) * left1 + p(1) * left2 + p(4) * here;
                    h2[k] = p(2) * up1 + p(3) * up2 + p(5) * here;
                    plane[k] += p(6) * h1[k] + p(7) * h2[k];
                }
            }
        }
        y.extend(plane);
    });
    Ok(vec![Tensor::floats(&shape, y).into()])
}
