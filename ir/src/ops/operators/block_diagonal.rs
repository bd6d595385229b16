//! Small matrices along the diagonal.

use super::signature::{batch_of_result, operator, trailing};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `block_diagonal`.
pub static OP: Op = Op {
    name: "block_diagonal",
    group: Group::Operator,
    doc: "M[i,j] = b[i/p, i mod p, j mod q], support i/p == j/q. b [.., n, p, q]; T = n*p, S = n*q.",
    example: "\
func @main(%b: f32[3, 2, 5], %x: f32[15, 4]) -> f32[6, 4] {
  %m = block_diagonal %b
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("b", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (batch, [n, p, q]) = trailing(call, 0, "[.., n, p, q]")?;
    let size = |d| n.mul(d).map_err(|e| vec![Fault::from(e)]);
    Ok(operator(call.tensor(0)?.dtype, batch.to_vec(), size(p)?, size(q)?))
}

fn structure(call: &Call<'_>) -> Structure {
    let support = match trailing::<3>(call, 0, "[.., n, p, q]") {
        Ok((_, [n, ..])) if n.is(1) => Support::full(),
        Ok((_, [_, p, q])) if p.is(1) && q.is(1) => Support::diagonal(),
        Ok((_, [_, p, q])) => Support::only(Condition::Diagonal { rows: p.clone(), cols: q.clone() }),
        Err(_) => Support::only(Condition::Data),
    };
    Structure::of(support)
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let b = e.tensor(0)?;
    let out = batch_of_result(e)?;
    e.operator_result(None, move |at, i| {
        let lead = b.shape.len() - 3;
        let (n, p, q) = (b.shape[lead], b.shape[lead + 1], b.shape[lead + 2]);
        let (block, own) = (i / p, i % p);
        let b0 = ((batch::offset(&out, at, &b.shape[..lead]) * n + block) * p + own) * q;
        Row::from_fn(n * q, |j| (j / q == block).then(|| b.at(b0 + j % q)))
    })
}
