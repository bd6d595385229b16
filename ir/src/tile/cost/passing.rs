//! Tiles that are handed from one operation to the next and never stand in memory.

use super::terms::{reads, tiles_of};
use crate::expr::TileId;
use crate::tile::{Stmt, TileOp, TileProgram};
use std::collections::{BTreeMap, BTreeSet};

/// Results of maps that only the next operation, a map or a reduction, reads: both are one pass, and what it hands on
/// stays in registers.
pub(super) fn passing(program: &TileProgram) -> BTreeSet<TileId> {
    let (mut readers, mut found) = (BTreeMap::new(), BTreeSet::new());
    count(&program.body, &mut readers);
    pairs(&program.body, &readers, &mut found);
    found
}

/// Statements that read each tile.
fn count(body: &[Stmt], readers: &mut BTreeMap<TileId, usize>) {
    for stmt in body {
        let mut all = Vec::new();
        match stmt {
            Stmt::Let { op, .. } => all = reads(op),
            Stmt::Store { value, guard, index, .. } => {
                [value].into_iter().chain(index).chain(guard).for_each(|e| tiles_of(e, &mut all));
            }
            Stmt::For { carry, body, .. } => {
                all.extend(carry.iter().flat_map(|c| [c.init, c.next]));
                count(body, readers);
            }
        }
        all.sort();
        all.dedup();
        all.into_iter().for_each(|t| *readers.entry(t).or_default() += 1);
    }
}

fn pairs(body: &[Stmt], readers: &BTreeMap<TileId, usize>, found: &mut BTreeSet<TileId>) {
    for stmt in body {
        if let Stmt::For { body, .. } = stmt {
            pairs(body, readers, found);
        }
    }
    for pair in body.windows(2) {
        let [Stmt::Let { results, op: TileOp::Map(_) }, Stmt::Let { op, .. }] = pair else { continue };
        if matches!(op, TileOp::Map(_) | TileOp::Reduce { .. }) {
            let read = reads(op);
            found.extend(results.iter().filter(|t| read.contains(t) && readers.get(t) == Some(&1)));
        }
    }
}
