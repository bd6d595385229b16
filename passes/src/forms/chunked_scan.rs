//! Semiseparable operators by chunks of tokens: products of matrices within a chunk, a state from chunk to chunk.
//!
//! Linear attention and retention, SSD (Dao and Gu, arXiv 2405.21060) and gated linear attention (Yang et al., arXiv
//! 2312.06635) in one program: they differ in who shares a decay, which [`super::chunks`] knows. Exact for every decay.

use super::chunks::{self, Chunks};
use super::dense::normalised;
use super::flash::tokens;
use super::reduce::by_row;
use super::{Apply, ApplyForm, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe, batch_index};
use mixc_ir::expr::{COL, Expr, SlowId, TileId, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "chunked_scan",
    applies: |cx, a| !a.channelwise && chunks::normalised_scan_of(cx, &a.mix).is_some(),
    open: |_, apply, shape, dtype| Ok(open(ChunkedScan { apply: apply.clone() }, dtype, shape.to_vec())),
    instead_of: &[],
    share: all_visited,
};

/// Columns of the state that one grid point carries.
const COLUMNS: usize = 64;

#[derive(Debug)]
struct ChunkedScan {
    apply: Apply,
}

impl Write for ChunkedScan {
    fn form(&self) -> &'static str {
        "chunked_scan"
    }

    fn reads(&self) -> Vec<BufferId> {
        chunks::reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let products = chunks::shared_products(cx, &self.apply.mix, self.form())?;
        let mut s = Scribe::new("chunked_scan");
        let tensor = s.output(cx, out);
        let mut site = Site::new(cx, &mut s, &self.apply, None)?;
        let products = products.map(|l| s.local_lambda(cx, &l));
        site.scan = site.scan.with_products(products);
        let mut start = Vec::new();
        if !site.scan.is_single(cx) {
            start.push(site.scan.start(&mut s.b, &site.cols));
            start.extend(site.eps.map(|_| site.scan.start_sums(&mut s.b)));
        }
        site.outputs(cx, &mut s, end, tensor, &start);
        s.finish(cx, self.form())
    }
}

/// What a grid point of a scan works on: some columns of x, all tokens or a part of them.
pub struct Site<'a> {
    apply: &'a Apply,
    /// The operator.
    pub scan: Chunks,
    /// Columns of x.
    pub cols: Extent,
    /// Batch index of the result.
    pub batch: Vec<Expr>,
    /// Number of the part of the tokens.
    pub part: Expr,
    /// The column of x at a tile's column.
    pub column: Expr,
    /// What is added to the sums that rows are divided by, if they are.
    eps: Option<f64>,
    x: Lambda,
    ty: TileType,
    from: Expr,
    to: Expr,
}

impl<'a> Site<'a> {
    /// Opens the grid of a program: parts of `part` tokens are an axis of it.
    pub fn new(cx: &Context<'_>, s: &mut Scribe, apply: &'a Apply, part: Option<usize>) -> Result<Site<'a>, Failure> {
        let mix = &apply.mix;
        let x = s.local_lambda(cx, &apply.x);
        let features = apply.x.shape.last().cloned().unwrap_or_default();
        let batch = s.grid_over(&apply.batch);
        let width = s.b.knob("columns", capacity(cx, &features, COLUMNS));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let own = batch_index(&mix.ty.batch, &apply.batch, &batch);
        let Some(scan) = Chunks::new(cx, s, mix, own) else {
            return Err(cx.fail("a chunked scan needs a semiseparable operator"));
        };
        let total = Expr::from(&mix.ty.rows);
        let (number, from, to) = match part {
            Some(part) => {
                let number = s.b.grid("part", total.clone().ceil_div(part as i64));
                let from = number.clone() * Expr::int(part as i64);
                (number, from.clone(), (from + Expr::int(part as i64)).min(total))
            }
            None => (Expr::int(0), Expr::int(0), total),
        };
        let column = d0 + Expr::from(COL);
        let eps = mix.row_step.eps();
        Ok(Site { apply, scan, cols, batch, part: number, column, eps, x, ty: TileType::of(mix.ty.dtype), from, to })
    }

    /// The rows of x that a chunk reads.
    fn x(&self, t: &mut TileBuilder, t0: &Expr, rows: &Extent) -> TileId {
        let xs = tokens(&self.x, &self.apply.batch, &self.batch, &[self.scan.places(t0), self.column.clone()]);
        t.map("x", self.ty, rows, &self.cols, xs)
    }

    /// The state after the tokens, from `start` before them.
    pub fn state(&self, t: &mut TileBuilder, start: TileId) -> TileId {
        let step = |t: &mut TileBuilder, t0: &Expr, carried: &[TileId]| {
            let chunk = self.scan.load(t, t0);
            let xs = self.x(t, t0, &chunk.tokens);
            self.scan.next(t, &chunk, carried, xs, &self.cols)
        };
        t.for_blocks(self.from.clone(), self.to.clone(), self.scan.length, |_| None, &[start], step)[0]
    }

    /// Stores what the tokens read, from the state `start` before them, and the sums over its columns where rows are
    /// divided by their sums; without them, tokens of a single chunk.
    pub fn outputs(mut self, cx: &Context<'_>, s: &mut Scribe, end: &Producer, out: SlowId, start: &[TileId]) {
        // Stores happen inside the loop, so the ending is made local before it, for chunks that start at a variable.
        let slot = Var(u32::MAX);
        let natural = [self.batch.clone(), vec![self.scan.places(&Expr::from(slot)), self.column.clone()]].concat();
        let ending = end.localised(cx, s, &natural);
        self.scan.prepare(&mut s.b);
        let step = |t: &mut TileBuilder, t0: &Expr, carried: &[TileId]| {
            let chunk = self.scan.load(t, t0);
            let xs = self.x(t, t0, &chunk.tokens);
            // The sums of rows are of what is read with its decays.
            let read = carried.get(1).map(|_| self.scan.read(t, &chunk));
            let across = carried.first().map(|state| match read {
                Some(read) => t.dot("across", self.ty, read, *state, None),
                None => self.scan.across(t, &chunk, *state, &self.cols),
            });
            let inside = self.scan.inside(t, &chunk);
            let y = t.dot("y", self.ty, inside, xs, across);
            let value = match self.eps {
                Some(eps) => {
                    let mut sum = by_row(t.reduce("row", Combine::Sum, Axis::Cols, inside));
                    if let Some((read, sums)) = read.zip(carried.get(1)) {
                        sum = sum + by_row(t.dot("before", self.ty, read, Matrix::transposed(*sums), None));
                    }
                    normalised(Expr::tile(y), sum, eps)
                }
                None => Expr::tile(y),
            };
            ending.store(t, out, slot, t0, value, &chunk.tokens, &self.cols);
            self.scan.next(t, &chunk, carried, xs, &self.cols)
        };
        s.b.for_blocks(self.from.clone(), self.to.clone(), self.scan.length, |_| None, start, step);
    }
}
