//! The largest elements of every row.

use super::signature::by_row;
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `top_k`.
pub static OP: Op = Op {
    name: "top_k",
    group: Group::Operator,
    doc: "Restricts the support to the k largest present elements of each row; of equal ones the lower j are kept. A \
          row with at most k elements keeps them all. NaN counts as largest, so that it is not lost.",
    example: "\
func @main(%q: f32[5, 4], %k: f32[7, 4], %x: f32[7, 3]) -> f32[5, 3] {
  %m = gram %q, %k
  %t = top_k %m {k = 3}
  %p = softmax %t
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[required("k", AttrKind::Dim, "elements to keep in each row, at least 0")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    if call.attrs.int("k").is_some_and(|k| k < 0) {
        return Err(vec![Fault::attr("k", "the number of elements to keep must not be negative")]);
    }
    Ok(vec![Type::Mix(call.mix(0)?.clone())])
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let support = s.support.intersect(&Support::only(Condition::Data));
    Structure { non_negative: s.non_negative, ..Structure::of(support) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let k = usize::try_from(e.attr_dim("k")?.unwrap_or(0)).map_err(|_| "`k` is negative".to_string())?;
    by_row(e, move |row, _| {
        let mut entries: Vec<(usize, f64)> = row.entries().collect();
        // Zeros of both signs are equal, so that their ties go to the lower j too.
        entries.sort_by(|a, b| {
            let larger = b.1.partial_cmp(&a.1).unwrap_or_else(|| b.1.is_nan().cmp(&a.1.is_nan()));
            larger.then(a.0.cmp(&b.0))
        });
        let mut keep = vec![false; row.values.len()];
        for (j, _) in entries.into_iter().take(k) {
            keep[j] = true;
        }
        row.restrict(|j| keep[j])
    })
}
