//! Operators that are products of block-diagonal factors: one batched product of small matrices a factor.
//!
//! A strided factor is a block-diagonal one between two permutations; these are views of the tokens, nothing is moved.

use super::{ApplyForm, Producer, gemm};
use crate::lower::{BlockFactor, Context, Factors, Failure, Lambda, RowStep, axes, axis, batched};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::Expr;

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
            let mut x = apply.x.clone();
            for factor in first {
                let p = product(cx, factor, &x, &apply.batch, apply.mix.ty.dtype)?;
                x = cx.close(p)?;
            }
            product(cx, last, &x, &apply.batch, dtype)
        })
        .map(|p| Producer { shape: shape.to_vec(), ..p })
    },
};

/// A factor times tokens `[.., S, D]`.
fn product(
    cx: &mut Context<'_>,
    factor: &BlockFactor,
    x: &Lambda,
    batch: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    let nb = batch.len();
    let lead = factor.matrix.shape.len() - 3;
    let [blocks, outputs, inputs] = [0, 1, 2].map(|k| factor.matrix.shape[lead + k].clone());
    let features = x.shape.last().cloned().unwrap_or_default();
    let place = |of: &Dim, block: Expr, k: Expr| match factor.strided {
        true => k * Expr::from(&blocks) + block,
        false => block * Expr::from(of) + k,
    };
    let mut wide = batch.to_vec();
    wide.push(blocks.clone());
    let tile = |rows: &Dim, cols: &Dim| wide.iter().chain([rows, cols]).cloned().collect::<Vec<Dim>>();
    let at = axes(nb);
    let (block, row, col) = (axis(nb), axis(nb + 1), axis(nb + 2));
    let a = batched(&factor.matrix, batch, &at, &[block.clone(), row.clone(), col.clone()]);
    let a = Lambda { dtype: factor.matrix.dtype, shape: tile(&outputs, &inputs), body: a };
    let b = batched(x, batch, &at, &[place(&inputs, block.clone(), row.clone()), col.clone()]);
    let b = Lambda { dtype: x.dtype, shape: tile(&inputs, &features), body: b };
    let p = gemm::product(cx, &a, &b, &tile(&outputs, &features), dtype)?;
    let tokens = blocks.mul(&outputs).map_err(|e| cx.dim_failure(e))?;
    let mut shape = batch.to_vec();
    shape.extend([tokens, features]);
    let mut index = at;
    index.extend([place(&outputs, block, row), col]);
    Ok(Producer { shape, index, ..p })
}
