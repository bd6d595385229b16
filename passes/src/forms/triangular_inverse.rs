//! The inverse of a lower triangular operator, applied by forward substitution over blocks of rows:
//!
//! ```text
//! X_i = solve(L_ii, B_i - sum_{j < i} L_ij X_j)
//! ```
//!
//! A grid point owns some columns of X and reads back the blocks that it has stored itself. The inverse is never formed.
//! Where the ending changes what is stored, X is kept beside it.
//! Only blocks that the support of L may meet are visited: for a band the time is that of the band, and the substitution
//! is a recurrence over the results before. Where every channel has an operator of its own, blocks are single rows.

use super::blocks::{self, RowBlock};
use super::flash::{channel_batch, local_mix, operator_reads, reads, tokens};
use super::{Apply, ApplyForm, Write, all_visited, buffers_of, capacity, dense, open};
use crate::lower::{Context, Failure, Lambda, Mix, Producer, Scribe, Special, axis, batch_index, batched};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Expr, ROW, Var};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "triangular_inverse.substitution",
    applies: |_, a| matches!(a.mix.special, Some(Special::Inverse(_))),
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
/// Results before a row that a turn of a channelwise substitution reads: with 64 channels half a first-level cache.
const KNOWN: usize = 64;

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
        shape.extend([self.lower.ty.rows.clone(), apply.features()]);
        let solve = if apply.channelwise { solve_channels } else { solve };
        let solution = end.read_back(cx, self.lower.ty.dtype, &shape, &self.reads(), out);
        let then = (solution != out).then_some((end, out));
        solve(cx, &self.lower, &apply.x, &apply.batch, solution, then)
    }
}

/// How results end that are made from a solution, and where they go.
type Then<'a> = Option<(&'a Producer, BufferId)>;

/// X with L X = B, stored, and what follows it.
fn solve(
    cx: &mut Context<'_>,
    lower: &Mix,
    x: &Lambda,
    out: &[Dim],
    buffer: BufferId,
    then: Then<'_>,
) -> Result<(), Failure> {
    let mut s = Scribe::new("triangular_inverse");
    let tensor = s.output(cx, buffer);
    let result = then.map(|(end, out)| (end, s.output(cx, out)));
    let ty = TileType::of(lower.ty.dtype);
    let l = local_mix(cx, &mut s, lower);
    let stored = s.local_lambda(cx, &cx.stored(buffer));
    let x = s.local_lambda(cx, x);
    let features = x.shape.last().cloned().unwrap_or_default();
    let rows = &lower.ty.rows;
    let grid = s.grid_over(out);
    let batch = batch_index(&lower.ty.batch, out, &grid);
    let block = s.b.knob("rows", capacity(cx, rows, BLOCK));
    let (d0, cols) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
    let total = Expr::from(rows);
    let (r, c) = (Expr::from(ROW), Expr::from(COL));
    let at = |row: &Expr| [grid.clone(), vec![row.clone() + r.clone(), d0.clone() + c.clone()]].concat();
    let slot = Var(u32::MAX);
    let ending = result.map(|(end, out)| (end.localised(cx, &mut s, &at(&Expr::from(slot))), out));
    s.b.for_blocks(
        Expr::int(0),
        total.clone(),
        block,
        |_| None,
        &[],
        |t, i0, _| {
            let height = Extent::block(block, i0.clone(), total.clone());
            let place = [i0.clone() + r.clone(), d0.clone() + c.clone()];
            let rhs = t.map("b", ty, &height, &cols, batched(&x, out, &grid, &place));
            let of_block = RowBlock { first: i0.clone(), last: i0.clone() + height.count.clone() - Expr::int(1) };
            let from = blocks::columns(&l, &of_block, &batch).from;
            let size = Expr::int(block as i64);
            let rest = t.for_blocks(
                // Whole blocks, as they are stored.
                from.min(i0.clone()).floor_div(size.clone()) * size,
                i0.clone(),
                block,
                |_| None,
                &[rhs],
                |t, j0, carried| {
                    let width = Extent::fixed(block);
                    let left = -blocks::element(&l, &batch, &(i0.clone() + r.clone()), &(j0.clone() + c.clone()));
                    let left = t.map("l", ty, &height, &width, left);
                    let known = t.map("x", ty, &width, &cols, stored.at(&at(j0)));
                    vec![t.dot("rest", ty, left, known, Some(carried[0]))]
                },
            );
            let diagonal = blocks::element(&l, &batch, &(i0.clone() + r.clone()), &(i0.clone() + c.clone()));
            let diagonal = t.map("d", ty, &height, &height, diagonal);
            let solved = t.solve("solved", diagonal, rest[0]);
            t.store(tensor, at(i0), Expr::tile(solved), &height, &cols);
            if let Some((ending, out)) = &ending {
                ending.store(t, *out, slot, i0, Expr::tile(solved), &height, &cols);
            }
            vec![]
        },
    );
    s.finish(cx, FORM.family())
}

/// X with L_d x_d = b_d for every channel d, stored, and what follows it: channels along the columns of every tile, one
/// row at a time, rows before it along the rows.
fn solve_channels(
    cx: &mut Context<'_>,
    lower: &Mix,
    x: &Lambda,
    out: &[Dim],
    buffer: BufferId,
    then: Then<'_>,
) -> Result<(), Failure> {
    let mut s = Scribe::new("triangular_inverse_channelwise");
    let tensor = s.output(cx, buffer);
    let result = then.map(|(end, out)| (end, s.output(cx, out)));
    let ty = TileType::of(lower.ty.dtype);
    let l = local_mix(cx, &mut s, lower);
    let stored = s.local_lambda(cx, &cx.stored(buffer));
    let x = s.local_lambda(cx, x);
    let features = x.shape.last().cloned().unwrap_or_default();
    let rows = &lower.ty.rows;
    let grid = s.grid_over(out);
    let (d0, width) = s.grid_blocks("d", &features, capacity(cx, &features, COLUMNS));
    let channel = d0 + Expr::from(COL);
    let batch = channel_batch(&l, out, &features, &grid, &channel);
    let known = capacity(cx, rows, KNOWN);
    let one = Extent::fixed(1);
    let at = |row: &Expr| [grid.clone(), vec![row.clone(), channel.clone()]].concat();
    let slot = Var(u32::MAX);
    let ending = result.map(|(end, out)| (end.localised(cx, &mut s, &at(&Expr::from(slot))), out));
    let element = |i: &Expr, j: &Expr| blocks::element(&l, &batch, i, j);
    s.b.for_blocks(
        Expr::int(0),
        Expr::from(rows),
        1,
        |_| None,
        &[],
        |t, i, _| {
            let rhs = t.map("b", ty, &one, &width, tokens(&x, out, &grid, &[i.clone(), channel.clone()]));
            let from = blocks::columns_of_channels(&l, i, &batch).from.min(i.clone());
            let rest = t.for_blocks(
                from,
                i.clone(),
                known,
                |_| None,
                &[rhs],
                |t, j0, carried| {
                    let height = Extent::block(known, j0.clone(), i.clone());
                    let j = j0.clone() + Expr::from(ROW);
                    let terms = t.map("terms", ty, &height, &width, element(i, &j) * stored.at(&at(&j)));
                    let part = t.reduce("part", Combine::Sum, Axis::Rows, terms);
                    vec![t.map("rest", ty, &one, &width, Expr::tile(carried[0]) - Expr::tile(part))]
                },
            );
            let solved = t.map("solved", ty, &one, &width, Expr::tile(rest[0]) / element(i, i));
            t.store(tensor, at(i), Expr::tile(solved), &one, &width);
            if let Some((ending, out)) = &ending {
                ending.store(t, *out, slot, i, Expr::tile(solved), &one, &width);
            }
            vec![]
        },
    );
    s.finish(cx, FORM.family())
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
    let buffer = cx.target(m.ty.dtype, &shape, &operator_reads(&lower));
    solve(cx, &lower, &identity, &m.ty.batch, buffer, None)?;
    Ok(cx.stored(buffer))
}
