//! The Walsh-Hadamard transform in natural order.

use super::signature::written_square;
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op};
use crate::ops::attr;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Structure, Support};
use crate::ty::Type;

/// `walsh_hadamard`.
pub static OP: Op = Op {
    name: "walsh_hadamard",
    group: Group::Operator,
    doc: "T = 2^b: M[i,j] = (-1)^popcount(i & j), times 1/sqrt(T) when normalized, full support. Its type is written: \
          mix f32[.., T, T].",
    example: "\
func @main(%x: f32[8, 3]) -> f32[8, 3] {
  %m = walsh_hadamard {normalized} : mix f32[8, 8]
  %y = apply %m, %x
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[attr("normalized", AttrKind::Bool, "times 1/sqrt(T), so that it is its own inverse")],
    infer,
    structure: Some(|_| Structure::of(Support::full())),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = written_square(call)?;
    if let Some(tokens) = m.rows.as_constant()
        && !(tokens > 0 && tokens & (tokens - 1) == 0)
    {
        return Err(vec![
            Fault::result(format!("`walsh_hadamard` needs a power of two of tokens, not {tokens}"))
                .help("pad the tokens to the next power of two"),
        ]);
    }
    Ok(vec![Type::Mix(m)])
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let tokens = e.result_shape(0)?.last().copied().unwrap_or(0);
    if !tokens.is_power_of_two() {
        return Err(format!("`walsh_hadamard` needs a power of two of tokens, not {tokens}"));
    }
    let scale = if e.attrs.flag("normalized") { 1.0 / (tokens as f64).sqrt() } else { 1.0 };
    e.operator_result(None, move |_, i| {
        Row::from_fn(tokens, |j| Some(if (i & j).count_ones() % 2 == 0 { scale } else { -scale }))
    })
}
