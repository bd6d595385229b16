//! The product with a matrix of elements, formed block by block and never stored: every plain operator has this form.
//! Row sums, where the operator is normalised by them, are taken along.

use super::blocks::{self, RowBlock};
use super::flash::{Scores, channel_batch, inner_capacity, local_mix, reads, tokens};
use super::reduce::by_row;
use super::{Apply, ApplyForm, Write, all_visited, block_diagonal, capacity, gemm, open};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, Producer, RowStep, Scribe, axis, batch_index, batched};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, Node, ROW, TileId, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "dense",
    applies: |cx, a| {
        let summed = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::None | RowStep::SumTo { .. });
        summed && !(block_diagonal::FORM.applies)(cx, a)
    },
    open: |cx, apply, shape, dtype| sum(cx, apply, None, shape, dtype),
    instead_of: &[],
    share: all_visited,
};

/// The sums of an operator whose row i meets columns of block `i / rows` along the diagonal alone.
pub fn within_blocks(
    cx: &mut Context<'_>,
    apply: &Apply,
    rows: Dim,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    sum(cx, apply, Some(rows), shape, dtype)
}

fn sum(
    cx: &mut Context<'_>,
    apply: &Apply,
    block: Option<Dim>,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    let mut apply = apply.clone();
    if apply.channelwise {
        apply.mix = store_products(cx, &apply.mix)?;
    }
    Ok(open(Sum { apply, block }, dtype, shape.to_vec()))
}

/// Rows, columns and features of a block; the sweep for flash attention was flat around these.
const ROWS: usize = 64;
const COLUMNS: usize = 256;
const FEATURES: usize = 512;

#[derive(Debug)]
struct Sum {
    apply: Apply,
    /// Rows of a block, where the support lies in blocks along the diagonal.
    block: Option<Dim>,
}

impl Write for Sum {
    fn form(&self) -> &'static str {
        if self.block.is_some() { block_diagonal::FORM.name } else { FORM.name }
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        if self.apply.channelwise { self.write_channels(cx, end, out) } else { self.write_rows(cx, end, out) }
    }
}

impl Sum {
    fn eps(&self) -> Option<f64> {
        self.apply.mix.row_step.eps()
    }

    fn write_rows(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let a = &self.apply;
        let depth = inner_capacity(cx, &a.mix)?;
        let (mut s, tensor, ty) = a.program(cx, "dense", out);
        let (mix, x) = (local_mix(cx, &mut s, &a.mix), s.local_lambda(cx, &a.x));
        let keys = blocks::key_condition(&mix);
        let features = a.features();
        let out_batch = s.grid_over(&a.batch);
        let batch = batch_index(&mix.ty.batch, &a.batch, &out_batch);
        let bq = s.b.knob("bq", capacity(cx, self.block.as_ref().unwrap_or(&mix.ty.rows), ROWS));
        let bk = s.b.knob("bk", capacity(cx, &mix.ty.cols, COLUMNS));
        let bd = capacity(cx, &features, FEATURES);
        let (d0, width) = s.grid_blocks("d", &features, bd);
        let (i0, rows) = match &self.block {
            Some(block) => rows_within(&mut s, &mix.ty.rows, block, bq),
            None => s.grid_blocks("iq", &mix.ty.rows, bq),
        };
        let b = &mut s.b;
        let one = Extent::fixed(1);
        let queries = Scores::queries(b, &mix, &batch, &i0, &rows, ty, depth);
        let o0 = b.map("o", ty, &rows, &width, Expr::float(0.0));
        let mut init = vec![o0];
        if self.eps().is_some() {
            init.push(b.map("l", ty, &rows, &one, Expr::float(0.0)));
        }
        let block = RowBlock { first: i0.clone(), last: i0.clone() + rows.count.clone() - Expr::int(1) };
        let range = blocks::columns(&mix, &block, &batch);
        let scores =
            Scores { mix: &mix, batch: &batch, i0: &i0, rows: &rows, queries: &queries, ty, absent: 0.0, keys: &keys };
        let when = |j0: &Expr| blocks::meets(&mix, &block, &batch, j0, bk);
        let last = b.for_blocks(range.from.clone(), range.to.clone(), bk, when, &init, |b, j0, carried| {
            let cols = Extent::block(bk, j0.clone(), blocks::counted_to(&mix, &range.to));
            let e = scores.tile(b, j0, &cols, depth, true);
            let key = j0.clone() + Expr::from(ROW);
            let v = batched(&x, &a.batch, &out_batch, &[key.clone(), d0.clone() + Expr::from(COL)]);
            let v = b.map("v", ty, &cols, &width, blocks::present_rows(&mix, &keys, &batch, &key, v));
            let mut next: Vec<TileId> = vec![b.dot("o1", ty, e, v, Some(carried[0]))];
            if let Some(l) = carried.get(1) {
                let sum = b.reduce("sum", Combine::Sum, Axis::Cols, e);
                next.push(b.map("l1", ty, &rows, &one, Expr::tile(*l) + Expr::tile(sum)));
            }
            next
        });
        let mut at = out_batch.clone();
        at.extend([i0.clone() + Expr::from(ROW), d0 + Expr::from(COL)]);
        let value = match (self.eps(), last.get(1)) {
            (Some(eps), Some(l)) => normalised(Expr::tile(last[0]), by_row(*l), eps),
            _ => Expr::tile(last[0]),
        };
        end.store(cx, &mut s, tensor, &at, value, &rows, &width);
        s.finish(cx, self.form())
    }

    /// Channels along the columns of every tile, one row of the operator at a time, its columns along the rows.
    fn write_channels(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        const CHANNELS: usize = 64;
        const BLOCK: usize = 64;
        let a = &self.apply;
        let (mut s, tensor, ty) = a.program(cx, "dense_channelwise", out);
        let (mix, x) = (local_mix(cx, &mut s, &a.mix), s.local_lambda(cx, &a.x));
        let keys = blocks::key_condition(&mix);
        let features = a.features();
        let out_batch = s.grid_over(&a.batch);
        let bd = capacity(cx, &features, CHANNELS);
        let bk = capacity(cx, &mix.ty.cols, BLOCK);
        let (d0, width) = s.grid_blocks("d", &features, bd);
        let i = s.b.grid("i", Expr::from(&mix.ty.rows));
        let batch = channel_batch(&mix, &a.batch, &features, &out_batch, &(d0.clone() + Expr::from(COL)));
        let b = &mut s.b;
        let one = Extent::fixed(1);
        let o0 = b.map("o", ty, &one, &width, Expr::float(0.0));
        let mut init = vec![o0];
        if self.eps().is_some() {
            init.push(b.map("l", ty, &one, &width, Expr::float(0.0)));
        }
        let range = blocks::columns_of_channels(&mix, &i, &batch);
        let last = b.for_blocks(
            range.from.clone(),
            range.to.clone(),
            bk,
            |_| None,
            &init,
            |b, j0, carried| {
                let block_keys = Extent::block(bk, j0.clone(), blocks::counted_to(&mix, &range.to));
                let col = j0.clone() + Expr::from(ROW);
                let e = b.map("e", ty, &block_keys, &width, blocks::element(&mix, &batch, &i, &col));
                let v = tokens(&x, &a.batch, &out_batch, &[col.clone(), d0.clone() + Expr::from(COL)]);
                let v = blocks::present_rows(&mix, &keys, &batch, &col, v);
                let weighted = b.map("weighted", ty, &block_keys, &width, Expr::tile(e) * v);
                let mut next = vec![add_part(b, ty, &one, &width, carried[0], weighted)];
                if let Some(l) = carried.get(1) {
                    next.push(add_part(b, ty, &one, &width, *l, e));
                }
                next
            },
        );
        let mut at = out_batch.clone();
        at.extend([i, d0 + Expr::from(COL)]);
        let value = match (self.eps(), last.get(1)) {
            (Some(eps), Some(l)) => normalised(Expr::tile(last[0]), Expr::tile(*l), eps),
            _ => Expr::tile(last[0]),
        };
        end.store(cx, &mut s, tensor, &at, value, &one, &width);
        s.finish(cx, self.form())
    }
}

fn add_part(b: &mut TileBuilder, ty: TileType, one: &Extent, width: &Extent, sum: TileId, block: TileId) -> TileId {
    let part = b.reduce("part", Combine::Sum, Axis::Rows, block);
    b.map("sum", ty, one, width, Expr::tile(sum) + Expr::tile(part))
}

/// Grid axes over the blocks of `size` among `total` rows, the last of which may be cut short, and over the rows of each by
/// `cap`: the first row, and how many there are.
fn rows_within(s: &mut Scribe, total: &Dim, size: &Dim, cap: usize) -> (Expr, Extent) {
    // A block of no rows has none to divide by.
    let divisor = if size.as_constant().is_some() { Expr::from(size) } else { Expr::from(size).max(1) };
    let blocks = (Expr::from(total) + divisor.clone() - Expr::int(1)).floor_div(divisor);
    let block = s.b.grid("block", blocks);
    let (r0, rows) = s.grid_blocks("iq", size, cap);
    let first = block * Expr::from(size) + r0;
    let whole = matches!((total.as_constant(), size.as_constant()), (Some(t), Some(n)) if n > 0 && t % n == 0);
    if whole {
        return (first, rows);
    }
    let count = rows.count.min(Expr::from(total) - first.clone()).max(0);
    (first, Extent { count, ..rows })
}

/// A sum divided by the row's sum plus eps; a row without support has both 0 and gives 0.
pub fn normalised(sum: Expr, row: Expr, eps: f64) -> Expr {
    let total = row + Expr::float(eps);
    let empty = total.clone().equals(Expr::float(0.0)).and(sum.clone().equals(Expr::float(0.0)));
    Expr::select(empty, Expr::float(0.0), sum / total)
}

/// The operator with its inner products stored, so that an element is an expression of tensors alone.
pub fn store_products(cx: &mut Context<'_>, m: &Mix) -> Result<Mix, Failure> {
    if m.products.is_empty() {
        return Ok(m.clone());
    }
    let shape = m.shape();
    let nb = m.rank();
    let mut stored = Vec::new();
    for p in &m.products {
        let r = p.q.shape.last().cloned().unwrap_or_default();
        let at: Vec<Expr> = (0..nb).map(axis).collect();
        let side = |l: &Lambda, tail: [Expr; 2], dims: [Dim; 2]| {
            let mut shape = m.ty.batch.clone();
            shape.extend(dims);
            Lambda { dtype: l.dtype, shape, body: batched(l, &m.ty.batch, &at, &tail) }
        };
        let a = side(&p.q, [axis(nb), axis(nb + 1)], [m.ty.rows.clone(), r.clone()]);
        let b = side(&p.k, [axis(nb + 1), axis(nb)], [r, m.ty.cols.clone()]);
        let product = gemm::product(cx, &a, &b, &shape, m.ty.dtype)?;
        stored.push(cx.close(product)?);
    }
    let value = m.value.rewrite(&mut |e| match e.node() {
        Node::Arg(n) => stored.get(*n).map(|l| l.body.clone()),
        _ => None,
    });
    Ok(Mix { value, products: Vec::new(), ..m.clone() })
}

/// The elements of `m` = A B as a stored matrix: both made into elements, values by a product, the support by a product
/// of ones.
pub fn compose(cx: &mut Context<'_>, m: &Mix, a: &Mix, b: &Mix) -> Result<Mix, Failure> {
    let (shape, nb) = (m.shape(), m.rank());
    let mut stored = Vec::new();
    for part in [false, true] {
        let mut sides = Vec::new();
        for side in [a, b] {
            let plain = crate::lower::materialise(cx, side)?;
            let plain = store_products(cx, &plain)?;
            let ones = Expr::float(1.0);
            let value = if part { ones } else { plain.value.clone() };
            let body = Expr::select(plain.support.clone(), value, Expr::float(0.0));
            let at: Vec<Expr> = (0..nb).map(axis).collect();
            let mut index = batch_index(&plain.ty.batch, &m.ty.batch, &at);
            index.extend([axis(nb), axis(nb + 1)]);
            let map: Vec<(Var, Expr)> = index.iter().enumerate().map(|(k, e)| (axis_var(k), e.clone())).collect();
            let mut dims = m.ty.batch.clone();
            dims.extend([plain.ty.rows.clone(), plain.ty.cols.clone()]);
            sides.push(Lambda { dtype: m.ty.dtype, shape: dims, body: body.with_vars(&map) });
        }
        let product = gemm::product(cx, &sides[0], &sides[1], &shape, m.ty.dtype)?;
        stored.push(cx.close(product)?);
    }
    let joined = Expr::compare(mixc_ir::expr::Compare::Gt, stored[1].body.clone(), Expr::float(0.0));
    Ok(Mix { value: stored[0].body.clone(), products: Vec::new(), support: joined, special: None, ..m.clone() })
}
