//! Visiting every expression and step of a tile program.

use super::{Stmt, TileOp, TileProgram};
use crate::dim::{DimError, DimValues};
use crate::expr::{Expr, Node};

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
                f(&mut rows.count);
                f(&mut cols.count);
                if let Some(e) = guard {
                    f(e);
                }
            }
        }
    }
}

fn exprs_of(stmt: &Stmt, f: &mut dyn FnMut(&Expr)) {
    match stmt {
        Stmt::Let { op: TileOp::Map(e), .. } => f(e),
        Stmt::Let { .. } => {}
        Stmt::For { from, to, when, .. } => [from, to].into_iter().chain(when).for_each(f),
        Stmt::Store { index, value, rows, cols, guard, .. } => {
            index.iter().chain([value, &rows.count, &cols.count]).chain(guard).for_each(f);
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
    /// This program with every dimension of its expressions replaced by its value: evaluation meets numbers only. The
    /// shapes of tensors stay as they are.
    pub fn at_dims(&self, dims: &DimValues) -> Result<TileProgram, DimError> {
        let mut failed = None;
        let mut program = self.clone();
        program.for_each_expr_mut(&mut |e| {
            *e = e.rewrite(&mut |n| match n.node() {
                Node::Dim(d) => Some(Expr::int(d.eval(dims).unwrap_or_else(|error| {
                    failed.get_or_insert(error);
                    0
                }))),
                _ => None,
            });
        });
        failed.map_or(Ok(program), Err)
    }

    /// Calls `f` on every expression: grid extents, tile counts, maps, loop bounds and conditions, stores.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        for axis in &mut self.grid {
            f(&mut axis.extent);
        }
        for tile in &mut self.tiles {
            f(&mut tile.rows.count);
            f(&mut tile.cols.count);
        }
        stmts_mut(&mut self.body, f);
    }

    /// Calls `f` on every expression, as [`for_each_expr_mut`](TileProgram::for_each_expr_mut) does.
    pub fn for_each_expr(&self, f: &mut dyn FnMut(&Expr)) {
        self.grid.iter().for_each(|a| f(&a.extent));
        self.tiles.iter().flat_map(|t| [&t.rows.count, &t.cols.count]).for_each(&mut *f);
        self.for_each_stmt(&mut |s| exprs_of(s, f));
    }

    /// Calls `f` on every step, loops before their bodies.
    pub fn for_each_stmt<'a>(&'a self, f: &mut dyn FnMut(&'a Stmt)) {
        stmts(&self.body, f);
    }
}
