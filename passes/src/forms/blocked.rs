//! Softmax attention for heads that are wide beside the fast memory: scores of a block are summed over blocks of features
//! and stored, and a second program weighs blocks of features of the values with their exponentials.
//!
//! ```text
//! s_ij = sum over blocks R of sum_(n in R) q_in k_jn    m_i = max_j s_ij
//! y_id = sum_j exp(s_ij - m_i) v_jd / sum_j exp(s_ij - m_i)    for blocks of d
//! ```
//!
//! Where d^2 is more than the memory holds, blocked products move N^2 d / sqrt(M) numbers and flash attention N^2 d^2 / M
//! (Saha and Ye, arXiv 2402.07443); storing N^2 scores is little then. Flash attention also forms the scores anew for
//! every block of features that its output does not hold, and holds whole queries and keys: here neither width is bounded.
//! What the support lacks is stored as minus infinity without being computed.

use super::blocks::{self, Columns, RowBlock};
use super::flash::{self, LEAST, Rows, inner_capacity, local_mix, normalised, whole};
use super::reduce::by_row;
use super::{Apply, ApplyForm, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Lambda, Mix, Producer, RowStep, Scribe, batch_index, batched};
use mixc_ir::expr::{COL, Expr, ROW, TileId, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "blocked",
    applies,
    open: |cx, apply, shape, dtype| {
        let rows = Rows::new(cx, apply)?;
        Ok(open(Blocked { rows }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: all_visited,
};

/// Most bytes of scores, where flash attention could do without.
const MOST_BYTES: i64 = 1 << 30;

/// Whether flash attention takes these operators, and does worse: where its output holds all features it forms scores
/// once as well, and the memory of all scores is not spent for nothing.
fn applies(cx: &Context<'_>, a: &Apply) -> bool {
    let plain = !a.channelwise && a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::Softmax { .. });
    let wide = a.x.shape.last().is_some_and(|d| cx.most(d) > flash::FEATURES as i64);
    let bytes = a.mix.shape().iter().fold(4, |n: i64, d| n.saturating_mul(cx.most(d).max(0)));
    let wanted = cx.settings.force_form.as_deref() == Some("blocked");
    plain && (wanted || inner_capacity(cx, &a.mix).is_err() || (wide && bytes <= MOST_BYTES))
}

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys of a block.
const KEYS: usize = 256;
/// Features of a block, of products and of values: keys and values of a block take half a second-level cache in f32.
const FEATURES: usize = 512;

#[derive(Debug)]
struct Blocked {
    rows: Rows,
}

impl Write for Blocked {
    fn form(&self) -> &'static str {
        "blocked"
    }

    fn reads(&self) -> Vec<BufferId> {
        self.rows.reads()
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let [scores, most] = self.scores(cx)?;
        let a = &self.rows.apply;
        let (mut s, tensor, ty) = a.program(cx, "blocked", out);
        let (mix, x) = (local_mix(cx, &mut s, &a.mix), s.local_lambda(cx, &a.x));
        let keys = s.local(cx, &self.rows.keys);
        let [scores, most] = [scores, most].map(|b| s.local_lambda(cx, &cx.stored(b)));
        let features = a.features();
        let out_batch = s.grid_over(&a.batch);
        let batch = batch_index(&mix.ty.batch, &a.batch, &out_batch);
        let bq = s.b.knob("bq", capacity(cx, &mix.ty.rows, QUERIES));
        let bk = s.b.knob("bk", capacity(cx, &mix.ty.cols, KEYS));
        let bd = s.b.knob("bd", capacity(cx, &features, FEATURES));
        let (d0, width) = s.grid_blocks("d", &features, bd);
        let (i0, rows) = s.grid_blocks("iq", &mix.ty.rows, bq);
        let (row, one) = (i0.clone() + Expr::from(ROW), Extent::fixed(1));
        let b = &mut s.b;
        let stored = |l: &Lambda, last: Expr| l.at(&[batch.clone(), vec![row.clone(), last]].concat());
        let m = b.map("m", ty, &rows, &one, stored(&most, Expr::int(0)));
        let l = match &mix.row_step {
            RowStep::Softmax { sink: Some(l) } => {
                (batched(l, &mix.ty.batch, &batch, &[]) - Expr::tile(m)).apply(Unary::Exp)
            }
            _ => Expr::float(0.0),
        };
        let l = b.map("l", ty, &rows, &one, l);
        let o = b.map("o", ty, &rows, &width, Expr::float(0.0));
        let block = RowBlock { first: i0.clone(), last: i0.clone() + rows.count.clone() - Expr::int(1) };
        let range = aligned(&mix, blocks::columns(&mix, &block, &batch), bk);
        let when = |j0: &Expr| blocks::meets(&mix, &block, &batch, j0, bk);
        let total = Expr::from(&mix.ty.cols);
        let last = b.for_blocks(range.from, range.to, bk, when, &[l, o], |b, j0, carried| {
            let cols = Extent::block(bk, j0.clone(), total);
            let (key, feature) = (j0.clone() + Expr::from(ROW), d0.clone() + Expr::from(COL));
            let e = stored(&scores, j0.clone() + Expr::from(COL));
            let p = b.map("p", ty, &rows, &cols, (e - by_row(m)).apply(Unary::Exp));
            let sum = b.reduce("sum", Combine::Sum, Axis::Cols, p);
            let l1 = b.map("l1", ty, &rows, &one, Expr::tile(carried[0]) + Expr::tile(sum));
            let v = batched(&x, &a.batch, &out_batch, &[key.clone(), feature]);
            let v = b.map("v", ty, &cols, &width, blocks::present_rows(&mix, &keys, &batch, &key, v));
            vec![l1, b.dot("o1", ty, p, v, Some(carried[1]))]
        });
        let at = [out_batch.clone(), vec![row.clone(), d0.clone() + Expr::from(COL)]].concat();
        end.store(cx, &mut s, tensor, &at, normalised(last[0], last[1]), &rows, &width);
        s.finish(cx, self.form())
    }
}

/// Columns that a loop by blocks of `bk` goes over, blocks counted from column 0 on: what both programs agree about, so
/// that the counts of blocks do not depend on data.
fn aligned(m: &Mix, range: Columns, bk: usize) -> Columns {
    let (total, block) = (Expr::from(&m.ty.cols), Expr::int(bk as i64));
    let from = range.from.min(total).floor_div(block.clone()) * block.clone();
    let to = range.to.max(from.clone()).ceil_div(bk as i64) * block;
    Columns { from, to }
}

impl Blocked {
    /// The scores `[batch of the operator.., rows, columns]`, minus infinity outside the support, and the greatest of each
    /// row `[batch of the operator.., rows, 1]`, at least [`LEAST`] and the sink.
    fn scores(&self, cx: &mut Context<'_>) -> Result<[BufferId; 2], Failure> {
        let a = &self.rows.apply;
        let reads = self.rows.reads();
        let shape = a.mix.shape();
        let mut column = shape.clone();
        column[a.mix.rank() + 1] = mixc_ir::dim::Dim::constant(1);
        let buffers = [shape, column].map(|shape| cx.target(a.mix.ty.dtype, &shape, &reads));
        let mut s = Scribe::new("blocked_scores");
        let [out, most] = buffers.map(|b| s.output(cx, b));
        let ty = TileType::of(a.mix.ty.dtype);
        let (mix, keys) = (local_mix(cx, &mut s, &a.mix), s.local(cx, &self.rows.keys));
        let batch = s.grid_over(&mix.ty.batch);
        let bq = s.b.knob("bq", capacity(cx, &mix.ty.rows, QUERIES));
        let bk = s.b.knob("bk", capacity(cx, &mix.ty.cols, KEYS));
        s.b.knob("br", FEATURES);
        let (i0, rows) = s.grid_blocks("iq", &mix.ty.rows, bq);
        let one = Extent::fixed(1);
        let b = &mut s.b;
        let sink = match &mix.row_step {
            RowStep::Softmax { sink: Some(l) } => batched(l, &mix.ty.batch, &batch, &[]).max(Expr::float(LEAST)),
            _ => Expr::float(LEAST),
        };
        let m = b.map("m", ty, &rows, &one, sink);
        let block = RowBlock { first: i0.clone(), last: i0.clone() + rows.count.clone() - Expr::int(1) };
        let range = aligned(&mix, blocks::columns(&mix, &block, &batch), bk);
        let total = Expr::from(&mix.ty.cols);
        let inner: Vec<usize> =
            mix.products.iter().map(|p| p.q.shape.last().map_or(1, |r| capacity(cx, r, FEATURES))).collect();
        let place = Place { mix: &mix, keys: &keys, batch: &batch, i0: &i0, rows: &rows, ty, inner: &inner };
        let store = |b: &mut TileBuilder, j0: &Expr, cols: &Extent, e: Expr| {
            let at = [i0.clone() + Expr::from(ROW), j0.clone() + Expr::from(COL)];
            b.store(out, [batch.clone(), at.to_vec()].concat(), e, &rows, cols);
        };
        let absent = |b: &mut TileBuilder, j0: &Expr, _: &[TileId]| {
            let cols = Extent::block(bk, j0.clone(), total.clone());
            store(b, j0, &cols, Expr::float(f64::NEG_INFINITY));
            Vec::new()
        };
        b.for_blocks(Expr::int(0), range.from.clone(), bk, |_| None, &[], absent);
        let when = |j0: &Expr| blocks::meets(&mix, &block, &batch, j0, bk);
        let last = b.for_blocks(range.from.clone(), range.to.clone(), bk, when, &[m], |b, j0, carried| {
            let cols = Extent::block(bk, j0.clone(), total.clone());
            let e = place.tile(b, j0, &cols);
            store(b, j0, &cols, Expr::tile(e));
            let here = b.reduce("here", Combine::Max, Axis::Cols, e);
            vec![b.map("m1", ty, &rows, &one, Expr::tile(carried[0]).max(Expr::tile(here)))]
        });
        if when(&Expr::int(0)).is_some() {
            let others = |j0: &Expr| when(j0).map(|e| e.apply(Unary::Not));
            b.for_blocks(range.from, range.to.clone(), bk, others, &[], absent);
        }
        b.for_blocks(range.to, total.clone(), bk, |_| None, &[], absent);
        let at = [batch.clone(), vec![i0.clone() + Expr::from(ROW), Expr::int(0)]].concat();
        b.store(most, at, Expr::tile(last[0]), &rows, &one);
        s.finish(cx, self.form())?;
        Ok(buffers)
    }
}

/// A block of queries, with what its scores are made of.
struct Place<'a> {
    mix: &'a Mix,
    keys: &'a Expr,
    batch: &'a [Expr],
    i0: &'a Expr,
    rows: &'a Extent,
    ty: TileType,
    /// Features of a block of each product.
    inner: &'a [usize],
}

impl Place<'_> {
    /// The scores of the columns from `j0` on: products summed over blocks of features, then the element's expression.
    fn tile(&self, b: &mut TileBuilder, j0: &Expr, cols: &Extent) -> TileId {
        let (mix, ty) = (self.mix, self.ty);
        let row = self.i0.clone() + Expr::from(ROW);
        let mut products = Vec::new();
        for (p, &inner) in mix.products.iter().zip(self.inner) {
            let r = p.q.shape.last().cloned().unwrap_or_default();
            let part = |b: &mut TileBuilder, r0: &Expr, depth: &Extent, sum: Option<TileId>| {
                let (key, feature) = (j0.clone() + Expr::from(ROW), r0.clone() + Expr::from(COL));
                let q = batched(&p.q, &mix.ty.batch, self.batch, &[row.clone(), feature.clone()]);
                let q = b.map("q", ty, self.rows, depth, q);
                let k = batched(&p.k, &mix.ty.batch, self.batch, &[key.clone(), feature]);
                let k = blocks::present_rows(mix, self.keys, self.batch, &key, k);
                let k = b.map("k", ty, cols, depth, k);
                b.dot("s", ty, q, Matrix::transposed(k), sum)
            };
            if r.as_constant().is_some_and(|n| n <= inner as i64) {
                products.push(part(b, &Expr::int(0), &whole(&r, inner), None));
                continue;
            }
            let zero = b.map("zero", ty, self.rows, cols, Expr::float(0.0));
            let sum = b.for_blocks(
                Expr::int(0),
                Expr::from(&r),
                inner,
                |_| None,
                &[zero],
                |b, r0, carried| {
                    let depth = Extent::block(inner, r0.clone(), Expr::from(&r));
                    vec![part(b, r0, &depth, Some(carried[0]))]
                },
            );
            products.extend(sum);
        }
        let args: Vec<Expr> = products.iter().map(|t| Expr::tile(*t)).collect();
        let col = j0.clone() + Expr::from(COL);
        let value = blocks::at(mix, &mix.value, self.batch, &row, &col).with_args(&args);
        let value = if mix.support.as_bool() == Some(true) {
            value
        } else {
            let present = blocks::at(mix, &mix.support, self.batch, &row, &col);
            Expr::select(present, value, Expr::float(f64::NEG_INFINITY))
        };
        b.map("e", ty, self.rows, cols, value)
    }
}
