//! The inverse of a lower triangular semiseparable operator, by chunks of tokens: a triangular system within a chunk, a
//! state from chunk to chunk. In time linear in the tokens, where elements one by one take a square of it.
//!
//! ```text
//! u = solve(inside, x - read S)        S' = keep S + write^T u
//! ```
//!
//! This is the delta rule of DeltaNet and its gated relatives (Yang et al., arXiv 2406.06484 and 2412.06464), whose
//! corrections u solve (1 + strictly lower part) u = x.

use super::chunks::{self, Chunks};
use super::flash::tokens;
use super::{Apply, ApplyForm, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Mix, Producer, Scribe, Special, batch_index};
use mixc_ir::expr::{COL, Expr, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::TileType;

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "triangular_inverse.chunks",
    applies: |cx, a| !a.channelwise && inverted(cx, &a.mix).is_some(),
    open: |_, apply, shape, dtype| Ok(open(ChunkedDelta { apply: apply.clone() }, dtype, shape.to_vec())),
    instead_of: &[],
    share: all_visited,
};

/// Columns of the state that one grid point carries.
const COLUMNS: usize = 64;

/// The semiseparable operator that `m` is the inverse of.
fn inverted<'m>(cx: &Context<'_>, m: &'m Mix) -> Option<&'m Mix> {
    match &m.special {
        Some(Special::Inverse(inner)) => chunks::scan_of(cx, inner).map(|_| inner.as_ref()),
        _ => None,
    }
}

#[derive(Debug)]
struct ChunkedDelta {
    apply: Apply,
}

impl Write for ChunkedDelta {
    fn form(&self) -> &'static str {
        FORM.family()
    }

    fn reads(&self) -> Vec<BufferId> {
        chunks::reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let apply = &self.apply;
        let Some(mix) = inverted(cx, &apply.mix) else { return Err(cx.fail("not the inverse of a scan")) };
        let mut s = Scribe::new("chunked_delta");
        let tensor = s.output(cx, out);
        let ty = TileType::of(mix.ty.dtype);
        let x = s.local_lambda(cx, &apply.x);
        let features = apply.x.shape.last().cloned().unwrap_or_default();
        let grid = s.grid_over(&apply.batch);
        let width = s.b.knob("columns", capacity(cx, &features, COLUMNS));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let batch = batch_index(&mix.ty.batch, &apply.batch, &grid);
        let Some(mut scan) = Chunks::new(cx, &mut s, mix, batch) else {
            return Err(cx.fail("a chunked inverse needs a semiseparable operator"));
        };
        let column = d0 + Expr::from(COL);
        // Stores happen inside the loop, so the ending is made local before it, for chunks that start at a variable.
        let slot = Var(u32::MAX);
        let natural = [grid.clone(), vec![scan.places(&Expr::from(slot)), column.clone()]].concat();
        let ending = end.localised(cx, &mut s, &natural);
        let t = &mut s.b;
        scan.prepare(t);
        let start = scan.start(t, &cols);
        t.for_blocks(
            Expr::int(0),
            Expr::from(&mix.ty.rows),
            scan.length,
            |_| None,
            &[start],
            |t, t0, carried| {
                let (state, chunk) = (carried[0], scan.load(t, t0));
                let (read, inside) = (scan.read(t, &chunk), scan.inside(t, &chunk));
                let known = t.dot("known", ty, read, state, None);
                let xs = tokens(&x, &apply.batch, &grid, &[scan.places(t0), column.clone()]);
                let rest = t.map("rest", ty, &chunk.tokens, &cols, xs - Expr::tile(known));
                let u = t.solve("u", inside, rest);
                ending.store(t, tensor, slot, t0, Expr::tile(u), &chunk.tokens, &cols);
                scan.next(t, &chunk, carried, u, &cols)
            },
        );
        s.finish(cx, self.form())
    }
}
