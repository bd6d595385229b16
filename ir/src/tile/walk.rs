//! Visiting every expression and step of a tile program.

use super::{Extent, Stmt, TileOp, TileProgram};
use crate::expr::Expr;

fn extent_mut(e: &mut Extent, f: &mut dyn FnMut(&mut Expr)) {
    f(&mut e.count);
}

fn stmts_mut(body: &mut [Stmt], f: &mut dyn FnMut(&mut Expr)) {
    for stmt in body {
        match stmt {
            Stmt::Let { op: TileOp::Map(e), .. } => f(e),
            Stmt::Let { .. } => {}
            Stmt::For { from, to, when, body, .. } => {
                f(from);
                f(to);
                if let Some(e) = when {
                    f(e);
                }
                stmts_mut(body, f);
            }
            Stmt::Store { index, value, rows, cols, guard, .. } => {
                index.iter_mut().for_each(&mut *f);
                f(value);
                extent_mut(rows, f);
                extent_mut(cols, f);
                if let Some(e) = guard {
                    f(e);
                }
            }
        }
    }
}

fn stmts<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for stmt in body {
        f(stmt);
        if let Stmt::For { body, .. } = stmt {
            stmts(body, f);
        }
    }
}

impl TileProgram {
    /// Calls `f` on every expression: grid extents, tile counts, maps, loop bounds and conditions, stores.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        for axis in &mut self.grid {
            f(&mut axis.extent);
        }
        for tile in &mut self.tiles {
            extent_mut(&mut tile.rows, f);
            extent_mut(&mut tile.cols, f);
        }
        stmts_mut(&mut self.body, f);
    }

    /// Calls `f` on every step, loops before their bodies.
    pub fn for_each_stmt<'a>(&'a self, f: &mut dyn FnMut(&'a Stmt)) {
        stmts(&self.body, f);
    }
}
