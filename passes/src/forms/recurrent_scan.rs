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
use mixc_ir::expr::{COL, Expr, Node, ROW, TileId, Unary, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileBuilder, TileType};

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
/// Tokens that all columns of a grid point go through before the next: their rows are read while they are near. From 64
/// on the number makes no difference.
const TOKENS: usize = 128;

/// The expression with the parts that are the same at all tokens, and differ along the state and along the columns, in
/// tiles that are made before the loop: they lie along the columns there, wherever they lie in memory.
fn lasting(t: &mut TileBuilder, e: &Expr, token: Var, (ty, rows, cols): (TileType, &Extent, &Extent)) -> Expr {
    let mut found: Vec<(Expr, TileId)> = Vec::new();
    e.rewrite(&mut |e| {
        let lasts = matches!(e.node(), Node::Load(_)) && !e.mentions(token) && e.mentions(ROW) && e.mentions(COL);
        if !lasts {
            return None;
        }
        if let Some((_, tile)) = found.iter().find(|(known, _)| known == e) {
            return Some(Expr::tile(*tile));
        }
        let tile = t.map("lasting", ty, rows, cols, e.clone());
        found.push((e.clone(), tile));
        Some(Expr::tile(tile))
    })
}

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
        // The results of a token are stored in its turn: the state is the only thing carried. Stores happen inside the
        // loop, so the ending is made local before it: like what is read it speaks of ROW, COL and the token.
        let token_slot = Var(u32::MAX);
        let now = Expr::from(token_slot);
        let n = Expr::from(ROW);
        let element = |l: &Lambda| batched(l, &mix.ty.batch, &batch, &[now.clone(), n.clone()]);
        let place = scan.place(&mix.ty.rows, &now);
        let decay = if a_has_features {
            // One decay for all states when its last dim is 1.
            let wide = !a.shape.last().is_some_and(|d| d.is(1));
            let index = if wide { n.clone() } else { Expr::int(0) };
            batched(&a, &mix.ty.batch, &batch, &[now.clone(), index])
        } else {
            batched(&a, &mix.ty.batch, &batch, std::slice::from_ref(&now))
        };
        let xt = tokens(&x, &apply.batch, &out_batch, &[place.clone(), column.clone()]);
        let ending = end.localised(cx, &mut s, &[out_batch.clone(), vec![place, column.clone()]].concat());
        let t = &mut s.b;
        let still = |t: &mut TileBuilder, e: &Expr| lasting(t, e, token_slot, (ty, &rows, &cols));
        let decay = still(t, &decay).apply(Unary::Exp);
        let [write, read] = [element(&b), element(&c)].map(|e| still(t, &e));
        let turn = |t: &mut TileBuilder, token: &Expr, carried: &[TileId]| {
            let at = |e: &Expr| e.with_var(token_slot, token);
            let kept = Expr::tile(carried[0]);
            let kept = if decay.as_float() == Some(1.0) { kept } else { kept * at(&decay) };
            let state = t.map("s1", ty, &rows, &cols, kept + at(&write) * at(&xt));
            let weighted = t.map("w", ty, &rows, &cols, Expr::tile(state) * at(&read));
            let y = t.reduce("y", Combine::Sum, Axis::Rows, weighted);
            ending.store(t, tensor, token_slot, token, Expr::tile(y), &one, &cols);
            vec![state]
        };
        let total = Expr::from(&mix.ty.rows);
        let block = s.b.knob("tokens", capacity(cx, &mix.ty.rows, TOKENS)) as i64;
        s.b.for_blocks(
            Expr::int(0),
            total.clone(),
            block as usize,
            |_| None,
            &[start],
            |t, t0, carried| {
                let last = (t0.clone() + Expr::int(block)).min(total.clone());
                t.for_blocks(t0.clone(), last, 1, |_| None, carried, turn)
            },
        );
        s.finish(cx, self.form())
    }
}
