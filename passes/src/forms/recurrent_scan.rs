//! Semiseparable operators as a recurrence over a state, one token after another:
//!
//! ```text
//! S_t = exp(a_t) S_{t-1} + b_t x_t^T        y_t = c_t^T S_t
//! ```
//!
//! Exact for every decay, in time linear in the tokens. Tokens are the loop, states the rows of a tile, features (or
//! channels) its columns.

use super::chunks;
use super::flash::{channel_batch, tokens};
use super::{Apply, ApplyForm, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe, Semiseparable, batch_index, batched};
use mixc_ir::expr::{COL, Expr, ROW, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "recurrent_scan",
    applies: |cx, a| chunks::scan_of(cx, &a.mix).is_some_and(Semiseparable::is_plain),
    open: |_, apply, shape, dtype| Ok(open(Scan { apply: apply.clone() }, dtype, shape.to_vec())),
    instead_of: &[],
    share: all_visited,
};

/// Columns of the state that one grid point carries.
const COLUMNS: usize = 64;

#[derive(Debug)]
struct Scan {
    apply: Apply,
}

impl Write for Scan {
    fn form(&self) -> &'static str {
        "recurrent_scan"
    }

    fn reads(&self) -> Vec<BufferId> {
        chunks::reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let apply = &self.apply;
        let Some(scan) = chunks::scan_of(cx, &apply.mix) else {
            return Err(cx.fail("a recurrent scan needs a semiseparable operator"));
        };
        let mut s = Scribe::new("recurrent_scan");
        let tensor = s.output(cx, out);
        let ty = TileType::of(apply.mix.ty.dtype);
        let states = scan.c.shape.last().cloned().unwrap_or_default();
        let Semiseparable { c, b, a, a_has_features, .. } = scan.map(|l| s.local_lambda(cx, l));
        let x = s.local_lambda(cx, &apply.x);
        let features = apply.x.shape.last().cloned().unwrap_or_default();
        let out_batch = s.grid_over(&apply.batch);
        let width = s.b.knob("columns", capacity(cx, &features, COLUMNS));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let column = d0.clone() + Expr::from(COL);
        let mix = &apply.mix;
        let batch = if apply.channelwise {
            channel_batch(mix, &apply.batch, &features, &out_batch, &column)
        } else {
            batch_index(&mix.ty.batch, &apply.batch, &out_batch)
        };
        let rows = super::flash::whole(&states, capacity(cx, &states, chunks::STATES));
        let one = Extent::fixed(1);
        let start = s.b.map("s", ty, &rows, &cols, Expr::float(0.0));
        // The results of a block of tokens are stored one token a turn: the state is the only thing carried.
        let total = Expr::from(&mix.ty.rows);
        let place = |token: &Expr| scan.place(&mix.ty.rows, token);
        let natural = |token: &Expr| {
            let mut at = out_batch.clone();
            at.extend([place(token), column.clone()]);
            at
        };
        let n = Expr::from(ROW);
        let element = |l: &Lambda, token: &Expr| batched(l, &mix.ty.batch, &batch, &[token.clone(), n.clone()]);
        // Stores happen inside the loop, so the ending is made local before it: it speaks of ROW, COL and the token.
        let token_slot = mixc_ir::expr::Var(u32::MAX);
        let ending = end.localised(cx, &mut s, &natural(&Expr::from(token_slot)));
        let t = &mut s.b;
        t.for_blocks(
            Expr::int(0),
            total,
            1,
            |_| None,
            &[start],
            |t, token, carried| {
                let decay = if a_has_features {
                    // One decay for all states when its last dim is 1.
                    let wide = !a.shape.last().is_some_and(|d| d.is(1));
                    let index = if wide { n.clone() } else { Expr::int(0) };
                    batched(&a, &mix.ty.batch, &batch, &[token.clone(), index])
                } else {
                    batched(&a, &mix.ty.batch, &batch, std::slice::from_ref(token))
                };
                let xt = tokens(&x, &apply.batch, &out_batch, &[place(token), column.clone()]);
                let decay = decay.apply(Unary::Exp);
                let kept = Expr::tile(carried[0]);
                let kept = if decay.as_float() == Some(1.0) { kept } else { kept * decay };
                let next = kept + element(&b, token) * xt;
                let state = t.map("s1", ty, &rows, &cols, next);
                let weighted = t.map("w", ty, &rows, &cols, Expr::tile(state) * element(&c, token));
                let y = t.reduce("y", Combine::Sum, Axis::Rows, weighted);
                ending.store(t, tensor, token_slot, token, Expr::tile(y), &one, &cols);
                vec![state]
            },
        );
        s.finish(cx, self.form())
    }
}
