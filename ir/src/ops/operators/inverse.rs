//! Inverses of lower-triangular operators.

use super::signature::{Rows, batch_of_result};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Position, Structure, Support};
use crate::ty::Type;

/// `inverse`.
pub static OP: Op = Op {
    name: "inverse",
    group: Group::Operator,
    doc: "The inverse of M, whose support must lie in i >= j and whose diagonal has no zero (a zero gives infinities \
          and NaN); again lower triangular, its support is i >= j. M mix [.., T, T].",
    example: "\
func @main(%k: f32[5, 4], %x: f32[5, 3]) -> f32[5, 3] {
  %g = gram %k, %k
  %s = mask %g {right = -1}
  %e = identity : mix f32[5, 5]
  %m = sum %e, %s
  %n = inverse %m
  %y = apply %n, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    if m.rows != m.cols {
        return Err(vec![Fault::operand(
            0,
            format!("only a square operator has an inverse, not {} x {}", m.rows, m.cols),
        )]);
    }
    if !call.structure(0).support.below_diagonal(Position::Row, &m.rows, &m.cols, call.bounds) {
        return Err(vec![
            Fault::operand(0, "the operator may be present at j > i: only lower-triangular ones are inverted")
                .help("restrict it first: `%c = mask %M {causal}`"),
        ]);
    }
    Ok(vec![Type::Mix(m.clone())])
}

fn structure(call: &Call<'_>) -> Structure {
    let support = Support::only(Condition::AtMost { by: Dim::constant(0), at: Position::Row });
    Structure { toeplitz: call.structure(0).toeplitz, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let m = e.operator(0)?;
    let (out, tokens) = (batch_of_result(e)?, m.cols);
    let (like, rows) = (m.clone(), Rows::new(m));
    e.operator_result(Some(&like), move |at, i| {
        // Row i of X from X M = 1, from the diagonal to the left: X[i,j] M[j,j] = [i == j] - sum_{k>j} X[i,k] M[k,j].
        // Row k of M is read once, when X[i,k] is known, and taken from every place left of it.
        let mut x = vec![0.0; tokens];
        x[i] = 1.0;
        for k in (0..=i).rev() {
            let row = rows.row(&out, at, k);
            x[k] /= row.values[k];
            for j in 0..k {
                x[j] -= x[k] * row.values[j];
            }
        }
        Row::from_fn(tokens, |j| (j <= i).then(|| x[j]))
    })
}
