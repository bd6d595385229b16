//! The k greatest elements of every row: a row's threshold is found first, after which membership is an expression.

use super::{buffers_of, capacity, dense};
use crate::lower::{Context, Failure, Lambda, Mix, Scribe, axis};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Compare, Expr, ROW, TileId};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// Longest row that is searched as one tile (256 KiB of f32).
const LONGEST: i64 = 65536;
/// Elements of a block of rows.
const BLOCK: usize = 65536;

/// Whether an element of `m` is among the k greatest of its row, ties to the lower column, as an expression over the
/// operator's axes.
pub fn threshold(cx: &mut Context<'_>, m: &Mix, k: &Dim) -> Result<Expr, Failure> {
    if k.as_constant().is_some_and(|k| k < 1) {
        return Ok(Expr::bool(false));
    }
    if cx.reaches(k, &m.ty.cols) {
        return Ok(Expr::bool(true));
    }
    let plain = dense::store_products(cx, m)?;
    let nb = m.rank();
    let body = Expr::select(plain.support.clone(), plain.value.clone(), Expr::float(f64::NEG_INFINITY));
    let scores = Lambda { dtype: m.ty.dtype, shape: m.shape(), body };
    // The last one kept: an element is kept when it is greater, or equal and not further right.
    let (count, length) = (Expr::from(k), Expr::from(&m.ty.cols));
    // Where a call says what k is, the search is left out when it would keep nothing or all.
    let (most, searched) = match k.as_constant() {
        Some(n) => (n, count.clone()),
        None => {
            let some = Expr::select(count.clone().lt(length.clone()), count.clone().max(0), Expr::int(0));
            (cx.most(k).min(cx.most(&m.ty.cols)), some)
        }
    };
    let (value, column) = last(cx, &scores, most, &searched)?;
    let mut row: Vec<Expr> = (0..=nb).map(axis).collect();
    row.push(Expr::int(0));
    let (least, at) = (cx.stored(value).at(&row), cx.stored(column).at(&row));
    let all = at.clone().lt(Expr::int(0));
    let greater = Expr::compare(Compare::Gt, plain.value.clone(), least.clone());
    let tied = plain.value.equals(least).and(axis(nb + 1).le(at));
    let found = all.or(greater).or(tied);
    Ok(match k.as_constant() {
        Some(_) => found,
        None => length.le(count.clone()).or(Expr::int(0).lt(count).and(found)),
    })
}

/// The last of the `count` greatest along the last axis, at most `most`: its value and its column, -1 where a row has
/// fewer (elements at minus infinity not counted); both `[lead.., 1]`. Without any their contents mean nothing.
fn last(cx: &mut Context<'_>, of: &Lambda, most: i64, count: &Expr) -> Result<(BufferId, BufferId), Failure> {
    let mut shape = of.shape[..of.shape.len() - 1].to_vec();
    shape.push(Dim::constant(1));
    let reads = buffers_of(&of.body);
    let values = cx.target(of.dtype, &shape, &reads);
    let columns = cx.target(DType::I64, &shape, &reads);
    let mut s = Scribe::new("top_k");
    let (v_out, c_out) = (s.output(cx, values), s.output(cx, columns));
    let kept = Extent { cap: usize::try_from(most).unwrap_or(usize::MAX).max(1), count: count.clone() };
    let found = search(cx, &mut s, of, &kept)?;
    let one = Extent::fixed(1);
    let least = s.b.reduce("least", Combine::Min, Axis::Cols, found.values);
    let absent = Expr::tile(found.values).equals(Expr::float(f64::NEG_INFINITY));
    let column = Expr::select(absent, Expr::int(-1), Expr::tile(found.columns));
    let is_last = Expr::from(COL).equals(count.clone() - Expr::int(1));
    let at = s.b.map("at", TileType::I64, &found.rows, &kept, Expr::select(is_last, column, Expr::int(0)));
    let at = s.b.reduce("last", Combine::Sum, Axis::Cols, at);
    s.b.store(v_out, found.index.clone(), Expr::tile(least), &found.rows, &one);
    s.b.store(c_out, found.index, Expr::tile(at), &found.rows, &one);
    s.finish(cx, "top_k")?;
    Ok((values, columns))
}

/// The k greatest along the last axis, in falling order: values and columns, both `[lead.., k]`.
pub fn select(cx: &mut Context<'_>, of: &Lambda, k: &Dim) -> Result<(BufferId, BufferId), Failure> {
    let mut shape = of.shape[..of.shape.len() - 1].to_vec();
    shape.push(k.clone());
    let reads = buffers_of(&of.body);
    let values = cx.target(of.dtype, &shape, &reads);
    let columns = cx.target(DType::I64, &shape, &reads);
    let mut s = Scribe::new("top_k");
    let (v_out, c_out) = (s.output(cx, values), s.output(cx, columns));
    let most = usize::try_from(cx.most(k)).unwrap_or(usize::MAX).max(1);
    let kept = Extent { cap: most, count: Expr::from(k) };
    let found = search(cx, &mut s, of, &kept)?;
    s.b.store(v_out, found.index.clone(), Expr::tile(found.values), &found.rows, &kept);
    s.b.store(c_out, found.index, Expr::tile(found.columns), &found.rows, &kept);
    s.finish(cx, "top_k")?;
    Ok((values, columns))
}

/// The greatest of a block of rows in tiles.
struct Found {
    /// `[rows, kept]`, falling.
    values: TileId,
    /// Their columns.
    columns: TileId,
    /// The block.
    rows: Extent,
    /// The index `[lead.., COL]` of its rows.
    index: Vec<Expr>,
}

/// Searches every row of `of` along its last axis, block after block of rows on the grid.
fn search(cx: &Context<'_>, s: &mut Scribe, of: &Lambda, kept: &Extent) -> Result<Found, Failure> {
    let (lead, last) = of.shape.split_at(of.shape.len() - 1);
    let length = &last[0];
    let most = cx.most(length).max(i64::try_from(kept.cap).unwrap_or(i64::MAX));
    if most > LONGEST {
        return Err(cx
            .fail(format!("the greatest of up to {most} elements; the native form takes {LONGEST}"))
            .help("lower the upper bound of the dim, or run it with `--target ref`"));
    }
    let of = s.local_lambda(cx, of);
    let one = Dim::constant(1);
    let (outer, rows_dim) = match lead.split_last() {
        Some((rows, outer)) => (outer, rows),
        None => (&[][..], &one),
    };
    let mut index = s.grid_over(outer);
    let width = capacity(cx, length, LONGEST as usize);
    let (i0, rows) = s.grid_blocks("i", rows_dim, capacity(cx, rows_dim, (BLOCK / width).clamp(1, 64)));
    if !lead.is_empty() {
        index.push(i0 + Expr::from(ROW));
    }
    index.push(Expr::from(COL));
    let row = s.b.map("row", TileType::of(of.dtype), &rows, &super::flash::whole(length, width), of.at(&index));
    let (values, columns) = s.b.top_k("best", row, kept);
    Ok(Found { values, columns, rows, index })
}
