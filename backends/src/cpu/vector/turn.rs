//! Tiles brought to the lane axis that their readers want.

use super::affine::{Frame, other};
use super::lanes::{Forms, TileForm};
use super::product;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, Pick, SlowId, TileId};
use mixc_ir::tile::{Axis, Extent, Stmt, Tile, TileOp, TileProgram, TileType};

/// Gives statements what they read along the lanes: copies before dots whose operands lie along the wrong axis, and
/// for loads and stores across the lanes a tile along the tensor, moved over in registers.
struct Turner {
    program: TileProgram,
    forms: Forms,
}

impl Turner {
    fn body(&mut self, body: Vec<Stmt>) -> Vec<Stmt> {
        let mut all = Vec::new();
        for mut stmt in body {
            if let Stmt::For { body, .. } = &mut stmt {
                *body = self.body(std::mem::take(body));
            }
            self.operands(&mut stmt, &mut all);
            self.loads(&mut stmt, &mut all);
            self.store(&mut stmt, &mut all);
            all.push(stmt);
        }
        all
    }

    fn tile(&mut self, like: Tile, lane: Axis) -> TileId {
        self.program.tiles.push(like);
        self.forms.tiles.push(TileForm::Lanes(lane));
        self.forms.square.push(false);
        TileId(self.program.tiles.len() as u32 - 1)
    }

    /// A copy of `tile` along `lane`.
    fn copy(&mut self, tile: TileId, lane: Axis, all: &mut Vec<Stmt>) -> TileId {
        let copy = self.tile(self.program.tile(tile).clone(), lane);
        for t in [tile, copy] {
            self.forms.square[t.0 as usize] = true;
        }
        all.push(Stmt::Let { results: vec![copy], op: TileOp::Map(Expr::tile(tile)) });
        copy
    }

    fn operands(&mut self, stmt: &mut Stmt, all: &mut Vec<Stmt>) {
        for (tile, axis) in product::wanted(&self.program, &self.forms, stmt) {
            let copy = self.copy(tile, axis, all);
            if let Stmt::Let { op: TileOp::Dot { a, b, acc }, results } = stmt {
                let vectors = if self.forms.product_lane(results[0]) == Some(Axis::Cols) { b } else { a };
                if vectors.tile == tile {
                    vectors.tile = copy;
                } else if *acc == Some(tile) {
                    *acc = Some(copy);
                }
            }
        }
    }

    /// Whether an iteration space is worth squares of vectors.
    fn is_large(&self, rows: &Extent, cols: &Extent) -> bool {
        let half = self.forms.width / 2;
        rows.cap > half && cols.cap > half
    }

    fn loads(&mut self, stmt: &mut Stmt, all: &mut Vec<Stmt>) {
        let Stmt::Let { results, op: TileOp::Map(value) } = stmt else { return };
        let out = self.program.tile(results[0]).clone();
        let Some(lane) = self.forms.product_lane(results[0]) else { return };
        if !self.is_large(&out.rows, &out.cols) {
            return;
        }
        let mut moved: Vec<(Expr, TileId)> = Vec::new();
        let mut found = Vec::new();
        value.visit(&mut |e| {
            if let Node::Load(load) = e.node()
                && self.program.slow(load.tensor).dtype.is_float()
                && self.program.slow(load.tensor).dtype != DType::F64
                && self.lies_across(load.tensor, &load.index, lane)
                && !found.contains(e)
            {
                found.push(e.clone());
            }
        });
        for e in found {
            let natural = self.tile(Tile { ty: TileType::F32, ..out.clone() }, other(lane));
            all.push(Stmt::Let { results: vec![natural], op: TileOp::Map(e.clone()) });
            moved.push((e, self.copy(natural, lane, all)));
        }
        if !moved.is_empty() {
            *value = value.rewrite(&mut |e| moved.iter().find(|(m, _)| m == e).map(|(_, t)| Expr::tile(*t)));
        }
    }

    /// Whether neighbours in the tensor are neighbours along the other axis than the lanes.
    fn lies_across(&self, tensor: SlowId, index: &[Expr], lane: Axis) -> bool {
        let frame = |lane| Frame { lane, by_rows: false };
        match frame(lane).access(&self.program, tensor, index) {
            Some(a) => a.other.as_int() == Some(1) && !matches!(a.lane.as_int(), Some(0 | 1)),
            // Rows from a list lie along themselves.
            None => {
                let access = frame(other(lane)).listed_access(&self.program, tensor, index);
                access.is_some_and(|(a, listed)| listed.is_some() && a.lane.as_int() == Some(1))
            }
        }
    }

    fn store(&mut self, stmt: &mut Stmt, all: &mut Vec<Stmt>) {
        let Stmt::Store { tensor, index, value, rows, cols, .. } = stmt else { return };
        let mut lane = None;
        lanes_of(value, &self.forms, &self.program, &mut lane);
        let Some(lane) = lane else { return };
        let narrow = !matches!(self.program.slow(*tensor).dtype, DType::F64 | DType::I32 | DType::I64 | DType::Bool);
        if !narrow || !self.is_large(rows, cols) || !self.lies_across(*tensor, index, lane) {
            return;
        }
        let like = Tile { name: "stored".to_owned(), ty: TileType::F32, rows: rows.clone(), cols: cols.clone() };
        let whole = match value.node() {
            Node::Tile(t, Pick::Row, Pick::Col) => *t,
            _ => {
                let computed = self.tile(like, lane);
                all.push(Stmt::Let { results: vec![computed], op: TileOp::Map(value.clone()) });
                computed
            }
        };
        *value = Expr::tile(self.copy(whole, other(lane), all));
    }
}

/// The program as it is compiled, with the forms of its tiles.
pub fn prepare(program: &TileProgram, width: usize) -> (TileProgram, Forms) {
    let mut program = super::simplify::simplify(program);
    let forms = super::lanes::choose(&program, width);
    let body = std::mem::take(&mut program.body);
    let mut turner = Turner { program, forms };
    let body = turner.body(body);
    turner.program.body = body;
    (turner.program, turner.forms)
}

/// The lane axis of the first tile that an expression reads whole.
pub fn lanes_of(e: &Expr, forms: &Forms, program: &TileProgram, lane: &mut Option<Axis>) {
    e.visit(&mut |e| {
        if let Node::Tile(t, Pick::Row, Pick::Col) = e.node() {
            let tile = program.tile(*t);
            let narrow = tile.ty == TileType::F32 && tile.rows.cap > 1 && tile.cols.cap > 1;
            if narrow && lane.is_none() {
                *lane = forms.lane(*t);
            }
        }
    });
}
