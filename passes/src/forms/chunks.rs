//! A semiseparable operator cut into chunks of tokens: what a chunk does within itself, and what it exchanges with the
//! state that runs over the chunks.
//!
//! ```text
//! y_i = sum_{j <= i in the chunk} inside[i, j] x_j + read_i^T S        S' = keep S + sum_j write_j x_j^T
//! ```
//!
//! Decays are sums of logarithms over the tokens between, each summed by itself and never as the difference of two
//! longer sums: nothing cancels, no exponential is of more than the decay that it stands for, and a logarithm of minus
//! infinity (a decay of 0) is a number like any other.

use super::flash::whole;
use super::reduce::by_row;
use super::{Apply, buffers_of, capacity};
use crate::lower::{Context, Failure, Lambda, Mix, RowStep, Scribe, Semiseparable, Special, batched, guard_loads};
use mixc_ir::dim::Dim;
use mixc_ir::expr::{COL, Compare, Expr, Pick, ROW, SlowId, TileId, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileType};

/// Most states: with 64 columns such a state fills a quarter of the second cache level.
pub const STATES: usize = 1024;
/// Most tokens of a chunk when all states share a decay, with many states and with few (up to [`FEW_STATES`]). The work
/// within a chunk grows with it, what a chunk costs beside falls; measured for 128 states, 16 takes a sixteenth longer
/// than 32; for 64 states, 32 as much longer than 16.
const SHARED: [usize; 2] = [32, 16];
/// States whose rows are little beside the elements within a chunk.
const FEW_STATES: i64 = 64;
/// Most tokens of a chunk when nothing decays: what a chunk costs beside is little then. Measured for 32 states, 32 takes a
/// third longer, 64 four fifths.
const LASTING: usize = 16;
/// Most tokens of all together that are one chunk when all states share a decay: such a chunk has no state to keep, which
/// is worth more than the work within it up to about twice the length of others.
const SINGLE: usize = 64;
/// Most tokens of a chunk when every state has its own decay: each of its halvings costs two products and exponentials
/// ([`Chunks::halvings`]). Measured for 64 states, 16 takes a fifth longer than 8.
const OWN: usize = 8;
/// Fewest heads that share products for these to be stored: the work is divided by that.
const HEADS: i64 = 2;
/// Stands for a logarithm of minus infinity where logarithms are multiplied by 0: its exponential is 0 all the same.
const LEAST_LOG: f64 = -1e30;

/// A semiseparable operator in the terms of one program.
#[derive(Clone, Debug)]
pub struct Chunks {
    /// With its loads made local.
    operator: Semiseparable,
    /// Whether every state has its own decay.
    own: bool,
    /// Whether nothing decays.
    lasting: bool,
    dims: Vec<Dim>,
    batch: Vec<Expr>,
    ty: TileType,
    states: Extent,
    tokens: Dim,
    /// Where every state has its own decay: which tokens lie [between, across] the middles, see [`Chunks::halvings`].
    halves: Vec<[TileId; 2]>,
    /// Most tokens of a chunk.
    pub length: usize,
    /// What the tokens of every chunk read of each other, `[.., T, length]`, where that is in memory.
    products: Option<Lambda>,
}

/// One chunk, loaded.
#[derive(Clone, Debug)]
pub struct Chunk {
    t0: Expr,
    /// Its tokens.
    pub tokens: Extent,
    /// `[tokens, states]`.
    c: TileId,
    /// `[tokens, states]`.
    b: TileId,
    /// Logarithms of the decays, `[tokens, states]` or `[tokens, 1]`; none where nothing decays.
    logs: Option<TileId>,
}

/// The semiseparable operator that `m` is, when a scan computes it: as many columns as rows, not too many states.
pub fn scan_of<'m>(cx: &Context<'_>, m: &'m Mix) -> Option<&'m Semiseparable> {
    normalised_scan_of(cx, m).filter(|_| matches!(m.row_step, RowStep::None))
}

/// The same where rows may be left to divide by their sums.
pub fn normalised_scan_of<'m>(cx: &Context<'_>, m: &'m Mix) -> Option<&'m Semiseparable> {
    let Some(Special::Semiseparable(scan)) = &m.special else { return None };
    let fits = m.ty.rows == m.ty.cols && scan.c.shape.last().is_some_and(|n| cx.most(n) <= STATES as i64);
    fits.then_some(scan)
}

/// Buffers that the application of a semiseparable operator, or of the inverse of one, reads.
pub fn reads(apply: &Apply) -> Vec<BufferId> {
    let mut found = super::flash::reads(apply);
    let scan = match &apply.mix.special {
        Some(Special::Semiseparable(scan)) => Some(scan),
        Some(Special::Inverse(m)) => match &m.special {
            Some(Special::Semiseparable(scan)) => Some(scan),
            _ => None,
        },
        _ => None,
    };
    found.extend(scan.into_iter().flat_map(Semiseparable::lambdas).flat_map(|l| buffers_of(&l.body)));
    found
}

/// Whether nothing decays.
fn is_lasting(scan: &Semiseparable) -> bool {
    scan.a.body.as_float() == Some(0.0)
}

/// Whether every state has its own decay.
fn has_own_decays(scan: &Semiseparable) -> bool {
    let one = |l: &Lambda| l.shape.last().is_some_and(|d| d.is(1));
    !is_lasting(scan) && scan.a_has_features && !one(&scan.a) && !one(&scan.c)
}

/// Most tokens of a chunk, of so many in all.
fn length(cx: &Context<'_>, scan: &Semiseparable, tokens: &Dim) -> usize {
    let most = match cx.most(tokens) {
        _ if has_own_decays(scan) => OWN,
        all if all <= SINGLE as i64 => SINGLE,
        _ if is_lasting(scan) => LASTING,
        _ => SHARED[usize::from(scan.c.shape.last().is_some_and(|n| cx.most(n) <= FEW_STATES))],
    };
    capacity(cx, tokens, most)
}

/// `c_i^T b_j` for the tokens i and j of a chunk, `[.., T, length]`, where several heads share what is read and written:
/// made once for all of them. Nothing where each has its own, or where there is a single chunk.
pub fn shared_products(cx: &mut Context<'_>, m: &Mix, form: &'static str) -> Result<Option<Lambda>, Failure> {
    let Some(scan) = normalised_scan_of(cx, m).cloned() else { return Ok(None) };
    let (tokens, states) = (&m.ty.rows, scan.c.shape.last().cloned().unwrap_or_default());
    let length = length(cx, &scan, tokens);
    let lead: Vec<Dim> = (0..m.ty.batch.len())
        .map(|k| {
            let of = |l: &Lambda| {
                (l.shape.len() + k).checked_sub(m.ty.batch.len() + 2).and_then(|k| l.shape.get(k).cloned())
            };
            let shared = [of(&scan.c), of(&scan.b)].into_iter().flatten().all(|d| d.is(1));
            if shared { Dim::constant(1) } else { m.ty.batch[k].clone() }
        })
        .collect();
    let heads = |dims: &[Dim]| dims.iter().map(|d| cx.typical(d).max(1)).product::<i64>();
    if has_own_decays(&scan) || cx.most(tokens) <= length as i64 || heads(&m.ty.batch) < HEADS * heads(&lead) {
        return Ok(None);
    }
    let mut shape = lead.clone();
    shape.extend([tokens.clone(), Dim::constant(length as i64)]);
    let reads = [&scan.c, &scan.b].into_iter().flat_map(|l| buffers_of(&l.body)).collect::<Vec<_>>();
    let to = cx.target(m.ty.dtype, &shape, &reads);
    let mut s = Scribe::new("chunk_products");
    let out = s.output(cx, to);
    let (c, b) = (s.local_lambda(cx, &scan.c), s.local_lambda(cx, &scan.b));
    let at = s.grid_over(&lead);
    let (t0, rows) = s.grid_blocks("chunk", tokens, length);
    let (n, all, ty) = (whole(&states, capacity(cx, &states, STATES)), Extent::fixed(length), TileType::of(m.ty.dtype));
    let (token, col) = (t0 + Expr::from(ROW), Expr::from(COL));
    let element = |l: &Lambda| batched(l, &lead, &at, &[token.clone(), col.clone()]);
    let inside = token.clone().lt(Expr::from(tokens));
    // Every column is stored: of tokens past the end there is nothing.
    let written = Expr::select(inside.clone(), guard_loads(&element(&b), &inside), Expr::float(0.0));
    let read = s.b.map("c", ty, &rows, &n, element(&c));
    let written = s.b.map("b", ty, &all, &n, written);
    let product = s.b.dot("product", ty, read, Matrix::transposed(written), None);
    let index = [at, vec![token, col]].concat();
    s.b.store(out, index, Expr::tile(product), &rows, &all);
    s.finish(cx, form)?;
    Ok(Some(cx.stored(to)))
}

impl Chunks {
    /// The operator `m` at a batch index of its own, in the program that `s` writes; `None` when no scan computes it.
    pub fn new(cx: &Context<'_>, s: &mut Scribe, m: &Mix, batch: Vec<Expr>) -> Option<Chunks> {
        let scan = normalised_scan_of(cx, m)?;
        let states = scan.c.shape.last().cloned().unwrap_or_default();
        let (lasting, own) = (is_lasting(scan), has_own_decays(scan));
        let operator = scan.map(|l| s.local_lambda(cx, l));
        let length = s.b.knob("chunk", length(cx, scan, &m.ty.rows));
        Some(Chunks {
            operator,
            own,
            lasting,
            dims: m.ty.batch.clone(),
            batch,
            ty: TileType::of(m.ty.dtype),
            states: whole(&states, capacity(cx, &states, STATES)),
            tokens: m.ty.rows.clone(),
            halves: Vec::new(),
            length,
            products: None,
        })
    }

    /// Where the products of what tokens read and write are known, as [`shared_products`] makes them.
    pub fn with_products(self, products: Option<Lambda>) -> Chunks {
        Chunks { products, ..self }
    }

    /// Whether all tokens there can be are one chunk.
    pub fn is_single(&self, cx: &Context<'_>) -> bool {
        cx.most(&self.tokens) <= self.length as i64
    }

    /// Writes down what the insides of all chunks need, before the loop over them.
    pub fn prepare(&mut self, t: &mut TileBuilder) {
        self.halves = self.halves(t);
    }

    /// Begins a scan at a state of zeros, for some columns of x.
    pub fn start(&self, t: &mut TileBuilder, cols: &Extent) -> TileId {
        self.start_from(t, cols, |_| Expr::float(0.0))
    }

    /// Begins the sums over the columns of a state, where rows are divided by their sums: `[1, states]`.
    pub fn start_sums(&self, t: &mut TileBuilder) -> TileId {
        t.map("sums", self.ty, &Extent::fixed(1), &self.states, Expr::float(0.0))
    }

    /// Begins a scan at a state whose elements `at` gives for a state's number, for some columns of x.
    pub fn start_from(&self, t: &mut TileBuilder, cols: &Extent, at: impl Fn(Expr) -> Expr) -> TileId {
        t.map("state", self.ty, &self.states, cols, at(Expr::from(ROW)))
    }

    /// Stores a state.
    pub fn store(&self, t: &mut TileBuilder, out: SlowId, index: Vec<Expr>, state: TileId, cols: &Extent) {
        t.store(out, index, Expr::tile(state), &self.states, cols);
    }

    /// Logarithms of the decays of the tokens `from..to` together.
    pub fn logs(&self, t: &mut TileBuilder, from: &Expr, to: &Expr) -> TileId {
        let (one, decays) = (Extent::fixed(1), self.decays());
        let none = t.map("logs", self.ty, &one, &decays, Expr::float(0.0));
        if self.lasting {
            return none;
        }
        let step = |t: &mut TileBuilder, t0: &Expr, carried: &[TileId]| {
            let logs = self.log(t0.clone() + Expr::from(ROW));
            let logs = t.map("logs", self.ty, &self.tokens(t0), &decays, logs);
            let sum = t.reduce("sum", Combine::Sum, Axis::Rows, logs);
            vec![t.map("logs", self.ty, &one, &decays, Expr::tile(carried[0]) + Expr::tile(sum))]
        };
        t.for_blocks(from.clone(), to.clone(), self.length, |_| None, &[none], step)[0]
    }

    /// `state` after decays of the logarithms `logs` `[1, decays]`, with `added` to each of its elements.
    pub fn faded(
        &self,
        t: &mut TileBuilder,
        state: TileId,
        logs: TileId,
        cols: &Extent,
        added: impl FnOnce(Expr) -> Expr,
    ) -> TileId {
        let keep = t.map("keep", self.ty, &Extent::fixed(1), &self.decays(), Expr::tile(logs).apply(Unary::Exp));
        let keep = Expr::tile_at(keep, Pick::Zero, if self.own { Pick::Row } else { Pick::Zero });
        t.map("kept", self.ty, &self.states, cols, added(Expr::tile(state) * keep))
    }

    /// Where the rows of the chunk that starts at `t0` stand in x and y.
    pub fn places(&self, t0: &Expr) -> Expr {
        self.operator.place(&self.tokens, &(t0.clone() + Expr::from(ROW)))
    }

    /// The tokens of the chunk that starts at `t0`.
    fn tokens(&self, t0: &Expr) -> Extent {
        Extent::block(self.length, t0.clone(), Expr::from(&self.tokens))
    }

    fn at(&self, l: &Lambda, tail: &[Expr]) -> Expr {
        batched(l, &self.dims, &self.batch, tail)
    }

    /// The logarithm of the decay at a token, for the state in the column.
    fn log(&self, token: Expr) -> Expr {
        let state = if self.own { Expr::from(COL) } else { Expr::int(0) };
        let log =
            self.at(&self.operator.a, &if self.operator.a_has_features { vec![token, state] } else { vec![token] });
        // Products with the zeros of a matrix of ones must be 0.
        if self.own { log.max(Expr::float(LEAST_LOG)) } else { log }
    }

    /// Loads the chunk that starts at `t0`.
    pub fn load(&self, t: &mut TileBuilder, t0: &Expr) -> Chunk {
        let (m, n, ty) = (self.tokens(t0), &self.states, self.ty);
        let token = t0.clone() + Expr::from(ROW);
        let c = t.map("c", ty, &m, n, self.at(&self.operator.c, &[token.clone(), Expr::from(COL)]));
        let b = t.map("b", ty, &m, n, self.at(&self.operator.b, &[token.clone(), Expr::from(COL)]));
        let logs = (!self.lasting).then(|| t.map("logs", ty, &m, &self.decays(), self.log(token)));
        Chunk { t0: t0.clone(), tokens: m, c, b, logs }
    }

    /// How many decays a token has.
    fn decays(&self) -> Extent {
        if self.own { self.states.clone() } else { Extent::fixed(1) }
    }

    /// `tile` with the decays of the logarithms `log`, `[tokens, decays]`. Shared exponentials are taken once a token.
    fn decayed(&self, t: &mut TileBuilder, chunk: &Chunk, name: &str, tile: TileId, log: TileId) -> TileId {
        let (m, n, ty) = (&chunk.tokens, &self.states, self.ty);
        if self.own {
            return t.map(name, ty, m, n, Expr::tile(tile) * Expr::tile(log).apply(Unary::Exp));
        }
        let factor = t.map("decay", ty, m, &self.decays(), Expr::tile(log).apply(Unary::Exp));
        t.map(name, ty, m, n, Expr::tile(tile) * by_row(factor))
    }

    /// `[tokens, states]`: c with the decays from before the chunk to each token.
    pub fn read(&self, t: &mut TileBuilder, chunk: &Chunk) -> TileId {
        let Some(logs) = chunk.logs else { return chunk.c };
        let from = t.scan("from", Combine::Sum, Axis::Rows, false, logs);
        self.decayed(t, chunk, "read", chunk.c, from)
    }

    /// `[tokens, cols]`: what the tokens read of the state before the chunk, where nothing else needs [`Chunks::read`].
    pub fn across(&self, t: &mut TileBuilder, chunk: &Chunk, state: TileId, cols: &Extent) -> TileId {
        let Some(logs) = chunk.logs.filter(|_| self.decays_columns(cols)) else {
            let read = self.read(t, chunk);
            return t.dot("across", self.ty, read, state, None);
        };
        let from = t.scan("from", Combine::Sum, Axis::Rows, false, logs);
        let factor = t.map("decay", self.ty, &chunk.tokens, &self.decays(), Expr::tile(from).apply(Unary::Exp));
        let across = t.dot("across", self.ty, chunk.c, state, None);
        t.map("across", self.ty, &chunk.tokens, cols, Expr::tile(across) * by_row(factor))
    }

    /// Whether decays, shared by the states, are put on the columns: these are no more than the states then, and what is
    /// read and written can stay where it lies.
    fn decays_columns(&self, cols: &Extent) -> bool {
        !self.own && !self.lasting && cols.cap <= self.states.cap
    }

    /// `[tokens, states]`: b with the decays from after each token to after the chunk.
    fn write(&self, t: &mut TileBuilder, chunk: &Chunk) -> TileId {
        if self.lasting {
            return chunk.b;
        }
        let to = self.after(t, chunk);
        self.decayed(t, chunk, "write", chunk.b, to)
    }

    /// Logarithms of the decays from after each token to after the chunk.
    fn after(&self, t: &mut TileBuilder, chunk: &Chunk) -> TileId {
        let later = chunk.t0.clone() + Expr::from(ROW) + Expr::int(1);
        let follows = later.clone().lt(chunk.t0.clone() + chunk.tokens.count.clone());
        let next = Expr::select(follows.clone(), guard_loads(&self.log(later), &follows), Expr::float(0.0));
        let next = t.map("next", self.ty, &chunk.tokens, &self.decays(), next);
        t.scan("to", Combine::Sum, Axis::Rows, true, next)
    }

    /// `[tokens, tokens]`: the operator's elements within the chunk, 0 above the diagonal.
    pub fn inside(&self, t: &mut TileBuilder, chunk: &Chunk) -> TileId {
        let product = match &self.products {
            Some(known) => {
                let (token, m) = (chunk.t0.clone() + Expr::from(ROW), &chunk.tokens);
                t.map("product", self.ty, m, m, self.at(known, &[token, Expr::from(COL)]))
            }
            None => t.dot("product", self.ty, chunk.c, Matrix::transposed(chunk.b), None),
        };
        let diagonal = self.diagonal(&chunk.t0, product);
        match chunk.logs {
            Some(logs) if self.own => self.halvings(t, chunk, logs, diagonal),
            logs => self.segments(t, chunk, logs, product, diagonal),
        }
    }

    /// The elements within a chunk for a decay that all states share: a product, and the sum of the logarithms between
    /// every two tokens by a running sum down the columns.
    fn segments(
        &self,
        t: &mut TileBuilder,
        chunk: &Chunk,
        logs: Option<TileId>,
        product: TileId,
        diagonal: Expr,
    ) -> TileId {
        let m = &chunk.tokens;
        let (row, col) = (Expr::from(ROW), Expr::from(COL));
        let below = col.clone().lt(row.clone());
        let element = match logs {
            Some(logs) => {
                let addend = Expr::select(below.clone(), by_row(logs), Expr::float(0.0));
                let addend = t.map("addend", self.ty, m, m, addend);
                let between = t.scan("between", Combine::Sum, Axis::Rows, false, addend);
                Expr::tile(product) * Expr::tile(between).apply(Unary::Exp)
            }
            None => Expr::tile(product),
        };
        let inside = match (logs, self.operator.is_plain()) {
            (None, true) => Expr::select(col.le(row), element, Expr::float(0.0)),
            _ => {
                let element = Expr::select(below, element, Expr::float(0.0));
                Expr::select(col.equals(row), diagonal, element)
            }
        };
        t.map("inside", self.ty, m, m, inside)
    }

    /// The element on the diagonal, whose formula is that of the product.
    fn diagonal(&self, t0: &Expr, product: TileId) -> Expr {
        let own = if self.operator.own_diagonal { Expr::tile(product) } else { Expr::float(0.0) };
        match &self.operator.added {
            Some(d) => own + self.at(d, &[t0.clone() + Expr::from(ROW)]),
            None => own,
        }
    }

    /// The halves of a chunk, of their halves and so on, as matrices of zeros and ones.
    fn halves(&self, t: &mut TileBuilder) -> Vec<[TileId; 2]> {
        let (row, col, all) = (Expr::from(ROW), Expr::from(COL), Extent::fixed(self.length));
        let mut found = Vec::new();
        let mut half = if self.own { self.length.next_power_of_two() as i64 / 2 } else { 0 };
        while half > 0 {
            let middle = row.clone().floor_div(2 * half) * Expr::int(2 * half) + Expr::int(half);
            let second = row.clone().ge(middle.clone());
            let since = middle.clone().le(col.clone()).and(col.clone().le(row.clone()));
            let until = row.clone().lt(col.clone()).and(col.clone().lt(middle.clone()));
            let first = (middle.clone() - Expr::int(half)).le(col.clone()).and(col.clone().lt(middle));
            let between = Expr::select(second.clone(), since, until);
            let matrices = [("between", between), ("across", second.and(first))];
            found.push(matrices.map(|(name, one)| {
                t.map(name, self.ty, &all, &all, Expr::select(one, Expr::float(1.0), Expr::float(0.0)))
            }));
            half /= 2;
        }
        found
    }

    /// The elements within a chunk for a decay for every state, by halves: where i is in the second half of a block of
    /// tokens and j in its first, the decay between is that from j to the middle times that from the middle to i, and
    /// the elements are one product. The halves are blocks in turn, down to single tokens.
    fn halvings(&self, t: &mut TileBuilder, chunk: &Chunk, logs: TileId, diagonal: Expr) -> TileId {
        let (ty, m, n) = (self.ty, &chunk.tokens, &self.states);
        let on = Expr::from(ROW).equals(Expr::from(COL));
        let mut inside = t.map("inside", ty, m, m, Expr::select(on, diagonal, Expr::float(0.0)));
        for [between, across] in &self.halves {
            let between = t.map("between", ty, m, m, Expr::tile(*between));
            let log = t.dot("log", ty, between, logs, None);
            let [c, b] = [("c", chunk.c), ("b", chunk.b)]
                .map(|(name, tile)| t.map(name, ty, m, n, Expr::tile(tile) * Expr::tile(log).apply(Unary::Exp)));
            let product = t.dot("product", ty, c, Matrix::transposed(b), None);
            let here = Expr::compare(Compare::Gt, Expr::tile(*across), Expr::float(0.0));
            inside = t.map("inside", ty, m, m, Expr::select(here, Expr::tile(product), Expr::tile(inside)));
        }
        inside
    }

    /// What is carried after a chunk: the state, with `x` `[tokens, cols]` written into it, and the sums, if there are any.
    pub fn next(
        &self,
        t: &mut TileBuilder,
        chunk: &Chunk,
        carried: &[TileId],
        x: TileId,
        cols: &Extent,
    ) -> Vec<TileId> {
        let Some(state) = carried.first() else { return Vec::new() };
        // The sums need what is written with its decays.
        let on_columns = carried.len() == 1 && self.decays_columns(cols);
        let (write, x) = if on_columns {
            let to = self.after(t, chunk);
            let factor = t.map("decay", self.ty, &chunk.tokens, &self.decays(), Expr::tile(to).apply(Unary::Exp));
            (chunk.b, t.map("x", self.ty, &chunk.tokens, cols, Expr::tile(x) * by_row(factor)))
        } else {
            (self.write(t, chunk), x)
        };
        let whole = chunk.logs.map(|logs| t.reduce("whole", Combine::Sum, Axis::Rows, logs));
        let kept = whole.map_or(*state, |whole| self.faded(t, *state, whole, cols, |kept| kept));
        let mut next = vec![t.dot("state", self.ty, Matrix::transposed(write), x, Some(kept))];
        if let Some(sums) = carried.get(1) {
            let keep = match whole {
                Some(logs) => {
                    let log = Expr::tile_at(logs, Pick::Zero, if self.own { Pick::Col } else { Pick::Zero });
                    Expr::tile(*sums) * log.apply(Unary::Exp)
                }
                None => Expr::tile(*sums),
            };
            let here = t.reduce("here", Combine::Sum, Axis::Rows, write);
            next.push(t.map("sums", self.ty, &Extent::fixed(1), &self.states, keep + Expr::tile(here)));
        }
        next
    }
}
