//! Semiseparable operators by chunks of tokens: products of matrices within a chunk, a state from chunk to chunk.
//!
//! Linear attention and retention, SSD (Dao and Gu, arXiv 2405.21060) and gated linear attention (Yang et al., arXiv
//! 2312.06635) in one program: they differ in who shares a decay, which [`super::chunks`] knows. Exact for every decay.

use super::chunks::{self, Chunks};
use super::flash::tokens;
use super::{Apply, ApplyForm, Write, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe, batch_index};
use mixc_ir::expr::{COL, Expr, SlowId, TileId, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "chunked_scan",
    applies: |cx, a| !a.channelwise && chunks::scan_of(cx, &a.mix).is_some(),
    open: |_, apply, shape, dtype| Ok(open(ChunkedScan { apply: apply.clone() }, dtype, shape.to_vec())),
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
        let mut s = Scribe::new("chunked_scan");
        let tensor = s.output(cx, out);
        let site = Site::new(cx, &mut s, &self.apply, None)?;
        let start = site.scan.start(&mut s.b, &site.cols);
        site.outputs(cx, &mut s, end, tensor, start);
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
        Ok(Site { apply, scan, cols, batch, part: number, column, x, ty: TileType::of(mix.ty.dtype), from, to })
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
            vec![self.scan.next(t, &chunk, carried[0], xs, &self.cols)]
        };
        t.for_blocks(self.from.clone(), self.to.clone(), self.scan.length, |_| None, &[start], step)[0]
    }

    /// Stores what the tokens read, from the state `start` before them.
    pub fn outputs(mut self, cx: &Context<'_>, s: &mut Scribe, end: &Producer, out: SlowId, start: TileId) {
        // Stores happen inside the loop, so the ending is made local before it, for chunks that start at a variable.
        let slot = Var(u32::MAX);
        let natural = [self.batch.clone(), vec![self.scan.places(&Expr::from(slot)), self.column.clone()]].concat();
        let ending = end.localised(cx, s, &natural);
        self.scan.prepare(&mut s.b);
        let step = |t: &mut TileBuilder, t0: &Expr, carried: &[TileId]| {
            let (state, chunk) = (carried[0], self.scan.load(t, t0));
            let xs = self.x(t, t0, &chunk.tokens);
            let (read, inside) = (self.scan.read(t, &chunk), self.scan.inside(t, &chunk));
            let across = t.dot("across", self.ty, read, state, None);
            let y = t.dot("y", self.ty, inside, xs, Some(across));
            ending.store(t, out, slot, t0, Expr::tile(y), &chunk.tokens, &self.cols);
            vec![self.scan.next(t, &chunk, state, xs, &self.cols)]
        };
        s.b.for_blocks(self.from.clone(), self.to.clone(), self.scan.length, |_| None, &[start], step);
    }
}
