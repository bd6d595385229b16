//! The work of a schedule as code: tiles made known, kernels called with their arguments, loops with what they carry.

use super::code::Code;
use super::expression::{Emitter, Scope, TilePlace, precision, to_tile_type};
use super::statement;
use super::storage::Storage;
use super::target::Target;
use super::vector::{
    Argument, Call, FloatArgument, Forms, InnerProduct, Item, ItemWork, Product, Solve, TileForm, Transpose, UNROLL,
    slot,
};
use cranelift_codegen::ir::{Value, types};
use cranelift_module::FuncId;
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Carry, Stmt, TileProgram, TileType};

/// Writes the statements of a program for one point of the grid.
pub struct Writer<'p> {
    /// What the code is for.
    pub target: &'p Target,
    /// The prepared program.
    pub program: &'p TileProgram,
    /// Forms of its tiles.
    pub forms: &'p Forms,
    /// Where they lie.
    pub storage: &'p Storage,
    /// Start of this slice's scratch memory.
    pub scratch: Value,
    /// Where kernels find their arguments.
    pub arguments: Value,
    /// And their real ones.
    pub floats: Value,
}

impl Writer<'_> {
    /// Makes a tile known, with its counts here and now.
    fn open_tile(&mut self, f: &mut Code, scope: &mut Scope, t: TileId) {
        let tile = self.program.tile(t);
        let base = match (&self.forms.tiles[t.0 as usize], self.storage.places[t.0 as usize]) {
            (TileForm::Slow { tensor, origin, .. }, _) => {
                let tensor = scope.tensors[tensor.0 as usize].clone();
                Emitter::new(scope, types::F64).address(f, &tensor, origin)
            }
            (_, Some(place)) => f.iadd_imm(self.scratch, place.offset as i64),
            (_, None) => return,
        };
        let (rows, cols) = (statement::count(f, scope, &tile.rows), statement::count(f, scope, &tile.cols));
        let (row_stride, col_stride) = self.forms.strides(self.program, t);
        let half = self.forms.half(t);
        scope.tiles[t.0 as usize] = Some(TilePlace { base, ty: tile.ty, half, row_stride, col_stride, rows, cols });
    }

    fn same_place(&self, a: TileId, b: TileId) -> bool {
        self.storage.places[a.0 as usize] == self.storage.places[b.0 as usize]
    }

    fn copy(&mut self, f: &mut Code, scope: &Scope, to: TileId, from: TileId) {
        if !self.same_place(to, from) {
            statement::copy(f, &scope.tile(to), &scope.tile(from));
        }
    }

    /// All work of a list, in order.
    pub fn items(&mut self, f: &mut Code, scope: &mut Scope, items: &[Item]) {
        for item in items {
            for stmt in &item.stmts {
                if let Stmt::Let { results, .. } = stmt {
                    for t in results {
                        self.open_tile(f, scope, *t);
                    }
                }
            }
            match &item.work {
                ItemWork::InPlace => {}
                ItemWork::Group(call) => self.call(f, scope, call),
                ItemWork::Product(product) => self.product(f, scope, product),
                ItemWork::InnerProduct(product) => self.inner_product(f, scope, product),
                ItemWork::Transpose(transpose) => self.transpose(f, scope, transpose),
                ItemWork::Solve(solve) => self.solve(f, scope, solve),
                ItemWork::Scalar => {
                    for stmt in &item.stmts {
                        self.scalar(f, scope, stmt);
                    }
                }
                ItemWork::Turns(call) => {
                    for stmt in &item.stmts {
                        let Stmt::For { carry, .. } = stmt else { continue };
                        for c in carry {
                            self.open_tile(f, scope, c.result);
                        }
                    }
                    self.call(f, scope, call);
                }
                ItemWork::Loop(inner) => {
                    for stmt in &item.stmts {
                        self.turns(f, scope, stmt, inner);
                    }
                }
            }
        }
    }

    fn scalar(&mut self, f: &mut Code, scope: &mut Scope, stmt: &Stmt) {
        match stmt {
            Stmt::Let { results, op } => statement::operation(f, self.program, scope, results, op),
            Stmt::Store { tensor, index, value, rows, cols, guard } => {
                let tensor = tensor.0 as usize;
                statement::store(f, self.program, scope, tensor, index, value, (rows, cols), guard.as_ref());
            }
            Stmt::For { .. } => {}
        }
    }

    fn turns(&mut self, f: &mut Code, scope: &mut Scope, stmt: &Stmt, items: &[Item]) {
        let Stmt::For { var, from, to, step, when, carry, .. } = stmt else { return };
        let from = Emitter::new(scope, types::F64).int(f, from);
        let to = Emitter::new(scope, types::F64).int(f, to);
        for c in carry {
            self.open_tile(f, scope, c.inside);
            self.copy(f, scope, c.inside, c.init);
        }
        f.for_step(from, to, *step, |f, i| {
            scope.bind(*var, i);
            let turn = |s: &mut Self, f: &mut Code, scope: &mut Scope| {
                s.items(f, scope, items);
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

    /// Calls a kernel, for every index of an axis if it asks for that.
    fn call(&mut self, f: &mut Code, scope: &mut Scope, call: &Call) {
        let Some(function) = f.kernel(self.target, &call.kernel) else { return };
        match &call.each {
            None => self.call_once(f, scope, call, function),
            Some((var, extent)) => {
                let count = statement::count(f, scope, extent);
                let before = scope.vars.get(var.0 as usize).copied().flatten();
                f.for_count(count, |f, i| {
                    scope.bind(*var, i);
                    self.call_once(f, scope, call, function);
                });
                scope.set(*var, before);
            }
        }
    }

    fn call_once(&mut self, f: &mut Code, scope: &Scope, call: &Call, function: FuncId) {
        let program = self.program;
        for (k, float) in call.floats.iter().enumerate() {
            let mut emitter = Emitter::new(scope, types::F64);
            let value = match float {
                FloatArgument::Real(e) => {
                    let real = precision(e, TileType::F32, scope, &|t| program.tile(t).ty);
                    let x = Emitter::new(scope, real).emit(f, e);
                    to_tile_type(f, x, TileType::F32)
                }
                FloatArgument::Int(e) => {
                    let n = emitter.int(f, e);
                    f.fcvt_from_sint(types::F32, n)
                }
                FloatArgument::Clamped(e, limit) => {
                    let n = emitter.int(f, e);
                    let (low, high) = (f.int(-limit), f.int(*limit));
                    let n = f.smax(n, low);
                    let n = f.smin(n, high);
                    f.fcvt_from_sint(types::F32, n)
                }
                FloatArgument::Condition(e) => {
                    let c = emitter.bool(f, e);
                    let (one, zero) = (f.float(types::F32, 1.0), f.float(types::F32, 0.0));
                    f.select(c, one, zero)
                }
            };
            f.store(value, self.floats, 4 * k as i32);
        }
        for (k, argument) in call.arguments.iter().enumerate() {
            let value = match argument {
                Argument::Tile(t) => scope.tile(*t).base,
                Argument::Count(extent) => statement::count(f, scope, extent),
                Argument::Address(tensor, index) => {
                    let tensor = scope.tensors[tensor.0 as usize].clone();
                    Emitter::new(scope, types::F64).address(f, &tensor, index)
                }
                Argument::Int(e) => Emitter::new(scope, types::F64).int(f, e),
                Argument::Floats => self.floats,
            };
            f.store(value, self.arguments, 8 * k as i32);
        }
        f.call_void(function, &[self.arguments]);
    }

    /// Calls the kernels of a matrix product, one block of lanes after another.
    fn product(&mut self, f: &mut Code, scope: &Scope, product: &Product) {
        let width = self.forms.width as i64;
        let lanes = statement::count(f, scope, &product.lanes);
        let up = f.iadd_imm(lanes, width - 1);
        let mut left = f.ushr_imm(up, i64::from(width.trailing_zeros()));
        let across = statement::count(f, scope, &product.across);
        let inner = statement::count(f, scope, &product.inner);
        let rounds = f.ushr_imm(inner, i64::from(UNROLL.trailing_zeros()));
        let steps = f.band_imm(inner, UNROLL as i64 - 1);
        let rows = f.int(product.rows as i64);
        let blocks = f.sdiv(across, rows);
        let done = f.imul(blocks, rows);
        let rest = f.isub(across, done);
        let scalars = scope.tile(product.scalars).base;
        for (k, value) in [
            (slot::ROUNDS, rounds),
            (slot::STEPS, steps),
            (slot::BLOCKS, blocks),
            (slot::ROWS, rest),
            (slot::SCALARS, scalars),
            (slot::INNER, inner),
        ] {
            f.store(value, self.arguments, 8 * k as i32);
        }
        let element = product.element.bytes() as i64;
        let mut moving = vec![
            (slot::VECTORS, scope.tile(product.vectors).base, element),
            (slot::OUT, scope.tile(product.out).base, 4),
        ];
        moving.extend(product.acc.map(|acc| (slot::ACC, scope.tile(acc).base, 4)));
        for (vectors, kernel) in &product.kernels {
            let Some(function) = f.kernel(self.target, kernel) else { return };
            let wide = f.int(*vectors as i64);
            let blocks = f.sdiv(left, wide);
            let lanes = *vectors as i64 * width;
            f.for_count(blocks, |f, k| {
                for (slot, base, bytes) in &moving {
                    let offset = f.imul_imm(k, lanes * bytes);
                    let at = f.iadd(*base, offset);
                    f.store(at, self.arguments, 8 * *slot as i32);
                }
                f.call_void(function, &[self.arguments]);
            });
            for (_, base, bytes) in &mut moving {
                let done = f.imul_imm(blocks, lanes * *bytes);
                *base = f.iadd(*base, done);
            }
            let done = f.imul(blocks, wide);
            left = f.isub(left, done);
        }
    }

    fn inner_product(&mut self, f: &mut Code, scope: &Scope, product: &InnerProduct) {
        let Some(function) = f.kernel(self.target, &product.kernel) else { return };
        let lengths = product.extents.each_ref().map(|extent| statement::count(f, scope, extent));
        let tiles = [product.few, product.many, product.out].into_iter().chain(product.acc);
        let places = tiles.map(|t| scope.tile(t).base);
        for (k, value) in lengths.into_iter().chain(places).enumerate() {
            f.store(value, self.arguments, 8 * k as i32);
        }
        f.call_void(function, &[self.arguments]);
    }

    /// Whole vectors that a length takes.
    fn vectors(&self, f: &mut Code, length: Value) -> Value {
        let width = self.forms.width as i64;
        let up = f.iadd_imm(length, width - 1);
        f.ushr_imm(up, i64::from(width.trailing_zeros()))
    }

    fn transpose(&mut self, f: &mut Code, scope: &Scope, transpose: &Transpose) {
        let Some(function) = f.kernel(self.target, &transpose.kernel) else { return };
        let (lanes, across) =
            (statement::count(f, scope, &transpose.lanes), statement::count(f, scope, &transpose.across));
        let (lanes, across) = (self.vectors(f, lanes), self.vectors(f, across));
        let places = [scope.tile(transpose.source).base, scope.tile(transpose.out).base];
        for (k, value) in [lanes, across].into_iter().chain(places).enumerate() {
            f.store(value, self.arguments, 8 * k as i32);
        }
        f.call_void(function, &[self.arguments]);
    }

    fn solve(&mut self, f: &mut Code, scope: &Scope, solve: &Solve) {
        let (rows, cols) = (statement::count(f, scope, &solve.rows), statement::count(f, scope, &solve.cols));
        let mut left = self.vectors(f, cols);
        let (mut rhs, mut out) = (scope.tile(solve.rhs).base, scope.tile(solve.out).base);
        f.store(rows, self.arguments, 0);
        f.store(scope.tile(solve.lower).base, self.arguments, 8);
        for (vectors, kernel) in &solve.kernels {
            let Some(function) = f.kernel(self.target, kernel) else { return };
            let wide = f.int(*vectors as i64);
            let blocks = f.sdiv(left, wide);
            let bytes = (*vectors * self.forms.width * 4) as i64;
            f.for_count(blocks, |f, k| {
                let offset = f.imul_imm(k, bytes);
                for (slot, base) in [(2, rhs), (3, out)] {
                    let at = f.iadd(base, offset);
                    f.store(at, self.arguments, 8 * slot);
                }
                f.call_void(function, &[self.arguments]);
            });
            let done = f.imul_imm(blocks, bytes);
            (rhs, out) = (f.iadd(rhs, done), f.iadd(out, done));
            let done = f.imul(blocks, wide);
            left = f.isub(left, done);
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
