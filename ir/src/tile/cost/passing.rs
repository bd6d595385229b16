//! Tiles that are handed from one operation to the next and never stand in memory.

use super::joined::Pass;
use super::terms::{reads, tiles_of};
use crate::expr::TileId;
use crate::tile::{Stmt, TileOp, TileProgram};
use std::collections::{BTreeMap, BTreeSet};

/// Results of maps and running combinations that are read in the pass that makes them and nowhere else: they stay in
/// registers.
pub(super) fn passing(program: &TileProgram) -> BTreeSet<TileId> {
    let mut found = Passes { program, number: 0, made: BTreeMap::new(), read: BTreeMap::new() };
    found.body(&program.body);
    let Passes { made, read, .. } = found;
    let stays = |(t, pass): (TileId, usize)| {
        let alone = read.get(&t).is_some_and(|passes| passes.len() == 1 && passes.contains(&pass));
        alone.then_some(t)
    };
    made.into_iter().filter_map(stays).collect()
}

/// The passes of a program, numbered in order.
struct Passes<'a> {
    program: &'a TileProgram,
    number: usize,
    /// The pass that makes a tile.
    made: BTreeMap<TileId, usize>,
    /// The passes that read a tile.
    read: BTreeMap<TileId, BTreeSet<usize>>,
}

/// No pass: what loops hand on is kept.
const KEPT: usize = usize::MAX;

impl Passes<'_> {
    fn reads(&mut self, tiles: Vec<TileId>, pass: usize) {
        for t in tiles {
            self.read.entry(t).or_default().insert(pass);
        }
    }

    fn body(&mut self, body: &[Stmt]) {
        let mut pass = Pass::default();
        for stmt in body {
            if !pass.joins(self.program, stmt) {
                self.number += 1;
            }
            let mut all = Vec::new();
            match stmt {
                Stmt::Let { results, op } => {
                    self.reads(reads(op), self.number);
                    if matches!(op, TileOp::Map(_) | TileOp::Scan { .. }) {
                        self.made.extend(results.iter().map(|t| (*t, self.number)));
                    }
                }
                Stmt::Store { value, guard, index, .. } => {
                    [value].into_iter().chain(index).chain(guard).for_each(|e| tiles_of(e, &mut all));
                    self.reads(all, self.number);
                }
                Stmt::For { from, to, when, carry, body, .. } => {
                    [from, to].into_iter().chain(when).for_each(|e| tiles_of(e, &mut all));
                    all.extend(carry.iter().flat_map(|c| [c.init, c.next]));
                    self.reads(all, KEPT);
                    self.body(body);
                    self.number += 1;
                }
            }
        }
    }
}
