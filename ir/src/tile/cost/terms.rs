//! A program as a nest of loops around terms: each a factor times a product of counts.

use super::joined::Pass;
use super::passing::passing;
use crate::expr::{Binary, COL, Expr, Kind, Load, Node, Pick, ROW, SlowId, TileId, Unary, Var};
use crate::tile::{Combine, Extent, Slow, Stmt, TileOp, TileProgram, TileType};
use std::collections::{BTreeMap, BTreeSet};

/// Elements next to each other that are read in the time of one that is not next to the others of its vector: 2.5 cycles,
/// as vector kernels reckon to bring lanes together.
const ONE_BY_ONE: f64 = 40.0;

/// How many elements a column, of the taps of a filter, say, are worth registers and find them.
const KEPT: std::ops::RangeInclusive<usize> = 4..=12;

/// Lanes of the widest vectors of CPUs.
const LANES: i64 = 16;

/// A quotient as a share of what it takes to compute an element by itself; by constants, as nearly all are.
const QUOTIENT: f64 = 0.15;

/// What a term counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quantity {
    Fma,
    Special,
    Other,
    /// Elements of tensors that expressions read.
    Loads,
    /// Elements that are computed one by one.
    Scalar,
    /// Tile operations.
    Steps,
    /// Bytes of tiles.
    Tiles,
    /// Bytes of an access, by its number.
    Access(usize),
}

/// `factor * product of counts`, times the share of elements for which the guard holds.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub quantity: Quantity,
    pub factor: f64,
    pub counts: Vec<Expr>,
    /// A condition over ROW and COL with the counts these run over.
    pub guard: Option<(Expr, Expr, Expr)>,
}

/// A loop or terms.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Loop {
        /// Its number among the loops.
        number: usize,
        var: Var,
        from: Expr,
        to: Expr,
        step: i64,
        when: Option<Expr>,
        body: Vec<Part>,
    },
    Terms(Vec<Term>),
}

/// A place that reads or writes a tensor.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub tensor: SlowId,
    pub stored: bool,
    pub around: Vec<(usize, bool)>,
}

/// The whole program.
#[derive(Debug)]
pub(super) struct Nest {
    pub body: Vec<Part>,
    pub accesses: Vec<Site>,
    /// Number of block loops.
    pub loops: usize,
}

struct Builder<'a> {
    program: &'a TileProgram,
    accesses: Vec<Site>,
    loops: usize,
    /// The loops around, outermost first: number and variable.
    around: Vec<(usize, Var)>,
    /// Variables that a tile's elements depend on.
    depends: Vec<BTreeSet<Var>>,
    /// Tiles that stay in registers.
    passing: BTreeSet<TileId>,
    /// Tiles that are 0 above the diagonal.
    triangles: BTreeSet<TileId>,
    /// Whether registers keep what the expression at hand reads once a column.
    still: bool,
}

/// Whether a load's elements differ from column to column alone.
fn is_still(l: &Load) -> bool {
    let along = |v| l.index.iter().any(|i| i.mentions(v));
    l.guard.is_none() && along(COL) && !along(ROW)
}

/// The nest of a program.
pub(super) fn nest(program: &TileProgram) -> Nest {
    let around = program.grid.iter().enumerate().map(|(k, a)| (k, a.var)).collect();
    let depends = vec![BTreeSet::new(); program.tiles.len()];
    let passing = passing(program);
    let triangles = program.lower_triangular();
    let mut b = Builder { program, accesses: Vec::new(), loops: 0, around, depends, passing, triangles, still: false };
    let body = b.body(&program.body);
    Nest { body, accesses: b.accesses, loops: b.loops }
}

/// How an expression varies inside a tile.
#[derive(Clone, Copy, PartialEq, Default)]
struct Varies {
    rows: bool,
    cols: bool,
}

impl Varies {
    fn or(self, other: Varies) -> Varies {
        Varies { rows: self.rows || other.rows, cols: self.cols || other.cols }
    }

    fn counts(self, rows: &Expr, cols: &Expr) -> Vec<Expr> {
        let all = [self.rows.then(|| rows.clone()), self.cols.then(|| cols.clone())];
        all.into_iter().flatten().collect()
    }
}

/// Nodes of an expression that were counted, by their address: shared ones stand for one computation.
type Seen = BTreeMap<usize, Varies>;

/// The class of an operation on reals and of comparisons; integers are addresses and positions, and free.
fn class(e: &Expr, kind: &dyn Fn(&Node) -> Kind) -> Option<Quantity> {
    match e.node() {
        Node::Unary(op, a) => match op {
            _ if a.kind(kind) == Kind::Int => None,
            Unary::Neg | Unary::Abs | Unary::Sign | Unary::IsNan | Unary::Not => Some(Quantity::Other),
            Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::RoundEven => Some(Quantity::Other),
            _ => Some(Quantity::Special),
        },
        Node::Binary(op, a, _) => match op {
            _ if a.kind(kind) == Kind::Int => None,
            Binary::Div | Binary::Mod | Binary::Pow if a.kind(kind) == Kind::Float => Some(Quantity::Special),
            _ => Some(Quantity::Other),
        },
        Node::Compare(..) | Node::Select(..) | Node::Round(..) => Some(Quantity::Other),
        _ => None,
    }
}

/// How many of its class an operation is worth: a power takes a logarithm to more digits than its result has, and an
/// exponential; measured 1.4 ns an element where an exponential takes 0.11.
fn weight(e: &Expr) -> f64 {
    if matches!(e.node(), Node::Binary(Binary::Pow, ..)) { 12.0 } else { 1.0 }
}

/// Whether a sum takes up a product: both are one operation.
fn takes_product(e: &Expr) -> bool {
    let is_product = |e: &Expr| matches!(e.node(), Node::Binary(Binary::Mul, ..));
    matches!(e.node(), Node::Binary(Binary::Add, a, b) if is_product(a) || is_product(b))
}

impl Builder<'_> {
    fn tile(&self, t: TileId) -> (Expr, Expr, f64) {
        self.program.tiles.get(t.0 as usize).map_or((Expr::int(0), Expr::int(0), 0.0), |tile| {
            (tile.rows.count.clone(), tile.cols.count.clone(), tile.ty.bytes() as f64)
        })
    }

    fn kind(&self, n: &Node) -> Kind {
        let ty = match n {
            Node::Load(l) => self.program.tensors.get(l.tensor.0 as usize).map(|t| TileType::of(t.dtype)),
            Node::Tile(t, ..) => self.program.tiles.get(t.0 as usize).map(|t| t.ty),
            _ => None,
        };
        ty.map_or(Kind::Float, TileType::kind)
    }

    /// Variables that an expression's value depends on, through tiles as well.
    fn variables(&self, e: &Expr, into: &mut BTreeSet<Var>) {
        e.visit(&mut |n| match n.node() {
            Node::Var(v) => drop(into.insert(*v)),
            Node::Tile(t, ..) => into.extend(self.depends.get(t.0 as usize).into_iter().flatten()),
            _ => {}
        });
    }

    fn depend(&mut self, t: TileId, on: &BTreeSet<Var>) {
        if let Some(set) = self.depends.get_mut(t.0 as usize) {
            set.extend(on);
        }
    }

    fn access(&mut self, tensor: SlowId, stored: bool, index: &[Expr]) -> usize {
        let mut on = BTreeSet::new();
        index.iter().for_each(|e| self.variables(e, &mut on));
        let around = self.around.iter().map(|(n, v)| (*n, on.contains(v))).collect();
        self.accesses.push(Site { tensor, stored, around });
        self.accesses.len() - 1
    }

    fn element_bytes(&self, tensor: SlowId) -> f64 {
        self.program.tensors.get(tensor.0 as usize).map_or(0.0, |t: &Slow| t.dtype.bytes() as f64)
    }

    /// Adds the terms of one expression over `rows x cols`; a node that several others share counts once, what does not
    /// vary along an axis once for the axis.
    fn expr(&mut self, e: &Expr, rows: &Expr, cols: &Expr, seen: &mut Seen, out: &mut Vec<Term>) -> Varies {
        let address = std::ptr::from_ref(e.node()) as usize;
        if let Some(varies) = seen.get(&address) {
            return *varies;
        }
        let varies = match e.node() {
            Node::Var(v) => Varies { rows: *v == ROW, cols: *v == COL },
            Node::Tile(t, row, col) => {
                let picks = [row, col];
                let varies = Varies { rows: picks.contains(&&Pick::Row), cols: picks.contains(&&Pick::Col) };
                let (factor, counts) = (self.tile(*t).2, varies.counts(rows, cols));
                if !self.passing.contains(t) {
                    out.push(Term { quantity: Quantity::Tiles, factor, counts, guard: None });
                }
                varies
            }
            Node::Load(l) => {
                // Addresses are no arithmetic, but loads inside them move bytes.
                let mut inside = Vec::new();
                let mut varies = Varies::default();
                for i in &l.index {
                    varies = varies.or(self.expr(i, rows, cols, seen, &mut inside));
                }
                let number = self.access(l.tensor, false, &l.index);
                out.push(Term {
                    quantity: Quantity::Access(number),
                    factor: self.element_bytes(l.tensor),
                    counts: varies.counts(rows, cols),
                    guard: l.guard.as_ref().map(|g| (g.clone(), rows.clone(), cols.clone())),
                });
                // One for every element, also of what only differs from column to column unless it is kept for all rows.
                // What a row has one of is part of the instruction that reads it.
                // With some kept, vectors lie along the columns, and are read whole.
                let again = varies.cols && !(self.still && is_still(l));
                let width = if self.still { cols.clone().max(LANES) } else { cols.clone() };
                let counts = if again { vec![rows.clone(), width] } else { varies.counts(rows, cols) };
                let factor = if varies.cols && !self.lies_in_vectors(l) { ONE_BY_ONE } else { 1.0 };
                out.push(Term { quantity: Quantity::Loads, factor, counts, guard: None });
                if let Some(g) = &l.guard {
                    varies = varies.or(self.expr(g, rows, cols, seen, &mut inside));
                }
                out.extend(inside.into_iter().filter(|t| matches!(t.quantity, Quantity::Access(_) | Quantity::Tiles)));
                varies
            }
            node => {
                let parts: Vec<&Expr> = match node {
                    Node::Unary(_, a) | Node::ToFloat(a) | Node::ToInt(a) | Node::ToBool(a) | Node::Round(_, a) => {
                        vec![a]
                    }
                    Node::Binary(_, a, b) | Node::Compare(_, a, b) => vec![a, b],
                    Node::Select(c, a, b) => vec![c, a, b],
                    _ => vec![],
                };
                let mut varies = Varies::default();
                for part in parts {
                    varies = varies.or(self.expr(part, rows, cols, seen, out));
                }
                if let Some(quantity) = class(e, &|n| self.kind(n)).filter(|_| !takes_product(e)) {
                    // Columns lie in vectors: a function of the row is computed in each of the row's vectors.
                    let spread = quantity == Quantity::Special && varies.rows;
                    let counts = Varies { cols: varies.cols || spread, ..varies }.counts(rows, cols);
                    out.push(Term { quantity, factor: weight(e), counts, guard: None });
                }
                varies
            }
        };
        seen.insert(address, varies);
        varies
    }

    /// Whether the elements that a tile reads are next to each other along its columns, or along its rows.
    fn lies_in_vectors(&self, l: &Load) -> bool {
        let single = |k: &usize| self.program.tensors[l.tensor.0 as usize].shape[*k].is(1);
        let Some(k) = (0..l.index.len()).rev().find(|k| !single(k)) else { return true };
        let (last, others) = (&l.index[k], &l.index[..k]);
        let along = |v: Var| last.linear_in(v).is_some_and(|(by, _)| by == 1) && !others.iter().any(|e| e.mentions(v));
        along(COL) || along(ROW)
    }

    fn whole(&self, t: TileId, out: &mut Vec<Term>) -> (Expr, Expr) {
        let (rows, cols, factor) = self.tile(t);
        if !self.passing.contains(&t) {
            out.push(Term { quantity: Quantity::Tiles, factor, counts: vec![rows.clone(), cols.clone()], guard: None });
        }
        (rows, cols)
    }

    /// The terms of an expression that is computed for every element of `rows x cols`.
    fn elements(&mut self, e: &Expr, rows: &Expr, cols: &Expr, out: &mut Vec<Term>) {
        let mut still: Vec<Load> = Vec::new();
        e.visit(&mut |n| match n.node() {
            Node::Load(l) if is_still(l) && !still.contains(l) => still.push(l.clone()),
            _ => {}
        });
        self.still = KEPT.contains(&still.len());
        self.expr(e, rows, cols, &mut Seen::new(), out);
        let bent = self.bent(e);
        if bent > 0 {
            let factor = 1.0 + QUOTIENT * f64::from(bent);
            out.push(Term {
                quantity: Quantity::Scalar,
                factor,
                counts: vec![rows.clone(), cols.clone()],
                guard: None,
            });
        }
    }

    /// Integer operations of an expression that are no linear functions of the position within the tile: with one of them
    /// its elements are computed one by one.
    fn bent(&self, e: &Expr) -> u32 {
        let moves = |e: &Expr| e.mentions(ROW) || e.mentions(COL);
        let mut found = 0;
        e.visit(&mut |n| {
            if let Node::Binary(op, a, b) = n.node()
                && a.kind(&|n| self.kind(n)) == Kind::Int
            {
                let bends = match op {
                    Binary::Div | Binary::Mod => moves(a) || moves(b),
                    Binary::Mul => moves(a) && moves(b),
                    _ => false,
                };
                found += u32::from(bends);
            }
        });
        found
    }

    fn operation(&mut self, results: &[TileId], op: &TileOp) -> Vec<Term> {
        let mut out = Vec::new();
        for t in results {
            self.whole(*t, &mut out);
        }
        let mut on = BTreeSet::new();
        let work = |quantity, factor, counts| Term { quantity, factor, counts, guard: None };
        match op {
            TileOp::Map(e) => {
                if let Some(t) = results.first() {
                    let (rows, cols, _) = self.tile(*t);
                    self.elements(e, &rows, &cols, &mut out);
                }
                self.variables(e, &mut on);
            }
            TileOp::Dot { a, b, acc } => {
                let (a_rows, a_cols) = self.whole(a.tile, &mut out);
                let (b_rows, b_cols) = self.whole(b.tile, &mut out);
                if let Some(acc) = acc {
                    self.whole(*acc, &mut out);
                }
                // Stores go at half the rate of loads (Zen 4: 32 bytes a cycle).
                let passes = 2.0 + f64::from(u8::from(acc.is_some()));
                let (rows, inner) = if a.transposed { (a_cols, a_rows) } else { (a_rows, a_cols) };
                let cols = if b.transposed { b_rows } else { b_cols };
                // The sums leave registers and, where they go on from others, come to them.
                out.push(work(Quantity::Loads, passes, vec![rows.clone(), cols.clone()]));
                if self.triangles.contains(&a.tile) && !a.transposed {
                    // n (n + r) / 2 elements of a triangle, as r rows at a time are kept in registers.
                    const ROWS: i64 = 6;
                    out.push(work(Quantity::Fma, 1.0, vec![rows.clone(), inner.clone(), cols.clone()]));
                    out.push(work(Quantity::Fma, 1.0, vec![rows, inner.min(ROWS), cols]));
                } else {
                    out.push(work(Quantity::Fma, 2.0, vec![rows, inner, cols]));
                }
            }
            TileOp::Reduce { combine, of, .. } | TileOp::Scan { combine, of, .. } => {
                let (rows, cols) = self.whole(*of, &mut out);
                // Logarithms of sums: an exponential and a rescaling for each element.
                let (quantity, factor) = match combine {
                    Combine::LogSumExp => (Quantity::Special, 2.0),
                    _ => (Quantity::Other, 1.0),
                };
                out.push(work(quantity, factor, vec![rows, cols]));
            }
            TileOp::Recurrence { decay, input, start } => {
                self.whole(*decay, &mut out);
                let (rows, cols) = self.whole(*input, &mut out);
                if let Some(start) = start {
                    self.whole(*start, &mut out);
                }
                out.push(work(Quantity::Fma, 2.0, vec![rows, cols]));
            }
            TileOp::Solve { lower, rhs } => {
                let (n, _) = self.whole(*lower, &mut out);
                let (rows, cols) = self.whole(*rhs, &mut out);
                // n (n - 1) / 2 multiply-adds a column.
                out.push(work(Quantity::Fma, 1.0, vec![n, rows, cols]));
            }
            TileOp::TopK { of } => {
                let (rows, cols) = self.whole(*of, &mut out);
                // As many passes as are chosen, as a selection by repeated maxima takes; an element of a pass takes half of
                // what one takes that is computed by itself (2 to 2.7 ns measured for 4 to 64 chosen of 512).
                let chosen = results.first().map_or(Expr::int(0), |t| self.tile(*t).1);
                out.push(work(Quantity::Other, 1.0, vec![rows.clone(), cols.clone(), chosen.clone()]));
                out.push(work(Quantity::Scalar, 0.5, vec![rows, cols, chosen]));
            }
        }
        for t in operands(op) {
            on.extend(self.depends.get(t.0 as usize).into_iter().flatten());
        }
        for t in results {
            self.depend(*t, &on);
        }
        out
    }

    fn body(&mut self, body: &[Stmt]) -> Vec<Part> {
        let mut parts = Vec::with_capacity(body.len());
        let mut pass = Pass::default();
        for stmt in body {
            let joins = pass.joins(self.program, stmt);
            let step = Term { quantity: Quantity::Steps, factor: 1.0, counts: Vec::new(), guard: None };
            let begun = || if joins { Vec::new() } else { vec![step] };
            parts.push(match stmt {
                Stmt::Let { results, op } => Part::Terms([begun(), self.operation(results, op)].concat()),
                Stmt::For { var, from, to, step, when, carry, body } => {
                    let number = self.program.grid.len() + self.loops;
                    self.loops += 1;
                    // A carried tile differs from turn to turn.
                    for c in carry {
                        let mut on = self.depends.get(c.init.0 as usize).cloned().unwrap_or_default();
                        on.insert(*var);
                        self.depend(c.inside, &on);
                    }
                    self.around.push((number, *var));
                    let body = self.body(body);
                    self.around.pop();
                    for c in carry {
                        let mut on = self.depends.get(c.next.0 as usize).cloned().unwrap_or_default();
                        on.remove(var);
                        self.depend(c.result, &on);
                    }
                    let (from, to, when) = (from.clone(), to.clone(), when.clone());
                    Part::Loop { number, var: *var, from, to, step: *step, when, body }
                }
                Stmt::Store { tensor, index, value, rows, cols, guard } => {
                    let terms = self.store(*tensor, index, value, rows, cols, guard.as_ref());
                    Part::Terms([begun(), terms].concat())
                }
            });
        }
        parts
    }

    fn store(
        &mut self,
        tensor: SlowId,
        index: &[Expr],
        value: &Expr,
        rows: &Extent,
        cols: &Extent,
        guard: Option<&Expr>,
    ) -> Vec<Term> {
        let mut out = Vec::new();
        let (rows, cols) = (&rows.count, &cols.count);
        self.elements(value, rows, cols, &mut out);
        let number = self.access(tensor, true, index);
        out.push(Term {
            quantity: Quantity::Access(number),
            factor: self.element_bytes(tensor),
            counts: vec![rows.clone(), cols.clone()],
            guard: guard.map(|g| (g.clone(), rows.clone(), cols.clone())),
        });
        out
    }
}

/// The tiles that an operation other than a map reads.
fn operands(op: &TileOp) -> Vec<TileId> {
    match op {
        TileOp::Map(_) => Vec::new(),
        TileOp::Dot { a, b, acc } => [a.tile, b.tile].into_iter().chain(*acc).collect(),
        TileOp::Reduce { of, .. } | TileOp::Scan { of, .. } | TileOp::TopK { of, .. } => vec![*of],
        TileOp::Recurrence { decay, input, start } => [*decay, *input].into_iter().chain(*start).collect(),
        TileOp::Solve { lower, rhs } => vec![*lower, *rhs],
    }
}

/// The tiles that an operation reads.
pub(super) fn reads(op: &TileOp) -> Vec<TileId> {
    let mut all = operands(op);
    if let TileOp::Map(e) = op {
        tiles_of(e, &mut all);
    }
    all
}

/// The tiles that an expression reads.
pub(super) fn tiles_of(e: &Expr, into: &mut Vec<TileId>) {
    e.visit(&mut |n| {
        if let Node::Tile(t, ..) = n.node() {
            into.push(*t);
        }
    });
}
