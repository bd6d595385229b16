//! Strided permutations of tokens: the transposition of a two-dimensional view.

use super::signature::written_square;
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::{Call, Group, Meaning, Op};
use crate::ops::required;
use crate::reference::{Eval, RefValue, Row};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `permutation`.
pub static OP: Op = Op {
    name: "permutation",
    group: Group::Operator,
    doc: "T = m*n: reads x viewed [n, m], transposed to [m, n]. M[a*n+c, c*m+a] = 1, elsewhere absent. Its type is \
          written: mix f32[.., T, T].",
    example: "\
func @main(%x: f32[15, 2]) -> f32[15, 2] {
  %m = permutation {stride = 3} : mix f32[15, 15]
  %y = apply %m, %x
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[required("stride", AttrKind::Int, "m, which divides T")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = written_square(call)?;
    let stride = call.attrs.int("stride").unwrap_or(0);
    m.rows.div(stride).map_err(|e| vec![Fault::attr("stride", e.to_string())])?;
    Ok(vec![Type::Mix(m)])
}

fn structure(call: &Call<'_>) -> Structure {
    let stride = call.attrs.int("stride").unwrap_or(1);
    let support = match call.written_type().and_then(Type::as_mix).map(|m| m.rows.div(stride)) {
        Some(Ok(count)) => Support::only(Condition::Permuted { stride: Dim::constant(stride), count }),
        _ => Support::only(Condition::Data),
    };
    Structure { non_negative: true, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let tokens = e.result_shape(0)?.last().copied().unwrap_or(0);
    let stride = usize::try_from(e.attrs.int("stride").unwrap_or(0)).unwrap_or(0);
    if stride == 0 || tokens % stride != 0 {
        return Err(format!("stride {stride} does not divide {tokens} tokens"));
    }
    let count = tokens / stride;
    e.operator_result(None, move |_, i| {
        let source = i % count * stride + i / count;
        Row::from_fn(tokens, |j| (j == source).then_some(1.0))
    })
}
