//! Neighbouring operations over one iteration space, which are one pass: a loop that does both for each element.

use super::terms::{reads, tiles_of};
use crate::expr::{Expr, TileId};
use crate::tile::{Stmt, TileOp, TileProgram};

/// The pass that is being written.
#[derive(Debug, Default)]
pub(super) struct Pass {
    space: Option<(Expr, Expr)>,
    /// What it reduces to, which is known when it is over.
    reduced: Vec<TileId>,
}

impl Pass {
    /// Takes the next operation; whether it joins the pass, and does not begin another.
    pub(super) fn joins(&mut self, program: &TileProgram, stmt: &Stmt) -> bool {
        let space = space(program, stmt);
        let mut read = Vec::new();
        match stmt {
            Stmt::Let { op, .. } => read = reads(op),
            Stmt::Store { value, guard, index, .. } => {
                [value].into_iter().chain(index).chain(guard).for_each(|e| tiles_of(e, &mut read));
            }
            Stmt::For { .. } => {}
        }
        let joins = space.is_some() && self.space == space && !read.iter().any(|t| self.reduced.contains(t));
        if !joins {
            *self = Pass { space, reduced: Vec::new() };
        }
        if let Stmt::Let { results, op: TileOp::Reduce { .. } } = stmt {
            self.reduced.extend(results);
        }
        joins
    }
}

/// The rows and columns that an operation goes over once.
fn space(program: &TileProgram, stmt: &Stmt) -> Option<(Expr, Expr)> {
    let of = |t: Option<&TileId>| {
        let tile = program.tiles.get(t?.0 as usize)?;
        Some((tile.rows.count.clone(), tile.cols.count.clone()))
    };
    match stmt {
        Stmt::Let { results, op } => match op {
            TileOp::Map(_) => of(results.first()),
            TileOp::Reduce { of: t, .. } | TileOp::Scan { of: t, .. } => of(Some(t)),
            TileOp::Recurrence { input, .. } => of(Some(input)),
            TileOp::Dot { .. } | TileOp::Solve { .. } | TileOp::TopK { .. } => None,
        },
        Stmt::Store { rows, cols, .. } => Some((rows.count.clone(), cols.count.clone())),
        Stmt::For { .. } => None,
    }
}
