//! The largest elements of every block of rows by a search down a tree of keys, as in hierarchically pruned attention.

use super::signature::{Rows, batch_of_result};
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Structure, Support};
use crate::ty::Type;

/// `top_k_tree`.
pub static OP: Op = Op {
    name: "top_k_tree",
    group: Group::Operator,
    doc: "Rows go in blocks of block_q, keys in blocks of block_k; K = ceil(k / block_k). A row block sees the keys \
          j <= i' of its last row, in n key blocks; if these are at most k keys, all are kept. Else K groups of \
          contiguous key blocks are halved ceil(log2(n / K)) times at floor((s + e) / 2), each time keeping the K \
          halves of the best score (ties to the lower start): the largest M[i,j] over the block's rows 1, 3, ... (its \
          only row, when it has one) and the keys of the half's first block; a half without such an element scores \
          lowest. The support is the last groups' first blocks, within what the row block sees and M's own. Besides, \
          each row keeps the keys j < sink and the `window` last keys j <= i', which the search does not score.",
    example: "\
func @main(%q: f32[9, 4], %k: f32[9, 4], %x: f32[9, 3]) -> f32[9, 3] {
  %m = gram %q, %k
  %c = mask %m {causal}
  %t = top_k_tree %c {k = 4, block_q = 3, block_k = 2}
  %p = softmax %t
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[
        required("k", AttrKind::Dim, "keys that each block of rows keeps, rounded up to whole blocks, at least 1"),
        required("block_q", AttrKind::Int, "rows of a block"),
        required("block_k", AttrKind::Int, "keys of a block"),
        attr("sink", AttrKind::Dim, "first keys that are kept besides, default 0"),
        attr("window", AttrKind::Dim, "latest keys of each row that are kept besides, default 0"),
    ],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let least = [("k", 1), ("block_q", 1), ("block_k", 1), ("sink", 0), ("window", 0)];
    let faults: Vec<Fault> = least
        .into_iter()
        .filter(|(name, low)| call.attrs.int(name).is_some_and(|n| n < *low))
        .map(|(name, low)| Fault::attr(name, format!("`{name}` must be at least {low}")))
        .collect();
    if faults.is_empty() { Ok(vec![Type::Mix(call.mix(0)?.clone())]) } else { Err(faults) }
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let support = s.support.intersect(&Support::only(Condition::Data));
    Structure { non_negative: s.non_negative, ..Structure::of(support) }
}

/// Key blocks that the search ends at, for `blocks` key blocks and `groups` groups: the first blocks of the last
/// groups. `score` is asked for the first key block of each half.
fn search(blocks: usize, groups: usize, score: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut held: Vec<(usize, usize)> =
        (0..groups).map(|g| (blocks * g / groups, blocks * (g + 1) / groups)).filter(|(s, e)| s < e).collect();
    // ceil(log2(n / K)): the doublings of K that reach n.
    let mut reach = groups;
    while reach < blocks {
        reach *= 2;
        let halves = held.iter().flat_map(|&(s, e)| {
            let middle = (s + e) / 2;
            [(s, middle), (middle, e)]
        });
        let mut scored: Vec<(f64, usize, usize)> =
            halves.filter(|(s, e)| s < e).map(|(s, e)| (score(s), s, e)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(groups);
        held = scored.into_iter().map(|(_, s, e)| (s, e)).collect();
    }
    held.into_iter().map(|(s, _)| s).collect()
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let size = |name: &str, default: i64| -> Result<usize, String> {
        let n = e.attr_dim(name)?.unwrap_or(default);
        usize::try_from(n).map_err(|_| format!("`{name}` is {n}"))
    };
    let (k, sink, window) = (size("k", 1)?, size("sink", 0)?, size("window", 0)?);
    if k == 0 {
        return Err("`k` is 0".into());
    }
    let (block_q, block_k) = (size("block_q", 1)?.max(1), size("block_k", 1)?.max(1));
    let m = e.operator(0)?;
    let out = batch_of_result(e)?;
    let (like, rows) = (m.clone(), Rows::new(m.clone()));
    e.operator_result(Some(&like), move |at, i| {
        let first = i / block_q * block_q;
        let last = (first.saturating_add(block_q)).min(m.rows) - 1;
        let position = |i: usize| m.position_for(&out, at, i);
        let seen = (position(last) + 1).clamp(0, m.cols as i64) as usize;
        let besides = |i: usize, j: usize| {
            let back = position(i) - j as i64;
            j < sink || (back >= 0 && back < window as i64)
        };
        let row = rows.row(&out, at, i);
        if seen <= k {
            return (*row).clone().restrict(|j| j < seen);
        }
        let sampled: Vec<usize> = if first == last { vec![first] } else { (first + 1..=last).step_by(2).collect() };
        let score = |block: usize| {
            let keys = block * block_k..((block + 1) * block_k).min(seen);
            let mut best = f64::NEG_INFINITY;
            for &r in &sampled {
                let row = rows.row(&out, at, r);
                let values = keys.clone().filter(|&j| row.present[j] && !besides(r, j)).map(|j| row.values[j]);
                // Adding 0 makes the zeros of both signs one.
                best = values.fold(best, |a, x| a.max(x)) + 0.0;
            }
            best
        };
        let found = search(seen.div_ceil(block_k), k.div_ceil(block_k), score);
        let mut keep = vec![false; m.cols];
        for block in found {
            keep[block * block_k..((block + 1) * block_k).min(seen)].fill(true);
        }
        (*row).clone().restrict(|j| j < seen && (keep[j] || besides(i, j)))
    })
}
