//! The inverse of a lower triangular operator, applied by forward substitution over blocks of rows:
//!
//! ```text
//! X_i = solve(L_ii, B_i - sum_{j < i} L_ij X_j)
//! ```
//!
//! A grid point owns some columns of X and reads back the blocks that it has stored itself. The inverse is never formed.

use super::flash::{local_mix, reads};
use super::{Apply, ApplyForm, Write, all_visited, buffers_of, capacity, dense, open};
use crate::lower::{Context, Failure, Lambda, Mix, Producer, Scribe, Special, axis, batch_index, batched};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "triangular_inverse.substitution",
    applies: |_, a| matches!(a.mix.special, Some(Special::Inverse(_))) && !a.channelwise,
    open: |cx, apply, shape, dtype| {
        let Some(Special::Inverse(inner)) = &apply.mix.special else {
            return Err(cx.fail("not an inverse"));
        };
        let plain = crate::lower::materialise(cx, inner)?;
        let lower = dense::store_products(cx, &plain)?;
        Ok(open(Substitution { lower, apply: apply.clone() }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: all_visited,
};

/// Rows of a block: the substitution inside a block is sequential, products between blocks are not.
const BLOCK: usize = 32;
/// Columns that a grid point owns.
const COLUMNS: usize = 64;

#[derive(Debug)]
struct Substitution {
    lower: Mix,
    apply: Apply,
}

impl Write for Substitution {
    fn form(&self) -> &'static str {
        FORM.family()
    }

    fn reads(&self) -> Vec<BufferId> {
        let mut found = reads(&Apply { mix: self.lower.clone(), ..self.apply.clone() });
        found.extend(buffers_of(&self.apply.x.body));
        found
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let apply = &self.apply;
        let mut shape = apply.batch.clone();
        let features = apply.x.shape.last().cloned().unwrap_or_default();
        shape.extend([self.lower.ty.rows.clone(), features.clone()]);
        let solution = solve(cx, &self.lower, &apply.x, &apply.batch, &shape)?;
        // The ending is a program of its own: what is read back must be the solution itself.
        let mut s = Scribe::new("triangular_inverse_end");
        let tensor = s.output(cx, out);
        let mut at = s.grid_over(&apply.batch);
        let (d0, cols) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
        let (i0, rows) = s.grid_blocks("i", &self.lower.ty.rows, capacity(cx, &self.lower.ty.rows, COLUMNS));
        at.extend([i0 + Expr::from(ROW), d0 + Expr::from(COL)]);
        let stored = cx.stored(solution);
        let element = s.local(cx, &stored.at(&at));
        end.store(cx, &mut s, tensor, &at, element, &rows, &cols);
        s.finish(cx, self.form())
    }
}

/// X with L X = B, stored.
fn solve(cx: &mut Context<'_>, lower: &Mix, x: &Lambda, out: &[Dim], shape: &[Dim]) -> Result<BufferId, Failure> {
    let dtype = lower.ty.dtype;
    let mut found = buffers_of(&lower.value);
    found.extend(buffers_of(&lower.support));
    found.extend(buffers_of(&x.body));
    let buffer = cx.target(dtype, shape, &found);
    let mut s = Scribe::new("triangular_inverse");
    let tensor = s.output(cx, buffer);
    let ty = TileType::of(dtype);
    let l = local_mix(cx, &mut s, lower);
    let stored = s.local_lambda(cx, &cx.stored(buffer));
    let x = s.local_lambda(cx, x);
    let features = shape.last().cloned().unwrap_or_default();
    let rows = &lower.ty.rows;
    let grid = s.grid_over(out);
    let batch = batch_index(&lower.ty.batch, out, &grid);
    let block = s.b.knob("rows", capacity(cx, rows, BLOCK));
    let (d0, cols) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
    let total = Expr::from(rows);
    let element = |i: Expr, j: Expr| {
        let value = super::blocks::at(&l, &l.value, &batch, &i, &j);
        let present = super::blocks::at(&l, &l.support, &batch, &i, &j);
        Expr::select(present, value, Expr::float(0.0))
    };
    let (r, c) = (Expr::from(ROW), Expr::from(COL));
    s.b.for_blocks(
        Expr::int(0),
        total.clone(),
        block,
        |_| None,
        &[],
        |t, i0, _| {
            let height = Extent::block(block, i0.clone(), total.clone());
            let at = [i0.clone() + r.clone(), d0.clone() + c.clone()];
            let rhs = t.map("b", ty, &height, &cols, batched(&x, out, &grid, &at));
            let rest = t.for_blocks(
                Expr::int(0),
                i0.clone(),
                block,
                |_| None,
                &[rhs],
                |t, j0, carried| {
                    let width = Extent::fixed(block);
                    let left =
                        t.map("l", ty, &height, &width, -element(i0.clone() + r.clone(), j0.clone() + c.clone()));
                    let mut index = grid.clone();
                    index.extend([j0.clone() + r.clone(), d0.clone() + c.clone()]);
                    let known = t.map("x", ty, &width, &cols, stored.at(&index));
                    vec![t.dot("rest", ty, left, known, Some(carried[0]))]
                },
            );
            let diagonal = t.map("d", ty, &height, &height, element(i0.clone() + r.clone(), i0.clone() + c.clone()));
            let solved = t.solve("solved", diagonal, rest[0]);
            let mut index = grid.clone();
            index.extend([i0.clone() + r.clone(), d0.clone() + c.clone()]);
            t.store(tensor, index, Expr::tile(solved), &height, &cols);
            vec![]
        },
    );
    s.finish(cx, FORM.family())?;
    Ok(buffer)
}

/// The elements of the inverse: the solution for the identity.
pub fn elements(cx: &mut Context<'_>, m: &Mix) -> Result<Lambda, Failure> {
    let Some(Special::Inverse(inner)) = &m.special else {
        return Err(cx.fail("not an inverse"));
    };
    let plain = crate::lower::materialise(cx, inner)?;
    let lower = dense::store_products(cx, &plain)?;
    let nb = m.rank();
    let unit = Expr::select(axis(nb).equals(axis(nb + 1)), Expr::float(1.0), Expr::float(0.0));
    let shape = m.shape();
    let identity = Lambda { dtype: m.ty.dtype, shape: shape.clone(), body: unit };
    let buffer = solve(cx, &lower, &identity, &m.ty.batch, &shape)?;
    Ok(cx.stored(buffer))
}
