//! Running sums (and other running combinations) along one axis: block after block, the last total carried.

use super::reduce::{combine_expr, neutral};
use super::{buffers_of, capacity};
use crate::lower::{Context, Failure, Lambda, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, Pick, ROW};
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// Elements of a block.
const BLOCK: usize = 4096;

/// `combine` of everything up to each position along `axis` (from it on, with `reverse`), stored.
pub fn cumulate(
    cx: &mut Context<'_>,
    of: &Lambda,
    axis: usize,
    combine: Combine,
    reverse: bool,
) -> Result<Lambda, Failure> {
    let out = cx.target(of.dtype, &of.shape, &buffers_of(&of.body));
    let mut s = Scribe::new("cumulate");
    let tensor = s.output(cx, out);
    let of = s.local_lambda(cx, of);
    let rank = of.shape.len();
    let one = Dim::constant(1);
    let last = axis + 1 == rank;
    let kept_axis = if last { rank.checked_sub(2) } else { Some(rank - 1) };
    let kept = kept_axis.map_or(&one, |k| &of.shape[k]);
    let length = &of.shape[axis];
    let mut at: Vec<Expr> = vec![Expr::int(0); rank];
    for k in (0..rank).filter(|k| *k != axis && Some(*k) != kept_axis) {
        at[k] = s.grid_over(std::slice::from_ref(&of.shape[k])).remove(0);
    }
    let across = s.b.knob("across", capacity(cx, kept, BLOCK / 32));
    let along = s.b.knob("along", capacity(cx, length, (BLOCK / across).max(1)));
    let (k0, kept_extent) = s.grid_blocks("k", kept, across);
    let ty = TileType::of(of.dtype);
    let one = Extent::fixed(1);
    let (rows, cols) = if last { (kept_extent.clone(), one) } else { (one, kept_extent.clone()) };
    let start = s.b.map("start", ty, &rows, &cols, neutral(combine, ty));
    let total = Expr::from(length);
    s.b.for_blocks(
        Expr::int(0),
        total.clone(),
        along,
        |_| None,
        &[start],
        |t, a0, carried| {
            let extent = Extent::block(along, a0.clone(), total.clone());
            let (along_at, kept_at) =
                if last { (Expr::from(COL), Expr::from(ROW)) } else { (Expr::from(ROW), Expr::from(COL)) };
            // Backwards, position p of the loop is element length - 1 - p.
            let position = a0.clone() + along_at;
            let element = if reverse { total.clone() - Expr::int(1) - position } else { position };
            let mut index = at.clone();
            index[axis] = element;
            if let Some(k) = kept_axis {
                index[k] = k0.clone() + kept_at;
            }
            let (r, c) = if last { (&kept_extent, &extent) } else { (&extent, &kept_extent) };
            let which = if last { Axis::Cols } else { Axis::Rows };
            let block = t.map("block", ty, r, c, of.at(&index));
            let inside = t.scan("inside", combine, which, false, block);
            let carry_at = if last { (Pick::Row, Pick::Zero) } else { (Pick::Zero, Pick::Col) };
            let before = Expr::tile_at(carried[0], carry_at.0, carry_at.1);
            let sums = t.map("sums", ty, r, c, combine_expr(combine, before, Expr::tile(inside)));
            t.store(tensor, index, Expr::tile(sums), r, c);
            let part = t.reduce("part", combine, which, block);
            let next = combine_expr(combine, Expr::tile(carried[0]), Expr::tile(part));
            vec![t.map("next", ty, &rows, &cols, next)]
        },
    );
    s.finish(cx, "reduce")?;
    Ok(cx.stored(out))
}
