//! Adding up the terms of a nest over grid points and turns.

use super::Flops;
use super::terms::{Nest, Part, Quantity, Term};
use crate::dim::DimValues;
use crate::expr::{COL, Expr, Node, ROW, Scalar, Var};
use crate::tile::TileProgram;

/// Grid points and turns that are looked at, all loops together: some milliseconds.
const BUDGET: f64 = 4096.0;
/// Turns of a loop that are all asked whether they run.
const ASKED: i64 = 1 << 16;
/// Elements of a tile at which a guard is looked at, an axis.
const GUARD_SAMPLES: i64 = 8;
/// Stands for what is data in a loop's end; far above any length, far below overflow.
const UNKNOWN: i64 = 1 << 40;

/// Turns of one loop.
#[derive(Clone, Debug)]
pub(super) struct LoopTotal {
    pub var: Var,
    entered: f64,
    turned: f64,
}

impl LoopTotal {
    /// Turns each time the loop is entered, on average.
    pub fn trips(&self) -> f64 {
        if self.entered == 0.0 { 0.0 } else { self.turned / self.entered }
    }
}

/// Everything that was counted.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    pub flops: Flops,
    pub steps: f64,
    pub loads: f64,
    pub scalar: f64,
    pub tile_bytes: f64,
    /// Bytes of each access.
    pub bytes: Vec<f64>,
    pub turns: Vec<LoopTotal>,
}

struct Walker<'a> {
    program: &'a TileProgram,
    nest: &'a Nest,
    vars: Vec<i64>,
    /// Values looked at for each loop whose turns differ.
    samples: i64,
    dims: DimValues,
    totals: Totals,
}

/// Walks the nest of `program`, whose dims are numbers.
pub(super) fn walk(program: &TileProgram, nest: &Nest) -> Totals {
    let differing = program.grid.iter().filter(|a| matters(a.var, &nest.body)).count() + depth(&nest.body);
    let samples = if differing == 0 { 1.0 } else { BUDGET.powf(1.0 / differing as f64).floor() };
    let total = |var| LoopTotal { var, entered: 0.0, turned: 0.0 };
    let mut turns: Vec<LoopTotal> = program.grid.iter().map(|a| total(a.var)).collect();
    turns.resize(program.grid.len() + nest.loops, total(ROW));
    let totals = Totals {
        flops: Flops::default(),
        steps: 0.0,
        loads: 0.0,
        scalar: 0.0,
        tile_bytes: 0.0,
        bytes: vec![0.0; nest.accesses.len()],
        turns,
    };
    let vars = vec![0; program.vars as usize];
    let mut walker = Walker { program, nest, vars, samples: samples as i64, dims: DimValues::new(), totals };
    walker.grid(0, 1.0);
    walker.totals
}

/// Most loops inside each other whose turns differ.
fn depth(parts: &[Part]) -> usize {
    let one = |p: &Part| match p {
        Part::Terms(_) => 0,
        Part::Loop { var, when, body, .. } => {
            depth(body) + usize::from(matters(*var, body) || when.as_ref().is_some_and(|e| e.mentions(*var)))
        }
    };
    parts.iter().map(one).max().unwrap_or(0)
}

/// Whether what runs inside depends on the variable.
fn matters(v: Var, parts: &[Part]) -> bool {
    parts.iter().any(|p| match p {
        Part::Terms(terms) => terms
            .iter()
            .any(|t| t.counts.iter().any(|e| e.mentions(v)) || t.guard.as_ref().is_some_and(|(g, ..)| g.mentions(v))),
        Part::Loop { from, to, when, body, .. } => {
            [from, to].into_iter().chain(when).any(|e| e.mentions(v)) || matters(v, body)
        }
    })
}

/// Whether a condition depends on data; it then counts as one that holds.
fn is_data(e: &Expr) -> bool {
    let mut data = false;
    e.visit(&mut |n| data |= matches!(n.node(), Node::Load(_) | Node::Tile(..)));
    data
}

/// Numbers of `0..n` to look at and how many each stands for: all while they are few, else the last by itself and the
/// middles of even spans of the others.
fn spread(n: i64, samples: i64) -> Vec<(i64, f64)> {
    if n <= samples.max(2) {
        return (0..n).map(|k| (k, 1.0)).collect();
    }
    let (rest, spans) = (n - 1, (samples - 1).max(1));
    let edge = |k: i64| (i128::from(rest) * i128::from(k) / i128::from(spans)) as i64;
    let span = |k: i64| {
        let (from, to) = (edge(k), edge(k + 1));
        (from + (to - from - 1).max(0) / 2, (to - from) as f64)
    };
    (0..spans).map(span).chain([(rest, 1.0)]).collect()
}

/// The first of `0..n` standing for all of them.
fn one_for_all(n: i64) -> Vec<(i64, f64)> {
    if n > 0 { vec![(0, n as f64)] } else { Vec::new() }
}

impl Walker<'_> {
    /// The value of `e`, with `data` in place of tensor and tile elements.
    fn eval(&self, e: &Expr, data: i64, at: (i64, i64)) -> Scalar {
        e.eval(&self.dims, &mut |n| match n {
            Node::Var(ROW) => Scalar::Int(at.0),
            Node::Var(COL) => Scalar::Int(at.1),
            Node::Var(v) => Scalar::Int(self.vars.get(v.0 as usize).copied().unwrap_or(0)),
            _ => Scalar::Int(data),
        })
    }

    fn count(&self, e: &Expr) -> i64 {
        self.eval(e, 0, (0, 0)).as_int().max(0)
    }

    fn set(&mut self, v: Var, n: i64) {
        if let Some(slot) = self.vars.get_mut(v.0 as usize) {
            *slot = n;
        }
    }

    fn grid(&mut self, axis: usize, weight: f64) {
        let program = self.program;
        let nest = self.nest;
        let Some(a) = program.grid.get(axis) else {
            self.parts(&nest.body, weight);
            return;
        };
        let n = self.count(&a.extent);
        self.totals.turns[axis].entered += weight;
        self.totals.turns[axis].turned += weight * n as f64;
        let points = if matters(a.var, &nest.body) { spread(n, self.samples) } else { one_for_all(n) };
        for (point, share) in points {
            self.set(a.var, point);
            self.grid(axis + 1, weight * share);
        }
    }

    fn parts(&mut self, parts: &[Part], weight: f64) {
        for part in parts {
            match part {
                Part::Terms(terms) => terms.iter().for_each(|t| self.term(t, weight)),
                Part::Loop { number, var, from, to, step, when, body } => {
                    let from = self.eval(from, 0, (0, 0)).as_int();
                    let to = self.eval(to, UNKNOWN, (0, 0)).as_int();
                    let step = (*step).max(1);
                    let mut turns = crate::dim::ceil_div(to.saturating_sub(from).max(0), step);
                    // An end that is data and has no bound: one turn stands for any number.
                    if to >= UNKNOWN / 2 {
                        turns = 1;
                    }
                    let total = &mut self.totals.turns[*number];
                    total.var = *var;
                    total.entered += weight;
                    // Conditions are cheap and may hold in a narrow band: every turn is asked.
                    let own = when.as_ref().filter(|e| e.mentions(*var) && turns <= ASKED);
                    let mut run: Option<Vec<i64>> = None;
                    if let Some(e) = own {
                        let value = |k: i64| from.saturating_add(k.saturating_mul(step));
                        let data = is_data(e);
                        let asked = (0..turns).filter(|k| {
                            self.set(*var, value(*k));
                            data || self.eval(e, 0, (0, 0)).as_bool()
                        });
                        run = Some(asked.collect());
                    }
                    let number_run = run.as_ref().map_or(turns, |r| r.len() as i64);
                    let alike =
                        !matters(*var, body) && (own.is_some() || when.as_ref().is_none_or(|e| !e.mentions(*var)));
                    let looked_at = if alike { one_for_all(number_run) } else { spread(number_run, self.samples) };
                    for (turn, share) in looked_at {
                        let turn = run.as_ref().map_or(Some(turn), |r| r.get(turn as usize).copied()).unwrap_or(0);
                        self.set(*var, from.saturating_add(turn.saturating_mul(step)));
                        let held = |e: &Expr| is_data(e) || self.eval(e, 0, (0, 0)).as_bool();
                        if own.is_none() && when.as_ref().is_some_and(|e| !held(e)) {
                            continue;
                        }
                        self.totals.turns[*number].turned += weight * share;
                        self.parts(body, weight * share);
                    }
                }
            }
        }
    }

    /// The share of elements for which a guard holds, at evenly spaced ones.
    fn share(&self, guard: &Expr, rows: i64, cols: i64) -> f64 {
        if is_data(guard) {
            return if rows > 0 && cols > 0 { 1.0 } else { 0.0 };
        }
        let (rows, cols) = (spread(rows, GUARD_SAMPLES), spread(cols, GUARD_SAMPLES));
        let (mut held, mut all) = (0.0, 0.0);
        for &(r, of_row) in &rows {
            for &(c, of_col) in &cols {
                all += of_row * of_col;
                if self.eval(guard, 0, (r, c)).as_bool() {
                    held += of_row * of_col;
                }
            }
        }
        if all == 0.0 { 0.0 } else { held / all }
    }

    fn term(&mut self, t: &Term, weight: f64) {
        let mut amount = t.factor * weight;
        for e in &t.counts {
            amount *= self.count(e) as f64;
        }
        if let Some((guard, rows, cols)) = &t.guard
            && amount > 0.0
        {
            amount *= self.share(guard, self.count(rows), self.count(cols));
        }
        match t.quantity {
            Quantity::Fma => self.totals.flops.fma += amount,
            Quantity::Special => self.totals.flops.special += amount,
            Quantity::Other => self.totals.flops.other += amount,
            Quantity::Loads => self.totals.loads += amount,
            Quantity::Scalar => self.totals.scalar += amount,
            Quantity::Steps => self.totals.steps += amount,
            Quantity::Tiles => self.totals.tile_bytes += amount,
            Quantity::Access(k) => self.totals.bytes[k] += amount,
        }
    }
}
