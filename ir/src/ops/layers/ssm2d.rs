//! A state space over two axes at once: variates and time.

use super::rules::{self, View};
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

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
    expand: None,
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
        let states = self.view.from_end(1);
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
    let states = parameters[0].view.from_end(1);
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
