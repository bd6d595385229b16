//! Semiseparable operators by chunks of tokens: products of matrices within a chunk, a state from chunk to chunk.
//!
//! Linear attention and retention, SSD (Dao and Gu, arXiv 2405.21060) and gated linear attention (Yang et al., arXiv
//! 2312.06635) in one program: they differ in who shares a decay, which [`super::chunks`] knows. Exact for every decay.

use super::chunks::{self, Chunks};
use super::flash::tokens;
use super::{Apply, ApplyForm, Write, capacity, open};
use crate::lower::{Context, Failure, Producer, Scribe, batch_index};
use mixc_ir::expr::{COL, Expr, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::TileType;

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
        let (apply, mix) = (&self.apply, &self.apply.mix);
        let mut s = Scribe::new("chunked_scan");
        let tensor = s.output(cx, out);
        let ty = TileType::of(mix.ty.dtype);
        let x = s.local_lambda(cx, &apply.x);
        let features = apply.x.shape.last().cloned().unwrap_or_default();
        let grid = s.grid_over(&apply.batch);
        let width = s.b.knob("columns", capacity(cx, &features, COLUMNS));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let batch = batch_index(&mix.ty.batch, &apply.batch, &grid);
        let Some(mut scan) = Chunks::new(cx, &mut s, mix, batch) else {
            return Err(cx.fail("a chunked scan needs a semiseparable operator"));
        };
        let column = d0 + Expr::from(COL);
        // Stores happen inside the loop, so the ending is made local before it, for chunks that start at a variable.
        let slot = Var(u32::MAX);
        let natural = [grid.clone(), vec![scan.places(&Expr::from(slot)), column.clone()]].concat();
        let ending = end.localised(cx, &mut s, &natural);
        let t = &mut s.b;
        let start = scan.start(t, &cols);
        let total = Expr::from(&mix.ty.rows);
        t.for_blocks(
            Expr::int(0),
            total,
            scan.length,
            |_| None,
            &[start],
            |t, t0, carried| {
                let (state, chunk) = (carried[0], scan.load(t, t0));
                let xs = tokens(&x, &apply.batch, &grid, &[scan.places(t0), column.clone()]);
                let xs = t.map("x", ty, &chunk.tokens, &cols, xs);
                let (read, inside) = (scan.read(t, &chunk), scan.inside(t, &chunk));
                let across = t.dot("across", ty, read, state, None);
                let y = t.dot("y", ty, inside, xs, Some(across));
                ending.store(t, tensor, slot, t0, Expr::tile(y), &chunk.tokens, &cols);
                vec![scan.next(t, &chunk, state, xs, &cols)]
            },
        );
        s.finish(cx, self.form())
    }
}
