//! Products with few rows: both operands lie along the summed axis, which becomes the lanes.
//!
//! A query against a cache of keys is one: neither operand has lanes along the result, and turning the keys over would
//! cost more than the product. W sums at a time are kept in W registers, which a transposition in registers brings
//! together.

use super::affine::other;
use super::lanes::{Forms, axis_of};
use crate::cpu::vkir::{Addr, Builder, Element, IReg, IntOp, Isa, Kernel, ReduceOp, Source, VReg, emit};
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Axis, Extent, Matrix, Stmt, TileOp, TileProgram, TileType};

/// Most rows of a result that is made this way.
pub const MOST_ROWS: usize = 2;

/// A product and its kernel.
#[derive(Clone, Debug)]
pub struct InnerProduct {
    /// For one row. Slots: length of the sums, lanes, the row's operand, the lanes' operand, result, addend.
    pub kernel: Kernel,
    /// Result.
    pub out: TileId,
    /// What is added.
    pub acc: Option<TileId>,
    /// The operand of the few rows.
    pub few: TileId,
    /// The operand of the result's lanes.
    pub many: TileId,
    /// Result's rows (few), lanes, and the summed axis.
    pub extents: [Extent; 3],
    /// Bytes from a row to the next, of the rows' operand, the result and the addend.
    pub steps: [i64; 3],
}

/// A dot's operands for a result along `lane`: the one of the lanes, then the other.
pub fn roles(lane: Axis, a: Matrix, b: Matrix) -> (Matrix, Matrix) {
    if lane == Axis::Cols { (b, a) } else { (a, b) }
}

/// Whether a result of this shape is made along the summed axis, given the bytes between neighbours on that axis.
pub fn suits(program: &TileProgram, out: TileId, lane: Axis, along: [i64; 2]) -> bool {
    let tile = program.tile(out);
    let few = if lane == Axis::Cols { tile.rows.cap } else { tile.cols.cap };
    few <= MOST_ROWS && along == [4, 4]
}

fn stride(program: &TileProgram, forms: &Forms, t: TileId, axis: Axis) -> i64 {
    let (row, col) = forms.strides(program, t);
    if axis == Axis::Rows { row } else { col }
}

/// Whether a dot has few rows and operands along the summed axis.
pub fn fits(program: &TileProgram, forms: &Forms, stmt: &Stmt) -> bool {
    let Stmt::Let { results, op: TileOp::Dot { a, b, .. } } = stmt else { return false };
    let Some(lane) = forms.lane(results[0]) else { return false };
    let (many, few) = roles(lane, *a, *b);
    let along = [
        stride(program, forms, many.tile, axis_of(many, other(lane))),
        stride(program, forms, few.tile, axis_of(few, lane)),
    ];
    suits(program, results[0], lane, along) && stride(program, forms, many.tile, axis_of(many, lane)) != 4
}

/// The kernel of such a dot.
pub fn build(program: &TileProgram, forms: &Forms, stmt: &Stmt, isa: Isa) -> Option<InnerProduct> {
    let Stmt::Let { results, op: TileOp::Dot { a, b, acc } } = stmt else { return None };
    let out = results[0];
    let tiles = [Some(out), Some(a.tile), Some(b.tile), *acc];
    if tiles.into_iter().flatten().any(|t| program.tile(t).ty != TileType::F32) || !fits(program, forms, stmt) {
        return None;
    }
    let lane = forms.lane(out)?;
    let (many, few) = roles(lane, *a, *b);
    let bytes = |t: TileId, axis: Axis| i32::try_from(stride(program, forms, t, axis)).ok();
    if let Some(acc) = acc
        && bytes(*acc, lane)? != 4
    {
        return None;
    }
    let many_stride = bytes(many.tile, axis_of(many, lane))?;
    if many_stride.unsigned_abs() > 1 << 24 {
        return None;
    }
    let row = |t: TileId, axis: Axis| stride(program, forms, t, axis);
    let steps =
        [row(few.tile, axis_of(few, other(lane))), row(out, other(lane)), acc.map_or(0, |acc| row(acc, other(lane)))];
    let extent = |t: TileId, axis: Axis| {
        let tile = program.tile(t);
        if axis == Axis::Rows { tile.rows.clone() } else { tile.cols.clone() }
    };
    let kernel = kernel(isa, many_stride, acc.is_some());
    if isa != Isa::Clif && emit(&kernel, isa).is_err() {
        return None;
    }
    let extents = [extent(out, other(lane)), extent(out, lane), extent(many.tile, axis_of(many, other(lane)))];
    Some(InnerProduct { kernel, out, acc: *acc, few: few.tile, many: many.tile, extents, steps })
}

/// The sums over whole vectors and the rest of the summed axis, one for each of `rows` rows of the long operand.
fn sums(b: &mut Builder, rows: usize, many: IReg, few: IReg, counts: (IReg, IReg), stride: i32) -> Vec<VReg> {
    let sums: Vec<VReg> = (0..rows).map(|_| b.constant(0.0)).collect();
    let (from, with) = (b.int_copy(many), b.int_copy(few));
    let bytes = (b.lanes() * 4) as i32;
    b.loop_(counts.0, |b, _| {
        let x = b.load(Addr::new(with));
        for (j, sum) in sums.iter().enumerate() {
            b.fma(*sum, x, Source::Memory(Addr::new(from).offset(j as i32 * stride)));
        }
        b.advance(from, bytes);
        b.advance(with, bytes);
    });
    b.if_positive(counts.1, |b| {
        let tail = b.tail(counts.1);
        let x = b.load_as(Addr::new(with), Element::F32, Some(tail));
        for (j, sum) in sums.iter().enumerate() {
            let y = b.load_as(Addr::new(from).offset(j as i32 * stride), Element::F32, Some(tail));
            b.fma(*sum, x, y);
        }
    });
    sums
}

fn kernel(isa: Isa, stride: i32, init: bool) -> Kernel {
    let mut b = Builder::new("inner", isa, 6);
    let b = &mut b;
    let width = b.lanes();
    let log2 = width.trailing_zeros() as i8;
    let (length, lanes) = (b.arg(0), b.arg(1));
    let (few, many, to) = (b.arg(2), b.arg(3), b.arg(4));
    let from = if init { b.arg(5) } else { to };
    let counts = (b.int_shift(length, -log2), b.int_op(IntOp::And, length, width as i32 - 1));
    let (whole, rest) = (b.int_shift(lanes, -log2), b.int_op(IntOp::And, lanes, width as i32 - 1));
    let next = |b: &mut Builder, lanes: i32| {
        b.advance(many, lanes * stride);
        b.advance(to, lanes * 4);
        if init {
            b.advance(from, lanes * 4);
        }
    };
    b.loop_(whole, |b, _| {
        let mut parts = sums(b, width, many, few, counts, stride);
        b.transpose(&parts);
        while parts.len() > 1 {
            parts = parts.chunks(2).map(|pair| b.add(pair[0], pair[1])).collect();
        }
        let mut sum = parts[0];
        if init {
            sum = b.add(sum, Source::Memory(Addr::new(from)));
        }
        b.store(sum, Addr::new(to));
        next(b, width as i32);
    });
    b.loop_(rest, |b, _| {
        let parts = sums(b, 1, many, few, counts, stride);
        let mut sum = b.reduce(ReduceOp::Sum, parts[0]);
        if init {
            let before = b.broadcast(Addr::new(from), Element::F32);
            sum = b.add(sum, before);
        }
        b.store_lane(sum, Addr::new(to), Element::F32);
        next(b, 1);
    });
    std::mem::replace(b, Builder::new("", isa, 0)).finish()
}
