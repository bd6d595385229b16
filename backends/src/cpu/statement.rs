//! The statements of a tile program as loops over single elements: exact at every edge, for every element type. What
//! has no faster form is done here.

use super::code::Code;
use super::element::{Typed, load_element, store_element};
use super::expression::{Emitter, Scope, TilePlace, precision, register_type, tile_address, to_tile_type};
use super::functions::Function;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Value, types};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, TileId};
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileOp, TileProgram, TileType};

/// The rows or columns present: at most the cap, at least 0, whatever the count says.
pub fn count(f: &mut Code, scope: &Scope, extent: &Extent) -> Value {
    let cap = extent.cap as i64;
    if extent.is_fixed() {
        return f.int(cap);
    }
    let n = Emitter::new(scope, types::F64).int(f, &extent.count);
    let (zero, cap) = (f.int(0), f.int(cap));
    let n = f.smax(n, zero);
    f.smin(n, cap)
}

/// Runs `body` for every row and column, the axis whose elements lie closer innermost.
fn each(f: &mut Code, tile: &TilePlace, body: impl FnOnce(&mut Code, Value, Value)) {
    let (rows, cols) = (tile.rows, tile.cols);
    if tile.row_stride < tile.col_stride {
        f.for_count(cols, |f, c| f.for_count(rows, |f, r| body(f, r, c)));
    } else {
        f.for_count(rows, |f, r| f.for_count(cols, |f, c| body(f, r, c)));
    }
}

fn read(f: &mut Code, tile: &TilePlace, r: Option<Value>, c: Option<Value>) -> Value {
    let at = tile_address(f, tile, r, c);
    match tile.half {
        Some(dtype) => load_element(f, dtype, at, types::F32).value,
        None => f.load(register_type(tile.ty), at, 0),
    }
}

fn write(f: &mut Code, tile: &TilePlace, r: Value, c: Value, value: Value) {
    let at = tile_address(f, tile, Some(r), Some(c));
    f.store(value, at, 0);
}

/// An element of another tile type as one of `ty`.
fn read_as(f: &mut Code, tile: &TilePlace, r: Option<Value>, c: Option<Value>, ty: TileType) -> Value {
    let value = read(f, tile, r, c);
    to_tile_type(f, Typed { value, kind: tile.ty.kind() }, ty)
}

fn add(f: &mut Code, ty: TileType, a: Value, b: Value) -> Value {
    match ty {
        TileType::F32 | TileType::F64 => f.fadd(a, b),
        TileType::I64 => f.iadd(a, b),
        TileType::Bool => f.bor(a, b),
    }
}

fn mul(f: &mut Code, ty: TileType, a: Value, b: Value) -> Value {
    match ty {
        TileType::F32 | TileType::F64 => f.fmul(a, b),
        TileType::I64 => f.imul(a, b),
        TileType::Bool => f.band(a, b),
    }
}

fn constant(f: &mut Code, ty: TileType, real: f64, int: i64) -> Value {
    match ty {
        TileType::F32 | TileType::F64 => f.float(register_type(ty), real),
        TileType::I64 => f.int(int),
        TileType::Bool => f.bool(int > 0),
    }
}

/// Running combination of elements in registers: one value, for log-sum-exp the maximum and the scaled sum.
struct Running {
    combine: Combine,
    ty: TileType,
    state: [cranelift_frontend::Variable; 2],
}

impl Running {
    fn new(f: &mut Code, combine: Combine, ty: TileType) -> Running {
        let first = match combine {
            Combine::Sum => constant(f, ty, 0.0, 0),
            Combine::Product => constant(f, ty, 1.0, 1),
            Combine::Max | Combine::LogSumExp => constant(f, ty, f64::NEG_INFINITY, i64::MIN),
            Combine::Min => constant(f, ty, f64::INFINITY, i64::MAX),
        };
        let zero = constant(f, ty, 0.0, 0);
        let state = [f.var(first), f.var(zero)];
        Running { combine, ty, state }
    }

    fn take(&self, f: &mut Code, x: Value) {
        let old = f.get(self.state[0]);
        let new = match self.combine {
            Combine::Sum => add(f, self.ty, old, x),
            Combine::Product => mul(f, self.ty, old, x),
            Combine::Max => match self.ty {
                TileType::F32 | TileType::F64 => f.fmax(old, x),
                TileType::I64 => f.smax(old, x),
                TileType::Bool => f.bor(old, x),
            },
            Combine::Min => match self.ty {
                TileType::F32 | TileType::F64 => f.fmin(old, x),
                TileType::I64 => f.smin(old, x),
                TileType::Bool => f.band(old, x),
            },
            Combine::LogSumExp => self.log_sum_exp(f, old, x),
        };
        f.set(self.state[0], new);
    }

    /// Takes `x` into the sum of exponentials relative to the maximum; the new maximum.
    fn log_sum_exp(&self, f: &mut Code, old: Value, x: Value) -> Value {
        let real = register_type(self.ty);
        let minus_infinity = f.float(real, f64::NEG_INFINITY);
        // An absent term adds nothing; its difference to an absent maximum would be NaN.
        let present = f.fcmp(FloatCC::NotEqual, x, minus_infinity);
        let sum = self.state[1];
        f.choose(
            present,
            real,
            |f| {
                let greater = f.fcmp(FloatCC::GreaterThan, x, old);
                let (high, low) = (f.select(greater, x, old), f.select(greater, old, x));
                let difference = f.fsub(low, high);
                let wide = super::element::to_precision(f, difference, types::F64);
                let e = f.library(Function::Exp, &[wide]);
                let e = super::element::to_precision(f, e, real);
                let one = f.float(real, 1.0);
                let so_far = f.get(sum);
                let scaled = f.fmul(so_far, e);
                let if_greater = f.fadd(scaled, one);
                let if_less = f.fadd(so_far, e);
                let new = f.select(greater, if_greater, if_less);
                f.set(sum, new);
                high
            },
            |_| old,
        )
    }

    fn value(&self, f: &mut Code) -> Value {
        let first = f.get(self.state[0]);
        if self.combine != Combine::LogSumExp {
            return first;
        }
        let sum = f.get(self.state[1]);
        let wide = super::element::to_precision(f, sum, types::F64);
        let log = f.library(Function::Log, &[wide]);
        let log = super::element::to_precision(f, log, register_type(self.ty));
        f.fadd(first, log)
    }
}

/// Writes the operation that defines `results`, whose places are in the scope.
pub fn operation(f: &mut Code, program: &TileProgram, scope: &mut Scope, results: &[TileId], op: &TileOp) {
    let out = scope.tile(results[0]);
    match op {
        TileOp::Map(e) => map(f, program, scope, &out, e),
        TileOp::Dot { a, b, acc } => dot(f, scope, &out, *a, *b, *acc),
        TileOp::Reduce { combine, axis, of } => {
            let of = scope.tile(*of);
            let (outer, inner) = match axis {
                Axis::Rows => (of.cols, of.rows),
                Axis::Cols => (of.rows, of.cols),
            };
            f.for_count(outer, |f, o| {
                let running = Running::new(f, *combine, out.ty);
                f.for_count(inner, |f, i| {
                    let (r, c) = if *axis == Axis::Rows { (i, o) } else { (o, i) };
                    let x = read_as(f, &of, Some(r), Some(c), out.ty);
                    running.take(f, x);
                });
                let value = running.value(f);
                let zero = f.int(0);
                let (r, c) = if *axis == Axis::Rows { (zero, o) } else { (o, zero) };
                write(f, &out, r, c, value);
            });
        }
        TileOp::Scan { combine, axis, reverse, of } => {
            let of = scope.tile(*of);
            let (outer, inner) = match axis {
                Axis::Rows => (of.cols, of.rows),
                Axis::Cols => (of.rows, of.cols),
            };
            f.for_count(outer, |f, o| {
                let running = Running::new(f, *combine, out.ty);
                f.for_count(inner, |f, i| {
                    let i = if *reverse {
                        let last = f.iadd_imm(inner, -1);
                        f.isub(last, i)
                    } else {
                        i
                    };
                    let (r, c) = if *axis == Axis::Rows { (i, o) } else { (o, i) };
                    let x = read_as(f, &of, Some(r), Some(c), out.ty);
                    running.take(f, x);
                    let value = running.value(f);
                    write(f, &out, r, c, value);
                });
            });
        }
        TileOp::Recurrence { decay, input, start } => {
            let (decay_place, input_place) = (scope.tile(*decay), scope.tile(*input));
            let start = start.map(|s| scope.tile(s));
            let one_column = program.tile(*decay).cols.cap == 1 && program.tile(*input).cols.cap != 1;
            f.for_count(out.cols, |f, c| {
                let first = match &start {
                    Some(start) => read_as(f, start, None, Some(c), out.ty),
                    None => constant(f, out.ty, 0.0, 0),
                };
                let h = f.var(first);
                f.for_count(out.rows, |f, r| {
                    let a = read_as(f, &decay_place, Some(r), (!one_column).then_some(c), out.ty);
                    let x = read_as(f, &input_place, Some(r), Some(c), out.ty);
                    let old = f.get(h);
                    let product = mul(f, out.ty, a, old);
                    let new = add(f, out.ty, product, x);
                    f.set(h, new);
                    write(f, &out, r, c, new);
                });
            });
        }
        TileOp::Solve { lower, rhs } => {
            let (lower, rhs) = (scope.tile(*lower), scope.tile(*rhs));
            f.for_count(out.cols, |f, c| {
                f.for_count(out.rows, |f, i| {
                    let first = read_as(f, &rhs, Some(i), Some(c), out.ty);
                    let rest = f.var(first);
                    f.for_count(i, |f, j| {
                        let l = read_as(f, &lower, Some(i), Some(j), out.ty);
                        let x = read(f, &out, Some(j), Some(c));
                        let product = mul(f, out.ty, l, x);
                        let old = f.get(rest);
                        let new = match out.ty {
                            TileType::F32 | TileType::F64 => f.fsub(old, product),
                            TileType::I64 => f.isub(old, product),
                            TileType::Bool => f.bxor(old, product),
                        };
                        f.set(rest, new);
                    });
                    let above = f.get(rest);
                    let diagonal = read_as(f, &lower, Some(i), Some(i), out.ty);
                    let x = match out.ty {
                        TileType::F32 | TileType::F64 => f.fdiv(above, diagonal),
                        // Systems are of reals; of other kinds the diagonal is taken to be 1.
                        TileType::I64 | TileType::Bool => above,
                    };
                    write(f, &out, i, c, x);
                });
            });
        }
        TileOp::TopK { of } => {
            let of = scope.tile(*of);
            let columns = scope.tile(results[1]);
            top_k(f, &out, &columns, &of);
        }
    }
}

fn map(f: &mut Code, program: &TileProgram, scope: &mut Scope, out: &TilePlace, e: &Expr) {
    let real = precision(e, out.ty, scope, &|t| program.tile(t).ty);
    each(f, out, |f, r, c| {
        let x = Emitter::at(scope, real, Some(r), Some(c)).emit(f, e);
        let value = to_tile_type(f, x, out.ty);
        write(f, out, r, c, value);
    });
}

fn dot(f: &mut Code, scope: &Scope, out: &TilePlace, a: Matrix, b: Matrix, acc: Option<TileId>) {
    let place = |m: Matrix| {
        let t = scope.tile(m.tile);
        if !m.transposed {
            return t;
        }
        TilePlace { row_stride: t.col_stride, col_stride: t.row_stride, rows: t.cols, cols: t.rows, ..t }
    };
    let (a, b, acc) = (place(a), place(b), acc.map(|t| scope.tile(t)));
    let inner = a.cols;
    each(f, out, |f, r, c| {
        let first = match &acc {
            Some(acc) => read_as(f, acc, Some(r), Some(c), out.ty),
            None => constant(f, out.ty, 0.0, 0),
        };
        let sum = f.var(first);
        f.for_count(inner, |f, k| {
            let x = read_as(f, &a, Some(r), Some(k), out.ty);
            let y = read_as(f, &b, Some(k), Some(c), out.ty);
            let product = mul(f, out.ty, x, y);
            let old = f.get(sum);
            let new = add(f, out.ty, old, product);
            f.set(sum, new);
        });
        let value = f.get(sum);
        write(f, out, r, c, value);
    });
}

/// Selection: the next element is the greatest of those after the one before, in the order of falling value and rising
/// column.
fn top_k(f: &mut Code, values: &TilePlace, columns: &TilePlace, of: &TilePlace) {
    let real = matches!(of.ty, TileType::F32 | TileType::F64);
    let greater = |f: &mut Code, a: Value, b: Value| match of.ty {
        TileType::F32 | TileType::F64 => f.fcmp(FloatCC::GreaterThan, a, b),
        _ => f.icmp(IntCC::SignedGreaterThan, a, b),
    };
    let equal = |f: &mut Code, a: Value, b: Value| {
        if real { f.fcmp(FloatCC::Equal, a, b) } else { f.icmp(IntCC::Equal, a, b) }
    };
    f.for_count(of.rows, |f, r| {
        let top = constant(f, of.ty, f64::INFINITY, i64::MAX);
        let bottom = constant(f, of.ty, f64::NEG_INFINITY, i64::MIN);
        let none = f.int(-1);
        let (last_value, last_column) = (f.var(top), f.var(none));
        f.for_count(values.cols, |f, slot| {
            let (best_value, best_column) = (f.var(bottom), f.var(none));
            f.for_count(of.cols, |f, c| {
                let x = read(f, of, Some(r), Some(c));
                let (last, last_c) = (f.get(last_value), f.get(last_column));
                let less = greater(f, last, x);
                let same = equal(f, last, x);
                let later = f.icmp(IntCC::SignedGreaterThan, c, last_c);
                let tie = f.band(same, later);
                let eligible = f.bor(less, tie);
                let (best, best_c) = (f.get(best_value), f.get(best_column));
                let better = greater(f, x, best);
                let first = f.icmp_imm(IntCC::SignedLessThan, best_c, 0);
                let better = f.bor(better, first);
                let take = f.band(eligible, better);
                let x = f.select(take, x, best);
                let c = f.select(take, c, best_c);
                f.set(best_value, x);
                f.set(best_column, c);
            });
            let (best, best_c) = (f.get(best_value), f.get(best_column));
            write(f, values, r, slot, best);
            write(f, columns, r, slot, best_c);
            // After the last present element nothing is eligible any more.
            let found = f.icmp_imm(IntCC::SignedGreaterThanOrEqual, best_c, 0);
            let end = f.int(i64::MAX);
            let next = f.select(found, best_c, end);
            f.set(last_value, best);
            f.set(last_column, next);
        });
    });
}

/// Stores `value` for every row and column of the extents.
pub fn store(
    f: &mut Code,
    program: &TileProgram,
    scope: &mut Scope,
    tensor: usize,
    index: &[Expr],
    value: &Expr,
    extents: (&Extent, &Extent),
    guard: Option<&Expr>,
) {
    let tensor = scope.tensors[tensor].clone();
    let (rows, cols) = (count(f, scope, extents.0), count(f, scope, extents.1));
    let ty = match tensor.dtype {
        DType::F32 | DType::F16 | DType::BF16 => TileType::F32,
        other => TileType::of(other),
    };
    let real = precision(value, ty, scope, &|t| program.tile(t).ty);
    f.for_count(rows, |f, r| {
        f.for_count(cols, |f, c| {
            let mut emitter = Emitter::at(scope, real, Some(r), Some(c));
            let mut write = |f: &mut Code| {
                let x = emitter.emit(f, value);
                let at = emitter.address(f, &tensor, index);
                store_element(f, tensor.dtype, at, x);
            };
            match guard {
                None => write(f),
                Some(guard) => {
                    let holds = Emitter::at(scope, real, Some(r), Some(c)).bool(f, guard);
                    f.if_(holds, write);
                }
            }
        });
    });
}

/// Copies the present elements of a tile to another place of the same type.
pub fn copy(f: &mut Code, to: &TilePlace, from: &TilePlace) {
    each(f, to, |f, r, c| {
        let value = read(f, from, Some(r), Some(c));
        write(f, to, r, c, value);
    });
}

/// Exchanges the present elements of two tiles of one type and one shape.
pub fn exchange(f: &mut Code, a: &TilePlace, b: &TilePlace) {
    each(f, a, |f, r, c| {
        let (x, y) = (read(f, a, Some(r), Some(c)), read(f, b, Some(r), Some(c)));
        write(f, a, r, c, y);
        write(f, b, r, c, x);
    });
}
