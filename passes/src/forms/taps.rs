//! The filter of a shift-invariant operator in memory: what convolutions read.

use super::blocks::once_when;
use super::{Apply, capacity};
use crate::lower::{
    Context, Failure, Generator, Lambda, RowStep, Scribe, axis, axis_var, generator, guard_loads, lesser,
};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::expr::{COL, Compare, Expr, ROW, Var};
use mixc_ir::tile::{TileBuilder, TileType};

/// Lags and channels of a block that is turned.
const SQUARE: usize = 64;

/// A filter of an application: a generator with its channels set apart.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Elements by lag.
    pub generator: Generator,
    /// Batch dims, without the channels'.
    pub batch: Vec<Dim>,
    /// Channels that have filters of their own, 1 when all share one.
    pub channels: Dim,
}

/// The filter that an application is with, if it is a convolution.
pub fn filter(cx: &Context<'_>, a: &Apply) -> Option<Filter> {
    if !matches!(a.mix.row_step, RowStep::None) {
        return None;
    }
    // Of no tokens every bound is as good as another: reckoned for one.
    let typical: DimValues = cx.settings.typical.iter().map(|(s, n)| (s.clone(), (*n).max(1))).collect();
    let generator = generator(&a.mix, &|d| d.eval(&typical).unwrap_or(0), &cx.bounds)?;
    let (mut batch, mut channels) = (a.mix.ty.batch.clone(), Dim::constant(1));
    if a.channelwise {
        channels = batch.pop()?;
        if !channels.is(1) && a.x.shape.last() != Some(&channels) {
            return None;
        }
    }
    // Whatever the lengths there is some lag, but for no tokens at all.
    let span = generator.high.sub(&generator.low).ok()?.bounds(&cx.bounds).ok()?;
    (span.0 >= -2).then_some(Filter { generator, batch, channels })
}

impl Filter {
    /// The filter stored by lag, channels last: `[batch.., count, channels]`, entry 0 being lag `first`.
    pub fn stored(&self, cx: &mut Context<'_>, a: &Apply, first: &Dim, count: &Dim) -> Result<Lambda, Failure> {
        let nb = self.batch.len();
        let mut shape = self.batch.clone();
        shape.extend([count.clone(), self.channels.clone()]);
        let lag = Expr::from(first) + axis(nb);
        // The generator is over [batch.., lag], or [batch.., channel, lag].
        let map: Vec<(Var, Expr)> = match a.channelwise {
            true => vec![(axis_var(nb), axis(nb + 1)), (axis_var(nb + 1), lag)],
            false => vec![(axis_var(nb), lag)],
        };
        let of = |e: &Expr| Lambda { dtype: a.mix.ty.dtype, shape: shape.clone(), body: e.with_vars(&map) };
        let element = of(&self.generator.element);
        let out = cx.target(element.dtype, &shape, &super::buffers_of(&element.body));
        let mut s = Scribe::new("taps");
        let tensor = s.output(cx, out);
        let mut at = s.grid_over(&self.batch);
        let (l0, rows) = s.grid_blocks("lag", count, capacity(cx, count, SQUARE));
        let (c0, cols) = s.grid_blocks("d", &self.channels, capacity(cx, &self.channels, SQUARE));
        at.extend([l0.clone() + Expr::from(ROW), c0 + Expr::from(COL)]);
        let ty = TileType::of(element.dtype);
        // A tile between load and store: filters mostly lie channel by channel and are turned in it.
        let write = |b: &mut TileBuilder, value: Expr| {
            let tile = b.map("h", ty, &rows, &cols, value);
            b.store(tensor, at.clone(), Expr::tile(tile), &rows, &cols);
        };
        let guarded = s.local(cx, &element.at(&at));
        match &self.generator.bounded {
            None => write(&mut s.b, guarded),
            // Guards cost more than all else: they are kept for the blocks that a bound cuts.
            Some((value, present)) => {
                let plain = s.local(cx, &of(value).at(&at));
                let ends = [l0.clone(), l0 + rows.count.clone() - Expr::int(1)];
                let [first, last] = ends.clone().map(|l| Expr::from(first) + l);
                let [low, high] = [&self.generator.low, &self.generator.high].map(Expr::from);
                let outside = last.lt(low).or(Expr::compare(Compare::Gt, first, high));
                let inside = ends.map(|l| {
                    let mut end = at.clone();
                    end[nb] = l;
                    of(present).at(&end)
                });
                let [x, y] = inside;
                let whole = x.and(y).and(!outside.clone());
                once_when(&mut s.b, whole.clone(), |b| write(b, plain));
                once_when(&mut s.b, outside.clone(), |b| write(b, Expr::float(0.0)));
                once_when(&mut s.b, !whole.or(outside), |b| write(b, guarded));
            }
        }
        s.finish(cx, "layout")?;
        Ok(cx.stored(out))
    }

    /// The batch index of the filter at an index of the application's batch dims.
    pub fn index(&self, a: &Apply, at: &[Expr]) -> Vec<Expr> {
        let lead = a.batch.clone();
        if a.channelwise {
            let features = a.features();
            let mut index = super::flash::channel_batch(&a.mix, &lead, &features, at, &Expr::int(0));
            index.pop();
            return index;
        }
        crate::lower::batch_index(&a.mix.ty.batch, &lead, at)
    }

    /// The least and the greatest lag, cut to those that two numbers of blocks of positions can have.
    pub fn blocks(&self, length: i64, rows: &Dim, cols: &Dim) -> Result<(Dim, Dim), mixc_ir::dim::DimError> {
        let one = Dim::constant(1);
        // floor(low / length) and, one past the block of the last lag for what it carries over, floor(high / length) + 1.
        let first = self.generator.low.scale(-1)?.ceil_div(length)?.scale(-1)?;
        let last = self.generator.high.add(&one)?.ceil_div(length)?;
        let first = lesser(first.scale(-1)?, &cols.sub(&one)?).scale(-1)?;
        Ok((first, lesser(last, &rows.sub(&one)?)))
    }
}

/// Tokens at a place that may be outside of them: 0 there, and nothing read.
pub fn token_or_zero(x: &Lambda, at: &[Expr], inside: &Expr) -> Expr {
    let element = guard_loads(&x.at(at), inside);
    if x.is_layout() { element } else { Expr::select(inside.clone(), element, Expr::float(0.0)) }
}
