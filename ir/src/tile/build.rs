//! Writing tile programs: each method appends one step and names its result.

use super::{Axis, Carry, Combine, Extent, GridAxis, Matrix, Role, Slow, Stmt, Tile, TileOp, TileProgram, TileType};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, SlowId, TileId, Var};

/// Builds a [`TileProgram`] from the outside in.
#[derive(Debug)]
pub struct TileBuilder {
    program: TileProgram,
    /// Open statement lists: the program's body, then the bodies of the loops that are being written.
    open: Vec<Vec<Stmt>>,
}

impl TileBuilder {
    /// An empty program.
    pub fn new(name: &str) -> TileBuilder {
        let program = TileProgram { name: name.to_string(), vars: 2, ..TileProgram::default() };
        TileBuilder { program, open: vec![Vec::new()] }
    }

    /// The program so far.
    pub fn program(&self) -> &TileProgram {
        &self.program
    }

    /// Records a knob.
    pub fn knob(&mut self, name: &str, value: usize) -> usize {
        self.program.knobs.push((name.to_string(), value as i64));
        value
    }

    /// A tensor that is read.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> SlowId {
        self.slow(name, dtype, shape, Role::Input)
    }

    /// A tensor that is written.
    pub fn output(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> SlowId {
        self.slow(name, dtype, shape, Role::Output)
    }

    fn slow(&mut self, name: &str, dtype: DType, shape: &[Dim], role: Role) -> SlowId {
        self.program.tensors.push(Slow { name: name.to_string(), dtype, shape: shape.to_vec(), role });
        SlowId(self.program.tensors.len() as u32 - 1)
    }

    fn var(&mut self) -> Var {
        self.program.vars += 1;
        Var(self.program.vars - 1)
    }

    /// A grid axis of `extent` points; its variable.
    pub fn grid(&mut self, name: &str, extent: Expr) -> Expr {
        let var = self.var();
        self.program.grid.push(GridAxis { var, name: name.to_string(), extent });
        Expr::from(var)
    }

    fn new_tile(&mut self, name: &str, ty: TileType, rows: &Extent, cols: &Extent) -> TileId {
        self.program.tiles.push(Tile { name: name.to_string(), ty, rows: rows.clone(), cols: cols.clone() });
        TileId(self.program.tiles.len() as u32 - 1)
    }

    fn push(&mut self, stmt: Stmt) {
        self.open.last_mut().expect("the body is open until finish").push(stmt);
    }

    fn define(&mut self, name: &str, ty: TileType, rows: &Extent, cols: &Extent, op: TileOp) -> TileId {
        let t = self.new_tile(name, ty, rows, cols);
        self.push(Stmt::Let { results: vec![t], op });
        t
    }

    /// A tile from an expression.
    pub fn map(&mut self, name: &str, ty: TileType, rows: &Extent, cols: &Extent, value: Expr) -> TileId {
        self.define(name, ty, rows, cols, TileOp::Map(value))
    }

    fn extents(&self, m: Matrix) -> (Extent, Extent) {
        let tile = self.program.tile(m.tile);
        let (r, c) = (tile.rows.clone(), tile.cols.clone());
        if m.transposed { (c, r) } else { (r, c) }
    }

    /// `acc + a b`.
    pub fn dot(
        &mut self,
        name: &str,
        ty: TileType,
        a: impl Into<Matrix>,
        b: impl Into<Matrix>,
        acc: Option<TileId>,
    ) -> TileId {
        let (a, b) = (a.into(), b.into());
        let (rows, cols) = (self.extents(a).0, self.extents(b).1);
        self.define(name, ty, &rows, &cols, TileOp::Dot { a, b, acc })
    }

    /// Combines along an axis.
    pub fn reduce(&mut self, name: &str, combine: Combine, axis: Axis, of: TileId) -> TileId {
        let tile = self.program.tile(of).clone();
        let one = Extent::fixed(1);
        let (rows, cols) = match axis {
            Axis::Rows => (one, tile.cols),
            Axis::Cols => (tile.rows, one),
        };
        self.define(name, tile.ty, &rows, &cols, TileOp::Reduce { combine, axis, of })
    }

    /// Running combination along an axis.
    pub fn scan(&mut self, name: &str, combine: Combine, axis: Axis, reverse: bool, of: TileId) -> TileId {
        let tile = self.program.tile(of).clone();
        self.define(name, tile.ty, &tile.rows, &tile.cols, TileOp::Scan { combine, axis, reverse, of })
    }

    /// Affine recurrence along the rows.
    pub fn recurrence(&mut self, name: &str, decay: TileId, input: TileId, start: Option<TileId>) -> TileId {
        let tile = self.program.tile(input).clone();
        self.define(name, tile.ty, &tile.rows, &tile.cols, TileOp::Recurrence { decay, input, start })
    }

    /// Solution of a lower triangular system.
    pub fn solve(&mut self, name: &str, lower: TileId, rhs: TileId) -> TileId {
        let tile = self.program.tile(rhs).clone();
        self.define(name, tile.ty, &tile.rows, &tile.cols, TileOp::Solve { lower, rhs })
    }

    /// The k greatest of each row: values and columns.
    pub fn top_k(&mut self, name: &str, of: TileId, k: &Extent) -> (TileId, TileId) {
        let tile = self.program.tile(of).clone();
        let values = self.new_tile(name, tile.ty, &tile.rows, k);
        let columns = self.new_tile(&format!("{name}_at"), TileType::I64, &tile.rows, k);
        self.push(Stmt::Let { results: vec![values, columns], op: TileOp::TopK { of } });
        (values, columns)
    }

    /// A loop from `from` to `to` (exclusive) by `step`, leaving out turns where `when` is false, handing on the tiles
    /// `init`. The body gets the variable and the tiles and gives their next values; the results are their last ones.
    pub fn for_blocks(
        &mut self,
        from: Expr,
        to: Expr,
        step: usize,
        when: impl FnOnce(&Expr) -> Option<Expr>,
        init: &[TileId],
        body: impl FnOnce(&mut TileBuilder, &Expr, &[TileId]) -> Vec<TileId>,
    ) -> Vec<TileId> {
        let var = self.var();
        let index = Expr::from(var);
        let when = when(&index);
        let like = |b: &mut TileBuilder, t: &TileId| {
            let tile = b.program.tile(*t).clone();
            b.new_tile(&tile.name, tile.ty, &tile.rows, &tile.cols)
        };
        let inside: Vec<TileId> = init.iter().map(|t| like(self, t)).collect();
        self.open.push(Vec::new());
        let next = body(self, &index, &inside);
        let stmts = self.open.pop().expect("the loop's body was opened above");
        let results: Vec<TileId> = init.iter().map(|t| like(self, t)).collect();
        let carry = (0..init.len())
            .map(|k| Carry { init: init[k], inside: inside[k], next: next[k], result: results[k] })
            .collect();
        self.push(Stmt::For { var, from, to, step: step as i64, when, carry, body: stmts });
        results
    }

    /// Stores an expression for every row and column of the extents.
    pub fn store(&mut self, tensor: SlowId, index: Vec<Expr>, value: Expr, rows: &Extent, cols: &Extent) {
        self.push(Stmt::Store { tensor, index, value, rows: rows.clone(), cols: cols.clone(), guard: None });
    }

    /// Stores where `guard` holds.
    pub fn store_if(
        &mut self,
        tensor: SlowId,
        index: Vec<Expr>,
        value: Expr,
        rows: &Extent,
        cols: &Extent,
        guard: Expr,
    ) {
        self.push(Stmt::Store { tensor, index, value, rows: rows.clone(), cols: cols.clone(), guard: Some(guard) });
    }

    /// The finished program.
    pub fn finish(mut self) -> TileProgram {
        self.program.body = self.open.pop().expect("the body is open until finish");
        self.program
    }
}
