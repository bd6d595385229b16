//! Programs with the trivial taken out: loops that turn exactly once, sums that start from zero, tiles that no one
//! reads. The meaning stays.

use crate::cpu::storage::operands;
use mixc_ir::expr::{Expr, Node, TileId, Var};
use mixc_ir::tile::{Carry, Extent, Matrix, Stmt, TileOp, TileProgram};

/// What names stand for.
struct Names {
    tiles: Vec<TileId>,
    vars: Vec<(Var, Expr)>,
}

impl Names {
    fn tile(&self, t: TileId) -> TileId {
        let mut t = t;
        while self.tiles[t.0 as usize] != t {
            t = self.tiles[t.0 as usize];
        }
        t
    }

    fn expr(&self, e: &Expr) -> Expr {
        e.rewrite(&mut |e| match e.node() {
            Node::Tile(t, row, col) => Some(Expr::tile_at(self.tile(*t), *row, *col)),
            Node::Var(v) => self.vars.iter().find(|(w, _)| w == v).map(|(_, by)| by.clone()),
            _ => None,
        })
    }

    fn extent(&self, extent: &Extent) -> Extent {
        Extent { cap: extent.cap, count: self.expr(&extent.count) }
    }

    fn matrix(&self, m: Matrix) -> Matrix {
        Matrix { tile: self.tile(m.tile), ..m }
    }

    fn op(&self, op: &TileOp) -> TileOp {
        let tile = |t: &TileId| self.tile(*t);
        match op {
            TileOp::Map(e) => TileOp::Map(self.expr(e)),
            TileOp::Dot { a, b, acc } => {
                TileOp::Dot { a: self.matrix(*a), b: self.matrix(*b), acc: acc.as_ref().map(tile) }
            }
            TileOp::Reduce { combine, axis, of } => TileOp::Reduce { combine: *combine, axis: *axis, of: tile(of) },
            TileOp::Scan { combine, axis, reverse, of } => {
                TileOp::Scan { combine: *combine, axis: *axis, reverse: *reverse, of: tile(of) }
            }
            TileOp::Recurrence { decay, input, start } => {
                TileOp::Recurrence { decay: tile(decay), input: tile(input), start: start.as_ref().map(tile) }
            }
            TileOp::Solve { lower, rhs } => TileOp::Solve { lower: tile(lower), rhs: tile(rhs) },
            TileOp::TopK { of } => TileOp::TopK { of: tile(of) },
        }
    }

    fn body(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        let mut all = Vec::new();
        for stmt in body {
            match stmt {
                Stmt::Let { results, op } => all.push(Stmt::Let { results: results.clone(), op: self.op(op) }),
                Stmt::Store { tensor, index, value, rows, cols, guard } => all.push(Stmt::Store {
                    tensor: *tensor,
                    index: index.iter().map(|e| self.expr(e)).collect(),
                    value: self.expr(value),
                    rows: self.extent(rows),
                    cols: self.extent(cols),
                    guard: guard.as_ref().map(|e| self.expr(e)),
                }),
                Stmt::For { var, from, to, step, when, carry, body } => {
                    let (from, to) = (self.expr(from), self.expr(to));
                    let once = when.is_none()
                        && matches!((from.as_int(), to.as_int()), (Some(a), Some(b)) if a < b && b.saturating_sub(a) <= *step);
                    if once {
                        self.vars.push((*var, from));
                        for c in carry {
                            self.tiles[c.inside.0 as usize] = self.tile(c.init);
                        }
                        let inner = self.body(body);
                        all.extend(inner);
                        for c in carry {
                            self.tiles[c.result.0 as usize] = self.tile(c.next);
                        }
                        continue;
                    }
                    let init: Vec<TileId> = carry.iter().map(|c| self.tile(c.init)).collect();
                    let when = when.as_ref().map(|e| self.expr(e));
                    let body = self.body(body);
                    let carry = carry
                        .iter()
                        .zip(init)
                        .map(|(c, init)| Carry { init, inside: c.inside, next: self.tile(c.next), result: c.result })
                        .collect();
                    all.push(Stmt::For { var: *var, from, to, step: *step, when, carry, body });
                }
            }
        }
        all
    }
}

/// Tiles that are zero everywhere.
fn zeros(body: &[Stmt], found: &mut Vec<TileId>) {
    for stmt in body {
        match stmt {
            Stmt::Let { results, op: TileOp::Map(e) } if e.as_float().is_some_and(|x| x == 0.0) => {
                found.push(results[0]);
            }
            Stmt::For { body, .. } => zeros(body, found),
            _ => {}
        }
    }
}

fn start_from_nothing(body: &mut [Stmt], zeros: &[TileId]) {
    for stmt in body {
        match stmt {
            Stmt::Let { op: TileOp::Dot { acc, .. }, .. } if acc.is_some_and(|t| zeros.contains(&t)) => *acc = None,
            Stmt::For { body, .. } => start_from_nothing(body, zeros),
            _ => {}
        }
    }
}

fn mark(e: &Expr, read: &mut [bool]) {
    e.visit(&mut |e| {
        if let Node::Tile(t, ..) = e.node() {
            read[t.0 as usize] = true;
        }
    });
}

fn readers(body: &[Stmt], read: &mut [bool]) {
    for stmt in body {
        match stmt {
            Stmt::Let { op, .. } => operands(op).into_iter().for_each(|t| read[t.0 as usize] = true),
            Stmt::Store { index, value, rows, cols, guard, .. } => {
                for e in index.iter().chain([value, &rows.count, &cols.count]).chain(guard) {
                    mark(e, read);
                }
            }
            Stmt::For { from, to, when, carry, body, .. } => {
                for e in [from, to].into_iter().chain(when) {
                    mark(e, read);
                }
                for t in carry.iter().flat_map(|c| [c.init, c.inside, c.next, c.result]) {
                    read[t.0 as usize] = true;
                }
                readers(body, read);
            }
        }
    }
}

fn remove_unread(body: &mut Vec<Stmt>, read: &[bool]) {
    body.retain_mut(|stmt| match stmt {
        Stmt::Let { results, .. } => results.iter().any(|t| read[t.0 as usize]),
        Stmt::For { body, .. } => {
            remove_unread(body, read);
            true
        }
        Stmt::Store { .. } => true,
    });
}

/// The same program, simpler.
pub fn simplify(program: &TileProgram) -> TileProgram {
    let mut names = Names { tiles: (0..program.tiles.len() as u32).map(TileId).collect(), vars: Vec::new() };
    let mut body = names.body(&program.body);
    let mut program = program.clone();
    for tile in &mut program.tiles {
        (tile.rows, tile.cols) = (names.extent(&tile.rows), names.extent(&tile.cols));
    }
    let mut zero = Vec::new();
    zeros(&body, &mut zero);
    start_from_nothing(&mut body, &zero);
    // Removing one may leave another without readers.
    loop {
        let mut read = vec![false; program.tiles.len()];
        readers(&body, &mut read);
        let before = count(&body);
        remove_unread(&mut body, &read);
        if count(&body) == before {
            break;
        }
    }
    program.body = body;
    program
}

fn count(body: &[Stmt]) -> usize {
    body.iter()
        .map(|s| match s {
            Stmt::For { body, .. } => 1 + count(body),
            _ => 1,
        })
        .sum()
}
