//! Convolutions through transforms of blocks, for filters and sequences of any length:
//!
//! ```text
//! X_b = F(x_b)        G_d = F(h_d - i h_{d-1})        y_a = Re F^-1( sum_b G_{a-b} X_b )
//! ```
//!
//! x_b is block b of the tokens, h_d the lags d L .. (d+1) L of the filter. F evaluates at the roots of `z^L = i`, where a
//! product's real part are its first L coefficients and its imaginary part those that belong to the next block; the
//! filter's spectrum takes these in, so blocks neither overlap nor are padded. The length of a block is a constant of the
//! code, the number of blocks is the call's: sums over blocks cost less than a stage until there are dozens.

use super::plan::{Plan, smooth_from};
use super::stages::{Results, Tokens, Transform};
use crate::forms::flash::reads;
use crate::forms::taps::{Filter, filter, token_or_zero};
use crate::forms::{Apply, ApplyForm, Producer, Write, all_visited, capacity, open};
use crate::lower::{Context, Failure, Lambda, Scribe, axes, axis, batched};
use mixc_ir::dim::{Dim, DimError};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileType};

/// Through stages of few operations.
pub static FFT: ApplyForm = ApplyForm {
    name: "fft_conv",
    applies: |cx, a| filter(cx, a).is_some(),
    open: |cx, apply, shape, dtype| convolution(cx, apply, shape, dtype, None),
    instead_of: &[],
    share: all_visited,
};

/// Through two or three products with dense matrices, for machines that do nothing else as fast.
pub static MONARCH: ApplyForm = ApplyForm {
    name: "monarch_conv",
    applies: |cx, a| filter(cx, a).is_some(),
    open: |cx, apply, shape, dtype| {
        let order = if length(cx, apply) > 1024 { 3 } else { 2 };
        convolution(cx, apply, shape, dtype, Some(order))
    },
    instead_of: &[],
    share: all_visited,
};

/// Blocks of sequences whose length only the call knows: the transform of 16 channels fits a second-level cache.
const BLOCK: i64 = 1024;
/// The longest sequence that is one block.
const WHOLE: i64 = 4096;
/// Elements of a tile of spectra.
const TILE: usize = 1024;

/// Positions of a block: the whole of a short sequence of known length, else no more than the filter has use for.
fn length(cx: &Context<'_>, a: &Apply) -> usize {
    let (rows, cols) = (&a.mix.ty.rows, &a.mix.ty.cols);
    let longest = cx.typical(rows).max(cx.typical(cols));
    let reach = filter(cx, a)
        .and_then(|f| f.generator.high.sub(&f.generator.low).ok())
        .map_or(longest, |span| cx.typical(&span) + 1);
    let known = rows.as_constant().is_some() && cols.as_constant().is_some();
    if known && longest <= WHOLE && 2 * reach >= longest {
        return smooth_from(longest as usize);
    }
    (2 * reach).min(longest).clamp(16, BLOCK).unsigned_abs().next_power_of_two() as usize
}

fn convolution(
    cx: &mut Context<'_>,
    apply: &Apply,
    shape: &[Dim],
    dtype: DType,
    order: Option<usize>,
) -> Result<Producer, Failure> {
    let Some(filter) = filter(cx, apply) else { return Err(cx.fail("a convolution needs a shift-invariant operator")) };
    let length = length(cx, apply);
    let plan = match order {
        Some(order) => Plan::dense(length, order),
        None => Plan::small(length),
    };
    let kind = Convolution { apply: apply.clone(), filter, plan, dense: order.is_some() };
    Ok(open(kind, dtype, shape.to_vec()))
}

#[derive(Debug)]
struct Convolution {
    apply: Apply,
    filter: Filter,
    plan: Plan,
    dense: bool,
}

impl Write for Convolution {
    fn form(&self) -> &'static str {
        if self.dense { MONARCH.name } else { FFT.name }
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        cx.as_part_of(self.form(), |cx| {
            let dtype = self.apply.mix.ty.dtype;
            let transform = Transform::new(cx, self.plan.clone(), self.dense, dtype, self.form());
            let blocks = self.blocks().map_err(|e| cx.dim_failure(e))?;
            let spectrum = self.filter_spectrum(cx, &transform, &blocks)?;
            let tokens = self.tokens(&blocks);
            let x = transform.forward(cx, &tokens, 1.0)?;
            let product = self.product(cx, &blocks, x, spectrum)?;
            let mut lead = self.apply.batch.clone();
            lead.push(blocks.rows);
            let results = Results { lead, channels: tokens.channels, end, out, total: self.apply.mix.ty.rows.clone() };
            transform.inverse(cx, product, &results)
        })
    }
}

/// Numbers of blocks.
struct Blocks {
    rows: Dim,
    cols: Dim,
    /// Of the filter: the first, and how many.
    first: Dim,
    count: Dim,
}

impl Convolution {
    fn length(&self) -> i64 {
        self.plan.length as i64
    }

    fn blocks(&self) -> Result<Blocks, DimError> {
        let ty = &self.apply.mix.ty;
        let (rows, cols) = (ty.rows.ceil_div(self.length())?, ty.cols.ceil_div(self.length())?);
        let (first, last) = self.filter.blocks(self.length(), &rows, &cols)?;
        let count = last.sub(&first)?.add(&Dim::constant(1))?;
        Ok(Blocks { rows, cols, first, count })
    }

    fn features(&self) -> Dim {
        self.apply.x.shape.last().cloned().unwrap_or_default()
    }

    /// The blocks of the tokens.
    fn tokens(&self, blocks: &Blocks) -> Tokens {
        let x = &self.apply.x;
        let nb = x.shape.len() - 2;
        let mut lead = x.shape[..nb].to_vec();
        lead.push(blocks.cols.clone());
        let length = Expr::int(self.length());
        let token = axis(nb) * length.clone() + axis(nb + 1);
        let mut at = axes(nb);
        at.extend([token.clone(), axis(nb + 2)]);
        let total = Expr::from(&self.apply.mix.ty.cols);
        let of = |body: Expr| Lambda { dtype: x.dtype, shape: lead.clone(), body };
        let re = of(token_or_zero(x, &at, &token.lt(total.clone())));
        let plain = of(x.at(&at));
        let even = self.apply.mix.ty.cols.as_constant().is_some_and(|n| n % self.length() == 0);
        let inside = if even { Expr::bool(true) } else { ((axis(nb) + Expr::int(1)) * length).le(total) };
        Tokens { channels: self.features(), re, im: None, inside: Some((inside, plain)), lead }
    }

    /// The filter's spectrum, one block of lags a row of `[batch.., blocks, 2, length channels]`.
    fn filter_spectrum(
        &self,
        cx: &mut Context<'_>,
        transform: &Transform,
        blocks: &Blocks,
    ) -> Result<BufferId, Failure> {
        let (nb, length) = (self.filter.batch.len(), self.length());
        // One block more at the start: what the first block is carried from.
        let before = Dim::constant(1);
        let sized = |d: Result<Dim, DimError>| d.and_then(|d| d.scale(length));
        let start = sized(blocks.first.sub(&before)).map_err(|e| cx.dim_failure(e))?;
        let count = sized(blocks.count.add(&before)).map_err(|e| cx.dim_failure(e))?;
        let taps = self.filter.stored(cx, &self.apply, &start, &count)?;
        let at = |block: Expr| {
            let mut at = axes(nb);
            at.extend([block * Expr::int(length) + axis(nb + 1), axis(nb + 2)]);
            taps.at(&at)
        };
        let of = |body: Expr| Lambda { body, ..taps.clone() };
        let mut lead = self.filter.batch.clone();
        lead.push(blocks.count.clone());
        let tokens = Tokens {
            lead,
            channels: self.filter.channels.clone(),
            re: of(at(axis(nb) + Expr::int(1))),
            im: Some(of(-at(axis(nb)))),
            inside: None,
        };
        transform.forward(cx, &tokens, 1.0 / length as f64)
    }

    /// `S_a = sum_b G_{a-b} X_b`.
    fn product(&self, cx: &mut Context<'_>, blocks: &Blocks, x: BufferId, g: BufferId) -> Result<BufferId, Failure> {
        let a = &self.apply;
        let ty = TileType::of(a.mix.ty.dtype);
        let features = self.features();
        let width = features.scale(self.length()).map_err(|e| cx.dim_failure(e))?;
        let mut shape = a.batch.clone();
        shape.extend([blocks.rows.clone(), Dim::constant(2), width.clone()]);
        let to = cx.target(a.mix.ty.dtype, &shape, &[x, g]);
        let mut s = Scribe::new("spectra");
        let out = s.output(cx, to);
        let (x, g) = (cx.stored(x), cx.stored(g));
        let (x, g) = (s.local_lambda(cx, &x), s.local_lambda(cx, &g));
        let at = s.grid_over(&a.batch);
        // With a filter a channel numbers meet one to one; else one number of the filter meets all channels.
        let (rows, cols, place, of_filter) = if self.filter.channels == features {
            let cap = capacity(cx, &width, TILE);
            let (u0, cols) = s.grid_blocks("u", &width, cap);
            let place = u0 + Expr::from(COL);
            (Extent::fixed(1), cols, place.clone(), place)
        } else {
            let cap = capacity(cx, &features, TILE);
            let length = Dim::constant(self.length());
            let (f0, rows) = s.grid_blocks("f", &length, (TILE / cap).max(1));
            let (c0, cols) = s.grid_blocks("d", &features, cap);
            let f = f0 + Expr::from(ROW);
            (rows, cols, f.clone() * Expr::from(&features) + c0 + Expr::from(COL), f)
        };
        // Rows of blocks inside: all of them read the same places of all blocks, which stay in fast memory.
        let row = s.grid_over(std::slice::from_ref(&blocks.rows)).remove(0);
        let filter_at = self.filter.index(a, &at);
        let (first, count) = (Expr::from(&blocks.first), Expr::from(&blocks.count));
        let offset = row.clone() - first;
        let from = (offset.clone() - count + Expr::int(1)).max(0);
        let to_block = (offset.clone() + Expr::int(1)).min(Expr::from(&blocks.cols));
        let b = &mut s.b;
        let zero = |b: &mut mixc_ir::tile::TileBuilder, name| b.map(name, ty, &rows, &cols, Expr::float(0.0));
        let init = [zero(b, "re"), zero(b, "im")];
        let last = b.for_blocks(
            from,
            to_block,
            1,
            |_| None,
            &init,
            |b, block, carried| {
                let of_x = |part: i64| {
                    let tail = [block.clone(), Expr::int(part), place.clone()];
                    batched(&x, &a.batch, &at, &tail)
                };
                let of_g = |part: i64| {
                    let mut index = filter_at.clone();
                    index.extend([offset.clone() - block.clone(), Expr::int(part), of_filter.clone()]);
                    g.at(&index)
                };
                let mut tile = |name: &str, e: Expr| Expr::tile(b.map(name, ty, &rows, &cols, e));
                let (xr, xi) = (tile("xr", of_x(0)), tile("xi", of_x(1)));
                let (gr, gi) = (tile("gr", of_g(0)), tile("gi", of_g(1)));
                let (re, im) = (Expr::tile(carried[0]), Expr::tile(carried[1]));
                let re = re + xr.clone() * gr.clone() - xi.clone() * gi.clone();
                let im = im + xr * gi + xi * gr;
                vec![b.map("re1", ty, &rows, &cols, re), b.map("im1", ty, &rows, &cols, im)]
            },
        );
        for (part, t) in last.into_iter().enumerate() {
            let mut index = at.clone();
            index.extend([row.clone(), Expr::int(part as i64), place.clone()]);
            s.b.store(out, index, Expr::tile(t), &rows, &cols);
        }
        s.finish(cx, self.form())?;
        Ok(to)
    }
}
