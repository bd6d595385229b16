//! Sampled values of dims and variables: lengths that are written differently are compared at these.

use crate::dim::{DimValues, Symbol};
use crate::expr::{COL, Expr, Node, ROW, Scalar, Var};
use crate::tile::{Extent, TileProgram};

/// Lengths around block sizes and their multiples, odd and prime ones; each symbol starts elsewhere in the list.
const LENGTHS: [i64; 16] = [64, 1, 37, 128, 5, 2, 96, 1000, 16, 7, 48, 63, 65, 512, 3, 255];

#[derive(Clone)]
struct Sample {
    dims: DimValues,
    vars: Vec<Option<i64>>,
}

/// A fixed set of points at which the program could be.
#[derive(Clone)]
pub(super) struct Samples {
    points: Vec<Sample>,
}

/// The integer `e` is, if that needs no tensor or tile and no variable without a value.
fn value(e: &Expr, at: &Sample) -> Option<i64> {
    let mut known = true;
    e.visit(&mut |n| match n.node() {
        Node::Var(v) => known &= at.vars.get(v.0 as usize).copied().flatten().is_some(),
        Node::Dim(d) => known &= d.eval(&at.dims).is_ok(),
        Node::Load(_) | Node::Tile(..) | Node::Arg(_) => known = false,
        _ => {}
    });
    if !known {
        return None;
    }
    let value = e.eval(&at.dims, &mut |n| match n {
        Node::Var(v) => Scalar::Int(at.vars[v.0 as usize].unwrap_or(0)),
        _ => Scalar::Int(0),
    });
    match value {
        Scalar::Int(n) => Some(n),
        _ => None,
    }
}

impl Samples {
    /// Dims alone.
    pub(super) fn of(program: &TileProgram) -> Samples {
        let mut symbols: Vec<Symbol> = Vec::new();
        for d in program.tensors.iter().flat_map(|t| &t.shape) {
            d.symbols(&mut symbols);
        }
        program.for_each_expr(&mut |e| {
            e.visit(&mut |n| {
                if let Node::Dim(d) = n.node() {
                    d.symbols(&mut symbols);
                }
            });
        });
        let vars = vec![None; (program.vars as usize).max(2)];
        let point = |k: usize| Sample {
            // A stride of 5 visits all 16 lengths, and other combinations for every symbol.
            dims: symbols.iter().enumerate().map(|(n, s)| (s.clone(), LENGTHS[(k + 5 * n) % LENGTHS.len()])).collect(),
            vars: vars.clone(),
        };
        Samples { points: (0..LENGTHS.len()).map(point).collect() }
    }

    /// At the first, last or a middle point of a grid axis; dims without points are dropped.
    pub(super) fn grid(&mut self, var: Var, extent: &Expr) {
        self.enter(var, &Expr::int(0), extent, 1);
    }

    /// In a turn of a loop: the first, last or a middle one; where there are none the point is dropped, where the
    /// bounds are data the first turns stand for all.
    pub(super) fn enter(&mut self, var: Var, from: &Expr, to: &Expr, step: i64) {
        let step = step.max(1);
        let mut number = 0;
        self.points.retain_mut(|p| {
            let from = value(from, p).unwrap_or(0);
            let to = value(to, p).unwrap_or_else(|| from.saturating_add(step.saturating_mul(2)));
            let turns = crate::dim::ceil_div(to.saturating_sub(from).max(0), step);
            number += 1;
            let turn = match number % 3 {
                0 => turns / 2,
                1 => turns - 1,
                _ => 0,
            };
            if let Some(slot) = p.vars.get_mut(var.0 as usize).filter(|_| var != ROW && var != COL) {
                *slot = Some(from + turn.max(0) * step);
            }
            turns > 0
        });
    }

    /// Pairs of counts where both are known and possible.
    fn counts<'a>(&'a self, a: &'a Extent, b: &'a Extent) -> impl Iterator<Item = (i64, i64)> + 'a {
        let count = |e: &Extent, p: &Sample| value(&e.count, p).filter(|n| (0..=e.cap as i64).contains(n));
        self.points.iter().filter_map(move |p| Some((count(a, p)?, count(b, p)?)))
    }

    /// Whether two lengths agree.
    pub(super) fn equal(&self, a: &Extent, b: &Extent) -> bool {
        a.count == b.count || self.counts(a, b).all(|(a, b)| a == b)
    }

    /// Whether `axis` is at least as long as `over`.
    pub(super) fn covers(&self, axis: &Extent, over: &Extent) -> bool {
        axis.count == over.count || self.counts(axis, over).all(|(a, b)| a >= b)
    }
}
