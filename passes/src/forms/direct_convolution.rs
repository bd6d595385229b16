//! Convolutions by their sum over lags: what is best for short filters.
//!
//! Channels are the columns of every tile, tokens its rows; several lags a turn, so that a block of results is read and
//! written once for all of them.

use super::flash::{reads, tokens};
use super::taps::{Filter, filter, token_or_zero};
use super::{Apply, ApplyForm, Producer, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure};
use mixc_ir::dim::{Dim, DimError};
use mixc_ir::expr::TileId;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::TileBuilder;

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "direct_conv",
    applies: |cx, a| filter(cx, a).is_some(),
    open: |cx, apply, shape, dtype| {
        let Some(filter) = filter(cx, apply) else {
            return Err(cx.fail("a convolution needs a shift-invariant operator"));
        };
        Ok(open(Sum { apply: apply.clone(), filter }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: all_visited,
};

/// Lags of a turn: their taps and the tokens they meet are read once each.
const LAGS: usize = 8;
/// Tokens and channels of a block: a quarter of a first-level cache.
const ROWS: usize = 32;
const CHANNELS: usize = 64;

#[derive(Debug)]
struct Sum {
    apply: Apply,
    filter: Filter,
}

impl Sum {
    /// Lags of the stored filter, some past the last for whole turns.
    fn lags(&self) -> Result<Dim, DimError> {
        self.filter.generator.high.sub(&self.filter.generator.low)?.add(&Dim::constant(1 + LAGS as i64))
    }
}

impl Write for Sum {
    fn form(&self) -> &'static str {
        FORM.name
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let a = &self.apply;
        let (low, high) = (&self.filter.generator.low, &self.filter.generator.high);
        let lags = self.lags().map_err(|e| cx.dim_failure(e))?;
        let taps = cx.as_part_of(FORM.name, |cx| self.filter.stored(cx, a, low, &lags))?;
        let (mut s, tensor, ty) = a.program(cx, FORM.name, out);
        let (x, taps) = (s.local_lambda(cx, &a.x), s.local_lambda(cx, &taps));
        let features = a.features();
        let at = s.grid_over(&a.batch);
        let width = s.b.knob("columns", capacity(cx, &features, CHANNELS));
        let height = s.b.knob("rows", capacity(cx, &a.mix.ty.rows, ROWS));
        let (i0, rows) = s.grid_blocks("i", &a.mix.ty.rows, height);
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let channel = d0 + Expr::from(COL);
        let index = self.filter.index(a, &at);
        let of_filter = if self.filter.channels.is(1) { Expr::int(0) } else { channel.clone() };
        let (total, low, high) = (Expr::from(&a.mix.ty.cols), Expr::from(low), Expr::from(high));
        let step = Expr::int(LAGS as i64);
        let last = i0.clone() + rows.count.clone() - Expr::int(1);
        // Lags counted from the lowest: from that of the first row and the last token to that of the last row and token 0.
        let from = (i0.clone() - total.clone() + Expr::int(1) - low.clone()).max(0).floor_div(step.clone()) * step;
        let to = last.clone().min(high) - low.clone() + Expr::int(1);
        let part = |b: &mut TileBuilder, start: &Expr, sum: TileId, guarded: bool| {
            let mut value = Expr::tile(sum);
            for u in 0..LAGS as i64 {
                let lag = start.clone() + Expr::int(u);
                let token = i0.clone() - low.clone() - start.clone() + Expr::from(ROW) - Expr::int(u);
                let place = [token.clone(), channel.clone()];
                let v = if guarded {
                    let inside = token.clone().ge(0).and(token.lt(total.clone()));
                    let own = a.x.shape.len() - 2;
                    let mut full = crate::lower::batch_index(&x.shape[..own], &a.batch, &at);
                    full.extend(place);
                    token_or_zero(&x, &full, &inside)
                } else {
                    tokens(&x, &a.batch, &at, &place)
                };
                let mut tap = index.clone();
                tap.extend([lag, of_filter.clone()]);
                value = value + taps.at(&tap) * v;
            }
            b.map("y", ty, &rows, &cols, value)
        };
        let b = &mut s.b;
        let zero = b.map("y", ty, &rows, &cols, Expr::float(0.0));
        let sum = b.for_blocks(
            from,
            to,
            LAGS,
            |_| None,
            &[zero],
            |b, start, carried| {
                let first = i0.clone() - low.clone() - start.clone();
                let inside = (first.clone() - Expr::int(LAGS as i64 - 1))
                    .ge(0)
                    .and((first + last.clone() - i0.clone()).lt(total.clone()));
                let turn = |b: &mut TileBuilder, when: Expr, sum: TileId, guarded: bool| {
                    let once = |b: &mut TileBuilder, _: &Expr, sum: &[TileId]| vec![part(b, start, sum[0], guarded)];
                    b.for_blocks(Expr::int(0), Expr::int(1), 1, |_| Some(when), &[sum], once)[0]
                };
                let whole = turn(b, inside.clone(), carried[0], false);
                vec![turn(b, !inside, whole, true)]
            },
        );
        let mut natural = at.clone();
        natural.extend([i0.clone() + Expr::from(ROW), channel.clone()]);
        end.store(cx, &mut s, tensor, &natural, Expr::tile(sum[0]), &rows, &cols);
        s.finish(cx, FORM.name)
    }
}
