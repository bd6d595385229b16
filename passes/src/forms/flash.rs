//! Softmax attention by online softmax: key blocks in order, a running maximum m, denominator l and output O.
//!
//! ```text
//! m' = max(m, max_j s_j)   c = exp(m - m')   l' = c l + sum_j exp(s_j - m')   O' = c O + sum_j exp(s_j - m') v_j
//! ```
//!
//! After Dao et al. (arXiv 2205.14135). Scores are inner products, or any elements that an expression gives. Blocks that
//! the support lacks are never visited; only blocks that it cuts are tested element by element.

use super::blocks::{self, RowBlock};
use super::reduce::{by_col, by_row};
use super::{Apply, ApplyForm, Write, all_visited, buffers_of, capacity, open};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, Producer, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, COL, Compare, Expr, Node, ROW, TileId, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "flash",
    applies: |_, a| a.mix.special.is_none() && matches!(a.mix.row_step, crate::lower::RowStep::Softmax { .. }),
    open: |cx, apply, shape, dtype| named(FORM.name, cx, apply, shape, dtype),
    instead_of: &[],
    share: all_visited,
};

/// The producer, its programs part of the form `name`.
pub fn named(
    name: &'static str,
    cx: &mut Context<'_>,
    apply: &Apply,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    let rows = Rows { name, ..Rows::new(cx, apply)? };
    Ok(open(rows, dtype, shape.to_vec()))
}

/// Masks that are the same for every row (padding) as biases of 0 and minus infinity, which softmax cannot tell from
/// them: one addition an element in place of a test.
fn key_masks_as_biases(cx: &mut Context<'_>, m: &Mix) -> Result<Mix, Failure> {
    let row = axis_var(m.rank());
    let mut terms = Vec::new();
    blocks::conjunction(&m.support, &mut terms);
    let (mut value, mut support) = (m.value.clone(), Expr::bool(true));
    for term in terms {
        match term.node() {
            Node::Load(l) if l.guard.is_none() && !term.mentions(row) => {
                let mask = cx.stored(BufferId(l.tensor.0));
                let bias = Expr::select(mask.body.clone(), Expr::float(0.0), Expr::float(f64::NEG_INFINITY));
                let bias = cx.store_lambda(&Lambda { dtype: m.ty.dtype, shape: mask.shape, body: bias })?;
                value = value + cx.stored(bias).at(&l.index);
            }
            _ => support = support.and(term),
        }
    }
    Ok(Mix { value, support, ..m.clone() })
}

/// Queries of a block: the output tile [queries, features] lives in the first cache level.
const QUERIES: usize = 64;
/// Keys of a block: the score tile [keys, queries] of 64 KiB lies in the second level, where the sweep of tile sizes was flat.
const KEYS: usize = 256;
/// Keys of a block of [`FEW_QUERIES`]: the score tile of 32 KiB lies in the first level.
const FEW_QUERIES_KEYS: usize = 512;
/// Queries of a block where the support differs from row to row: corners of blocks that it lacks are computed for
/// nothing, so that a block is as low as a vector of lanes, at least this (measured with a window of 256 keys: 64 queries
/// 28.6 ms, 32 26.1, 16 24.9; full attention takes the same time with any).
const FEW_QUERIES: usize = 16;
/// Features that one pass handles; more are cut into grid blocks.
pub const FEATURES: usize = 512;
/// Where the running maximum starts: below no finite score of f32, yet finite, so that no difference of infinities is
/// formed. Rows whose every score is that low (masks added as the lowest number) still get their shares.
pub const LEAST: f64 = f32::MIN as f64;

/// An application whose rows are normalised as they are summed: softmax here, sums in [`super::dense`].
#[derive(Debug)]
pub struct Rows {
    /// The form that its programs are part of.
    pub name: &'static str,
    /// What is applied.
    pub apply: Apply,
    /// Which keys are present for any query, see [`blocks::key_condition`]; known before masks became biases.
    pub keys: Expr,
}

/// What a block of queries has seen of the keys: tiles m, l `[rows, 1]` and o `[rows, width]`, and where they stand.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The greatest score, at least [`LEAST`].
    pub m: TileId,
    /// The sum of the exponentials of the scores minus m.
    pub l: TileId,
    /// The sum of the values by these exponentials.
    pub o: TileId,
    /// Batch index of the result.
    pub batch: Vec<Expr>,
    /// Number of the part of the keys.
    pub part: Option<Expr>,
    /// Rows of the block.
    pub rows: Extent,
    /// Features of the block.
    pub width: Extent,
    i0: Expr,
    d0: Expr,
}

impl Seen {
    /// The row of the result at a tile's row.
    pub fn row(&self) -> Expr {
        self.i0.clone() + Expr::from(ROW)
    }

    /// The feature of the result at a tile's column.
    pub fn column(&self) -> Expr {
        self.d0.clone() + Expr::from(COL)
    }
}

/// Takes a block of scores `[rows, cols]` and the values of its keys `[cols, width]` into the carried row maxima, sums and
/// weighted values (online softmax, Milakov and Gimelshein, arXiv 1805.02867).
pub fn online_softmax(
    b: &mut TileBuilder,
    ty: TileType,
    scores: TileId,
    values: Expr,
    carried: &[TileId],
    [rows, cols, width]: [&Extent; 3],
) -> Vec<TileId> {
    let (m, l, o) = (carried[0], carried[1], carried[2]);
    let one = Extent::fixed(1);
    let most = b.reduce("most", Combine::Max, Axis::Cols, scores);
    let m1 = b.map("m1", ty, rows, &one, Expr::tile(m).max(Expr::tile(most)));
    let p = b.map("p", ty, rows, cols, (Expr::tile(scores) - by_row(m1)).apply(Unary::Exp));
    let c = b.map("c", ty, rows, &one, (Expr::tile(m) - Expr::tile(m1)).apply(Unary::Exp));
    let sum = b.reduce("sum", Combine::Sum, Axis::Cols, p);
    let l1 = b.map("l1", ty, rows, &one, Expr::tile(l) * Expr::tile(c) + Expr::tile(sum));
    let scaled = b.map("scaled", ty, rows, width, Expr::tile(o) * by_row(c));
    let v = b.map("v", ty, cols, width, values);
    vec![m1, l1, b.dot("o1", ty, p, v, Some(scaled))]
}

/// Output over denominator; a row without support has l = 0 and o = 0.
pub fn normalised(l: TileId, o: TileId) -> Expr {
    let empty = Expr::compare(Compare::Eq, by_row(l), Expr::float(0.0));
    Expr::tile(o) / Expr::select(empty, Expr::float(1.0), by_row(l))
}

/// Queries and keys of a block. Processors with threads of their own for every block have no use for low ones.
fn blocks_of(cx: &Context<'_>, m: &Mix, depth: usize) -> [usize; 2] {
    let machine = &cx.settings.machine;
    let cut = m.support.mentions(axis_var(m.rank()));
    if !cut || machine.fewest_threads > 1 {
        return [QUERIES, KEYS];
    }
    // As many keys as half a second-level cache has room for with their values.
    let keys = if depth <= 128 { FEW_QUERIES_KEYS } else { KEYS };
    [FEW_QUERIES.max(machine.lanes), keys]
}

/// Buffers that an operator and its tokens read.
pub fn reads(a: &Apply) -> Vec<BufferId> {
    let mut found = operator_reads(&a.mix);
    found.extend(buffers_of(&a.x.body));
    found
}

/// Buffers that an operator reads.
pub fn operator_reads(m: &Mix) -> Vec<BufferId> {
    let mut found = buffers_of(&m.value);
    found.extend(buffers_of(&m.support));
    found.extend(buffers_of(&m.position));
    for l in m.products.iter().flat_map(|p| [&p.q, &p.k]).chain(m.data.iter().map(|(_, l)| l)) {
        found.extend(buffers_of(&l.body));
    }
    if let crate::lower::RowStep::Softmax { sink: Some(s) } = &m.row_step {
        found.extend(buffers_of(&s.body));
    }
    found
}

/// An operator with every load made local.
pub fn local_mix(cx: &Context<'_>, s: &mut Scribe, m: &Mix) -> Mix {
    let mut m = m.clone();
    m.value = s.local(cx, &m.value);
    m.support = s.local(cx, &m.support);
    m.position = s.local(cx, &m.position);
    for p in &mut m.products {
        (p.q, p.k) = (s.local_lambda(cx, &p.q), s.local_lambda(cx, &p.k));
    }
    for (_, l) in &mut m.data {
        *l = s.local_lambda(cx, l);
    }
    if let crate::lower::RowStep::Softmax { sink: Some(l) } = &mut m.row_step {
        *l = s.local_lambda(cx, l);
    }
    m
}

/// The score tile of a block of rows and columns: products, then the element's expression; minus infinity (or 0 for
/// sums) outside the support.
pub struct Scores<'a> {
    /// The operator, local.
    pub mix: &'a Mix,
    /// Batch index.
    pub batch: &'a [Expr],
    /// First row.
    pub i0: &'a Expr,
    /// Rows.
    pub rows: &'a Extent,
    /// Query tiles of the products.
    pub queries: &'a [TileId],
    /// Element type of the tiles.
    pub ty: TileType,
    /// What stands outside the support.
    pub absent: f64,
    /// Which keys are read, as a condition over the operator's axes.
    pub keys: &'a Expr,
}

impl Scores<'_> {
    /// Loads the query tiles, scaled by what the expression multiplies the only product with.
    pub fn queries(
        b: &mut TileBuilder,
        mix: &Mix,
        batch: &[Expr],
        i0: &Expr,
        rows: &Extent,
        ty: TileType,
        depth: usize,
    ) -> Vec<TileId> {
        let scale = fold_scale(mix).map(|(s, _)| s);
        mix.products
            .iter()
            .map(|p| {
                let r = p.q.shape.last().cloned().unwrap_or_default();
                let cols = whole(&r, depth);
                let q =
                    crate::lower::batched(&p.q, &mix.ty.batch, batch, &[i0.clone() + Expr::from(ROW), Expr::from(COL)]);
                let q = match scale {
                    Some(s) => q * Expr::float(s),
                    None => q,
                };
                b.map("q", ty, rows, &cols, q)
            })
            .collect()
    }

    /// The tile for columns `j0..`; with `cut`, some of which the support may lack.
    pub fn tile(&self, b: &mut TileBuilder, j0: &Expr, cols: &Extent, depth: usize, cut: bool) -> TileId {
        let mix = self.mix;
        let products: Vec<TileId> = mix
            .products
            .iter()
            .zip(self.queries)
            .map(|(p, q)| {
                let r = p.k.shape.last().cloned().unwrap_or_default();
                let key = j0.clone() + Expr::from(ROW);
                let at = [key.clone(), Expr::from(COL)];
                let k = crate::lower::batched(&p.k, &mix.ty.batch, self.batch, &at);
                let k = if cut { blocks::present_rows(mix, self.keys, self.batch, &key, k) } else { k };
                let k = b.map("k", self.ty, cols, &whole(&r, depth), k);
                b.dot("s", self.ty, *q, Matrix::transposed(k), None)
            })
            .collect();
        let value = match fold_scale(mix) {
            Some((_, rest)) => rest,
            None => mix.value.clone(),
        };
        let (row, col) = (self.i0.clone() + Expr::from(ROW), j0.clone() + Expr::from(COL));
        let args: Vec<Expr> = products.iter().map(|t| Expr::tile(*t)).collect();
        let value = blocks::at(mix, &value, self.batch, &row, &col).with_args(&args);
        let value = if cut && mix.support.as_bool() != Some(true) {
            let present = blocks::at(mix, &mix.support, self.batch, &row, &col);
            Expr::select(present, value, Expr::float(self.absent))
        } else {
            value
        };
        match value.node() {
            // The element is the product as it is: no map is needed.
            Node::Tile(t, mixc_ir::expr::Pick::Row, mixc_ir::expr::Pick::Col) => *t,
            _ => b.map("e", self.ty, self.rows, cols, value),
        }
    }
}

/// When there is one product and it enters as `product * constant` everywhere the same, the constant (to be folded into
/// the queries) and the expression with the plain product.
pub fn fold_scale(m: &Mix) -> Option<(f64, Expr)> {
    if m.products.len() != 1 {
        return None;
    }
    let mut scale: Option<f64> = None;
    let mut uniform = true;
    let mut scaled = 0;
    m.value.visit(&mut |e| {
        if let Node::Binary(Binary::Mul, a, b) = e.node()
            && let (Node::Arg(0), Some(x)) = (a.node(), b.as_float())
        {
            uniform &= scale.is_none_or(|s| s == x);
            scale = Some(x);
            scaled += 1;
        }
    });
    let mut all = 0;
    m.value.visit(&mut |e| all += usize::from(matches!(e.node(), Node::Arg(0))));
    let s = scale.filter(|_| uniform && scaled == all)?;
    let rest = m.value.rewrite(&mut |e| match e.node() {
        Node::Binary(Binary::Mul, a, b) if matches!(a.node(), Node::Arg(0)) && b.as_float() == Some(s) => {
            Some(Expr::arg(0))
        }
        _ => None,
    });
    Some((s, rest))
}

/// The whole of an axis as an extent, up to `cap`.
pub fn whole(d: &Dim, cap: usize) -> Extent {
    match d.as_constant() {
        Some(n) => Extent { cap: (n.max(1) as usize).min(cap), count: Expr::int(n) },
        None => Extent { cap, count: Expr::from(d) },
    }
}

/// The greatest inner length of the products, which a tile holds as a whole.
pub fn inner_capacity(cx: &Context<'_>, m: &Mix) -> Result<usize, Failure> {
    // A query block of that many features in f32 fills half a second-level cache.
    const MOST: usize = 4096;
    let longest = m.products.iter().filter_map(|p| p.q.shape.last()).map(|r| cx.most(r)).max().unwrap_or(1);
    if longest > MOST as i64 {
        return Err(cx.fail(format!("inner products over up to {longest} features; the native forms take {MOST}")));
    }
    Ok(longest.max(1) as usize)
}

impl Write for Rows {
    fn form(&self) -> &'static str {
        self.name
    }

    fn reads(&self) -> Vec<BufferId> {
        let mut found = reads(&self.apply);
        found.extend(buffers_of(&self.keys));
        found
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        if self.apply.channelwise { self.write_channels(cx, end, out) } else { self.write_rows(cx, end, out) }
    }
}

impl Rows {
    /// The application with its masks put as they are computed with.
    pub fn new(cx: &mut Context<'_>, apply: &Apply) -> Result<Rows, Failure> {
        let keys = blocks::key_condition(&apply.mix);
        let mut mix = key_masks_as_biases(cx, &apply.mix)?;
        if apply.channelwise {
            // Every channel has a matrix of its own: its elements are read one by one.
            mix = super::dense::store_products(cx, &mix)?;
        }
        Ok(Rows { name: FORM.name, apply: Apply { mix, ..apply.clone() }, keys })
    }

    fn write_rows(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let mut s = Scribe::new("flash");
        let tensor = s.output(cx, out);
        let seen = self.attend(cx, &mut s, None)?;
        let at = [seen.batch.clone(), vec![seen.row(), seen.column()]].concat();
        end.store(cx, &mut s, tensor, &at, normalised(seen.l, seen.o), &seen.rows, &seen.width);
        s.finish(cx, self.form())
    }

    /// Writes what blocks of queries see of the keys: of all of them, with the sink, or of parts of `part` keys one by
    /// one, the number of the part a grid axis.
    pub fn attend(&self, cx: &Context<'_>, s: &mut Scribe, part: Option<usize>) -> Result<Seen, Failure> {
        let a = &self.apply;
        let depth = inner_capacity(cx, &a.mix)?;
        let ty = TileType::of(a.mix.ty.dtype);
        let (mix, x, keys) = (local_mix(cx, s, &a.mix), s.local_lambda(cx, &a.x), s.local(cx, &self.keys));
        let features = a.x.shape.last().cloned().unwrap_or_default();
        let out_batch = s.grid_over(&a.batch);
        let batch = crate::lower::batch_index(&mix.ty.batch, &a.batch, &out_batch);
        let [queries, keys_together] = blocks_of(cx, &mix, depth);
        let bq = s.b.knob("bq", capacity(cx, &mix.ty.rows, queries));
        let keys_together = part.map_or(keys_together, |part| keys_together.min(part));
        let bk = s.b.knob("bk", capacity(cx, &mix.ty.cols, keys_together));
        let bd = capacity(cx, &features, FEATURES);
        let (d0, width) = s.grid_blocks("d", &features, bd);
        let (i0, rows) = s.grid_blocks("iq", &mix.ty.rows, bq);
        let number = part.map(|part| s.b.grid("part", Expr::from(&mix.ty.cols).ceil_div(part as i64)));
        // First key of the part and one past its last.
        let span = number.as_ref().zip(part).map(|(number, part)| {
            let first = number.clone() * Expr::int(part as i64);
            [first.clone(), first + Expr::int(part as i64)]
        });
        let b = &mut s.b;
        let one = Extent::fixed(1);
        let queries = Scores::queries(b, &mix, &batch, &i0, &rows, ty, depth);
        let sink = match &mix.row_step {
            crate::lower::RowStep::Softmax { sink: Some(l) } if part.is_none() => {
                Some(crate::lower::batched(l, &mix.ty.batch, &batch, &[]))
            }
            _ => None,
        };
        let has_sink = sink.is_some();
        let m0 = b.map("m", ty, &rows, &one, sink.unwrap_or(Expr::float(LEAST)));
        let l0 = b.map("l", ty, &rows, &one, Expr::float(if has_sink { 1.0 } else { 0.0 }));
        let o0 = b.map("o", ty, &rows, &width, Expr::float(0.0));
        let block = RowBlock { first: i0.clone(), last: i0.clone() + rows.count.clone() - Expr::int(1) };
        let mut range = blocks::columns(&mix, &block, &batch);
        let mut counted = blocks::counted_to(&mix, &range.to);
        if let Some([first, end]) = &span {
            range.from = range.from.max(first.clone());
            range.to = range.to.min(end.clone());
            counted = counted.min(end.clone());
        }
        let scores = Scores {
            mix: &mix,
            batch: &batch,
            i0: &i0,
            rows: &rows,
            queries: &queries,
            ty,
            absent: f64::NEG_INFINITY,
            keys: &keys,
        };
        let step = |b: &mut TileBuilder, j0: &Expr, cols: Extent, carried: &[TileId], cut: bool| -> Vec<TileId> {
            let e = scores.tile(b, j0, &cols, depth, cut);
            let key = j0.clone() + Expr::from(ROW);
            let v = crate::lower::batched(&x, &a.batch, &out_batch, &[key.clone(), d0.clone() + Expr::from(COL)]);
            let v = if cut { blocks::present_rows(&mix, &keys, &batch, &key, v) } else { v };
            online_softmax(b, ty, e, v, carried, [&rows, &cols, &width])
        };
        let mut state = vec![m0, l0, o0];
        let mut from = range.from.clone();
        let masked = mix.support.as_bool() != Some(true);
        if let (true, Some(end)) = (masked, blocks::whole_until(&mix, &block, &batch)) {
            // Whole blocks first, without a test; they end on a block's border.
            let whole = end.floor_div(bk as i64) * Expr::int(bk as i64);
            let [first, whole] = match &span {
                Some([first, end]) => [first.clone(), whole.min(end.clone()).max(first.clone())],
                None => [Expr::int(0), whole],
            };
            state = b.for_blocks(
                first,
                whole.clone(),
                bk,
                |_| None,
                &state,
                |b, j0, carried| step(b, j0, Extent::fixed(bk), carried, false),
            );
            from = whole;
        }
        let when = |j0: &Expr| blocks::meets(&mix, &block, &batch, j0, bk);
        let last = b.for_blocks(from, range.to.clone(), bk, when, &state, |b, j0, carried| {
            step(b, j0, Extent::block(bk, j0.clone(), counted.clone()), carried, true)
        });
        let [m, l, o] = [last[0], last[1], last[2]];
        Ok(Seen { m, l, o, batch: out_batch, part: number, i0, d0, rows, width })
    }

    /// Channels along the columns of every tile, one row of the operator at a time, keys along the rows.
    fn write_channels(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        // Keys by channels of a block, half a first-level cache.
        const CHANNELS: usize = 64;
        const BLOCK_KEYS: usize = 64;
        let a = &self.apply;
        let mut s = Scribe::new("flash_channelwise");
        let tensor = s.output(cx, out);
        let ty = TileType::of(a.mix.ty.dtype);
        let (mix, x, keys) = (local_mix(cx, &mut s, &a.mix), s.local_lambda(cx, &a.x), s.local(cx, &self.keys));
        let features = a.x.shape.last().cloned().unwrap_or_default();
        let out_batch = s.grid_over(&a.batch);
        let bd = capacity(cx, &features, CHANNELS);
        let bk = capacity(cx, &mix.ty.cols, BLOCK_KEYS);
        let (d0, width) = s.grid_blocks("d", &features, bd);
        let i = s.b.grid("i", Expr::from(&mix.ty.rows));
        let batch = channel_batch(&mix, &a.batch, &features, &out_batch, &(d0.clone() + Expr::from(COL)));
        let b = &mut s.b;
        let one = Extent::fixed(1);
        let sink = match &mix.row_step {
            crate::lower::RowStep::Softmax { sink: Some(l) } => {
                Some(crate::lower::batched(l, &mix.ty.batch, &batch, &[]))
            }
            _ => None,
        };
        let has_sink = sink.is_some();
        let m0 = b.map("m", ty, &one, &width, sink.unwrap_or(Expr::float(LEAST)));
        let l0 = b.map("l", ty, &one, &width, Expr::float(if has_sink { 1.0 } else { 0.0 }));
        let o0 = b.map("o", ty, &one, &width, Expr::float(0.0));
        let total = Expr::from(&mix.ty.cols);
        let last = b.for_blocks(
            Expr::int(0),
            total.clone(),
            bk,
            |_| None,
            &[m0, l0, o0],
            |b, j0, carried| {
                let block_keys = Extent::block(bk, j0.clone(), total);
                let (m, l, o) = (carried[0], carried[1], carried[2]);
                let col = j0.clone() + Expr::from(ROW);
                let value = blocks::at(&mix, &mix.value, &batch, &i, &col);
                let present = blocks::at(&mix, &mix.support, &batch, &i, &col);
                let value = Expr::select(present, value, Expr::float(f64::NEG_INFINITY));
                let e = b.map("e", ty, &block_keys, &width, value);
                let most = b.reduce("most", Combine::Max, Axis::Rows, e);
                let m1 = b.map("m1", ty, &one, &width, Expr::tile(m).max(Expr::tile(most)));
                let p = b.map("p", ty, &block_keys, &width, (Expr::tile(e) - by_col(m1)).apply(Unary::Exp));
                let c = b.map("c", ty, &one, &width, (Expr::tile(m) - Expr::tile(m1)).apply(Unary::Exp));
                let sum = b.reduce("sum", Combine::Sum, Axis::Rows, p);
                let l1 = b.map("l1", ty, &one, &width, Expr::tile(l) * Expr::tile(c) + Expr::tile(sum));
                let at = [col.clone(), d0.clone() + Expr::from(COL)];
                let v = crate::lower::batched(&x, &a.batch, &out_batch, &at);
                let v = blocks::present_rows(&mix, &keys, &batch, &col, v);
                let weighted = b.map("weighted", ty, &block_keys, &width, Expr::tile(p) * v);
                let part = b.reduce("part", Combine::Sum, Axis::Rows, weighted);
                vec![m1, l1, b.map("o1", ty, &one, &width, Expr::tile(o) * Expr::tile(c) + Expr::tile(part))]
            },
        );
        let mut at = out_batch.clone();
        at.extend([i, d0 + Expr::from(COL)]);
        let empty = Expr::compare(Compare::Eq, Expr::tile(last[1]), Expr::float(0.0));
        let value = Expr::tile(last[2]) / Expr::select(empty, Expr::float(1.0), Expr::tile(last[1]));
        end.store(cx, &mut s, tensor, &at, value, &one, &width);
        s.finish(cx, self.form())
    }
}

/// The operator's batch index of a channelwise application: its last batch dim is the channel.
pub fn channel_batch(m: &Mix, out: &[Dim], features: &Dim, at: &[Expr], channel: &Expr) -> Vec<Expr> {
    let mut wide = out.to_vec();
    wide.push(features.clone());
    let mut index = at.to_vec();
    index.push(channel.clone());
    crate::lower::batch_index(&m.ty.batch, &wide, &index)
}

/// An application's tokens as a function of the index, for forms that read them element by element.
pub fn tokens(x: &Lambda, out: &[Dim], at: &[Expr], tail: &[Expr]) -> Expr {
    crate::lower::batched(x, out, at, tail)
}
