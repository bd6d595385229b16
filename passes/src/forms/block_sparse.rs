//! Softmax attention over the key blocks that a list names for every block of rows: what is not listed is never visited,
//! so that the work is that of the blocks present and not of all there are.
//!
//! Lists come from a mask of blocks, by a program that moves the numbers of the marked blocks of each row to the front
//! (from bind time on where the mask is a constant or a weight), or from a search ([`super::tree_top_k`]), which also
//! keeps ranges of keys besides. Narrow blocks are gathered, several to a tile.

use super::blocks::{self, RowBlock};
use super::flash::{FEATURES, LEAST, fold_scale, inner_capacity, local_mix, normalised, online_softmax, reads, whole};
use super::reduce::by_row;
use super::{Apply, ApplyForm, Write, buffers_of, capacity, open};
use crate::lower::lambda::axis_var;
use crate::lower::{Context, Failure, Lambda, Mix, Producer, RowStep, Scribe, axes, axis, batched, guard_loads};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, Node, Pick, ROW, TileId, Unary, Var};
use mixc_ir::lowered::{BufferId, Place};
use mixc_ir::support::Condition;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileType};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "block_sparse",
    applies: |_, a| {
        let softmax = a.mix.special.is_none() && matches!(a.mix.row_step, RowStep::Softmax { .. });
        softmax && !a.channelwise && (a.mix.listed.is_some() || marked(&a.mix).is_some())
    },
    open: |cx, apply, shape, dtype| {
        let listed = match &apply.mix.listed {
            Some(listed) => (**listed).clone(),
            None => lists(cx, &apply.mix)?,
        };
        Ok(open(BlockSparse { apply: apply.clone(), listed }, dtype, shape.to_vec()))
    },
    instead_of: &[],
    share: visited_share,
};

/// The share of the blocks of a mask that is reckoned to be marked where the mask is data: a guess, for nothing is known of
/// it then. Masks of blocks are written where most blocks are absent.
const TYPICAL_SHARE: f64 = 0.25;

/// The share of blocks that are visited: counted in a constant mask, `TYPICAL_SHARE` of one that is data. Lists of a
/// search have their length, which programs show.
fn visited_share(cx: &Context<'_>, a: &Apply) -> f64 {
    if a.mix.listed.is_some() {
        return 1.0;
    }
    let Some((mask, ..)) = marked(&a.mix) else { return 1.0 };
    match buffers_of(&mask.body).first().map(|b| &cx.out.buffer(*b).place) {
        Some(Place::Constant(marks)) if !marks.is_empty() => {
            marks.iter().filter(|m| **m != 0.0).count() as f64 / marks.len() as f64
        }
        _ => TYPICAL_SHARE,
    }
}

/// Key blocks by block of rows.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `[batch of its own.., row blocks, places]`: the number of a key block, each at most once, below 0 where there is
    /// none.
    pub list: Lambda,
    /// `[batch of its own.., row blocks, 1]`: places that need looking at; without it, all.
    pub count: Option<Lambda>,
    /// Rows of a block.
    pub block_q: i64,
    /// Keys of a block.
    pub block_k: i64,
    /// The part of the support that says what is listed or kept besides, over the operator's axes; it holds of what the
    /// loops visit.
    pub chosen: Expr,
    /// Keys kept besides.
    pub besides: Option<Besides>,
}

/// Keys that are kept whatever is listed.
#[derive(Clone, Debug)]
pub struct Besides {
    /// So many first keys.
    pub sink: Expr,
    /// So many latest keys of each row.
    pub window: Expr,
}

impl Listed {
    /// The same with expressions over other axes.
    pub fn mapped(mut self, at: &dyn Fn(&Expr) -> Expr) -> Listed {
        self.chosen = at(&self.chosen);
        self
    }
}

/// The mask of blocks that bounds every region of the support: `[batch of its own.., row blocks, key blocks]`, rows and
/// columns of a block.
fn marked(m: &Mix) -> Option<(&Lambda, i64, i64)> {
    let (first, others) = m.structure.support.regions.split_first()?;
    first.iter().find_map(|c| match c {
        Condition::Blocks { mask, rows, cols } if others.iter().all(|r| r.contains(c)) => {
            let (_, mask) = m.data.iter().find(|(v, _)| v == mask)?;
            (*rows > 0 && *cols > 0).then_some((mask, *rows, *cols))
        }
        _ => None,
    })
}

/// The lists of a mask of blocks.
fn lists(cx: &mut Context<'_>, m: &Mix) -> Result<Listed, Failure> {
    let Some((mask, block_q, block_k)) = marked(m) else { return Err(cx.fail("the support has no mask of blocks")) };
    let mask = mask.clone();
    let failure = |cx: &Context<'_>, e| cx.dim_failure(e);
    let row_blocks = m.ty.rows.ceil_div(block_q).map_err(|e| failure(cx, e))?;
    let key_blocks = m.ty.cols.ceil_div(block_k).map_err(|e| failure(cx, e))?;
    let own = mask.shape.len().saturating_sub(2);
    // A mask may be broadcast along either axis.
    let at = |k: usize, e: Expr| if mask.shape[k].is(1) { Expr::int(0) } else { e };
    let mut index = axes(own);
    index.extend([at(own, axis(own)), at(own + 1, axis(own + 1))]);
    let mut shape = mask.shape[..own].to_vec();
    shape.extend([row_blocks, key_blocks.clone()]);
    let marks = Lambda { dtype: DType::Bool, shape: shape.clone(), body: mask.at(&index) };
    let reads = buffers_of(&mask.body);
    let list = cx.target(DType::I64, &shape, &reads);
    shape[own + 1] = Dim::constant(1);
    let count = cx.target(DType::I64, &shape, &reads);
    let mut s = Scribe::new("block_lists");
    let [list_out, count_out] = [list, count].map(|b| s.output(cx, b));
    let marks = s.local_lambda(cx, &marks);
    let width = capacity(cx, &key_blocks, mixc_ir::tile::MAX_AXIS);
    if cx.most(&key_blocks) > width as i64 {
        return Err(cx.fail(format!("lists of up to {} key blocks", cx.most(&key_blocks))));
    }
    let mut batch = s.grid_over(&marks.shape[..own]);
    let (i0, rows) = s.grid_blocks("rows", &marks.shape[own], capacity(cx, &marks.shape[own], 16));
    batch.push(i0 + Expr::from(ROW));
    let (cols, one) = (whole(&key_blocks, width), Extent::fixed(1));
    let at = |last: Expr| [batch.clone(), vec![last]].concat();
    let b = &mut s.b;
    let mark = Expr::select(marks.at(&at(Expr::from(COL))), Expr::float(1.0), Expr::float(0.0));
    let mark = b.map("mark", TileType::F32, &rows, &cols, mark);
    // Whole numbers below 2^16: exact.
    let upto = b.scan("upto", Combine::Sum, Axis::Cols, false, mark);
    let number = b.reduce("number", Combine::Sum, Axis::Cols, mark);
    // Marked blocks first, in order, then places without a block.
    let is_marked = || Expr::compare(mixc_ir::expr::Compare::Gt, Expr::tile(mark), Expr::float(0.0));
    let before = Expr::tile(upto).to_int();
    let absent = by_row(number).to_int() + Expr::from(COL) - before.clone();
    let place = Expr::select(is_marked(), before - Expr::int(1), absent);
    let place = b.map("place", TileType::I64, &rows, &cols, place);
    let block = Expr::select(is_marked(), Expr::from(COL), Expr::int(-1));
    b.store(list_out, at(Expr::tile(place)), block, &rows, &cols);
    b.store(count_out, at(Expr::int(0)), Expr::tile(number).to_int(), &rows, &one);
    s.finish(cx, "block_sparse")?;
    let i = axis(m.rank()).floor_div(block_q);
    let j = axis(m.rank() + 1).floor_div(block_k);
    let tail: Vec<Expr> = [i, j].into_iter().enumerate().map(|(k, e)| at_axis(&mask, own + k, e)).collect();
    let chosen = batched(&mask, &m.ty.batch, &axes(m.rank()), &tail);
    Ok(Listed { list: cx.stored(list), count: Some(cx.stored(count)), block_q, block_k, chosen, besides: None })
}

/// The index along axis `k`, which may be broadcast.
fn at_axis(l: &Lambda, k: usize, e: Expr) -> Expr {
    if l.shape[k].is(1) { Expr::int(0) } else { e }
}

/// Queries of a block at most; keys of a tile at most, and of a tile that is gathered from narrower blocks.
const QUERIES: usize = 64;
const KEYS: i64 = 256;
const GATHERED: i64 = 256;

#[derive(Debug)]
struct BlockSparse {
    apply: Apply,
    listed: Listed,
}

impl Write for BlockSparse {
    fn form(&self) -> &'static str {
        "block_sparse"
    }

    fn reads(&self) -> Vec<BufferId> {
        let mut found = reads(&self.apply);
        found.extend(buffers_of(&self.listed.list.body));
        found.extend(self.listed.count.iter().flat_map(|l| buffers_of(&l.body)));
        found
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let (a, listed) = (&self.apply, &self.listed);
        // Conditions that the lists make true cost nothing in the loops.
        let chosen = |e: &Expr| (*e == listed.chosen).then(|| Expr::bool(true));
        let plain = Mix { support: a.mix.support.rewrite(&mut |e| chosen(e)), ..a.mix.clone() };
        let depth = inner_capacity(cx, &plain)?;
        let mut s = Scribe::new("block_sparse");
        let tensor = s.output(cx, out);
        let ty = TileType::of(plain.ty.dtype);
        let (mut mix, x) = (local_mix(cx, &mut s, &plain), s.local_lambda(cx, &a.x));
        let list = s.local_lambda(cx, &listed.list);
        let count = listed.count.as_ref().map(|l| s.local_lambda(cx, l));
        let features = a.x.shape.last().cloned().unwrap_or_default();
        let out_batch = s.grid_over(&a.batch);
        let batch = crate::lower::batch_index(&mix.ty.batch, &a.batch, &out_batch);
        let (d0, width) = s.grid_blocks("d", &features, capacity(cx, &features, FEATURES));
        let number = s.b.grid("block", Expr::from(&mix.ty.rows).ceil_div(listed.block_q));
        // All rows of a grid point are of one block.
        let block_of = mix.i().floor_div(listed.block_q);
        mix.support = mix.support.rewrite(&mut |e| (*e == block_of).then(|| number.clone()));
        let bq = capacity(cx, &mix.ty.rows, QUERIES).min(usize::try_from(listed.block_q).unwrap_or(QUERIES));
        s.b.knob("bq", bq);
        let first = number.clone() * Expr::int(listed.block_q);
        let end_of_block = (first.clone() + Expr::int(listed.block_q)).min(Expr::from(&mix.ty.rows));
        let i0 = if bq as i64 >= listed.block_q.min(cx.most(&mix.ty.rows)) {
            first
        } else {
            first + s.b.grid("iq", Expr::int(listed.block_q).ceil_div(bq as i64)) * Expr::int(bq as i64)
        };
        let rows = Extent::block(bq, i0.clone(), end_of_block);
        let one = Extent::fixed(1);
        let sink = match &mix.row_step {
            RowStep::Softmax { sink: Some(l) } => Some(batched(l, &mix.ty.batch, &batch, &[])),
            _ => None,
        };
        let keys = blocks::key_condition(&mix);
        let b = &mut s.b;
        let l0 = b.map("l", ty, &rows, &one, Expr::float(if sink.is_some() { 1.0 } else { 0.0 }));
        let m0 = b.map("m", ty, &rows, &one, sink.unwrap_or(Expr::float(LEAST)));
        let o0 = b.map("o", ty, &rows, &width, Expr::float(0.0));
        let queries = super::flash::Scores::queries(b, &mix, &batch, &i0, &rows, ty, depth);
        let row = i0.clone() + Expr::from(ROW);
        let turn = Turn {
            keys: Keys {
                mix: &mix,
                keys: &keys,
                batch: &batch,
                row: &row,
                rows: &rows,
                queries: &queries,
                depth,
                ty,
                exact: counts_exactly(cx, &mix),
            },
            width: &width,
            value: &|key, feature| batched(&x, &a.batch, &out_batch, &[key, d0.clone() + feature]),
        };
        let recent = |window: &Expr| {
            let back = mix.position.clone() - mix.j();
            Expr::int(0).le(back.clone()).and(back.lt(window.clone()))
        };
        let aside = match &listed.besides {
            Some(k) => {
                let later = k.sink.clone().le(mix.j());
                let older = recent(&k.window).apply(Unary::Not);
                later.and(if k.window.as_int() == Some(0) { Expr::bool(true) } else { older }).and(mix.support.clone())
            }
            None => mix.support.clone(),
        };
        let block_k = listed.block_k;
        let total = Expr::from(&mix.ty.cols);
        let divides = mix.ty.cols.as_constant().is_some_and(|n| n % block_k == 0);
        let block_at = |place: Expr| batched(&list, &mix.ty.batch, &batch, &[number.clone(), place]);
        let places = Expr::from(&list.shape[list.shape.len() - 1]);
        let to = match &count {
            Some(l) => batched(l, &mix.ty.batch, &batch, &[number.clone(), Expr::int(0)]).min(places.clone()),
            None => places.clone(),
        };
        let mut state = vec![m0, l0, o0];
        if block_k < GATHERED {
            // Several blocks a tile.
            let together = (GATHERED + block_k - 1) / block_k;
            let together = cx.most(&list.shape[list.shape.len() - 1]).clamp(1, together);
            let tile = usize::try_from(together * block_k).unwrap_or(1);
            state = b.for_blocks(
                Expr::int(0),
                to,
                together as usize,
                |_| None,
                &state,
                |b, p0, carried| {
                    let cols = match places.as_int() {
                        Some(n) if n % together == 0 => Extent::fixed(tile),
                        _ => {
                            let left = (places.clone() - p0.clone()) * Expr::int(block_k);
                            Extent { cap: tile, count: left.min(tile as i64).max(0) }
                        }
                    };
                    let key = |within: Expr| {
                        let block = block_at(p0.clone() + within.clone().floor_div(block_k));
                        block * Expr::int(block_k) + within.modulo(block_k)
                    };
                    let inside = |key: &Expr| Expr::int(0).le(key.clone()).and(key.clone().lt(total.clone()));
                    let (places, support) = turn.keys.listed(b, &key, &cols, &aside, &inside);
                    turn.write(b, &places, &cols, &support, carried)
                },
            );
        } else {
            let all = count.is_some();
            let when = |place: &Expr| (!all).then(|| Expr::int(0).le(block_at(place.clone())));
            state = b.for_blocks(Expr::int(0), to, 1, when, &state, |b, place, carried| {
                let block = block_at(place.clone()) * Expr::int(block_k);
                let inside = |key: &Expr| if divides { Expr::bool(true) } else { key.clone().lt(total.clone()) };
                if block_k <= KEYS {
                    let places = Places::Along { key: &|within| block.clone() + within, inside: &inside };
                    return turn.write(b, &places, &Extent::fixed(block_k as usize), &aside, carried);
                }
                let exists = |part: &Expr| Some((block.clone() + part.clone()).lt(total.clone()));
                b.for_blocks(Expr::int(0), Expr::int(block_k), KEYS as usize, exists, carried, |b, part, carried| {
                    let key = |within: Expr| block.clone() + part.clone() + within;
                    let cols = Extent::block(KEYS as usize, part.clone(), Expr::int(block_k));
                    turn.write(b, &Places::Along { key: &key, inside: &inside }, &cols, &aside, carried)
                })
            });
        }
        if let Some(besides) = &listed.besides {
            let bk = capacity(cx, &mix.ty.cols, KEYS as usize);
            let sink = besides.sink.clone().min(total.clone());
            let mut range = |b: &mut TileBuilder, from: Expr, to: Expr, counted: Expr, support: &Expr| {
                state = b.for_blocks(
                    from,
                    to,
                    bk,
                    |_| None,
                    &state,
                    |b, j0, carried| {
                        let key = |within: Expr| j0.clone() + within;
                        let cols = Extent::block(bk, j0.clone(), counted);
                        let places = Places::Along { key: &key, inside: &|_| Expr::bool(true) };
                        turn.write(b, &places, &cols, support, carried)
                    },
                );
            };
            range(b, Expr::int(0), sink.clone(), sink.clone(), &mix.support);
            let block = RowBlock { first: i0.clone(), last: i0.clone() + rows.count.clone() - Expr::int(1) };
            let at = |row: &Expr| mix.position.with_var(axis_var(mix.rank()), row);
            let from = (at(&block.first) - besides.window.clone() + Expr::int(1)).max(sink);
            let to = (at(&block.last) + Expr::int(1)).min(total.clone());
            let counted = blocks::counted_to(&mix, &to);
            range(b, from, to, counted, &mix.support.clone().and(recent(&besides.window)));
        }
        let at = [out_batch.clone(), vec![i0.clone() + Expr::from(ROW), d0.clone() + Expr::from(COL)]].concat();
        end.store(cx, &mut s, tensor, &at, normalised(state[1], state[2]), &rows, &width);
        s.finish(cx, self.form())
    }
}

/// Whether numbers of rows and columns are exact as reals of 32 bits, and so are differences of two.
pub fn counts_exactly(cx: &Context<'_>, m: &Mix) -> bool {
    cx.most(&m.ty.rows).max(cx.most(&m.ty.cols)) < 1 << 22
}

/// Rows of an operator, with what their elements at keys from a list are made of.
pub struct Keys<'a> {
    /// The operator, local.
    pub mix: &'a Mix,
    /// Which keys may be read, over the operator's axes.
    pub keys: &'a Expr,
    /// Batch index.
    pub batch: &'a [Expr],
    /// The row at a tile's row.
    pub row: &'a Expr,
    /// Rows.
    pub rows: &'a Extent,
    /// Query tiles of the products, scaled by what the expression multiplies the only product with.
    pub queries: &'a [TileId],
    /// Features of a query at most.
    pub depth: usize,
    /// Element type of the tiles.
    pub ty: TileType,
    /// Whether numbers of rows and columns may be compared as reals, see [`counts_exactly`].
    pub exact: bool,
}

/// Where the keys of a tile are.
pub enum Places<'a> {
    /// At a linear function of the tile's row, as far as there is such a key.
    Along {
        /// The key.
        key: &'a dyn Fn(Expr) -> Expr,
        /// Whether a key exists.
        inside: &'a dyn Fn(&Expr) -> Expr,
    },
    /// Where a tile of integers `[keys, 1]` says; below 0 there is none.
    Listed {
        /// The integers.
        at: TileId,
        /// The same as reals `[1, keys]`, where these are exact: comparisons of positions with them go lane by lane.
        number: Option<TileId>,
    },
}

impl Keys<'_> {
    /// The condition over the operator's axes at the key that the column axis names, of any row.
    fn of_key(&self, e: &Expr, name: &Expr) -> Expr {
        blocks::at(self.mix, e, self.batch, &Expr::int(0), name)
    }

    /// Looks the keys of a tile up: those of which `inside` holds and that any row of the support may have, and the rest
    /// of the support.
    pub fn listed(
        &self,
        b: &mut TileBuilder,
        key: &dyn Fn(Expr) -> Expr,
        cols: &Extent,
        support: &Expr,
        inside: &dyn Fn(&Expr) -> Expr,
    ) -> (Places<'static>, Expr) {
        let column = axis_var(self.mix.rank() + 1);
        let name = Expr::from(column);
        let mut terms = Vec::new();
        blocks::conjunction(support, &mut terms);
        let (of_rows, of_keys): (Vec<Expr>, Vec<Expr>) =
            terms.into_iter().partition(|e| e.mentions(axis_var(self.mix.rank())));
        let exists = inside(&name);
        let present = of_keys
            .iter()
            .chain([self.keys])
            .fold(exists.clone(), |all, e| all.and(guard_loads(&self.of_key(e, &name), &exists)));
        let value = Expr::select(present, name, Expr::int(-1)).with_var(column, &key(Expr::from(ROW)));
        let at = b.map("at", TileType::I64, cols, &Extent::fixed(1), value);
        let number = self.exact.then(|| {
            let number = Expr::tile_at(at, Pick::Col, Pick::Zero).to_float();
            b.map("number", self.ty, &Extent::fixed(1), cols, number)
        });
        (Places::Listed { at, number }, of_rows.into_iter().fold(Expr::bool(true), Expr::and))
    }

    /// What the rows of a tile hold for its keys, read where there is such a key. `of` names the key by the operator's
    /// column axis, so that guards name it before it is looked up.
    fn read(&self, of: Expr, places: &Places) -> Expr {
        let column = axis_var(self.mix.rank() + 1);
        let name = Expr::from(column);
        let (condition, key) = match places {
            Places::Along { key, inside } => (inside(&name).and(self.of_key(self.keys, &name)), key(Expr::from(ROW))),
            Places::Listed { at, .. } => (Expr::int(0).le(name), Expr::tile_at(*at, Pick::Row, Pick::Zero)),
        };
        let guarded = match (condition.as_bool(), of.node()) {
            (Some(true), _) => of,
            (_, Node::Load(l)) if l.guard.is_none() => guard_loads(&of, &condition),
            _ => Expr::select(condition.clone(), guard_loads(&of, &condition), Expr::float(0.0)),
        };
        guarded.with_var(column, &key)
    }

    /// The scores of the keys of a tile, minus infinity where there is none or `support` lacks it.
    pub fn scores(&self, b: &mut TileBuilder, places: &Places, cols: &Extent, support: &Expr) -> TileId {
        let (mix, ty) = (self.mix, self.ty);
        let column = axis_var(mix.rank() + 1);
        let col = Expr::from(column);
        let products: Vec<Expr> = mix
            .products
            .iter()
            .zip(self.queries)
            .map(|(p, q)| {
                let r = p.k.shape.last().cloned().unwrap_or_default();
                let k = batched(&p.k, &mix.ty.batch, self.batch, &[col.clone(), Expr::from(COL)]);
                let k = b.map("k", ty, cols, &whole(&r, self.depth), self.read(k, places));
                Expr::tile(b.dot("s", ty, *q, Matrix::transposed(k), None))
            })
            .collect();
        let value = fold_scale(mix).map_or_else(|| mix.value.clone(), |(_, rest)| rest);
        let value = blocks::at(mix, &value, self.batch, self.row, &col).with_args(&products);
        let supported = blocks::at(mix, support, self.batch, self.row, &col);
        let least = Expr::float(f64::NEG_INFINITY);
        let exists = match places {
            Places::Along { inside, .. } => inside(&col),
            Places::Listed { .. } => Expr::int(0).le(col.clone()),
        };
        let value = match exists.as_bool() == Some(true) {
            true if supported.as_bool() == Some(true) => value,
            true => Expr::select(supported, value, least),
            // Biases and masks are read where there is such a key.
            false => {
                let present = exists.clone().and(guard_loads(&supported, &exists));
                Expr::select(present, guard_loads(&value, &exists), least)
            }
        };
        let value = match places {
            Places::Along { key, .. } => value.with_var(column, &key(Expr::from(COL))),
            Places::Listed { at, number } => {
                let by_number =
                    |number: &TileId| in_reals(&value, column, &Expr::tile_at(*number, Pick::Zero, Pick::Col));
                let value = number.as_ref().map_or_else(|| value.clone(), by_number);
                value.with_var(column, &Expr::tile_at(*at, Pick::Col, Pick::Zero))
            }
        };
        b.map("e", ty, self.rows, cols, value)
    }
}

/// An expression with comparisons and conversions of integers that are linear in `v` written with its value as a real,
/// where `v` enters plus or minus once. Loads are left as they are: their guards are about places.
fn in_reals(e: &Expr, v: Var, number: &Expr) -> Expr {
    e.rewrite(&mut |e| match e.node() {
        Node::Load(_) => Some(e.clone()),
        Node::Compare(op, x, y) if e.mentions(v) => match (x.clone() - y.clone()).linear_in(v)? {
            (1, rest) => Some(Expr::compare(*op, number.clone(), (Expr::int(0) - rest).to_float())),
            (-1, rest) => Some(Expr::compare(*op, rest.to_float(), number.clone())),
            _ => None,
        },
        Node::ToFloat(x) if x.mentions(v) => match x.linear_in(v)? {
            (1, rest) => Some(number.clone() + rest.to_float()),
            (-1, rest) => Some(rest.to_float() - number.clone()),
            _ => None,
        },
        _ => None,
    })
}

/// A block of queries, with what a turn over some keys needs.
struct Turn<'a> {
    keys: Keys<'a>,
    width: &'a Extent,
    /// The value of a key and a feature of the block.
    value: &'a dyn Fn(Expr, Expr) -> Expr,
}

impl Turn<'_> {
    /// Online softmax over the keys of a tile, as far as `support` has them.
    fn write(
        &self,
        b: &mut TileBuilder,
        places: &Places,
        cols: &Extent,
        support: &Expr,
        carried: &[TileId],
    ) -> Vec<TileId> {
        let scores = self.keys.scores(b, places, cols, support);
        let v = (self.value)(axis(self.keys.mix.rank() + 1), Expr::from(COL));
        let v = self.keys.read(v, places);
        online_softmax(b, self.keys.ty, scores, v, carried, [self.keys.rows, cols, self.width])
    }
}
