//! The k greatest elements of every row: a row's threshold is found first, after which membership is an expression.

use super::{buffers_of, capacity, dense};
use crate::lower::{Context, Failure, Lambda, Mix, Scribe, axis};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Compare, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileType};

/// Longest row that is searched as one tile (256 KiB of f32).
const LONGEST: i64 = 65536;
/// Elements of a block of rows.
const BLOCK: usize = 65536;

/// Whether an element of `m` is among the k greatest of its row, ties to the lower column, as an expression over the
/// operator's axes.
pub fn threshold(cx: &mut Context<'_>, m: &Mix, k: i64) -> Result<Expr, Failure> {
    if k < 1 {
        return Ok(Expr::bool(false));
    }
    let plain = dense::store_products(cx, m)?;
    let nb = m.rank();
    let body = Expr::select(plain.support.clone(), plain.value.clone(), Expr::float(f64::NEG_INFINITY));
    let scores = Lambda { dtype: m.ty.dtype, shape: m.shape(), body };
    let (values, columns) = select(cx, &scores, k, true)?;
    // The last one kept: an element is kept when it is greater, or equal and not further right.
    let mut last: Vec<Expr> = (0..=nb).map(axis).collect();
    last.push(Expr::int(k - 1));
    let (least, at) = (cx.stored(values).at(&last), cx.stored(columns).at(&last));
    let all = at.clone().lt(Expr::int(0));
    let greater = Expr::compare(Compare::Gt, plain.value.clone(), least.clone());
    let tied = plain.value.equals(least).and(axis(nb + 1).le(at));
    Ok(all.or(greater).or(tied))
}

/// The k > 0 greatest along the last axis, in falling order: values and columns. With `marked` the column is -1 where a
/// row has fewer, elements at minus infinity not counted.
pub fn select(cx: &mut Context<'_>, of: &Lambda, k: i64, marked: bool) -> Result<(BufferId, BufferId), Failure> {
    let (lead, last) = of.shape.split_at(of.shape.len() - 1);
    let length = &last[0];
    if cx.most(length) > LONGEST || k > LONGEST {
        let most = cx.most(length);
        return Err(cx
            .fail(format!("the greatest of up to {most} elements; the native form takes {LONGEST}"))
            .help("lower the upper bound of the dim"));
    }
    let mut shape = lead.to_vec();
    shape.push(Dim::constant(k));
    let reads = buffers_of(&of.body);
    let values = cx.target(of.dtype, &shape, &reads);
    let columns = cx.target(DType::I64, &shape, &reads);
    let mut s = Scribe::new("top_k");
    let (v_out, c_out) = (s.output(cx, values), s.output(cx, columns));
    let of = s.local_lambda(cx, of);
    let one = Dim::constant(1);
    let (outer, rows_dim) = match lead.split_last() {
        Some((rows, outer)) => (outer, rows),
        None => (&[][..], &one),
    };
    let mut at = s.grid_over(outer);
    let width = capacity(cx, length, LONGEST as usize);
    let (i0, rows) = s.grid_blocks("i", rows_dim, capacity(cx, rows_dim, (BLOCK / width).clamp(1, 64)));
    if !lead.is_empty() {
        at.push(i0 + Expr::from(ROW));
    }
    let kept = Extent::fixed(k as usize);
    let cols = super::flash::whole(length, width);
    let ty = TileType::of(of.dtype);
    let mut index = at.clone();
    index.push(Expr::from(COL));
    let row = s.b.map("row", ty, &rows, &cols, of.at(&index));
    let (best, where_) = s.b.top_k("best", row, k as usize);
    s.b.store(v_out, index.clone(), Expr::tile(best), &rows, &kept);
    // Past what the row has, and for elements that are absent (minus infinity), there is no column.
    let absent = Expr::tile(best).equals(Expr::float(f64::NEG_INFINITY));
    let column = if !marked || ty == TileType::I64 {
        Expr::tile(where_)
    } else {
        Expr::select(absent, Expr::int(-1), Expr::tile(where_))
    };
    s.b.store(c_out, index, column, &rows, &kept);
    s.finish(cx, "top_k")?;
    Ok((values, columns))
}
