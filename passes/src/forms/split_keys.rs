//! Softmax attention over parts of the keys at once, for few queries and many keys (a token against a long cache): each
//! part leaves its maximum m, denominator l and output o, and a second program merges them.
//!
//! ```text
//! m = max_p m_p    l = sum_p exp(m_p - m) l_p    y = sum_p exp(m_p - m) o_p / l
//! ```
//!
//! The parts are grid points, so that threads find work where one sequence of key blocks would leave them idle. Results
//! depend on the length of a part, not on the number of threads.

use super::flash::{FEATURES, LEAST, Rows, normalised, whole};
use super::reduce::by_row;
use super::{ApplyForm, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Producer, RowStep, Scribe, batch_index, batched};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, ROW, TileId, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "split_keys",
    applies: |cx, a| {
        let narrow = a.x.shape.last().is_some_and(|d| cx.most(d) <= FEATURES as i64);
        let plain = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::Softmax { .. });
        let wanted = cx.settings.force_form.as_deref() == Some("split_keys");
        // Of one part nothing is gained.
        let length = if wanted { cx.most(&a.mix.ty.cols) } else { cx.typical(&a.mix.ty.cols) };
        plain && narrow && !a.channelwise && length > PART as i64
    },
    open: |cx, apply, shape, dtype| {
        let rows = Rows::new(cx, apply)?;
        Ok(open(SplitKeys { rows }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: all_visited,
};

/// Keys of a part: some blocks of them, so that what a part leaves is little beside what it reads.
const PART: usize = 1024;
/// Queries of a block of the merge.
const QUERIES: usize = 64;

#[derive(Debug)]
struct SplitKeys {
    rows: Rows,
}

impl Write for SplitKeys {
    fn form(&self) -> &'static str {
        "split_keys"
    }

    fn reads(&self) -> Vec<BufferId> {
        self.rows.reads()
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let mix = &self.rows.apply.mix;
        let parts = mix.ty.cols.ceil_div(PART as i64).map_err(|e| cx.dim_failure(e))?;
        let [m, l, o] = self.parts(cx, &parts)?;
        let (mut s, tensor, ty) = self.rows.apply.program(cx, "split_keys_merge", out);
        let batch = s.grid_over(&self.rows.apply.batch);
        let (i0, rows) = s.grid_blocks("iq", &mix.ty.rows, capacity(cx, &mix.ty.rows, QUERIES));
        let features = self.rows.apply.features();
        let width = whole(&features, capacity(cx, &features, FEATURES));
        let (row, col, one) = (i0 + Expr::from(ROW), Expr::from(COL), Extent::fixed(1));
        let [stored_m, stored_l, stored_o] = [m, l, o].map(|b| s.local_lambda(cx, &cx.stored(b)));
        let sink = match &mix.row_step {
            RowStep::Softmax { sink: Some(l) } => {
                let at = batch_index(&mix.ty.batch, &self.rows.apply.batch, &batch);
                let sink = batched(l, &mix.ty.batch, &at, &[]);
                Some(s.local(cx, &sink))
            }
            _ => None,
        };
        let natural = [batch.clone(), vec![row.clone(), col.clone()]].concat();
        let b = &mut s.b;
        let l0 = b.map("l", ty, &rows, &one, Expr::float(if sink.is_some() { 1.0 } else { 0.0 }));
        let m0 = b.map("m", ty, &rows, &one, sink.unwrap_or(Expr::float(LEAST)));
        let o0 = b.map("o", ty, &rows, &width, Expr::float(0.0));
        let merge = |b: &mut TileBuilder, part: &Expr, carried: &[TileId]| {
            let (m, l, o) = (carried[0], carried[1], carried[2]);
            let at = |last: &Expr| [batch.clone(), vec![part.clone(), row.clone(), last.clone()]].concat();
            let zero = Expr::int(0);
            let mp = b.map("m_part", ty, &rows, &one, stored_m.at(&at(&zero)));
            let lp = b.map("l_part", ty, &rows, &one, stored_l.at(&at(&zero)));
            let m1 = b.map("m1", ty, &rows, &one, Expr::tile(m).max(Expr::tile(mp)));
            let [kept, share] = [m, mp].map(|before| {
                let lower = Expr::tile(before) - Expr::tile(m1);
                b.map("share", ty, &rows, &one, lower.apply(Unary::Exp))
            });
            let sum = Expr::tile(l) * Expr::tile(kept) + Expr::tile(lp) * Expr::tile(share);
            let l1 = b.map("l1", ty, &rows, &one, sum);
            let sum = Expr::tile(o) * by_row(kept) + stored_o.at(&at(&col)) * by_row(share);
            vec![m1, l1, b.map("o1", ty, &rows, &width, sum)]
        };
        let all = Expr::from(&parts);
        let last = b.for_blocks(Expr::int(0), all, 1, |_| None, &[m0, l0, o0], merge);
        end.store(cx, &mut s, tensor, &natural, normalised(last[1], last[2]), &rows, &width);
        s.finish(cx, self.form())
    }
}

impl SplitKeys {
    /// The program of the parts: buffers `[batch.., parts, rows, 1]` of maxima and denominators, `[batch.., parts, rows,
    /// features]` of outputs.
    fn parts(&self, cx: &mut Context<'_>, parts: &Dim) -> Result<[BufferId; 3], Failure> {
        let apply = &self.rows.apply;
        let dtype = apply.mix.ty.dtype;
        let features = apply.features();
        let reads = self.rows.reads();
        let buffers = [Dim::constant(1), Dim::constant(1), features].map(|last| {
            let shape = [apply.batch.clone(), vec![parts.clone(), apply.mix.ty.rows.clone(), last]].concat();
            cx.target(dtype, &shape, &reads)
        });
        let mut s = Scribe::new("split_keys");
        let tensors = buffers.map(|b| s.output(cx, b));
        s.b.knob("part", PART);
        let seen = self.rows.attend(cx, &mut s, Some(PART))?;
        let part = seen.part.clone().unwrap_or(Expr::int(0));
        let one = Extent::fixed(1);
        for (tensor, tile, cols) in
            [(tensors[0], seen.m, &one), (tensors[1], seen.l, &one), (tensors[2], seen.o, &seen.width)]
        {
            let at = [seen.batch.clone(), vec![part.clone(), seen.row(), Expr::from(COL)]].concat();
            s.b.store(tensor, at, Expr::tile(tile), &seen.rows, cols);
        }
        s.finish(cx, self.form())?;
        Ok(buffers)
    }
}
