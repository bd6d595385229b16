//! Operators that are products of block-diagonal factors: one batched product of small matrices a factor.
//!
//! A strided factor is a block-diagonal one between two permutations; these are views of the tokens, nothing is moved.

use super::{ApplyForm, Producer, Write, buffers_of, capacity, open};
use crate::lower::{BlockFactor, Context, Factors, Failure, Lambda, RowStep, Scribe, axes, axis, batched};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW, TileId};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "monarch",
    applies: |_, a| {
        let plain = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::None);
        plain && !a.channelwise && matches!(&a.mix.factors, Some(Factors::Blocks(f)) if f.len() > 1)
    },
    open: |cx, apply, shape, dtype| {
        let Some(Factors::Blocks(factors)) = &apply.mix.factors else {
            return Err(cx.fail("a product of factors is needed"));
        };
        let Some((last, first)) = factors.split_last() else { return Err(cx.fail("there is no factor")) };
        cx.as_part_of(FORM.name, |cx| {
            let (mut x, ty) = (apply.x.clone(), apply.mix.ty.dtype);
            for factor in first {
                let p = product(cx, factor, &x, &apply.batch, ty, ty)?;
                x = cx.close(p)?;
            }
            product(cx, last, &x, &apply.batch, ty, dtype)
        })
        .map(|p| Producer { shape: shape.to_vec(), ..p })
    },
};

/// Rows, depth and features of a block of a product: the features' rows, which lie far apart, are read and written by
/// whole pages' worth of lines; with 64 by 64 matrices all tiles fit a second-level cache.
const ROWS: usize = 64;
const DEPTH: usize = 256;
const FEATURES: usize = 256;

/// A factor times tokens `[.., S, D]`; the elements are over `[batch.., block, row, feature]`.
#[derive(Debug)]
struct Product {
    factor: BlockFactor,
    x: Lambda,
    batch: Vec<Dim>,
    ty: DType,
    natural: Vec<Dim>,
}

fn product(
    cx: &Context<'_>,
    factor: &BlockFactor,
    x: &Lambda,
    batch: &[Dim],
    ty: DType,
    dtype: DType,
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
    let kind = Product { factor: factor.clone(), x: x.clone(), batch: batch.to_vec(), ty, natural: natural.clone() };
    Ok(Producer { shape, index, ..open(kind, dtype, natural) })
}

impl Write for Product {
    fn form(&self) -> &'static str {
        FORM.name
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
        let width = s.b.knob("columns", capacity(cx, &features, FEATURES));
        let (d0, cols) = s.grid_blocks("d", &features, width);
        let depth = s.b.knob("depth", capacity(cx, &inputs, DEPTH));
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
        s.finish(cx, FORM.name)
    }
}
