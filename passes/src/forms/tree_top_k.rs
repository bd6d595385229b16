//! The keys that a search down a tree keeps for every block of rows, as in hierarchically pruned attention.
//!
//! The search runs one round after another for all blocks of rows at once: both halves of every group are scored by
//! their first key block, the lower one as the group was in the round before, and the best are kept in order of their
//! start. The number of rounds is the
//! greatest that the lengths allow; a block of rows whose search ends earlier keeps its groups in the rounds that are
//! left. A round forms the scores that it asks for, k keys of every two rows; where few keys are left out, all scores are
//! formed before the first round instead, whichever costs less.
//!
//! What is kept is a list of key blocks for every block of rows ([`super::block_sparse`]) and a condition on elements;
//! what nobody reads of the two is not computed.

use super::block_sparse::{Besides, Keys, Listed};
use super::choice::reckoned;
use super::flash::{local_mix, operator_reads, whole};
use super::reduce::{by_row, reduce};
use super::top_k::select;
use super::{dense, map};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, Scribe, axes, axis, batched, guard_loads};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Compare, Expr, Pick, ROW, TileId, Unary};
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

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

/// Whether the search keeps an element of `m`, as an expression over the operator's axes, and the list of what it keeps
/// where it is one.
pub fn kept(cx: &mut Context<'_>, m: &Mix, search: &Search) -> Result<(Expr, Option<Listed>), Failure> {
    // Blocks longer than all there is are no different from blocks of all there is.
    let block_q = search.block_q.clamp(1, cx.most(&m.ty.rows).max(1));
    let block_k = search.block_k.clamp(1, cx.most(&m.ty.cols).max(1));
    let nb = m.rank();
    let (row_block, key_block) = (m.i().floor_div(block_q), m.j().floor_div(block_k));
    let blocks = Blocks { m, block_q };
    let seen = blocks.seen(&row_block);
    let visible = m.j().lt(seen.clone());
    if cx.reaches(&search.k, &m.ty.cols) {
        return Ok((visible, None));
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
    let mut shape = m.ty.batch.clone();
    shape.extend([row_blocks.clone(), groups.clone()]);
    let task = Task { m, search, blocks: &blocks, block_k, row_blocks: &row_blocks, key_blocks: &key_blocks };
    let starts = task.cheaper(cx, &groups, &shape)?;
    let seen_of = blocks.seen(&axis(nb));
    let place = axis(nb + 1);
    let block = Expr::select((place.clone() * Expr::int(block_k)).lt(seen_of.clone()), place, Expr::int(-1));
    let body = Expr::select(seen_of.le(Expr::from(&search.k)), block, starts.body.clone());
    let list = cx.store_lambda(&Lambda { dtype: DType::I64, shape: shape.clone(), body })?;
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
    let chosen = all.or(chosen).or(besides(m, search));
    let nothing = |e: &Expr| e.as_int().is_some_and(|n| n <= 0);
    let besides = Besides { sink: search.sink.clone(), window: search.window.clone() };
    let listed = Listed {
        list: cx.stored(list),
        count: None,
        block_q,
        block_k,
        chosen: chosen.clone(),
        besides: Some(besides).filter(|b| !nothing(&b.sink) || !nothing(&b.window)),
    };
    Ok((visible.and(chosen), Some(listed)))
}

/// Whether (i, j) is kept outside the search: as one of the first keys, as one of the latest.
fn kept_besides(m: &Mix, search: &Search) -> [Expr; 2] {
    let back = m.position.clone() - m.j();
    let recent = Expr::int(0).le(back.clone()).and(back.lt(search.window.clone()));
    let none = |e: &Expr| e.as_int() == Some(0);
    let first = if none(&search.sink) { Expr::bool(false) } else { m.j().lt(search.sink.clone()) };
    [first, if none(&search.window) { Expr::bool(false) } else { recent }]
}

/// Whether (i, j) is kept outside the search.
fn besides(m: &Mix, search: &Search) -> Expr {
    let [first, recent] = kept_besides(m, search);
    first.or(recent)
}

/// Whether (i, j) is not, as a conjunction.
fn aside(m: &Mix, search: &Search) -> Expr {
    let [first, recent] = kept_besides(m, search).map(|e| match e.as_bool() {
        Some(known) => Expr::bool(!known),
        None => e.apply(Unary::Not),
    });
    first.and(recent)
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

/// A search over the keys of an operator.
#[derive(Clone, Copy)]
struct Task<'t> {
    m: &'t Mix,
    search: &'t Search,
    blocks: &'t Blocks<'t>,
    block_k: i64,
    row_blocks: &'t Dim,
    key_blocks: &'t Dim,
}

/// Keys of a tile of scores that a round asks for, at least where key blocks are narrower; and the widest blocks and most
/// sampled rows for which a round forms them, a tile of each.
const ASKED: i64 = 64;
const WIDEST: i64 = 256;

impl Task<'_> {
    /// The groups that the search ends with, by the scores that rounds ask for or by all scores, whichever is reckoned to
    /// cost less.
    fn cheaper(&self, cx: &mut Context<'_>, groups: &Dim, shape: &[Dim]) -> Result<Lambda, Failure> {
        let all = |cx: &mut Context<'_>| {
            let plain = dense::store_products(cx, self.m)?;
            let scores =
                scores(cx, &plain, self.search, self.blocks, self.block_k, [self.row_blocks, self.key_blocks])?;
            rounds(cx, self, Some(&scores), groups, shape)
        };
        let asked = |cx: &mut Context<'_>| rounds(cx, self, None, groups, shape);
        let fits = self.block_k <= WIDEST && self.blocks.block_q / 2 <= WIDEST;
        let seconds = |cx: &Context<'_>, steps: Option<Vec<mixc_ir::lowered::Step>>| {
            steps.map_or(f64::INFINITY, |steps| reckoned(cx, &steps).0)
        };
        if !fits {
            return all(cx);
        }
        let (of_all, of_asked) = (cx.trial(all), cx.trial(asked));
        if seconds(cx, of_asked) < seconds(cx, of_all) { asked(cx) } else { all(cx) }
    }

    /// The scores of the key blocks `of` `[batch.., row blocks, halves]`: the greatest element in the sampled rows, minus
    /// infinity without one.
    fn asked(&self, cx: &mut Context<'_>, of: &Lambda, dtype: DType) -> Result<Lambda, Failure> {
        let (m, nb, block_k) = (self.m, self.m.rank(), self.block_k);
        // The greatest of every key first: a tile has many blocks side by side.
        let mut shape = of.shape.clone();
        shape.push(Dim::constant(block_k));
        let mut read = operator_reads(m);
        read.extend(super::buffers_of(&of.body));
        let out = cx.target(dtype, &shape, &read);
        let mut s = Scribe::new("tree_scores");
        let tensor = s.output(cx, out);
        let (mix, of) = (local_mix(cx, &mut s, m), s.local_lambda(cx, of));
        let ty = TileType::of(m.ty.dtype);
        let batch = s.grid_over(&m.ty.batch);
        let number = s.b.grid("block", Expr::from(self.row_blocks));
        let together = (ASKED / block_k).max(1);
        let (h0, halves) = s.grid_blocks("half", &of.shape[nb + 1], together as usize);
        let (first, last) = (self.blocks.first(&number), self.blocks.last(&number));
        // Rows 1, 3, ... of a block; of a block of one row, that one.
        let count = (last.clone() - first.clone() + Expr::int(1)).floor_div(2).max(1);
        let cap = usize::try_from((self.blocks.block_q / 2).max(1)).unwrap_or(1);
        let rows = Extent { cap, count };
        let row = first.clone() + Expr::from(ROW) * Expr::int(2) + (last - first).min(1);
        let tile = usize::try_from(together * block_k).unwrap_or(1);
        let cols = Extent { cap: tile, count: halves.count * Expr::int(block_k) };
        let depth = super::flash::inner_capacity(cx, &mix)?;
        let b = &mut s.b;
        let queries: Vec<TileId> = mix
            .products
            .iter()
            .map(|p| {
                let r = p.q.shape.last().cloned().unwrap_or_default();
                let q = batched(&p.q, &mix.ty.batch, &batch, &[row.clone(), Expr::from(COL)]);
                let q = super::flash::fold_scale(&mix).map_or(q.clone(), |(scale, _)| q * Expr::float(scale));
                b.map("q", ty, &rows, &whole(&r, depth), q)
            })
            .collect();
        let seen = Blocks { m: &mix, block_q: self.blocks.block_q }.seen(&number);
        let seen = Lambda { dtype: DType::I64, shape: Vec::new(), body: seen }.at(&batch);
        let condition = super::blocks::key_condition(&mix);
        let keys = Keys {
            mix: &mix,
            keys: &condition,
            batch: &batch,
            row: &row,
            rows: &rows,
            queries: &queries,
            depth,
            ty,
            exact: super::block_sparse::counts_exactly(cx, &mix),
        };
        let key = |within: Expr| {
            // Of one block a tile, all keys are one after the other.
            let (part, within) = match together {
                1 => (Expr::int(0), within),
                _ => (within.clone().floor_div(block_k), within.modulo(block_k)),
            };
            let half = h0.clone() + part;
            let block = of.at(&[batch.clone(), vec![number.clone(), half]].concat());
            block * Expr::int(block_k) + within
        };
        let inside = |key: &Expr| Expr::int(0).le(key.clone()).and(key.clone().lt(seen.clone()));
        let aside = aside(&mix, self.search).and(mix.support.clone());
        let (places, support) = keys.listed(&mut s.b, &key, &cols, &aside, &inside);
        let e = keys.scores(&mut s.b, &places, &cols, &support);
        let best = s.b.reduce("best", Combine::Max, Axis::Rows, e);
        let col = Expr::from(COL);
        let at = [number.clone(), h0 + col.clone().floor_div(block_k), col.modulo(block_k)];
        s.b.store(tensor, [batch.clone(), at.to_vec()].concat(), Expr::tile(best), &Extent::fixed(1), &cols);
        s.finish(cx, "tree_top_k")?;
        if block_k == 1 {
            let mut index = axes(nb + 2);
            index.push(Expr::int(0));
            return Ok(Lambda { dtype, shape: of.shape, body: cx.stored(out).at(&index) });
        }
        cx.close(reduce(cx.stored(out), nb + 2, Combine::Max, dtype))
    }
}

/// Groups of key blocks, `[batch.., row blocks, groups]` in order: first block, one past the last, and the score of the
/// first block where it is known, at least the lowest number.
struct Groups {
    starts: Lambda,
    ends: Lambda,
    scores: Option<Lambda>,
}

/// The first key blocks of the groups that the search ends with, `[batch.., row blocks, groups]`.
fn rounds(
    cx: &mut Context<'_>,
    task: &Task<'_>,
    scores: Option<&Lambda>,
    groups: &Dim,
    shape: &[Dim],
) -> Result<Lambda, Failure> {
    let Task { blocks, block_k, key_blocks, .. } = *task;
    let nb = blocks.m.rank();
    let dtype = if blocks.m.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (block, group) = (axis(nb), axis(nb + 1));
    let seen_blocks = blocks.seen(&block).ceil_div(block_k);
    let count = Expr::from(groups);
    // A call has at least one group; the bound says so to what divides by their number.
    let cut = |g: Expr| (seen_blocks.clone() * g).floor_div(count.clone().max(1));
    let integers = |body: Expr| Lambda { dtype: DType::I64, shape: shape.to_vec(), body };
    let (starts, ends) = (integers(cut(group.clone())), integers(cut(group.clone() + Expr::int(1))));
    let mut now = Groups { starts, ends, scores: None };
    // Not minus infinity, which is for halves without a block: these come after all others.
    let lowest = Expr::float(if dtype == DType::F64 { f64::MIN } else { f64::from(f32::MIN) });
    let mut halves = shape.to_vec();
    halves[nb + 1] = groups.scale(2).map_err(|e| cx.dim_failure(e))?;
    // Groups times a power of two reach the number of blocks after ceil(log2(blocks / groups)) rounds.
    let mut reach = groups.clone();
    let mut least_reach = 1;
    let split =
        |cx: &Context<'_>, reach: &Dim, least: i64| !cx.reaches(reach, key_blocks) && least < cx.most(key_blocks);
    while split(cx, &reach, least_reach) {
        // Half 2g is the lower one of group g, half 2g + 1 the upper one.
        let mut index = axes(nb + 1);
        index.push(group.clone().floor_div(2));
        let middle_of = |start: Expr, end: Expr| (start + end).floor_div(2);
        let (start, end) = (now.starts.at(&index), now.ends.at(&index));
        let middle = middle_of(start.clone(), end.clone());
        let lower = group.clone().modulo(2).equals(0);
        let of_halves = |body: Expr| Lambda { dtype: DType::I64, shape: halves.clone(), body };
        let mut half_starts = of_halves(Expr::select(lower.clone(), start, middle.clone()));
        let half_ends = of_halves(Expr::select(lower.clone(), middle, end));
        let score = match (scores, &now.scores) {
            (Some(scores), _) => {
                let mut index = axes(nb + 1);
                index.push(half_starts.body.clone());
                guard_loads(&scores.at(&index), &half_starts.body.clone().lt(half_ends.body.clone()))
            }
            (None, None) => {
                let stored = cx.store_lambda(&half_starts)?;
                half_starts = cx.stored(stored);
                task.asked(cx, &half_starts, dtype)?.body
            }
            // The lower half starts where its group did.
            (None, Some(known)) => {
                let middles = integers(middle_of(now.starts.body.clone(), now.ends.body.clone()));
                let middles = cx.store_lambda(&middles)?;
                let upper = task.asked(cx, &cx.stored(middles), dtype)?;
                Expr::select(lower, known.at(&index), upper.at(&index))
            }
        };
        let holds = half_starts.body.clone().lt(half_ends.body.clone());
        let body = Expr::select(holds, score.max(lowest.clone()), Expr::float(f64::NEG_INFINITY));
        let candidates = Lambda { dtype, shape: halves.clone(), body };
        let runs = Expr::from(&reach).lt(seen_blocks.clone());
        reach = reach.scale(2).map_err(|e| cx.dim_failure(e))?;
        least_reach *= 2;
        let more = scores.is_none() && split(cx, &reach, least_reach);
        let found = Halves { starts: half_starts, ends: half_ends, scores: candidates, wanted: more };
        now = match cx.most(&halves[nb + 1]) <= COUNTED {
            true => by_counting(cx, found, &now, groups, &runs)?,
            false => by_order(cx, found, &now, groups, &runs)?,
        };
    }
    Ok(now.starts)
}

/// Most halves that are all compared with each other.
const COUNTED: i64 = 1024;
/// Halves that are compared with all at a time.
const RIVALS: usize = 16;

/// The halves of all groups, `[batch.., row blocks, twice as many]`.
struct Halves {
    starts: Lambda,
    ends: Lambda,
    scores: Lambda,
    /// Whether a further round asks for the scores of what is kept.
    wanted: bool,
}

/// The best halves in order of their starts where the search runs, else the groups as they are: a half is kept when
/// fewer than all groups are better than it, and its place is the number of those kept up to it.
fn by_counting(
    cx: &mut Context<'_>,
    halves: Halves,
    now: &Groups,
    groups: &Dim,
    runs: &Expr,
) -> Result<Groups, Failure> {
    let dtype = halves.scores.dtype;
    let nb = halves.starts.shape.len() - 2;
    let of = halves.scores.shape.clone();
    let shape = now.starts.shape.clone();
    let stored = cx.store_lambda(&halves.scores)?;
    let mut read = vec![stored];
    for l in [&halves.starts, &halves.ends, &now.starts, &now.ends] {
        read.extend(super::buffers_of(&l.body));
    }
    let (starts, ends) = (cx.target(DType::I64, &shape, &read), cx.target(DType::I64, &shape, &read));
    let scores = halves.wanted.then(|| cx.target(dtype, &shape, &read));
    let mut s = Scribe::new("tree_halves");
    let outs = [starts, ends].map(|b| s.output(cx, b));
    let score_out = scores.map(|b| s.output(cx, b));
    let candidates = s.local_lambda(cx, &cx.stored(stored));
    let [half_starts, half_ends] = [&halves.starts, &halves.ends].map(|l| s.local_lambda(cx, l));
    let [now_starts, now_ends] = [&now.starts, &now.ends].map(|l| s.local_lambda(cx, l));
    let ty = TileType::of(dtype);
    let batch = s.grid_over(&of[..nb + 1]);
    let runs = Lambda { dtype: DType::Bool, shape: Vec::new(), body: s.local(cx, runs) }.at(&batch);
    let at = |last: Expr| [batch.clone(), vec![last]].concat();
    let (one, all) = (Extent::fixed(1), whole(&of[nb + 1], usize::try_from(COUNTED).unwrap_or(1)));
    let (col, total, kept) = (Expr::from(COL), Expr::from(&of[nb + 1]), Expr::from(groups));
    let b = &mut s.b;
    let own = b.map("own", ty, &one, &all, candidates.at(&at(col.clone())));
    let own_of = || Expr::tile_at(own, Pick::Zero, Pick::Col);
    let none = b.map("none", ty, &one, &all, Expr::float(0.0));
    let rank = b.for_blocks(
        Expr::int(0),
        total.clone(),
        RIVALS,
        |_| None,
        &[none],
        |b, r0, carried| {
            let rows = Extent::block(RIVALS, r0.clone(), total.clone());
            let rival = r0.clone() + Expr::from(ROW);
            let scores = b.map("rival", ty, &rows, &one, candidates.at(&at(rival.clone())));
            let scores = by_row(scores);
            let greater = Expr::compare(Compare::Gt, scores.clone(), own_of());
            let earlier = scores.equals(own_of()).and(rival.lt(col.clone()));
            let better = Expr::select(greater.or(earlier), Expr::float(1.0), Expr::float(0.0));
            let better = b.map("better", ty, &rows, &all, better);
            let sum = b.reduce("sum", Combine::Sum, Axis::Rows, better);
            vec![b.map("rank", ty, &one, &all, Expr::tile(carried[0]) + Expr::tile(sum))]
        },
    );
    let chosen = Expr::compare(Compare::Lt, Expr::tile(rank[0]), kept.clone().to_float());
    let chosen = b.map("chosen", ty, &one, &all, Expr::select(chosen, Expr::float(1.0), Expr::float(0.0)));
    let upto = b.scan("upto", Combine::Sum, Axis::Cols, false, chosen);
    let taken = Expr::compare(Compare::Gt, Expr::tile(chosen), Expr::float(0.0));
    let place = Expr::select(taken, Expr::tile(upto).to_int() - Expr::int(1), Expr::int(-1));
    let place = Expr::select(runs.clone(), place, col.clone());
    let place = b.map("place", TileType::I64, &one, &all, place);
    let place = Expr::tile(place);
    let guard = Expr::int(0).le(place.clone()).and(place.clone().lt(kept.clone()));
    let last = kept.max(1) - Expr::int(1);
    let pairs = [(&half_starts, &now_starts), (&half_ends, &now_ends)];
    for (out, (half, now)) in outs.into_iter().zip(pairs) {
        let value = Expr::select(runs.clone(), half.at(&at(col.clone())), now.at(&at(col.clone().min(last.clone()))));
        b.store_if(out, at(place.clone()), value, &one, &all, guard.clone());
    }
    if let Some(out) = score_out {
        b.store_if(out, at(place), Expr::tile(own), &one, &all, guard);
    }
    s.finish(cx, "tree_top_k")?;
    Ok(Groups { starts: cx.stored(starts), ends: cx.stored(ends), scores: scores.map(|b| cx.stored(b)) })
}

/// The same by sorting, where there are too many halves to compare all.
fn by_order(cx: &mut Context<'_>, halves: Halves, now: &Groups, groups: &Dim, runs: &Expr) -> Result<Groups, Failure> {
    let shape = now.starts.shape.clone();
    let nb = shape.len() - 2;
    let count = Expr::from(groups);
    let (_, chosen) = select(cx, &halves.scores, groups)?;
    // In order of the halves, which is that of their starts; exact as there are at most 2^16 of them.
    let falling = Expr::float(0.0) - cx.stored(chosen).body.to_float();
    let order = Lambda { dtype: DType::F32, shape: shape.clone(), body: falling };
    let (order, _) = select(cx, &order, groups)?;
    let chosen = (Expr::float(0.0) - cx.stored(order).body).to_int();
    let mut index = axes(nb + 1);
    index.push(chosen.max(0).min(count * Expr::int(2) - Expr::int(1)));
    let mut next = |half: &Lambda, now: &Lambda| {
        let body = Expr::select(runs.clone(), half.at(&index), now.body.clone());
        let stored = map::store(cx, &Lambda { dtype: half.dtype, shape: shape.clone(), body })?;
        Ok(cx.stored(stored))
    };
    let (starts, ends) = (next(&halves.starts, &now.starts)?, next(&halves.ends, &now.ends)?);
    let scores = match halves.wanted {
        true => Some(next(&halves.scores, now.scores.as_ref().unwrap_or(&halves.scores))?),
        false => None,
    };
    Ok(Groups { starts, ends, scores })
}
