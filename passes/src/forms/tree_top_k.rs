//! The keys that a search down a tree keeps for every block of rows, as in hierarchically pruned attention.
//!
//! Key blocks get a score for every block of rows; then the search runs one round after another for all blocks of rows
//! at once: both halves of every group are scored by their first key block, and the best are selected and put back in
//! order of their start. The number of rounds is the greatest that the lengths allow; a block of rows whose search ends
//! earlier keeps its groups in the rounds that are left. All scores are formed, also those that no search asks for.

use super::reduce::reduce;
use super::top_k::select;
use super::{dense, map};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, axes, axis};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Compare, Expr};
use mixc_ir::tile::Combine;

/// What the search goes by.
#[derive(Clone, Debug)]
pub struct Search {
    /// Keys that a block of rows keeps, rounded up to whole blocks.
    pub k: Dim,
    /// Rows of a block.
    pub block_q: i64,
    /// Keys of a block.
    pub block_k: i64,
    /// First keys that are kept besides.
    pub sink: Expr,
    /// Latest keys of each row that are kept besides.
    pub window: Expr,
}

/// Most groups: twice as many halves are selected from as one row.
const MOST_GROUPS: i64 = 32768;

/// Whether the search keeps an element of `m`, as an expression over the operator's axes.
pub fn kept(cx: &mut Context<'_>, m: &Mix, search: &Search) -> Result<Expr, Failure> {
    // Blocks longer than all there is are no different from blocks of all there is.
    let block_q = search.block_q.clamp(1, cx.most(&m.ty.rows).max(1));
    let block_k = search.block_k.clamp(1, cx.most(&m.ty.cols).max(1));
    let nb = m.rank();
    let (row_block, key_block) = (m.i().floor_div(block_q), m.j().floor_div(block_k));
    let blocks = Blocks { m, block_q };
    let seen = blocks.seen(&row_block);
    let visible = m.j().lt(seen.clone());
    if cx.reaches(&search.k, &m.ty.cols) {
        return Ok(visible);
    }
    let failure = |cx: &Context<'_>, e| cx.dim_failure(e);
    let groups = search.k.ceil_div(block_k).map_err(|e| failure(cx, e))?;
    let most_groups = cx.most(&groups);
    if most_groups > MOST_GROUPS {
        let groups = most_groups;
        let message = format!("a search with {groups} groups of keys; the native form takes {MOST_GROUPS}");
        return Err(cx.fail(message).help("take a smaller `k` or a greater `block_k`"));
    }
    let row_blocks = m.ty.rows.ceil_div(block_q).map_err(|e| failure(cx, e))?;
    let key_blocks = m.ty.cols.ceil_div(block_k).map_err(|e| failure(cx, e))?;
    let plain = dense::store_products(cx, m)?;
    let scores = scores(cx, &plain, search, &blocks, block_k, [&row_blocks, &key_blocks])?;
    let mut shape = m.ty.batch.clone();
    shape.extend([row_blocks, groups.clone()]);
    let starts = rounds(cx, &scores, &blocks, block_k, &groups, &shape)?;
    // One flag a key block, so that membership is one load whatever the number of groups.
    let mut flags = m.ty.batch.clone();
    flags.extend([shape[nb].clone(), key_blocks, groups]);
    let mut index = axes(nb + 1);
    index.push(axis(nb + 2));
    let found = starts.at(&index).equals(axis(nb + 1));
    let body = Expr::select(found, Expr::float(1.0), Expr::float(0.0));
    let flags = reduce(Lambda { dtype: DType::F32, shape: flags, body }, nb + 2, Combine::Max, DType::F32);
    let flags = cx.close(flags)?;
    let mut index = axes(nb);
    index.extend([row_block, key_block]);
    let chosen = Expr::compare(Compare::Gt, flags.at(&index), Expr::float(0.0));
    let all = seen.le(Expr::from(&search.k));
    Ok(visible.and(all.or(chosen).or(besides(m, search))))
}

/// Whether (i, j) is kept outside the search.
fn besides(m: &Mix, search: &Search) -> Expr {
    let back = m.position.clone() - m.j();
    let recent = Expr::int(0).le(back.clone()).and(back.lt(search.window.clone()));
    m.j().lt(search.sink.clone()).or(recent)
}

/// The blocks of rows of an operator.
struct Blocks<'m> {
    m: &'m Mix,
    block_q: i64,
}

impl Blocks<'_> {
    /// The first row of a block.
    fn first(&self, block: &Expr) -> Expr {
        block.clone() * Expr::int(self.block_q)
    }

    /// The last row of a block.
    fn last(&self, block: &Expr) -> Expr {
        (self.first(block) + Expr::int(self.block_q)).min(Expr::from(&self.m.ty.rows)) - Expr::int(1)
    }

    /// How many keys a block of rows sees.
    fn seen(&self, block: &Expr) -> Expr {
        let position = self.m.position.with_var(axis_var(self.m.rank()), &self.last(block));
        (position + Expr::int(1)).max(0).min(Expr::from(&self.m.ty.cols))
    }
}

/// The score of every key block for every block of rows, `[batch.., row blocks, key blocks]`: the greatest element in
/// the sampled rows, minus infinity without one.
fn scores(
    cx: &mut Context<'_>,
    plain: &Mix,
    search: &Search,
    blocks: &Blocks<'_>,
    block_k: i64,
    [row_blocks, key_blocks]: [&Dim; 2],
) -> Result<Lambda, Failure> {
    let nb = plain.rank();
    // Rows 1, 3, ... of a block; of a block of one row, that one.
    let sampled = (blocks.block_q / 2).max(1);
    let Some(elements) = sampled.checked_mul(block_k) else {
        return Err(cx.fail("a search by blocks of so many rows and keys; the native form takes fewer"));
    };
    let (block, element) = (axis(nb), axis(nb + 2));
    let (first, last) = (blocks.first(&block), blocks.last(&block));
    let sample = element.clone().floor_div(block_k);
    let single = first.clone().equals(last.clone());
    let row = first + Expr::select(single.clone(), Expr::int(0), sample.clone() * Expr::int(2) + Expr::int(1));
    let row_exists = Expr::select(single, sample.equals(0), row.clone().le(last.clone()));
    let key = axis(nb + 1) * Expr::int(block_k) + element.modulo(block_k);
    let key_exists = key.clone().lt(blocks.seen(&block));
    // Rows and keys past the end are read at the last ones and left out.
    let mut index = axes(nb);
    index.extend([row.min(last), key.min(Expr::from(&plain.ty.cols) - Expr::int(1))]);
    let at = |e: &Expr| Lambda { dtype: DType::F32, shape: Vec::new(), body: e.clone() }.at(&index);
    let aside = Expr::select(at(&besides(plain, search)), Expr::bool(false), at(&plain.support));
    let counts = row_exists.and(key_exists).and(aside);
    let body = Expr::select(counts, at(&plain.value), Expr::float(f64::NEG_INFINITY));
    let mut shape = plain.ty.batch.clone();
    shape.extend([row_blocks.clone(), key_blocks.clone(), Dim::constant(elements)]);
    let dtype = if plain.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    cx.close(reduce(Lambda { dtype, shape, body }, nb + 2, Combine::Max, dtype))
}

/// The first key blocks of the groups that the search ends with, `[batch.., row blocks, groups]`.
fn rounds(
    cx: &mut Context<'_>,
    scores: &Lambda,
    blocks: &Blocks<'_>,
    block_k: i64,
    groups: &Dim,
    shape: &[Dim],
) -> Result<Lambda, Failure> {
    let nb = blocks.m.rank();
    let (block, group) = (axis(nb), axis(nb + 1));
    let seen_blocks = blocks.seen(&block).ceil_div(block_k);
    let key_blocks = scores.shape[nb + 1].clone();
    let count = Expr::from(groups);
    // A call has at least one group; the bound says so to what divides by their number.
    let cut = |g: Expr| (seen_blocks.clone() * g).floor_div(count.clone().max(1));
    let integers = |body: Expr| Lambda { dtype: DType::I64, shape: shape.to_vec(), body };
    let (mut starts, mut ends) = (integers(cut(group.clone())), integers(cut(group.clone() + Expr::int(1))));
    // Not minus infinity, which is for halves without a block: these come after all others.
    let lowest = Expr::float(if scores.dtype == DType::F64 { f64::MIN } else { f64::from(f32::MIN) });
    let mut halves = shape.to_vec();
    halves[nb + 1] = groups.scale(2).map_err(|e| cx.dim_failure(e))?;
    // Groups times a power of two reach the number of blocks after ceil(log2(blocks / groups)) rounds.
    let mut reach = groups.clone();
    let mut least_reach = 1;
    while !cx.reaches(&reach, &key_blocks) && least_reach < cx.most(&key_blocks) {
        // Half 2g is the lower one of group g, half 2g + 1 the upper one.
        let mut index = axes(nb + 1);
        index.push(group.clone().floor_div(2));
        let (start, end) = (starts.at(&index), ends.at(&index));
        let middle = (start.clone() + end.clone()).floor_div(2);
        let lower = group.clone().modulo(2).equals(0);
        let half_start = integers(Expr::select(lower.clone(), start, middle.clone()));
        let half_end = integers(Expr::select(lower, middle, end));
        let mut index = axes(nb + 1);
        let last_block = Expr::from(&scores.shape[nb + 1]) - Expr::int(1);
        index.push(half_start.body.clone().min(last_block).max(0));
        let score = scores.at(&index);
        let holds = half_start.body.clone().lt(half_end.body.clone());
        let body = Expr::select(holds, score.max(lowest.clone()), Expr::float(f64::NEG_INFINITY));
        let candidates = Lambda { dtype: scores.dtype, shape: halves.clone(), body };
        let (_, chosen) = select(cx, &candidates, groups)?;
        // In order of the halves, which is that of their starts; exact as there are at most 2^16 of them.
        let falling = Expr::float(0.0) - cx.stored(chosen).body.to_float();
        let order = Lambda { dtype: DType::F32, shape: shape.to_vec(), body: falling };
        let (order, _) = select(cx, &order, groups)?;
        let chosen = (Expr::float(0.0) - cx.stored(order).body).to_int();
        let mut index = axes(nb + 1);
        index.push(chosen.max(0).min(count.clone() * Expr::int(2) - Expr::int(1)));
        let runs = Expr::from(&reach).lt(seen_blocks.clone());
        let next =
            |half: &Lambda, now: &Lambda| integers(Expr::select(runs.clone(), half.at(&index), now.body.clone()));
        let (next_starts, next_ends) = (next(&half_start, &starts), next(&half_end, &ends));
        let (start_buffer, end_buffer) = (map::store(cx, &next_starts)?, map::store(cx, &next_ends)?);
        (starts, ends) = (cx.stored(start_buffer), cx.stored(end_buffer));
        reach = reach.scale(2).map_err(|e| cx.dim_failure(e))?;
        least_reach *= 2;
    }
    Ok(starts)
}
