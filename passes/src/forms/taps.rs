//! The filter of a shift-invariant operator in memory: what convolutions read.

use super::{Apply, capacity};
use crate::lower::{
    Context, Failure, Generator, Lambda, RowStep, Scribe, axis, axis_var, generator, guard_loads, lesser,
};
use mixc_ir::dim::{Dim, DimValues};
use mixc_ir::expr::{COL, Expr, ROW, Var};
use mixc_ir::tile::TileType;

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
        let body = self.generator.element.with_vars(&map);
        let element = Lambda { dtype: a.mix.ty.dtype, shape, body };
        let out = cx.target(element.dtype, &element.shape, &super::buffers_of(&element.body));
        let mut s = Scribe::new("taps");
        let tensor = s.output(cx, out);
        let mut at = s.grid_over(&self.batch);
        let (l0, rows) = s.grid_blocks("lag", count, capacity(cx, count, SQUARE));
        let (c0, cols) = s.grid_blocks("d", &self.channels, capacity(cx, &self.channels, SQUARE));
        at.extend([l0 + Expr::from(ROW), c0 + Expr::from(COL)]);
        let value = s.local(cx, &element.at(&at));
        // A tile between load and store: filters mostly lie channel by channel and are turned in it.
        let ty = TileType::of(element.dtype);
        let tile = s.b.map("h", ty, &rows, &cols, value);
        s.b.store(tensor, at, Expr::tile(tile), &rows, &cols);
        s.finish(cx, "layout")?;
        Ok(cx.stored(out))
    }

    /// The batch index of the filter at an index of the application's batch dims.
    pub fn index(&self, a: &Apply, at: &[Expr]) -> Vec<Expr> {
        let lead = a.batch.clone();
        if a.channelwise {
            let features = a.x.shape.last().cloned().unwrap_or_default();
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
