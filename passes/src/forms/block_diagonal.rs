//! Operators whose support lies in blocks along the diagonal: a batch of small products, one a block. Nothing outside
//! the blocks is formed or visited.
//!
//! A block-diagonal matrix is read block by block where it lies. Any other operator with such a support (masked to blocks,
//! a sum of block-diagonal ones, one a channel) is summed row by row within its block, its elements formed as they are
//! read.

use super::{Apply, ApplyForm, Producer, Write, all_visited, buffers_of, capacity, dense, open};
use crate::lower::{BlockFactor, Context, Factors, Failure, Lambda, RowStep, Scribe, axes, axis, batched};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW, TileId};
use mixc_ir::lowered::BufferId;
use mixc_ir::support::{Condition, Position, Support};
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "block_diagonal",
    applies: |_, a| only_factor(a).is_some() || rows_of_blocks(a).is_some(),
    open: |cx, apply, shape, dtype| {
        if let Some(factor) = only_factor(apply) {
            return products(cx, FORM.name, std::slice::from_ref(factor), apply, shape, dtype);
        }
        let rows = rows_of_blocks(apply).ok_or_else(|| cx.fail("the support has no blocks along the diagonal"))?;
        dense::within_blocks(cx, apply, rows, shape, dtype)
    },
    instead_of: &[],
    share: all_visited,
};

/// The matrices of an operator that is one block-diagonal matrix, as it stands.
fn only_factor(a: &Apply) -> Option<&BlockFactor> {
    match (&a.mix.factors, &a.mix.row_step) {
        (Some(Factors::Blocks(factors)), RowStep::None) if a.mix.special.is_none() => match factors.as_slice() {
            [factor] if !factor.strided => Some(factor),
            _ => None,
        },
        _ => None,
    }
}

/// The rows of a block, where the support of a matrix of elements lies in blocks along the diagonal: row i meets columns
/// of block `i / rows` alone.
pub fn rows_of_blocks(a: &Apply) -> Option<Dim> {
    let summed = matches!(a.mix.row_step, RowStep::None | RowStep::SumTo { .. });
    if a.mix.special.is_some() || !summed {
        return None;
    }
    let square = a.mix.ty.rows == a.mix.ty.cols;
    // Rows of a block, and whether it has as many columns.
    let block = |c: &Condition| match c {
        Condition::Diagonal { rows, cols } => Some((rows.clone(), rows == cols)),
        Condition::SameBlock { size, at: Position::Row } => Some((Dim::constant(*size), true)),
        Condition::SameBlock { size, at: Position::End } if square => Some((Dim::constant(*size), true)),
        _ => None,
    };
    let regions = &a.mix.structure.support.regions;
    let on_diagonal = Support::diagonal();
    let within = |region: &[Condition], found: &(Dim, bool)| {
        region.iter().any(|c| block(c).as_ref() == Some(found))
            || (found.1 && on_diagonal.regions.iter().flatten().all(|c| region.contains(c)))
    };
    let mut sizes = regions.iter().flatten().filter_map(block);
    sizes.find(|found| regions.iter().all(|region| within(region, found))).map(|(rows, _)| rows)
}

/// Rows, depth and features of a block of a product: the features' rows, which lie far apart, are read and written by
/// many lines at a time; with 64 by 64 matrices all tiles fit a second-level cache.
const ROWS: usize = 64;
const DEPTH: usize = 256;
const FEATURES: usize = 256;
/// Fewest features of a block, and elements of its tokens beyond that: they fill a first-level cache. Measured for 32
/// and 64 rows on Zen 4, twice and half as many take up to a tenth longer.
const FEW: usize = 64;
const TOKENS: usize = 8192;

/// A factor times tokens `[.., S, D]`; the elements are over `[batch.., block, row, feature]`.
#[derive(Debug)]
struct Product {
    factor: BlockFactor,
    x: Lambda,
    batch: Vec<Dim>,
    ty: DType,
    natural: Vec<Dim>,
    form: &'static str,
}

/// The tokens times factors one after the other, the one that meets them first given first.
pub fn products(
    cx: &mut Context<'_>,
    form: &'static str,
    factors: &[BlockFactor],
    apply: &Apply,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    let Some((last, first)) = factors.split_last() else { return Err(cx.fail("there is no factor")) };
    let (mut x, mut batch, ty) = (apply.x.clone(), apply.batch.clone(), apply.mix.ty.dtype);
    let nb = batch.len();
    if apply.channelwise {
        // Channels are one more batch axis, of tokens with one feature.
        let rank = x.shape.len();
        let (tokens, channels) = (x.shape[rank - 2].clone(), x.shape[rank - 1].clone());
        let mut index = axes(rank);
        index.swap(rank - 2, rank - 1);
        let mut own = x.shape[..rank - 2].to_vec();
        own.extend([channels.clone(), tokens, Dim::constant(1)]);
        x = Lambda { dtype: x.dtype, shape: own, body: x.at(&index) };
        batch.push(channels);
    }
    let made = cx.as_part_of(form, |cx| {
        for factor in first {
            let p = product(cx, form, factor, &x, &batch, [ty, ty])?;
            x = cx.close(p)?;
        }
        product(cx, form, last, &x, &batch, [ty, dtype])
    })?;
    let mut index = made.index.clone();
    if apply.channelwise {
        index.truncate(nb + 2);
        index.swap(nb, nb + 1);
    }
    Ok(Producer { shape: shape.to_vec(), index, ..made })
}

/// The matrices of a factor times tokens, as part of the form of that name; the types are of sums and of the result.
fn product(
    cx: &Context<'_>,
    form: &'static str,
    factor: &BlockFactor,
    x: &Lambda,
    batch: &[Dim],
    [ty, dtype]: [DType; 2],
) -> Result<Producer, Failure> {
    let nb = batch.len();
    let lead = factor.matrix.shape.len() - 3;
    let (blocks, outputs) = (factor.matrix.shape[lead].clone(), factor.matrix.shape[lead + 1].clone());
    let features = x.shape.last().cloned().unwrap_or_default();
    let tokens = blocks.mul(&outputs).map_err(|e| cx.dim_failure(e))?;
    let mut index = axes(nb);
    index.extend([factor.place(&axis(nb), &axis(nb + 1), &outputs), axis(nb + 2)]);
    let (mut shape, mut natural) = (batch.to_vec(), batch.to_vec());
    shape.extend([tokens, features.clone()]);
    natural.extend([blocks, outputs, features]);
    let (factor, x, batch) = (factor.clone(), x.clone(), batch.to_vec());
    let kind = Product { factor, x, batch, ty, natural: natural.clone(), form };
    Ok(Producer { shape, index, ..open(kind, dtype, natural) })
}

impl Write for Product {
    fn form(&self) -> &'static str {
        self.form
    }

    fn reads(&self) -> Vec<BufferId> {
        buffers_of(&self.factor.matrix.body).into_iter().chain(buffers_of(&self.x.body)).collect()
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let nb = self.batch.len();
        let [blocks, outputs, features] = [0, 1, 2].map(|k| self.natural[nb + k].clone());
        let inputs = self.factor.matrix.shape.last().cloned().unwrap_or_default();
        let ty = TileType::of(self.ty);
        let mut s = Scribe::new("blocks");
        let tensor = s.output(cx, out);
        let (matrix, x) = (s.local_lambda(cx, &self.factor.matrix), s.local_lambda(cx, &self.x));
        let at = s.grid_over(&self.batch);
        let block = s.grid_over(&[blocks]).remove(0);
        let (i0, rows) = s.grid_blocks("i", &outputs, capacity(cx, &outputs, ROWS));
        let depth = s.b.knob("depth", capacity(cx, &inputs, DEPTH));
        let near = (TOKENS / depth).clamp(FEW, FEATURES);
        let width = s.b.knob("columns", capacity(cx, &features, near));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let (row, col) = (Expr::from(ROW), Expr::from(COL));
        let total = Expr::from(&inputs);
        let part = |b: &mut TileBuilder, k0: &Expr, count: &Extent, sum: Option<TileId>| {
            let tail = [block.clone(), i0.clone() + row.clone(), k0.clone() + col.clone()];
            let m = b.map("m", ty, &rows, count, batched(&matrix, &self.batch, &at, &tail));
            let token = self.factor.place(&block, &(k0.clone() + row.clone()), &inputs);
            let tail = [token, d0.clone() + col.clone()];
            let v = b.map("x", ty, count, &cols, batched(&x, &self.batch, &at, &tail));
            b.dot("y", ty, m, v, sum)
        };
        let y = if inputs.as_constant().is_some_and(|n| n > 0 && n <= depth as i64) {
            part(&mut s.b, &Expr::int(0), &Extent::fixed(depth), None)
        } else {
            let zero = s.b.map("y", ty, &rows, &cols, Expr::float(0.0));
            let turn = |b: &mut TileBuilder, k0: &Expr, sum: &[TileId]| {
                vec![part(b, k0, &Extent::block(depth, k0.clone(), total.clone()), Some(sum[0]))]
            };
            s.b.for_blocks(Expr::int(0), total.clone(), depth, |_| None, &[zero], turn)[0]
        };
        let mut natural = at.clone();
        natural.extend([block.clone(), i0.clone() + row, d0.clone() + col]);
        end.store(cx, &mut s, tensor, &natural, Expr::tile(y), &rows, &cols);
        s.finish(cx, self.form)
    }
}
