//! Operators that are one inner product, without a softmax and for all rows alike, from the right: `Q (K^T V)`, in one
//! program. Linear in the number of tokens (Katharopoulos et al., arXiv 2006.16236); exact.
//!
//! ```text
//! S = sum_j k_j v_j^T    z = sum_j k_j        y_i = q_i^T S, over q_i^T z + eps where rows are normalised
//! ```
//!
//! The state S stays with the grid point that makes it, so that nothing is stored between the two products. Where it is
//! worth more grid points, the same association comes as two products of matrices, which rewriting finds.

use super::blocks;
use super::dense::normalised;
use super::flash::{fold_scale, inner_capacity, local_mix, reads, whole};
use super::reduce::by_row;
use super::{Apply, ApplyForm, Write, all_visited, capacity, open};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Producer, RowStep, batch_index, batched};
use mixc_ir::expr::{COL, Expr, Node, ROW, TileId, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "linear",
    applies: |cx, a| {
        let m = &a.mix;
        let plain = m.special.is_none() && m.listed.is_none() && !a.channelwise;
        let summed = matches!(m.row_step, RowStep::None | RowStep::SumTo { .. });
        let same_for_every_row = !m.support.mentions(axis_var(m.rank()));
        let depth = m.products.iter().filter_map(|p| p.q.shape.last()).all(|r| cx.most(r) <= DEPTH);
        plain && summed && same_for_every_row && depth && scale_of_product(a).is_some()
    },
    open: |_, apply, shape, dtype| Ok(open(Linear { apply: apply.clone() }, dtype, shape.to_vec())),
    instead_of: &[],
    share: all_visited,
};

/// Rows of a block of queries or of keys.
const TOKENS: usize = 64;
/// Columns of the state that a grid point carries.
const COLUMNS: usize = 64;
/// Most rows of the state: with 64 columns it fills half a second-level cache.
const DEPTH: i64 = 2048;

/// The number that the only product is multiplied with, if nothing else is done to it.
fn scale_of_product(a: &Apply) -> Option<f64> {
    let only = |e: &Expr| matches!(e.node(), Node::Arg(0));
    match fold_scale(&a.mix) {
        Some((scale, rest)) => only(&rest).then_some(scale),
        None => (a.mix.products.len() == 1 && only(&a.mix.value)).then_some(1.0),
    }
}

#[derive(Debug)]
struct Linear {
    apply: Apply,
}

impl Write for Linear {
    fn form(&self) -> &'static str {
        FORM.name
    }

    fn reads(&self) -> Vec<BufferId> {
        reads(&self.apply)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let a = &self.apply;
        let scale = scale_of_product(a).ok_or_else(|| cx.fail("more than one product"))?;
        let depth = inner_capacity(cx, &a.mix)?;
        let (mut s, tensor, ty) = a.program(cx, FORM.name, out);
        let (mix, x) = (local_mix(cx, &mut s, &a.mix), s.local_lambda(cx, &a.x));
        let Some(product) = mix.products.first() else { return Err(cx.fail("no product")) };
        let keys = blocks::key_condition(&mix);
        let features = a.features();
        let out_batch = s.grid_over(&a.batch);
        let batch = batch_index(&mix.ty.batch, &a.batch, &out_batch);
        let bk = s.b.knob("bk", capacity(cx, &mix.ty.cols, TOKENS));
        let bq = s.b.knob("bq", capacity(cx, &mix.ty.rows, TOKENS));
        let (d0, width) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
        let states = whole(&product.q.shape.last().cloned().unwrap_or_default(), depth);
        let one = Extent::fixed(1);
        let mut start = vec![s.b.map("state", ty, &states, &width, Expr::float(0.0))];
        let eps = mix.row_step.eps();
        if eps.is_some() {
            start.push(s.b.map("keys", ty, &one, &states, Expr::float(0.0)));
        }
        let total = Expr::from(&mix.ty.cols);
        let state = s.b.for_blocks(
            Expr::int(0),
            total.clone(),
            bk,
            |_| None,
            &start,
            |b, j0, carried| {
                let cols = Extent::block(bk, j0.clone(), total.clone());
                let key = j0.clone() + Expr::from(ROW);
                let k = batched(&product.k, &mix.ty.batch, &batch, &[key.clone(), Expr::from(COL)]);
                let k = b.map("k", ty, &cols, &states, blocks::present_rows(&mix, &keys, &batch, &key, k));
                let v = batched(&x, &a.batch, &out_batch, &[key.clone(), d0.clone() + Expr::from(COL)]);
                let v = b.map("v", ty, &cols, &width, blocks::present_rows(&mix, &keys, &batch, &key, v));
                let mut next: Vec<TileId> = vec![b.dot("state", ty, Matrix::transposed(k), v, Some(carried[0]))];
                if let Some(sum) = carried.get(1) {
                    let here = b.reduce("here", Combine::Sum, Axis::Rows, k);
                    next.push(b.map("keys", ty, &one, &states, Expr::tile(*sum) + Expr::tile(here)));
                }
                next
            },
        );
        // Stores happen inside the loop, so the ending is made local before it, for blocks that start at a variable.
        let slot = Var(u32::MAX);
        let column = d0 + Expr::from(COL);
        let at = [out_batch.clone(), vec![Expr::from(slot) + Expr::from(ROW), column]].concat();
        let ending = end.localised(cx, &mut s, &at);
        let total = Expr::from(&mix.ty.rows);
        s.b.for_blocks(
            Expr::int(0),
            total.clone(),
            bq,
            |_| None,
            &[],
            |b, i0, _| {
                let rows = Extent::block(bq, i0.clone(), total.clone());
                let row = i0.clone() + Expr::from(ROW);
                let q = batched(&product.q, &mix.ty.batch, &batch, &[row, Expr::from(COL)]);
                let q = if scale == 1.0 { q } else { q * Expr::float(scale) };
                let q = b.map("q", ty, &rows, &states, q);
                let y = b.dot("y", ty, q, state[0], None);
                let value = match (eps, state.get(1)) {
                    (Some(eps), Some(sum)) => {
                        let l = b.dot("l", ty, q, Matrix::transposed(*sum), None);
                        normalised(Expr::tile(y), by_row(l), eps)
                    }
                    _ => Expr::tile(y),
                };
                ending.store(b, tensor, slot, i0, value, &rows, &width);
                Vec::new()
            },
        );
        s.finish(cx, FORM.name)
    }
}
