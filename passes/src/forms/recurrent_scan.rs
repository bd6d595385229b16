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
use super::{Apply, ApplyForm, Write, capacity, open};
use crate::lower::{Context, Failure, Lambda, Mix, Producer, Scribe, Special, axis, batch_index, batched};
use mixc_ir::expr::{COL, Expr, ROW, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "recurrent_scan",
    applies: |cx, a| chunks::parts(cx, &a.mix).is_some(),
    open: |_, apply, shape, dtype| Ok(open(Scan { apply: apply.clone() }, dtype, shape.to_vec())),
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
        let Some(Special::Semiseparable { c, b, a, a_has_features }) = &apply.mix.special else {
            return Err(cx.fail("a recurrent scan needs a semiseparable operator"));
        };
        let mut s = Scribe::new("recurrent_scan");
        let tensor = s.output(cx, out);
        let ty = TileType::of(apply.mix.ty.dtype);
        let states = c.shape.last().cloned().unwrap_or_default();
        let [c, b, a] = [c, b, a].map(|l| s.local_lambda(cx, l));
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
        let natural = |token: &Expr| {
            let mut at = out_batch.clone();
            at.extend([token.clone(), column.clone()]);
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
                let decay = if *a_has_features {
                    // One decay for all states when its last dim is 1.
                    let wide = !a.shape.last().is_some_and(|d| d.is(1));
                    let index = if wide { n.clone() } else { Expr::int(0) };
                    batched(&a, &mix.ty.batch, &batch, &[token.clone(), index])
                } else {
                    batched(&a, &mix.ty.batch, &batch, std::slice::from_ref(token))
                };
                let xt = tokens(&x, &apply.batch, &out_batch, &[token.clone(), column.clone()]);
                let next = Expr::tile(carried[0]) * decay.apply(Unary::Exp) + element(&b, token) * xt;
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

/// The operator's elements, T x T in memory: sums of decays over segments by a running sum down every column (never as
/// differences of one prefix sum), then the sum over states.
pub fn elements(cx: &mut Context<'_>, m: &Mix) -> Result<Mix, Failure> {
    let Some(Special::Semiseparable { c, b, a, a_has_features }) = &m.special else {
        return Err(cx.fail("not a semiseparable operator"));
    };
    let (nb, shape) = (m.rank(), m.shape());
    let states = c.shape.last().cloned().unwrap_or_default();
    let at: Vec<Expr> = (0..nb).map(axis).collect();
    let (i, j) = (axis(nb), axis(nb + 1));
    // segment[.., i, j(, n)] = sum_{t = j+1..i} a[t(, n)]
    let mut segment_shape = shape.clone();
    let tail = if *a_has_features { vec![i.clone(), axis(nb + 2)] } else { vec![i.clone()] };
    if *a_has_features {
        segment_shape.push(a.shape.last().cloned().unwrap_or_default());
    }
    let decay = batched(a, &m.ty.batch, &at, &tail);
    let below = j.clone().lt(i.clone());
    let addend =
        Lambda { dtype: m.ty.dtype, shape: segment_shape.clone(), body: Expr::select(below, decay, Expr::float(0.0)) };
    let segment = super::cumulate::cumulate(cx, &addend, nb, Combine::Sum, false)?;
    let mut wide = shape.clone();
    wide.push(states.clone());
    let n = axis(nb + 2);
    let log = if *a_has_features {
        let index = if a.shape.last().is_some_and(|d| d.is(1)) { Expr::int(0) } else { n.clone() };
        let mut full: Vec<Expr> = (0..nb + 2).map(axis).collect();
        full.push(index);
        segment.at(&full)
    } else {
        segment.body.clone()
    };
    let present = j.clone().le(i.clone());
    let product = batched(c, &m.ty.batch, &at, &[i, n.clone()]) * batched(b, &m.ty.batch, &at, &[j, n]);
    let body = Expr::select(present.clone(), product * log.apply(Unary::Exp), Expr::float(0.0));
    let sum = super::reduce::reduce(Lambda { dtype: m.ty.dtype, shape: wide, body }, nb + 2, Combine::Sum, m.ty.dtype);
    let stored = cx.close(sum)?;
    Ok(Mix { value: stored.body, products: Vec::new(), support: present, special: None, ..m.clone() })
}
