//! Convolutions as operators: values that depend on i - j alone, from a filter.

use super::signature::{operator, trailing};
use crate::attr::AttrKind;
use crate::batch;
use crate::diag::Fault;
use crate::dim::{Dim, DimError};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Position, Structure, Support, not_negative};
use crate::ty::Type;

/// `toeplitz`.
pub static OP: Op = Op {
    name: "toeplitz",
    group: Group::Operator,
    doc: "Causal: h [.., K], M[i,j] = h[i-j], support 0 <= i-j < K. With {two_sided}: h [.., 2K-1], M[i,j] = \
          h[i-j+K-1], support abs(i-j) < K. T x T with T from the written type, else T = K; taps of a filter longer \
          than T meet nothing.",
    example: "\
func @main(%h: f32[3, 4], %x: f32[7, 3]) -> f32[7, 3] {
  %m = toeplitz %h : mix f32[3, 7, 7]
  %y = apply %m, %x {channelwise}
  return %y
}
",
    operands: &[operand("h", OperandKind::Data)],
    variadic: false,
    attrs: &[attr("two_sided", AttrKind::Bool, "h also holds the taps of later tokens, which come first")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

/// K.
fn taps(call: &Call<'_>, length: &Dim) -> Result<Dim, DimError> {
    if call.attrs.flag("two_sided") { length.add(&Dim::constant(1))?.div(2) } else { Ok(length.clone()) }
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let expected = if call.attrs.flag("two_sided") { "[.., 2K-1]" } else { "[.., K]" };
    let (batch, [length]) = trailing(call, 0, expected)?;
    let taps = taps(call, length).map_err(|e| match e {
        DimError::NotDivisible { .. } => {
            vec![Fault::operand(0, format!("a two-sided filter has 2K-1 taps, not {length}"))]
        }
        e => vec![e.into()],
    })?;
    let rows = match call.written_type() {
        Some(Type::Mix(m)) if m.rows == m.cols => m.rows.clone(),
        Some(Type::Mix(m)) => {
            return Err(vec![Fault::result(format!("`toeplitz` is square, not {} x {}", m.rows, m.cols))]);
        }
        Some(t) => return Err(vec![Fault::result(format!("`toeplitz` is a mixing operator, not {t}"))]),
        None => taps,
    };
    Ok(operator(call.tensor(0)?.dtype, batch.to_vec(), rows.clone(), rows))
}

fn structure(call: &Call<'_>) -> Structure {
    let length = call.ty(0).and_then(Type::as_tensor).and_then(|t| t.shape.last().cloned()).unwrap_or_default();
    let taps = taps(call, &length).unwrap_or_default();
    let rows = match call.written_type() {
        Some(Type::Mix(m)) => m.rows.clone(),
        _ => taps.clone(),
    };
    let at = Position::Row;
    let two_sided = call.attrs.flag("two_sided");
    let support = match taps.sub(&Dim::constant(1)).and_then(|reach| Ok((reach.scale(-1)?, taps.sub(&rows)?, reach))) {
        Err(_) => Support::only(Condition::Data),
        Ok((back, spare, reach)) => {
            // With K >= T the filter reaches every token.
            let cut = !not_negative(&spare, call.bounds);
            let mut conditions = Vec::new();
            if cut {
                conditions.push(Condition::AtLeast { by: back, at });
            }
            if !two_sided {
                conditions.push(Condition::AtMost { by: Dim::constant(0), at });
            } else if cut {
                conditions.push(Condition::AtMost { by: reach, at });
            }
            Support::all(conditions)
        }
    };
    Structure { toeplitz: true, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let h = e.tensor(0)?;
    let two_sided = e.attrs.flag("two_sided");
    let shape = e.result_shape(0)?;
    let (out, rows) = (shape[..shape.len() - 2].to_vec(), shape[shape.len() - 1]);
    let lead = h.shape.len() - 1;
    let length = h.shape[lead];
    if two_sided && length % 2 == 0 {
        return Err(format!("a two-sided filter has 2K-1 taps, not {length}"));
    }
    let zero = if two_sided { length / 2 } else { 0 };
    e.operator_result(None, move |at, i| {
        let h0 = batch::offset(&out, at, &h.shape[..lead]) * length;
        // Tap i - j + (K-1 or 0), where there is one.
        Row::from_fn(rows, |j| (i + zero).checked_sub(j).filter(|t| *t < length).map(|t| h.at(h0 + t)))
    })
}
