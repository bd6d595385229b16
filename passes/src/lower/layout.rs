//! Lowering of operations that only move elements, or make them from positions.

use super::lambda::{axis_var, reshape_index};
use super::range::range;
use super::tensors::{axis_attr, broadcast_index};
use super::{Context, Failure, Lambda, Producer, axes, axis, constant_of, whole_buffer};
use mixc_ir::dim::{Dim, DimError};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node as ExprNode};
use mixc_ir::lowered::BufferId;
use mixc_ir::op::Op;
use mixc_ir::program::{Node, ValueId};

/// A change of layout taken over by the open program of its operand, when its stores stay linear in its tiles' axes.
pub(super) fn push_layout(
    cx: &mut Context<'_>,
    name: &str,
    node: &Node,
    v: ValueId,
    shape: &[Dim],
) -> Result<Option<Producer>, Failure> {
    if cx.uses(v) != 1 || !cx.is_open(v) {
        return Ok(None);
    }
    let Some(p) = cx.take_open(v) else { return Ok(None) };
    let index = match name {
        "reverse" => {
            let k = axis_attr(cx, node, shape.len(), 0)?;
            if p.natural.last().is_some() && p.index[k].mentions(axis_var(p.natural.len() - 1)) {
                // Stored one by one: read from the other end instead.
                cx.put_open(v, p);
                return Ok(None);
            }
            let mut index = p.index.clone();
            index[k] = Expr::from(&shape[k]) - Expr::int(1) - index[k].clone();
            index
        }
        "transpose" => match permutation_of(node, p.index.len()) {
            Some(perm) => perm.iter().map(|&k| p.index[k].clone()).collect(),
            None => return Err(cx.fail("`transpose` of a tensor needs `perm`")),
        },
        "merge_heads" => {
            let r = p.index.len();
            let (h, t, c) = (p.index[r - 3].clone(), p.index[r - 2].clone(), p.index[r - 1].clone());
            let mut index = p.index[..r - 3].to_vec();
            index.extend([t, h * Expr::from(&p.shape[r - 1]) + c]);
            index
        }
        _ => reshape_index(&p.index, &p.shape, shape),
    };
    let natural = p.natural.len();
    let tile_axes: Vec<_> = (natural.saturating_sub(2)..natural).map(axis_var).collect();
    if index.iter().all(|e| tile_axes.iter().all(|v| e.linear_in(*v).is_some())) {
        return Ok(Some(Producer { index, shape: shape.to_vec(), ..p }));
    }
    cx.put_open(v, p);
    Ok(None)
}

/// The axes of `transpose`, counted from the first.
fn permutation_of(node: &Node, rank: usize) -> Option<Vec<usize>> {
    mixc_ir::ops::operators::transpose::permutation(&node.attrs.ints("perm")?, rank)
}

/// A change of layout as a function of the index.
pub(super) fn pull_layout(
    cx: &Context<'_>,
    name: &str,
    node: &Node,
    x: &Lambda,
    shape: &[Dim],
) -> Result<Lambda, Failure> {
    let rank = shape.len();
    let index = match name {
        "transpose" => {
            let perm = permutation_of(node, rank).ok_or_else(|| cx.fail("`transpose` of a tensor needs `perm`"))?;
            let mut index = vec![Expr::int(0); rank];
            for (k, &p) in perm.iter().enumerate() {
                index[p] = axis(k);
            }
            index
        }
        "merge_heads" => {
            let d = x.shape.last().cloned().unwrap_or_default();
            let e = axis(rank - 1);
            let mut index: Vec<Expr> = (0..rank - 2).map(axis).collect();
            index.extend([e.clone().floor_div(Expr::from(&d)), axis(rank - 2), e.modulo(Expr::from(&d))]);
            index
        }
        _ => reshape_index(&axes(rank), shape, &x.shape),
    };
    Ok(Lambda { dtype: x.dtype, shape: shape.to_vec(), body: x.at(&index) })
}

/// Every load of the expression made only where `inside` holds.
pub fn guard_loads(e: &Expr, inside: &Expr) -> Expr {
    e.rewrite(&mut |e| match e.node() {
        ExprNode::Load(l) => {
            let index = l.index.iter().map(|i| guard_loads(i, inside)).collect();
            let guard = match &l.guard {
                Some(g) => inside.clone().and(guard_loads(g, inside)),
                None => inside.clone(),
            };
            Some(Expr::load_if(l.tensor, index, guard, l.fill))
        }
        _ => None,
    })
}

/// Operations that only move elements, or make them from positions.
pub(super) fn indexing(
    cx: &mut Context<'_>,
    op: &Op,
    node: &Node,
    shape: &[Dim],
    dtype: DType,
) -> Result<Lambda, Failure> {
    let rank = shape.len();
    let lambda = |body: Expr| Lambda { dtype, shape: shape.to_vec(), body };
    let dim_of = |cx: &Context<'_>, r: Result<Dim, DimError>| r.map_err(|e| cx.dim_failure(e));
    match op.name {
        "slice" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, rank, 0)?;
            let range = dim_range(&x.shape[k], node);
            let (start, step) = (dim_of(cx, range)?, node.attrs.int("step").unwrap_or(1));
            let mut index = axes(rank);
            index[k] = axis(k) * Expr::int(step) + Expr::from(&start);
            Ok(lambda(x.at(&index)))
        }
        "reverse" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, rank, 0)?;
            let mut index = axes(rank);
            index[k] = Expr::from(&shape[k]) - Expr::int(1) - axis(k);
            Ok(lambda(x.at(&index)))
        }
        "broadcast" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            Ok(lambda(x.at(&broadcast_index(&x.shape, shape, &axes(rank)))))
        }
        "split_heads" => {
            let x = cx.read_stored(cx.operand(node, 0)?)?;
            let mut index: Vec<Expr> = (0..rank - 3).map(axis).collect();
            index.extend([axis(rank - 2), axis(rank - 3) * Expr::from(&shape[rank - 1]) + axis(rank - 1)]);
            Ok(lambda(x.at(&index)))
        }
        "pad" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, rank, 0)?;
            let before = node.attrs.dim("before").cloned().unwrap_or_default();
            let mut index = axes(rank);
            index[k] = axis(k) - Expr::from(&before);
            let inside = index[k].clone().ge(0).and(index[k].clone().lt(Expr::from(&x.shape[k])));
            let value = constant_of(dtype, node.attrs.float("value").unwrap_or(0.0));
            Ok(lambda(Expr::select(inside.clone(), guard_loads(&x.at(&index), &inside), value)))
        }
        "concat" => {
            let k = axis_attr(cx, node, rank, 0)?;
            let mut parts = Vec::new();
            let mut start = Dim::constant(0);
            for n in 0..node.operands.len() {
                let x = cx.read(cx.operand(node, n)?)?;
                let end = dim_of(cx, start.add(&x.shape[k]))?;
                let mut index = axes(rank);
                index[k] = axis(k) - Expr::from(&start);
                let inside = axis(k).ge(Expr::from(&start)).and(axis(k).lt(Expr::from(&end)));
                parts.push((inside.clone(), guard_loads(&x.at(&index), &inside)));
                start = end;
            }
            let last = parts.pop().map_or_else(|| constant_of(dtype, 0.0), |(_, e)| e);
            let body = parts.into_iter().rev().fold(last, |rest, (inside, e)| Expr::select(inside, e, rest));
            Ok(lambda(body))
        }
        "gather" => {
            let table = cx.read_stored(cx.operand(node, 0)?)?;
            let ids = ids_of(cx, node, 1, &table.shape[0], false)?;
            let id = ids.at(&axes(rank - 1));
            Ok(lambda(table.at(&[id, axis(rank - 1)])))
        }
        "take" => {
            let x = cx.read_stored(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, x.shape.len(), 0)?;
            let ids = ids_of(cx, node, 1, &x.shape[k], true)?;
            let width = ids.shape.len();
            let id = ids.at(&(k..k + width).map(axis).collect::<Vec<_>>());
            let mut index: Vec<Expr> = (0..k).map(axis).collect();
            index.push(id);
            index.extend((k + width..rank).map(axis));
            Ok(lambda(x.at(&index)))
        }
        "iota" => {
            let k = axis_attr(cx, node, rank, 0)?;
            let e = axis(k);
            Ok(lambda(if dtype.is_float() { e.to_float() } else { e }))
        }
        // Over constants it has become constants before.
        "ptd" => Err(cx
            .fail("`ptd` is worked out when the model is compiled, and its operands are not known then")
            .help("give constants, or results of operations on constants")),
        other => Err(cx
            .fail(format!("this compiler has no native form for `{other}` yet"))
            .help("run it with `--target ref`")),
    }
}

fn dim_range(size: &Dim, node: &Node) -> Result<Dim, DimError> {
    match node.attrs.dim("start") {
        None => Ok(Dim::constant(0)),
        Some(d) if d.as_constant().is_some_and(|n| n < 0) => size.add(d),
        Some(d) => Ok(d.clone()),
    }
}

/// Ids of the rows of a table: as they are where positions alone make them and all are rows, else in memory after a check.
/// Where they wrap, negative ones count from the end, as NumPy's.
fn ids_of(cx: &mut Context<'_>, node: &Node, k: usize, below: &Dim, wrap: bool) -> Result<Lambda, Failure> {
    let v = cx.operand(node, k)?;
    let mut ids = cx.read(v)?;
    let last = below.sub(&Dim::constant(1)).map_err(|e| cx.dim_failure(e))?;
    let from = |cx: &Context<'_>, low: &Dim| range(&ids, &cx.bounds).is_some_and(|r| r.within(low, &last, &cx.bounds));
    let rows = from(cx, &Dim::constant(0));
    let known = rows || wrap && below.scale(-1).is_ok_and(|low| from(cx, &low));
    if wrap && !rows {
        let e = ids.body.clone();
        ids.body = Expr::select(e.clone().lt(Expr::int(0)), e.clone() + Expr::from(below), e);
    }
    if known {
        return Ok(ids);
    }
    let b: BufferId = match whole_buffer(&ids) {
        Some(b) => b,
        None => cx.store_lambda(&ids)?,
    };
    cx.check_ids(b, below.clone());
    Ok(cx.stored(b))
}
