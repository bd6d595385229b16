//! Products that are made where they are stored: a tile that a dot makes, and that one store alone reads as it is, needs
//! no fast memory of its own when its vectors lie side by side in the tensor.

use super::affine::Frame;
use super::lanes::{Forms, TileForm};
use crate::cpu::storage::operands;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, Pick, TileId};
use mixc_ir::tile::{Axis, Extent, Role, Stmt, TileOp, TileProgram, TileType};

/// Gives the tiles that are made where they are stored that form. In a program that reads its outputs back there are
/// none: what is read would have to be watched.
pub fn store_in_place(program: &TileProgram, forms: &mut Forms) {
    let mut reads_outputs = false;
    program.for_each_expr(&mut |e| {
        e.visit(&mut |e| {
            if let Node::Load(load) = e.node() {
                reads_outputs |= program.slow(load.tensor).role == Role::Output;
            }
        });
    });
    if reads_outputs {
        return;
    }
    let mut readers = vec![0; program.tiles.len()];
    count(&program.body, &mut readers);
    place(program, &program.body, &readers, forms);
}

fn count(body: &[Stmt], readers: &mut [usize]) {
    let mut expr = |e: &Expr| {
        e.visit(&mut |e| {
            if let Node::Tile(t, ..) = e.node() {
                readers[t.0 as usize] += 1;
            }
        });
    };
    for stmt in body {
        match stmt {
            Stmt::Let { op: TileOp::Map(e), .. } => expr(e),
            Stmt::Let { .. } => {}
            Stmt::Store { index, value, guard, rows, cols, .. } => {
                index.iter().chain([value, &rows.count, &cols.count]).chain(guard).for_each(&mut expr);
            }
            Stmt::For { from, to, when, .. } => [from, to].into_iter().chain(when).for_each(&mut expr),
        }
    }
    for stmt in body {
        match stmt {
            Stmt::Let { op: TileOp::Map(_), .. } | Stmt::Store { .. } => {}
            Stmt::Let { op, .. } => operands(op).into_iter().for_each(|t| readers[t.0 as usize] += 1),
            Stmt::For { carry, body, .. } => {
                for t in carry.iter().flat_map(|c| [c.init, c.inside, c.next, c.result]) {
                    readers[t.0 as usize] += 1;
                }
                count(body, readers);
            }
        }
    }
}

fn place(program: &TileProgram, body: &[Stmt], readers: &[usize], forms: &mut Forms) {
    for (k, stmt) in body.iter().enumerate() {
        match stmt {
            Stmt::For { body, .. } => place(program, body, readers, forms),
            Stmt::Let { results, op: TileOp::Dot { .. } } if readers[results[0].0 as usize] == 1 => {
                let found = body[k + 1..].iter().find_map(|s| stored(program, forms, s, results[0]));
                if let Some(form) = found {
                    forms.tiles[results[0].0 as usize] = form;
                }
            }
            _ => {}
        }
    }
}

/// The place of tile `t` in the tensor that a statement stores it to, if it can be made there.
fn stored(program: &TileProgram, forms: &Forms, stmt: &Stmt, t: TileId) -> Option<TileForm> {
    let Stmt::Store { tensor, index, value, rows, cols, guard: None } = stmt else { return None };
    let (tile, lane) = (program.tile(t), forms.lane(t)?);
    let whole = matches!(value.node(), Node::Tile(u, Pick::Row, Pick::Col) if *u == t);
    let same = tile.ty == TileType::F32 && program.slow(*tensor).dtype == DType::F32;
    if !whole || !same || tile.rows != *rows || tile.cols != *cols || index.iter().any(reads_tiles) {
        return None;
    }
    let lanes: &Extent = if lane == Axis::Rows { rows } else { cols };
    if !lanes.is_fixed() || !lanes.cap.is_multiple_of(forms.width) {
        return None;
    }
    let access = Frame { lane: Axis::Cols, by_rows: false }.access(program, *tensor, index)?;
    let bytes = |n: i64| n.checked_mul(4).filter(|n| i32::try_from(*n).is_ok());
    let (row_stride, col_stride) = (bytes(access.other.as_int()?)?, bytes(access.lane.as_int()?)?);
    let along = if lane == Axis::Rows { row_stride } else { col_stride };
    let dtype = DType::F32;
    (along == 4).then_some(TileForm::Slow { tensor: *tensor, origin: access.origin, row_stride, col_stride, dtype })
}

fn reads_tiles(e: &Expr) -> bool {
    let mut found = false;
    e.visit(&mut |e| found |= matches!(e.node(), Node::Tile(..)));
    found
}
