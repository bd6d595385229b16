//! Softmax of a causal operator whose elements are sums of terms of rows, columns and distances, as a recurrence over a
//! maximum m, a denominator l and an output o: the attention of RWKV (Peng et al., arXiv 2305.13048) and its relatives.
//!
//! ```text
//! m' = max(m + slope, g_t)    (l', o') = exp(m + slope - m') (l, o) + exp(g_t - m') (1, x_t)    y_t = o' / l'
//! ```
//!
//! The slope enters m only where it is steep. A gentle one is taken by l and o as a factor, which loses a rounding a
//! token relative to what is left, where m would lose one relative to its own size; m follows when l has grown or faded
//! by `FADED`. In time linear in the tokens.

use super::flash::{LEAST, channel_batch, reads, tokens};
use super::{Apply, ApplyForm, Write, all_visited, blocks, capacity, open};
use crate::lower::{Context, Diagonal, Failure, Producer, RowStep, Separable, batch_index, separate};
use mixc_ir::expr::{COL, Compare, Expr, Pick, TileId, Unary, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::Extent;

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "recurrent_scan",
    applies: |_, a| matches!(a.mix.row_step, RowStep::Softmax { sink: None }) && separate(&a.mix).is_some(),
    open: |cx, apply, shape, dtype| match separate(&apply.mix) {
        Some(parts) => Ok(open(SoftmaxScan { apply: apply.clone(), parts }, dtype, shape.to_vec())),
        None => Err(cx.fail("not a scan")),
    },
    instead_of: &[],
    share: all_visited,
};

/// Columns that one grid point carries.
const COLUMNS: usize = 64;
/// From here on a slope is steep: with [`FADED`] between, l and o stay far inside the range of f32.
const STEEP: f64 = 16.0;
/// By how much m follows, in logarithms, when l has come this far from 1.
const FADED: f64 = 32.0;

#[derive(Debug)]
struct SoftmaxScan {
    apply: Apply,
    parts: Separable,
}

impl Write for SoftmaxScan {
    fn form(&self) -> &'static str {
        FORM.family()
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let (apply, mix) = (&self.apply, &self.apply.mix);
        let (mut s, tensor, ty) = apply.program(cx, "softmax_scan", out);
        let features = apply.features();
        let x = s.local_lambda(cx, &apply.x);
        let grid = s.grid_over(&apply.batch);
        let width = s.b.knob("columns", capacity(cx, &features, COLUMNS));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let column = d0 + Expr::from(COL);
        let one = Extent::fixed(1);
        // Channels have a softmax each; else there is one for all columns.
        let (batch, own) = match apply.channelwise {
            true => (channel_batch(mix, &apply.batch, &features, &grid, &column), cols.clone()),
            false => (batch_index(&mix.ty.batch, &apply.batch, &grid), one.clone()),
        };
        let slope = blocks::at(mix, &s.local(cx, &self.parts.slope), &batch, &Expr::int(0), &Expr::int(0));
        let at = |e: &Expr, token: &Expr| blocks::at(mix, e, &batch, token, token);
        let g = s.local(cx, &self.parts.column);
        let diagonal = match &self.parts.diagonal {
            Diagonal::Other(e) => Some(s.local(cx, e)),
            _ => None,
        };
        // Stores happen inside the loop, so the ending is made local before it, for a token that is a variable.
        let slot = Var(u32::MAX);
        let natural = [grid.clone(), vec![Expr::from(slot), column.clone()]].concat();
        let ending = end.localised(cx, &mut s, &natural);
        let t = &mut s.b;
        let [steep, gentle] = split(slope).map(|part| t.map("slope", ty, &one, &own, part));
        let m0 = t.map("m", ty, &one, &own, Expr::float(LEAST));
        let l0 = t.map("l", ty, &one, &own, Expr::float(0.0));
        let o0 = t.map("o", ty, &one, &cols, Expr::float(0.0));
        let start = [m0, l0, o0];
        // A tile [1, own] read for every column.
        let wide = |tile: TileId| match apply.channelwise {
            true => Expr::tile(tile),
            false => Expr::tile_at(tile, Pick::Zero, Pick::Zero),
        };
        t.for_blocks(
            Expr::int(0),
            Expr::from(&mix.ty.rows),
            1,
            |_| None,
            &start,
            |t, token, carried| {
                let (m, l, o) = (carried[0], carried[1], carried[2]);
                let xt = tokens(&x, &apply.batch, &grid, &[token.clone(), column.clone()]);
                let xt = t.map("x", ty, &one, &cols, xt);
                // (l, o) with an element of logarithm `e` taken in, relative to a maximum of at least `base`.
                let mut take = |e: Expr, base: Expr| {
                    let e = t.map("e", ty, &one, &own, e);
                    let m1 = t.map("m1", ty, &one, &own, base.max(Expr::tile(e)).max(Expr::float(LEAST)));
                    let kept = Expr::tile(m) + Expr::tile(steep) - Expr::tile(m1) + Expr::tile(gentle);
                    let kept = t.map("kept", ty, &one, &own, kept.apply(Unary::Exp));
                    let p = t.map("p", ty, &one, &own, (Expr::tile(e) - Expr::tile(m1)).apply(Unary::Exp));
                    let l1 = t.map("l1", ty, &one, &own, Expr::tile(l) * Expr::tile(kept) + Expr::tile(p));
                    let o1 = t.map("o1", ty, &one, &cols, Expr::tile(o) * wide(kept) + wide(p) * Expr::tile(xt));
                    [m1, l1, o1]
                };
                let moved = Expr::tile(m) + Expr::tile(steep);
                let next = take(at(&g, token), moved.clone() + follow(l));
                let row = match (&self.parts.diagonal, &diagonal) {
                    (Diagonal::Absent, _) => carried.to_vec(),
                    (_, Some(e)) => take(at(e, token), moved).to_vec(),
                    _ => next.to_vec(),
                };
                // A row without support has l = 0 and o = 0.
                let empty = Expr::compare(Compare::Eq, wide(row[1]), Expr::float(0.0));
                let y = Expr::tile(row[2]) / Expr::select(empty, Expr::float(1.0), wide(row[1]));
                ending.store(t, tensor, slot, token, y, &one, &cols);
                next.to_vec()
            },
        );
        s.finish(cx, self.form())
    }
}

/// What of a slope m takes, and what l and o take.
fn split(slope: Expr) -> [Expr; 2] {
    let steep = Expr::compare(Compare::Gt, slope.clone().apply(Unary::Abs), Expr::float(STEEP));
    let zero = || Expr::float(0.0);
    [Expr::select(steep.clone(), slope.clone(), zero()), Expr::select(steep, zero(), slope)]
}

/// How m follows the size of l.
fn follow(l: TileId) -> Expr {
    let far = FADED.exp2();
    let faded = Expr::compare(Compare::Lt, Expr::tile(l), Expr::float(1.0 / far));
    let grown = Expr::compare(Compare::Gt, Expr::tile(l), Expr::float(far));
    let otherwise = Expr::select(grown, Expr::float(FADED), Expr::float(0.0));
    Expr::select(faded, Expr::float(-FADED), otherwise)
}
