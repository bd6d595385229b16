//! The tiles that a grid point holds at once.

use super::passing::passing;
use super::terms::{reads, tiles_of};
use crate::dim::DimValues;
use crate::expr::{Expr, Scalar, TileId};
use crate::tile::{Stmt, TileProgram};
use std::collections::BTreeMap;

/// Where a tile begins and ends, in numbered steps.
type Lives = BTreeMap<TileId, (usize, usize)>;

struct Walker<'a> {
    program: &'a TileProgram,
    step: usize,
    lives: Lives,
}

/// Most bytes of tiles, as large as the first grid point has them, that are live at one step. What a loop hands on takes one place for the whole
/// loop: the value inside, the next one and the result share it.
pub(super) fn footprint(program: &TileProgram) -> u64 {
    let mut w = Walker { program, step: 0, lives: Lives::new() };
    w.body(&program.body);
    let registers = passing(program);
    // Dims are numbers by now, and variables begin at 0.
    let length = |count: &Expr, cap: usize| {
        let n = count.eval(&DimValues::new(), &mut |_| Scalar::Int(0)).as_int();
        (cap as u64).min(n.max(0) as u64)
    };
    let bytes = |t: &TileId| match w.program.tiles.get(t.0 as usize) {
        Some(tile) if !registers.contains(t) => length(&tile.rows.count, tile.rows.cap)
            .saturating_mul(length(&tile.cols.count, tile.cols.cap))
            .saturating_mul(tile.ty.bytes() as u64),
        _ => 0,
    };
    let mut changes: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (t, (first, last)) in &w.lives {
        changes.entry(*first).or_default().0 += bytes(t);
        changes.entry(last + 1).or_default().1 += bytes(t);
    }
    let (mut now, mut most) = (0u64, 0);
    for (born, dead) in changes.values() {
        now = now.saturating_sub(*dead).saturating_add(*born);
        most = most.max(now);
    }
    most
}

impl Walker<'_> {
    fn born(&mut self, t: TileId) {
        self.lives.insert(t, (self.step, self.step));
    }

    fn used(&mut self, t: TileId) {
        if let Some((_, last)) = self.lives.get_mut(&t) {
            *last = self.step;
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            self.step += 1;
            match stmt {
                Stmt::Let { results, op } => {
                    reads(op).into_iter().for_each(|t| self.used(t));
                    results.iter().for_each(|t| self.born(*t));
                }
                Stmt::Store { value, guard, index, .. } => {
                    let mut all = Vec::new();
                    [value].into_iter().chain(index).chain(guard).for_each(|e| tiles_of(e, &mut all));
                    all.into_iter().for_each(|t| self.used(t));
                }
                Stmt::For { carry, body, .. } => {
                    for c in carry {
                        self.used(c.init);
                    }
                    self.step += 1;
                    let start = self.step;
                    for c in carry {
                        self.born(c.inside);
                    }
                    self.body(body);
                    self.step += 1;
                    let end = self.step;
                    // What began outside and is read inside stays to the end.
                    for (first, last) in self.lives.values_mut() {
                        if *first < start && *last >= start {
                            *last = end;
                        }
                    }
                    for c in carry {
                        if self.lives.get(&c.next).is_some_and(|(first, _)| *first > start) {
                            self.lives.remove(&c.next);
                        }
                        self.lives.insert(c.inside, (start, end - 1));
                        self.born(c.result);
                    }
                }
            }
        }
    }
}
