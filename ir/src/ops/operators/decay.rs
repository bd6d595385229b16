//! Exponential decay by distance.

use super::signature::{by_row, with_batch_tensor};
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// `decay`.
pub static OP: Op = Op {
    name: "decay",
    group: Group::Operator,
    doc: "M[i,j] * g^(i' - j) on the support, which is kept and must lie in j <= i'; i' = i + S - T, or as \
          `mask_lengths {align}` says. g broadcasts to the batch dims.",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 5, 4], %g: f32[2], %x: f32[2, 5, 3]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %c = mask %m {causal}
  %d = decay %c, %g
  %y = apply %d, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("g", OperandKind::Data)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    if !call.structure(0).support.below_diagonal(m.align.into(), &m.rows, &m.cols, call.bounds) {
        return Err(vec![
            Fault::operand(0, "the operator may be present at j > i', where a decay grows")
                .help("restrict it first: `%c = mask %M {causal}`"),
        ]);
    }
    with_batch_tensor(call, 1)
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    // exp(A_i - A_j) scales rows and columns.
    Structure { toeplitz: s.toeplitz, rank: s.rank, ..Structure::of(s.support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let g = e.tensor(1)?;
    by_row(e, move |row, place| {
        let g = g.at(place.offset(&g.shape));
        row.map(|j, x| x * g.powf((place.position - j as i64) as f64))
    })
}
