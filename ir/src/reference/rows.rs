//! Which rows of a program's values are asked for, so that a sample of a long result costs a sample of the work.
//!
//! Rows are along the axis before the last. A program is walked from its results back: elementwise operations, row
//! norms, linear maps and the split of heads read the rows that they are asked for, `apply` reads those of its
//! operator, which is made by rows anyway, and all tokens. Whatever else there is reads everything.

use crate::dim::Dim;
use crate::op::{Meaning, Op};
use crate::program::{Node, NodeKind, Program, ValueId};
use std::sync::Arc;

/// Rows that are asked for; `None` is all.
pub type Rows = Option<Arc<[usize]>>;

/// How much of a value is asked for.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Nothing,
    Some(Arc<[usize]>),
    All,
}

impl Asked {
    fn join(&mut self, other: Asked) {
        *self = match (std::mem::replace(self, Asked::All), other) {
            (Asked::Nothing, x) | (x, Asked::Nothing) => x,
            (Asked::Some(a), Asked::Some(b)) if a == b => Asked::Some(a),
            _ => Asked::All,
        };
    }
}

/// The rows asked of every value when `results` are asked of the program's results.
pub(super) fn asked(program: &Program, results: &[Rows]) -> Vec<Rows> {
    let mut asked = vec![Asked::Nothing; program.values.len()];
    for (v, rows) in program.results.iter().zip(results) {
        asked[v.index()].join(rows.clone().map_or(Asked::All, Asked::Some));
    }
    for node in program.nodes.iter().rev() {
        let of_result = match node.results.as_slice() {
            [one] => asked[one.index()].clone(),
            _ => Asked::All,
        };
        for (k, operand) in node.operands.iter().enumerate() {
            let Some(v) = operand else { continue };
            let passes = matches!(node.kind, NodeKind::Op(op) if by_rows(program, op, node, k, *v));
            asked[v.index()].join(if passes { of_result.clone() } else { Asked::All });
        }
    }
    let rows = |a| match a {
        Asked::Some(rows) => Some(rows),
        // A value that nobody reads is made as ever: it may say that the inputs are wrong.
        Asked::Nothing | Asked::All => None,
    };
    asked.into_iter().map(rows).collect()
}

/// Whether row i of the result reads of operand k, which is `v`, row i alone.
fn by_rows(program: &Program, op: &Op, node: &Node, k: usize, v: ValueId) -> bool {
    let tokens = |v: ValueId| -> Option<Dim> { program.ty(v).as_tensor()?.shape.iter().rev().nth(1).cloned() };
    let Some(rows) = node.results.first().and_then(|r| tokens(*r)) else { return false };
    let alike = tokens(v) == Some(rows);
    match op.meaning {
        Meaning::Pointwise(_) => alike,
        _ => alike && k == 0 && matches!(op.name, "linear" | "layer_norm" | "rms_norm" | "split_heads" | "merge_heads"),
    }
}
