//! The matrix product of operators.

use super::signature::{Rows, batch_of_result, combined};
use crate::batch;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::operand;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Position, Structure, Support};
use crate::ty::{MixType, Type};

/// `compose`.
pub static OP: Op = Op {
    name: "compose",
    group: Group::Operator,
    doc: "(A B)[i,j] = sum_k A[i,k] B[k,j]; the support is every (i, j) that some k joins. A mix [.., T, K], \
          B mix [.., K, S].",
    example: "\
func @main(%d: f32[5], %w: f32[5, 7], %x: f32[7, 3]) -> f32[5, 3] {
  %a = diagonal %d
  %b = dense %w
  %m = compose %a, %b
  %y = apply %m, %x
  return %y
}
",
    operands: &[operand("A", OperandKind::Mix), operand("B", OperandKind::Mix)],
    variadic: false,
    attrs: &[],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0), Law::LinearIn(1)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (dtype, align) = combined(call)?;
    let (a, b) = (call.mix(0)?, call.mix(1)?);
    if a.cols != b.rows {
        return Err(vec![Fault::operand(1, format!("A reads {} tokens, B gives {}", a.cols, b.rows))]);
    }
    let batch = batch::join(&[(0, &a.batch), (1, &b.batch)], true)?;
    Ok(vec![Type::Mix(MixType { dtype, batch, rows: a.rows.clone(), cols: b.cols.clone(), align })])
}

fn structure(call: &Call<'_>) -> Structure {
    let (Ok(a), Ok(b)) = (call.mix(0), call.mix(1)) else {
        return Structure::of(Support::only(Condition::Data));
    };
    let (sa, sb) = (call.structure(0), call.structure(1));
    let triangular = |s: &Structure, m: &MixType| {
        m.rows == m.cols && s.support.below_diagonal(Position::Row, &m.rows, &m.cols, call.bounds)
    };
    Structure {
        support: sa.support.compose(&sb.support, [&a.rows, &a.cols, &b.cols], call.bounds),
        non_negative: sa.non_negative && sb.non_negative,
        // Other products of Toeplitz matrices feel the ends.
        toeplitz: sa.toeplitz && sb.toeplitz && triangular(&sa, a) && triangular(&sb, b),
        rank: least(sa.own_rank(), sb.own_rank()),
    }
}

/// One of two bounds of the rank: the lesser where both are numbers.
fn least(a: Option<crate::dim::Dim>, b: Option<crate::dim::Dim>) -> Option<crate::dim::Dim> {
    match (a, b) {
        (Some(a), Some(b)) => match (a.as_constant(), b.as_constant()) {
            (Some(x), Some(y)) if y < x => Some(b),
            (None, Some(_)) => Some(b),
            _ => Some(a),
        },
        (a, b) => a.or(b),
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (a, b) = (e.operator(0)?, e.operator(1)?);
    let (out, cols) = (batch_of_result(e)?, b.cols);
    let (like, rows) = (a.clone(), Rows::new(b));
    e.operator_result(Some(&like), move |at, i| {
        let mut sum = Row::from_fn(cols, |_| None);
        for (k, x) in a.row_for(&out, at, i).entries() {
            for (j, y) in rows.row(&out, at, k).entries() {
                sum.values[j] += x * y;
                sum.present[j] = true;
            }
        }
        sum
    })
}
