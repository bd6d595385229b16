//! The function that runs a slice of a tile program's grid: `fn(context, slice)`.
//!
//! The grid is flattened and cut into a number of slices that depends on the lengths alone, so that results are the same
//! for every number of threads. A slice has its own scratch memory.

use super::code::Code;
use super::expression::{Emitter, Scope, TensorPlace, TilePlace, dim_value};
use super::functions::Library;
use super::module::{CodeError, define_clif};
use super::statement;
use super::storage::{Layout, Storage};
use super::target::Target;
use cranelift_codegen::ir::{AbiParam, Value, types};
use cranelift_module::{FuncId, Linkage, Module};
use mixc_ir::dim::{Atom, Dim, Symbol};
use mixc_ir::expr::{Expr, Node, TileId};
use mixc_ir::tile::{Carry, Stmt, TileProgram};
use std::collections::BTreeSet;

/// Most slices that a grid is cut into.
pub const SLICES: i64 = 64;

/// The context that a body reads, in words of eight bytes: these, then the values of the model's symbols, then the
/// addresses of the program's tensors.
pub mod context {
    /// Points of the grid.
    pub const POINTS: i32 = 0;
    /// Slices that it is cut into.
    pub const SLICES: i32 = 8;
    /// Address of the scratch memory.
    pub const SCRATCH: i32 = 16;
    /// Bytes from a slice's scratch memory to the next one's; 0 when slices run one after another.
    pub const STRIDE: i32 = 24;
    /// First symbol.
    pub const SYMBOLS: i32 = 32;

    /// Words in all.
    pub fn words(symbols: usize, tensors: usize) -> usize {
        SYMBOLS as usize / 8 + symbols + tensors
    }
}

/// The code of a tile program.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// `fn(context, slice)`.
    pub function: FuncId,
    /// Bytes of scratch memory that a slice needs.
    pub scratch: usize,
}

/// Defines the body of `program` as a local function.
pub fn define_body(
    module: &mut dyn Module,
    library: &mut Library,
    _target: &Target,
    name: &str,
    symbols: &[Symbol],
    program: &TileProgram,
) -> Result<Body, CodeError> {
    let storage = Storage::plan(program, row_major(program));
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 2];
    let function = define_clif(module, name, Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        emit(&mut f, symbols, program, &storage);
        f.finish()
    })?;
    Ok(Body { function, scratch: storage.bytes })
}

/// Every tile as dense rows of its greatest length.
fn row_major(program: &TileProgram) -> Vec<Option<Layout>> {
    let layout = |tile: &mixc_ir::tile::Tile| {
        let col_stride = tile.ty.bytes();
        let row_stride = col_stride * tile.cols.cap;
        Some(Layout { row_stride, col_stride, bytes: row_stride * tile.rows.cap })
    };
    program.tiles.iter().map(layout).collect()
}

/// All dims that the program's code mentions, small ones first.
fn dims_of(program: &TileProgram) -> Vec<Dim> {
    fn parts(d: &Dim, all: &mut BTreeSet<Dim>) {
        for (product, _) in d.terms() {
            for atom in product {
                if let Atom::Exact(inner, _) | Atom::Ceil(inner, _) = atom {
                    parts(inner, all);
                }
            }
        }
        all.insert(d.clone());
    }
    let mut all = BTreeSet::new();
    let mut order = Vec::new();
    let mut take = |d: &Dim, order: &mut Vec<Dim>| {
        let mut found = BTreeSet::new();
        parts(d, &mut found);
        for d in found {
            if all.insert(d.clone()) {
                order.push(d);
            }
        }
    };
    for tensor in &program.tensors {
        for d in &tensor.shape {
            take(d, &mut order);
        }
    }
    let mut expr = |e: &Expr, order: &mut Vec<Dim>| {
        e.visit(&mut |e| {
            if let Node::Dim(d) = e.node() {
                take(d, order);
            }
        });
    };
    for axis in &program.grid {
        expr(&axis.extent, &mut order);
    }
    for tile in &program.tiles {
        expr(&tile.rows.count, &mut order);
        expr(&tile.cols.count, &mut order);
    }
    visit_exprs(&program.body, &mut |e| expr(e, &mut order));
    order
}

/// Calls `visit` on every expression of the statements.
pub fn visit_exprs(body: &[Stmt], visit: &mut dyn FnMut(&Expr)) {
    for stmt in body {
        match stmt {
            Stmt::Let { op, .. } => {
                if let mixc_ir::tile::TileOp::Map(e) = op {
                    visit(e);
                }
            }
            Stmt::For { from, to, when, body, .. } => {
                for e in [from, to].into_iter().chain(when) {
                    visit(e);
                }
                visit_exprs(body, visit);
            }
            Stmt::Store { index, value, rows, cols, guard, .. } => {
                for e in index.iter().chain([value, &rows.count, &cols.count]).chain(guard) {
                    visit(e);
                }
            }
        }
    }
}

fn emit(f: &mut Code, symbols: &[Symbol], program: &TileProgram, storage: &Storage) {
    let (ctx, slice) = (f.param(0), f.param(1));
    let mut scope = Scope { tiles: vec![None; program.tiles.len()], ..Scope::default() };
    for (k, symbol) in symbols.iter().enumerate() {
        let value = f.load(types::I64, ctx, context::SYMBOLS + 8 * k as i32);
        scope.symbols.insert(symbol.clone(), value);
    }
    // Dims are computed once, before all loops: their divisions are not moved out of loops otherwise.
    for dim in dims_of(program) {
        let value = dim_value(f, &scope, &dim);
        scope.dims.insert(dim, value);
    }
    let first_tensor = context::SYMBOLS + 8 * symbols.len() as i32;
    for (k, tensor) in program.tensors.iter().enumerate() {
        let base = f.load(types::I64, ctx, first_tensor + 8 * k as i32);
        let shape = tensor.shape.iter().map(|d| dim_value(f, &scope, d)).collect();
        scope.tensors.push(TensorPlace { base, dtype: tensor.dtype, shape });
    }
    let points = f.load(types::I64, ctx, context::POINTS);
    let slices = f.load(types::I64, ctx, context::SLICES);
    let scratch = f.load(types::I64, ctx, context::SCRATCH);
    let stride = f.load(types::I64, ctx, context::STRIDE);
    let own = f.imul(slice, stride);
    let scratch = f.iadd(scratch, own);
    let extents: Vec<Value> =
        program.grid.iter().map(|axis| Emitter::new(&scope, types::F64).int(f, &axis.extent)).collect();
    // Slice s has the points from s * points / slices; the product is formed without leaving the range by splitting
    // points into a quotient and a rest.
    let quotient = f.sdiv(points, slices);
    let rest = f.srem(points, slices);
    let start_of = |f: &mut Code, s: Value| {
        let whole = f.imul(s, quotient);
        let part = f.imul(s, rest);
        let part = f.sdiv(part, slices);
        f.iadd(whole, part)
    };
    let begin = start_of(f, slice);
    let next_slice = f.iadd_imm(slice, 1);
    let end = start_of(f, next_slice);
    f.for_step(begin, end, 1, |f, point| {
        let mut left = point;
        for (axis, extent) in program.grid.iter().zip(&extents).rev() {
            let quotient = f.sdiv(left, *extent);
            let back = f.imul(quotient, *extent);
            let here = f.isub(left, back);
            scope.bind(axis.var, here);
            left = quotient;
        }
        let mut writer = Writer { program, storage, scratch };
        writer.statements(f, &mut scope, &program.body);
    });
    f.return_(&[]);
}

struct Writer<'p> {
    program: &'p TileProgram,
    storage: &'p Storage,
    scratch: Value,
}

impl Writer<'_> {
    /// Makes a tile known, with its counts here and now.
    fn open_tile(&mut self, f: &mut Code, scope: &mut Scope, t: TileId) {
        let tile = self.program.tile(t);
        let (rows, cols) = (statement::count(f, scope, &tile.rows), statement::count(f, scope, &tile.cols));
        let Some(place) = self.storage.places[t.0 as usize] else { return };
        let base = f.iadd_imm(self.scratch, place.offset as i64);
        scope.tiles[t.0 as usize] = Some(TilePlace {
            base,
            ty: tile.ty,
            row_stride: place.layout.row_stride as i64,
            col_stride: place.layout.col_stride as i64,
            rows,
            cols,
        });
    }

    fn same_place(&self, a: TileId, b: TileId) -> bool {
        self.storage.places[a.0 as usize] == self.storage.places[b.0 as usize]
    }

    fn copy(&mut self, f: &mut Code, scope: &Scope, to: TileId, from: TileId) {
        if !self.same_place(to, from) {
            statement::copy(f, &scope.tile(to), &scope.tile(from));
        }
    }

    fn statements(&mut self, f: &mut Code, scope: &mut Scope, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { results, op } => {
                    for t in results {
                        self.open_tile(f, scope, *t);
                    }
                    statement::operation(f, self.program, scope, results, op);
                }
                Stmt::Store { tensor, index, value, rows, cols, guard } => {
                    let tensor = tensor.0 as usize;
                    let guard = guard.as_ref();
                    statement::store(f, self.program, scope, tensor, index, value, (rows, cols), guard);
                }
                Stmt::For { var, from, to, step, when, carry, body } => {
                    let from = Emitter::new(scope, types::F64).int(f, from);
                    let to = Emitter::new(scope, types::F64).int(f, to);
                    for c in carry {
                        self.open_tile(f, scope, c.inside);
                        self.copy(f, scope, c.inside, c.init);
                    }
                    f.for_step(from, to, *step, |f, i| {
                        scope.bind(*var, i);
                        let turn = |s: &mut Self, f: &mut Code, scope: &mut Scope| {
                            s.statements(f, scope, body);
                            s.hand_on(f, scope, carry);
                        };
                        match when {
                            None => turn(self, f, scope),
                            Some(when) => {
                                let holds = Emitter::new(scope, types::F64).bool(f, when);
                                f.if_(holds, |f| turn(self, f, scope));
                            }
                        }
                    });
                    for c in carry {
                        self.open_tile(f, scope, c.result);
                        self.copy(f, scope, c.result, c.inside);
                    }
                }
            }
        }
    }

    /// The end of a turn: every carried tile takes its next value, all at once.
    fn hand_on(&mut self, f: &mut Code, scope: &mut Scope, carry: &[Carry]) {
        // A next value that lies where another carried tile is kept is copied before that one is overwritten.
        let mut left: Vec<(TileId, TileId)> =
            carry.iter().filter(|c| !self.same_place(c.inside, c.next)).map(|c| (c.inside, c.next)).collect();
        while !left.is_empty() {
            let reader = |place: TileId| left.iter().position(|(_, source)| self.same_place(*source, place));
            if let Some(k) = left.iter().position(|(inside, _)| reader(*inside).is_none()) {
                let (inside, source) = left.remove(k);
                self.copy(f, scope, inside, source);
                continue;
            }
            // Everything waits for something: following who reads what ends in a cycle, which an exchange shortens.
            let mut k = 0;
            for _ in 0..left.len() {
                k = reader(left[k].0).unwrap_or(k);
            }
            let (inside, source) = left.remove(k);
            statement::exchange(f, &scope.tile(inside), &scope.tile(source));
            for other in &mut left {
                if self.same_place(other.1, inside) {
                    other.1 = source;
                }
            }
            left.retain(|(inside, source)| !self.same_place(*inside, *source));
        }
    }
}
