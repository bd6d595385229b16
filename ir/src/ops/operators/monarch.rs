//! Monarch matrices: two block-diagonal stages with a permutation between and after.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Structure, Support, not_negative};
use crate::ty::Type;

/// `monarch`.
pub static OP: Op = Op {
    name: "monarch",
    group: Group::Operator,
    doc: "r [.., k, q, p], l [.., g, s, m] with g*m = k*q; S = k*p, T = s*g. The product of two stages: \
          z[c*q+e] = sum_f r[c,e,f] x[c*p+f], then y[e*g+b] = sum_m l[b,e,m] z[m*g+b]. The support is where some \
          middle place joins row and column: all of it when q >= g.",
    example: "\
func @main(%l: f32[3, 4, 5], %r: f32[5, 3, 2], %x: f32[10, 4]) -> f32[12, 4] {
  %m = monarch %l, %r
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("l", OperandKind::Data), operand("r", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (l_lead, [g, s, m]) = trailing(call, 0, "[.., g, s, m]")?;
    let (r_lead, [k, q, p]) = trailing(call, 1, "[.., k, q, p]")?;
    let overflow = |e| vec![Fault::from(e)];
    let (middle, written) = (g.mul(m).map_err(overflow)?, k.mul(q).map_err(overflow)?);
    if middle != written {
        let message = format!("the stages do not meet: r writes k*q = {written} places, l reads g*m = {middle}");
        return Err(vec![Fault::operand(1, message)]);
    }
    let batch = batch::join(&[(0, l_lead), (1, r_lead)], true)?;
    Ok(operator(call.tensor(0)?.dtype, batch, s.mul(g).map_err(overflow)?, k.mul(p).map_err(overflow)?))
}

fn structure(call: &Call<'_>) -> Structure {
    let (Ok((_, [g, ..])), Ok((_, [_, q, p]))) = (trailing::<3>(call, 0, ""), trailing::<3>(call, 1, "")) else {
        return Structure::of(Support::only(Condition::Data));
    };
    let full = q.sub(g).is_ok_and(|d| not_negative(&d, call.bounds));
    let stages = Condition::Stages { cols: p.clone(), inner: q.clone(), outer: g.clone() };
    Structure::of(if full { Support::full() } else { Support::only(stages) })
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (l, r) = (e.tensor(0)?, e.tensor(1)?);
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let (ln, rn) = (l.shape.len() - 3, r.shape.len() - 3);
        let (g, s, m) = (l.shape[ln], l.shape[ln + 1], l.shape[ln + 2]);
        let (k, q, p) = (r.shape[rn], r.shape[rn + 1], r.shape[rn + 2]);
        let (own, b) = (i / g, i % g);
        let l0 = ((batch::offset(&out, at, &l.shape[..ln]) * g + b) * s + own) * m;
        let r0 = batch::offset(&out, at, &r.shape[..rn]) * k * q * p;
        let mut row = Row::from_fn(k * p, |_| None);
        for n in 0..m {
            let middle = n * g + b;
            let block = middle / q;
            for f in 0..p {
                row.values[block * p + f] += l.at(l0 + n) * r.at(r0 + middle * p + f);
                row.present[block * p + f] = true;
            }
        }
        row
    })
}
