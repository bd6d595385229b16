//! Restriction to marked blocks.

use super::signature::{by_row, with_matrix_tensor};
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `mask_blocks`.
pub static OP: Op = Op {
    name: "mask_blocks",
    group: Group::Operator,
    doc: "Restricts the support to m[i / block_q, j / block_k]. M mix [.., T, S], \
          m bool [.., ceil(T/block_q), ceil(S/block_k)].",
    example: "\
func @main(%q: f32[2, 5, 4], %k: f32[2, 7, 4], %x: f32[2, 7, 3], %b: bool[3, 3]) -> f32[2, 5, 3] {
  %m = gram %q, %k
  %c = mask_blocks %m, %b {block_q = 2, block_k = 3}
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix), operand("m", OperandKind::Bool)],
    variadic: false,
    attrs: &[
        required("block_q", AttrKind::Int, "rows of a block"),
        required("block_k", AttrKind::Int, "columns of a block"),
    ],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    let blocks = |d: &crate::dim::Dim, name| {
        d.ceil_div(call.attrs.int(name).unwrap_or(0)).map_err(|e| vec![Fault::attr(name, e.to_string())])
    };
    let (rows, cols) = (blocks(&m.rows, "block_q")?, blocks(&m.cols, "block_k")?);
    with_matrix_tensor(call, 1, [&rows, &cols], false)
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let own = match (call.value(1), call.attrs.int("block_q"), call.attrs.int("block_k")) {
        (Some(mask), Some(rows), Some(cols)) => Condition::Blocks { mask, rows, cols },
        _ => Condition::Data,
    };
    Structure { non_negative: s.non_negative, rank: s.rank, ..Structure::of(s.support.intersect(&Support::only(own))) }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let m = e.tensor(1)?;
    let size = |name: &str| usize::try_from(e.attrs.int(name).unwrap_or(1)).unwrap_or(1).max(1);
    let (block_q, block_k) = (size("block_q"), size("block_k"));
    by_row(e, move |row, place| {
        let lead = m.shape.len() - 2;
        let (rows, cols) = (m.shape[lead], m.shape[lead + 1]);
        let start = (place.offset(&m.shape[..lead]) * rows + place.i / block_q) * cols;
        row.restrict(|j| m.get(start + j / block_k).as_bool())
    })
}
