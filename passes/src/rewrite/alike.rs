//! Along which axes all elements of a tensor are alike: where a state space does not change with time, this is how it shows.
//!
//! What is said holds; what is not said may hold as well.

use super::region::number_of;
use mixc_ir::attr::{AttrValue, Attrs};
use mixc_ir::dim::Dim;
use mixc_ir::op::{Meaning, Op};
use mixc_ir::program::{NodeKind, Program};
use mixc_ir::ty::Type;

/// A set of axes; bit k is the axis that lies k before the last.
pub type Axes = u32;

fn has(axes: Axes, k: usize) -> bool {
    axes.checked_shr(k as u32).is_some_and(|a| a & 1 == 1)
}

fn collect(rank: usize, holds: impl Fn(usize) -> bool) -> Axes {
    (0..rank.min(Axes::BITS as usize)).filter(|k| holds(*k)).fold(0, |axes, k| axes | 1 << k)
}

/// The axes of length 1.
pub fn trivially(ty: &Type) -> Axes {
    let dims = ty.dims();
    collect(dims.len(), |k| dims[dims.len() - 1 - k].is(1))
}

/// The axes of the result of a call, from those of its operands.
pub fn of_call(op: &Op, attrs: &Attrs, operands: &[Option<(&Type, Axes)>], result: &Type) -> Axes {
    let own = trivially(result);
    if result.as_tensor().is_none() || operands.iter().flatten().any(|(ty, _)| ty.as_tensor().is_none()) {
        return own;
    }
    let dims = result.dims();
    let rank = dims.len();
    let operand = |n: usize| operands.get(n).copied().flatten();
    let axes_of = |n: usize| operand(n).map_or(0, |(_, axes)| axes);
    let rank_of = |n: usize| operand(n).map_or(0, |(ty, _)| ty.dims().len());
    // Along an axis that an operand does not have, all of it is seen at every place.
    let spread = |n: usize, k: usize| has(axes_of(n), k) || k >= rank_of(n);
    let along = |holds: &dyn Fn(usize) -> bool| own | collect(rank, holds);
    match op.name {
        _ if matches!(op.meaning, Meaning::Pointwise(_)) => along(&|k| (0..operands.len()).all(|n| spread(n, k))),
        "broadcast" => along(&|k| spread(0, k)),
        "cast" | "reverse" | "slice" | "softmax_axis" => along(&|k| has(axes_of(0), k)),
        // Every token for itself.
        "rms_norm" | "layer_norm" | "linear" => along(&|k| k > 0 && has(axes_of(0), k)),
        "token_shift" => along(&|k| k != 1 && has(axes_of(0), k)),
        "transpose" => match attrs.get("perm") {
            Some(AttrValue::List(perm)) => along(&|k| {
                let from = match &perm[rank - 1 - k] {
                    AttrValue::Dim(d) => d.as_constant(),
                    _ => None,
                };
                let from = from.map(|d| if d < 0 { d + rank as i64 } else { d });
                from.and_then(|d| usize::try_from(rank as i64 - 1 - d).ok()).is_some_and(|d| has(axes_of(0), d))
            }),
            _ => own,
        },
        "reshape" => match operand(0) {
            Some((ty, axes)) => own | reshaped(&ty.dims(), axes, &dims),
            None => own,
        },
        "split_heads" => along(&|k| has(axes_of(0), [0, 1, 0].get(k).copied().unwrap_or(k.saturating_sub(1)))),
        "merge_heads" => along(&|k| match k {
            0 => has(axes_of(0), 0) && has(axes_of(0), 2),
            1 => has(axes_of(0), 1),
            k => has(axes_of(0), k + 1),
        }),
        "matmul" => along(&|k| match k {
            0 => has(axes_of(1), usize::from(attrs.flag("transpose_b"))),
            1 => has(axes_of(0), usize::from(!attrs.flag("transpose_a"))),
            k => spread(0, k) && spread(1, k),
        }),
        _ => own,
    }
}

/// Where a view only adds or leaves out axes of length 1.
fn reshaped(from: &[Dim], axes: Axes, to: &[Dim]) -> Axes {
    let long = |dims: &[Dim]| -> Vec<usize> { (0..dims.len()).rev().filter(|k| !dims[*k].is(1)).collect() };
    let (old, new) = (long(from), long(to));
    if old.len() != new.len() || old.iter().zip(&new).any(|(a, b)| from[*a] != to[*b]) {
        return 0;
    }
    let kept = old.iter().zip(&new).filter(|(a, _)| has(axes, from.len() - 1 - **a));
    kept.fold(0, |all, (_, b)| all | collect(to.len(), |k| k == to.len() - 1 - *b))
}

/// The axes of every value of a program.
pub fn of_program(program: &Program) -> Vec<Axes> {
    let mut found: Vec<Axes> = program.values.iter().map(|v| trivially(&v.ty)).collect();
    for node in &program.nodes {
        let [result] = node.results.as_slice() else { continue };
        found[result.index()] = match &node.kind {
            NodeKind::Const(c) if number_of(c).is_some() => Axes::MAX,
            NodeKind::Const(_) => found[result.index()],
            NodeKind::Op(op) => {
                let operands: Vec<Option<(&Type, Axes)>> =
                    node.operands.iter().map(|o| o.map(|v| (program.ty(v), found[v.index()]))).collect();
                of_call(op, &node.attrs, &operands, program.ty(*result))
            }
        };
    }
    found
}
