//! A tile program for some of the lengths it was written for: shorter tiles, and numbers in place of what is known.
//!
//! A back end that keeps several versions of a program by the lengths of a call makes them with this. The meaning is the
//! program's own at every length within the bounds, and undefined elsewhere.

use super::{Extent, Stmt, TileProgram};
use crate::dim::{Dim, DimBounds, Symbol};
use crate::expr::{Binary, Expr, Node, Var};
use std::collections::BTreeMap;

/// Bounds of an integer, inclusive; past [`FAR`] they are none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: i128,
    high: i128,
}

/// Stands for any number; products of two stay in 128 bits.
const FAR: i128 = 1 << 62;
const ANY: Range = Range { low: -FAR, high: FAR };

impl Range {
    fn of(low: i128, high: i128) -> Range {
        Range { low: low.max(-FAR), high: high.min(FAR) }
    }

    fn corners(self, other: Range, f: impl Fn(i128, i128) -> i128) -> Range {
        let ends = [self.low, self.high].map(|a| [f(a, other.low), f(a, other.high)]);
        let (mut low, mut high) = (FAR, -FAR);
        for end in ends.into_iter().flatten() {
            (low, high) = (low.min(end), high.max(end));
        }
        Range::of(low, high)
    }

    fn join(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// What is known of variables and dims.
struct Known<'b> {
    dims: &'b DimBounds,
    vars: Vec<Range>,
}

impl Known<'_> {
    fn range(&self, e: &Expr) -> Range {
        match e.node() {
            Node::Int(n) => Range::of(i128::from(*n), i128::from(*n)),
            Node::Var(v) => self.vars.get(v.0 as usize).copied().unwrap_or(ANY),
            Node::Dim(d) => d.bounds(self.dims).map_or(ANY, |(low, high)| Range::of(low.into(), high.into())),
            Node::Select(_, a, b) => self.range(a).join(self.range(b)),
            Node::Binary(op, a, b) => {
                let (x, y) = (self.range(a), self.range(b));
                match op {
                    Binary::Add => Range::of(x.low + y.low, x.high + y.high),
                    Binary::Sub => Range::of(x.low - y.high, x.high - y.low),
                    Binary::Mul => x.corners(y, |a, b| a * b),
                    Binary::Min => Range { low: x.low.min(y.low), high: x.high.min(y.high) },
                    Binary::Max => Range { low: x.low.max(y.low), high: x.high.max(y.high) },
                    Binary::Div if y.low == y.high && y.low > 0 => {
                        Range::of(x.low.div_euclid(y.low), x.high.div_euclid(y.low))
                    }
                    _ => ANY,
                }
            }
            _ => ANY,
        }
    }

    fn set(&mut self, v: Var, range: Range) {
        if let Some(slot) = self.vars.get_mut(v.0 as usize) {
            *slot = range;
        }
    }

    /// Numbers the points of the grid axes; the variables of those with one point at most.
    fn grid(&mut self, program: &TileProgram) -> Vec<Var> {
        let mut alone = Vec::new();
        for axis in &program.grid {
            let high = (self.range(&axis.extent).high - 1).max(0);
            self.set(axis.var, Range { low: 0, high });
            if high == 0 {
                alone.push(axis.var);
            }
        }
        alone
    }

    fn loops(&mut self, body: &[Stmt]) {
        for stmt in body {
            if let Stmt::For { var, from, to, body, .. } = stmt {
                let (from, to) = (self.range(from), self.range(to));
                self.set(*var, Range { low: from.low, high: (to.high - 1).max(from.low) });
                self.loops(body);
            }
        }
    }

    fn shorten(&self, extent: &mut Extent) {
        let range = self.range(&extent.count);
        if range.high < extent.cap as i128 {
            extent.cap = range.high.max(1) as usize;
        }
        if range.low == range.high {
            extent.count = Expr::int(range.low as i64);
        }
    }
}

fn stores(body: &mut [Stmt], known: &Known) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => stores(body, known),
            Stmt::Store { rows, cols, .. } => [rows, cols].into_iter().for_each(|e| known.shorten(e)),
            Stmt::Let { .. } => {}
        }
    }
}

impl TileProgram {
    /// This program for dims within `bounds`: those with one value are numbers, grid axes of one point are at it, and
    /// tiles hold no more than their counts come to. `None` when a dim has no value there.
    pub fn narrowed(&self, bounds: &DimBounds) -> Option<TileProgram> {
        let single = bounds.iter().filter(|(_, (low, high))| low == high);
        let fixed: BTreeMap<Symbol, Dim> = single.map(|(s, (n, _))| (s.clone(), Dim::constant(*n))).collect();
        let mut program = self.clone();
        for tensor in &mut program.tensors {
            for d in &mut tensor.shape {
                *d = d.substitute(&fixed).ok()?;
            }
        }
        let mut known = Known { dims: bounds, vars: vec![ANY; self.vars as usize] };
        let alone = known.grid(self);
        let mut lost = false;
        program.for_each_expr_mut(&mut |e| {
            *e = e.rewrite(&mut |n| match n.node() {
                Node::Dim(d) => match d.substitute(&fixed) {
                    Ok(d) => Some(Expr::from(&d)),
                    Err(_) => {
                        lost = true;
                        None
                    }
                },
                Node::Var(v) => alone.contains(v).then(|| Expr::int(0)),
                _ => None,
            });
        });
        if lost {
            return None;
        }
        known.loops(&program.body);
        for tile in &mut program.tiles {
            [&mut tile.rows, &mut tile.cols].into_iter().for_each(|e| known.shorten(e));
        }
        stores(&mut program.body, &known);
        Some(program)
    }

    /// Whether some loop may turn more than once at dims within `bounds`.
    pub fn repeats(&self, bounds: &DimBounds) -> bool {
        let mut known = Known { dims: bounds, vars: vec![ANY; self.vars as usize] };
        known.grid(self);
        known.loops(&self.body);
        let mut found = false;
        self.for_each_stmt(&mut |s| {
            if let Stmt::For { from, to, step, .. } = s {
                let (from, to) = (known.range(from), known.range(to));
                found |= to.high - from.low > i128::from(*step);
            }
        });
        found
    }
}
