//! Storing a function of the index: elementwise work, gathers and layout changes.

use super::buffers_of;
use crate::lower::{Context, Failure, Lambda, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::TileType;

/// Elements of a block: a fraction of the first cache level for one operand and the result.
const BLOCK: usize = 4096;

/// Stores `l` in a new buffer.
pub fn store(cx: &mut Context<'_>, l: &Lambda) -> Result<BufferId, Failure> {
    let out = cx.target(l.dtype, &l.shape, &buffers_of(&l.body));
    store_into(cx, l, out)?;
    Ok(out)
}

/// Stores `l` in a new buffer, its elements computed as the elements of a tile of the type `by` are.
pub fn store_by(cx: &mut Context<'_>, l: &Lambda, by: TileType) -> Result<BufferId, Failure> {
    let out = cx.target(l.dtype, &l.shape, &buffers_of(&l.body));
    write(cx, l, out, Some(by))?;
    Ok(out)
}

/// Stores `l` in `out`, which has its shape.
pub fn store_into(cx: &mut Context<'_>, l: &Lambda, out: BufferId) -> Result<(), Failure> {
    write(cx, l, out, None)
}

fn write(cx: &mut Context<'_>, l: &Lambda, out: BufferId, by: Option<TileType>) -> Result<(), Failure> {
    let form = match () {
        _ if l.is_picked() => "gather",
        _ if l.is_layout() => "layout",
        _ => "map",
    };
    let mut s = Scribe::new(form);
    let tensor = s.output(cx, out);
    let rank = l.shape.len();
    let one = Dim::constant(1);
    let (lead, last_two) = l.shape.split_at(rank.saturating_sub(2));
    let (rows, cols) = match last_two {
        [] => (&one, &one),
        [cols] => (&one, cols),
        [rows, cols, ..] => (rows, cols),
    };
    let mut at = s.grid_over(lead);
    let width = super::capacity(cx, cols, BLOCK);
    let height = super::capacity(cx, rows, (BLOCK / width).max(1));
    s.b.knob("rows", height);
    s.b.knob("cols", width);
    let (i0, row_extent) = s.grid_blocks("i", rows, height);
    let (j0, col_extent) = s.grid_blocks("j", cols, width);
    if rank >= 2 {
        at.push(i0 + Expr::from(ROW));
    }
    if rank >= 1 {
        at.push(j0 + Expr::from(COL));
    }
    let value = l.at(&at);
    let value = s.local(cx, &value);
    let value = match by {
        Some(ty) => Expr::tile(s.b.map("wide", ty, &row_extent, &col_extent, value)),
        None => value,
    };
    s.b.store(tensor, at, value, &row_extent, &col_extent);
    s.finish(cx, form)
}
