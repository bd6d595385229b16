//! The inverse of a causal filter as a recurrence of its results:
//!
//! ```text
//! y_t = (x_t - sum_{l=1..n} h_l y_{t-l}) / h_0
//! ```
//!
//! One token after another, in time n for each; channels (or features) are the columns of every tile, so that a token is
//! one expression over vectors. The results before are read back from where this grid point stored them.

use super::flash::{reads, tokens};
use super::taps::{Filter, filter};
use super::{Apply, ApplyForm, Producer, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Generator, Scribe, Special, guard_loads};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, TileId, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "triangular_inverse.recurrence",
    applies: |cx, a| causal_filter(cx, a).is_some(),
    open: |cx, apply, shape, dtype| {
        let Some((of_filter, filter)) = causal_filter(cx, apply) else {
            return Err(cx.fail("not the inverse of a causal filter"));
        };
        Ok(open(Recurrence { of_filter, filter }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: all_visited,
};

/// Lags of an expression. The nearest come last: what waits for the result before is the last term alone.
const TERMS: i64 = 16;
/// Columns that a grid point owns: four vectors keep the unit busy while one waits for the result before.
const COLUMNS: usize = 64;

/// The filter that an application is with the inverse of, as an application of its own, if it is causal and has a lag 0.
fn causal_filter(cx: &Context<'_>, a: &Apply) -> Option<(Apply, Filter)> {
    let Some(Special::Inverse(inner)) = &a.mix.special else { return None };
    let of_filter = Apply { mix: inner.as_ref().clone(), ..a.clone() };
    let filter = filter(cx, &of_filter)?;
    filter.generator.low.is(0).then_some((of_filter, filter))
}

#[derive(Debug)]
struct Recurrence {
    of_filter: Apply,
    filter: Filter,
}

impl Write for Recurrence {
    fn form(&self) -> &'static str {
        FORM.family()
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.of_filter)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let a = &self.of_filter;
        let Generator { low, high, .. } = &self.filter.generator;
        // Zeros past the last lag for whole expressions.
        let count = high.add(&Dim::constant(1 + TERMS)).map_err(|e| cx.dim_failure(e))?;
        let taps = cx.as_part_of(FORM.family(), |cx| self.filter.stored(cx, a, low, &count))?;
        // Lags that are written out, and whether there are others.
        let (near, far) = (cx.most(high).min(TERMS), cx.most(high) > TERMS);
        let features = a.x.shape.last().cloned().unwrap_or_default();
        let dtype = a.mix.ty.dtype.accumulator();
        let mut shape = a.batch.clone();
        shape.extend([a.mix.ty.rows.clone(), features.clone()]);
        let solution = end.read_back(cx, dtype, &shape, &self.reads(), out);
        let mut s = Scribe::new("filter_inverse");
        let tensor = s.output(cx, out);
        let kept = if solution == out { tensor } else { s.output(cx, solution) };
        let ty = TileType::of(dtype);
        let before = s.local_lambda(cx, &cx.stored(solution));
        let (x, taps) = (s.local_lambda(cx, &a.x), s.local_lambda(cx, &taps));
        let grid = s.grid_over(&a.batch);
        let (d0, width) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
        let one = Extent::fixed(1);
        let channel = d0 + Expr::from(COL);
        let own = if self.filter.channels.is(1) { Expr::int(0) } else { channel.clone() };
        let index = self.filter.index(a, &grid);
        let tap = |lag: Expr| taps.at(&[index.clone(), vec![lag, own.clone()]].concat());
        let at = |token: Expr| [grid.clone(), vec![token, channel.clone()]].concat();
        let slot = Var(u32::MAX);
        let ending = end.localised(cx, &mut s, &at(Expr::from(slot)));
        let (rows, high) = (Expr::from(&a.mix.ty.rows), Expr::from(high));
        let mut pass = |from: Expr, to: Expr, guarded: bool| {
            let terms = |rest: Expr, token: &Expr, first: Expr, count: i64| {
                (1..=count).rev().fold(rest, |rest, k| {
                    let lag = first.clone() + Expr::int(k);
                    let known = before.at(&at(token.clone() - lag.clone()));
                    let known = if guarded { guard_loads(&known, &token.clone().ge(lag.clone())) } else { known };
                    rest - tap(lag) * known
                })
            };
            let body = |t: &mut TileBuilder, token: &Expr, _: &[TileId]| {
                let mut rest = tokens(&x, &a.batch, &grid, &[token.clone(), channel.clone()]);
                if far {
                    let turns = (high.clone().min(token.clone()) - Expr::int(1)).floor_div(TERMS);
                    let start = t.map("rest", ty, &one, &width, rest);
                    let turn = |t: &mut TileBuilder, turn: &Expr, rest: &[TileId]| {
                        let first = (turns.clone() - turn.clone()) * Expr::int(TERMS);
                        vec![t.map("rest", ty, &one, &width, terms(Expr::tile(rest[0]), token, first, TERMS))]
                    };
                    rest = Expr::tile(t.for_blocks(Expr::int(0), turns.clone(), 1, |_| None, &[start], turn)[0]);
                }
                let y = t.map("y", ty, &one, &width, terms(rest, token, Expr::int(0), near) / tap(Expr::int(0)));
                t.store(kept, at(token.clone()), Expr::tile(y), &one, &width);
                if solution != out {
                    ending.store(t, tensor, slot, token, Expr::tile(y), &one, &width);
                }
                vec![]
            };
            s.b.for_blocks(from, to, 1, |_| None, &[], body);
        };
        // Tokens before the first are 0: only the first rows look whether there are any.
        let first = rows.clone().min(if far { high.clone() + Expr::int(TERMS) } else { Expr::int(near) });
        pass(Expr::int(0), first.clone(), true);
        pass(first, rows, false);
        s.finish(cx, self.form())
    }
}
