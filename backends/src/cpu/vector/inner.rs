//! Products with few rows: both operands lie along the summed axis, which becomes the lanes.
//!
//! A query against a cache of keys is one: neither operand has lanes along the result, and turning the keys over would
//! cost more than the product. W sums at a time are kept in W registers, whose lanes are then added up together; all rows
//! meet W rows of the long operand while the first-level cache holds these.

use super::affine::other;
use super::lanes::{Forms, axis_of};
use crate::cpu::vkir::{Addr, Builder, Count, Element, IReg, IntOp, Isa, Kernel, ReduceOp, Source, Tail, VReg, emit};
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Axis, Extent, Matrix, Stmt, TileOp, TileProgram, TileType};

/// Most rows of a result that is made this way, of sums over `depth` elements: where these do not fill a vector, most of
/// the work would be bringing lanes together.
pub fn most_rows(width: usize, depth: usize) -> usize {
    if depth < width { 2 } else { 8 }
}

/// Vector operations that bring a result's lanes together, an element: 45 for a register of 16.
pub const GATHERING: f64 = 45.0 / 16.0;

/// A product and its kernel.
#[derive(Clone, Debug)]
pub struct InnerProduct {
    /// Slots: length of the sums, lanes, rows, the rows' operand, the lanes' operand, result, addend.
    pub kernel: Kernel,
    /// Result.
    pub out: TileId,
    /// What is added.
    pub acc: Option<TileId>,
    /// The operand of the few rows.
    pub few: TileId,
    /// The operand of the result's lanes.
    pub many: TileId,
    /// The summed axis, the result's lanes and its rows (few).
    pub extents: [Extent; 3],
}

/// A dot's operands for a result along `lane`: the one of the lanes, then the other.
pub fn roles(lane: Axis, a: Matrix, b: Matrix) -> (Matrix, Matrix) {
    if lane == Axis::Cols { (b, a) } else { (a, b) }
}

/// Whether a result of this shape is made along the summed axis, of at most `depth` elements, given whether the operands'
/// elements lie side by side on that axis.
pub fn suits(forms: &Forms, few: usize, depth: usize, along: [bool; 2]) -> bool {
    few <= most_rows(forms.width, depth) && along == [true, true]
}

/// The capacity of an axis.
fn cap(program: &TileProgram, t: TileId, axis: Axis) -> usize {
    let tile = program.tile(t);
    if axis == Axis::Rows { tile.rows.cap } else { tile.cols.cap }
}

/// Rows and summed elements of a product along `lane`.
pub fn lengths(program: &TileProgram, out: TileId, lane: Axis, many: Matrix) -> (usize, usize) {
    (cap(program, out, other(lane)), cap(program, many.tile, axis_of(many, other(lane))))
}

fn stride(program: &TileProgram, forms: &Forms, t: TileId, axis: Axis) -> i64 {
    let (row, col) = forms.strides(program, t);
    if axis == Axis::Rows { row } else { col }
}

/// Whether a dot has few rows and operands along the summed axis.
pub fn fits(program: &TileProgram, forms: &Forms, stmt: &Stmt) -> bool {
    let Stmt::Let { results, op: TileOp::Dot { a, b, .. } } = stmt else { return false };
    let Some(lane) = forms.product_lane(results[0]) else { return false };
    let (many, few) = roles(lane, *a, *b);
    let along = [
        forms.is_contiguous(program, many.tile, axis_of(many, other(lane))),
        forms.is_contiguous(program, few.tile, axis_of(few, lane)) && forms.half(few.tile).is_none(),
    ];
    let (rows, depth) = lengths(program, results[0], lane, many);
    suits(forms, rows, depth, along) && !forms.is_contiguous(program, many.tile, axis_of(many, lane))
}

/// The kernel of such a dot.
pub fn build(program: &TileProgram, forms: &Forms, stmt: &Stmt, isa: Isa) -> Option<InnerProduct> {
    let Stmt::Let { results, op: TileOp::Dot { a, b, acc } } = stmt else { return None };
    let out = results[0];
    let tiles = [Some(out), Some(a.tile), Some(b.tile), *acc];
    if tiles.into_iter().flatten().any(|t| program.tile(t).ty != TileType::F32) || !fits(program, forms, stmt) {
        return None;
    }
    let lane = forms.product_lane(out)?;
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
    let steps = Steps {
        many: many_stride,
        element: forms.element(many.tile),
        few: bytes(few.tile, axis_of(few, other(lane)))?,
        out: bytes(out, other(lane))?,
        acc: match acc {
            Some(acc) => Some(bytes(*acc, other(lane))?),
            None => None,
        },
    };
    let extent = |t: TileId, axis: Axis| {
        let tile = program.tile(t);
        if axis == Axis::Rows { tile.rows.clone() } else { tile.cols.clone() }
    };
    let extents = [extent(many.tile, axis_of(many, other(lane))), extent(out, lane), extent(out, other(lane))];
    let kernel = kernel(isa, &steps, &extents[0]);
    if isa != Isa::Clif && emit(&kernel, isa).is_err() {
        return None;
    }
    Some(InnerProduct { kernel, out, acc: *acc, few: few.tile, many: many.tile, extents })
}

/// Vectors of a sum that are written out, of all rows one after the other: memory is then read from its start to its
/// end, which is three times as fast where it does not come from a cache.
const WRITTEN_OUT: usize = 8;

/// The sums over whole vectors and the rest of the summed axis, one for each of `rows` rows of the long operand.
fn sums(b: &mut Builder, rows: usize, many: IReg, few: IReg, length: &Length, steps: &Steps) -> Vec<VReg> {
    let (stride, element) = (steps.many, steps.element);
    let bytes = element.bytes() as i32;
    let sums: Vec<VReg> = (0..rows).map(|_| b.constant(0.0)).collect();
    let (from, with) = (b.int_copy(many), b.int_copy(few));
    let width = b.lanes() as i32;
    match length.fixed.map(|n| n / b.lanes()) {
        Some(vectors) if vectors <= WRITTEN_OUT => {
            let free = b.isa().vector_registers() >= rows + vectors + 2;
            let x: Vec<Source> = (0..vectors as i32)
                .map(|k| Addr::new(with).offset(k * width * 4))
                .map(|at| if free { Source::Reg(b.load(at)) } else { Source::Memory(at) })
                .collect();
            for (j, sum) in sums.iter().enumerate() {
                for (k, x) in x.iter().enumerate() {
                    let at = Addr::new(from).offset(j as i32 * stride + k as i32 * width * bytes);
                    let y = b.load_as(at, element, None);
                    b.fma(*sum, y, *x);
                }
            }
            b.advance(from, vectors as i32 * width * bytes);
            b.advance(with, vectors as i32 * width * 4);
        }
        vectors => {
            let whole = match vectors {
                Some(n) => Count::from(n as i64),
                None => {
                    let n = b.arg(LENGTH);
                    Count::from(b.int_shift(n, -(width.trailing_zeros() as i8)))
                }
            };
            b.loop_(whole, |b, _| {
                let x = b.load(Addr::new(with));
                for (j, sum) in sums.iter().enumerate() {
                    let at = Addr::new(from).offset(j as i32 * stride);
                    let y = match element {
                        Element::F32 => Source::Memory(at),
                        _ => Source::Reg(b.load_as(at, element, None)),
                    };
                    b.fma(*sum, x, y);
                }
                b.advance(from, width * bytes);
                b.advance(with, width * 4);
            });
        }
    }
    let Some(tail) = length.tail else { return sums };
    let n = b.arg(LENGTH);
    let rest = b.int_op(IntOp::And, n, width - 1);
    b.if_positive(rest, |b| {
        let x = b.load_as(Addr::new(with), Element::F32, Some(tail));
        for (j, sum) in sums.iter().enumerate() {
            let y = b.load_as(Addr::new(from).offset(j as i32 * stride), element, Some(tail));
            b.fma(*sum, x, y);
        }
    });
    sums
}

/// The length of the sums.
struct Length {
    /// Where it is always the same.
    fixed: Option<usize>,
    /// The lanes of the last, incomplete vector, where there may be one.
    tail: Option<Tail>,
}

/// Slots of the kernel's arguments.
const LENGTH: usize = 0;
const LANES: usize = 1;
const ROWS: usize = 2;
const FEW: usize = 3;
const MANY: usize = 4;
const OUT: usize = 5;
const ACC: usize = 6;

/// Bytes from a row to the next.
struct Steps {
    many: i32,
    /// How the elements of the long operand are kept.
    element: Element,
    few: i32,
    out: i32,
    acc: Option<i32>,
}

fn kernel(isa: Isa, steps: &Steps, summed: &Extent) -> Kernel {
    let mut b = Builder::new("inner", isa, ACC + 1);
    let b = &mut b;
    let width = b.lanes();
    let log2 = width.trailing_zeros() as i8;
    let (many, to) = (b.arg(MANY), b.arg(OUT));
    let from = steps.acc.map(|step| (b.arg(ACC), step));
    let fixed = summed.is_fixed().then_some(summed.cap);
    let tail = fixed.is_none_or(|n| n % width > 0).then(|| {
        let n = b.arg(LENGTH);
        let rest = b.int_op(IntOp::And, n, width as i32 - 1);
        b.tail(rest)
    });
    let length = Length { fixed, tail };
    // All rows against `lanes` rows of the long operand, then on. Loops leave no registers to keep the other arguments in.
    let blocks = |b: &mut Builder, count: IReg, lanes: usize| {
        b.loop_(count, |b, _| {
            let (row, at) = (b.arg(FEW), b.int_copy(to));
            let addend = from.map(|(from, step)| (b.int_copy(from), step));
            let rows = b.arg(ROWS);
            b.loop_(rows, |b, _| {
                let parts = sums(b, lanes, many, row, &length, steps);
                let whole = parts.len() == b.lanes();
                let mut sum = if whole { b.lane_sums(&parts) } else { b.reduce(ReduceOp::Sum, parts[0]) };
                if let Some((from, step)) = addend {
                    let before = match whole {
                        true => Source::Memory(Addr::new(from)),
                        false => Source::Reg(b.broadcast(Addr::new(from), Element::F32)),
                    };
                    sum = b.add(sum, before);
                    b.advance(from, step);
                }
                match whole {
                    true => b.store(sum, Addr::new(at)),
                    false => b.store_lane(sum, Addr::new(at), Element::F32),
                }
                b.advance(row, steps.few);
                b.advance(at, steps.out);
            });
            b.advance(many, lanes as i32 * steps.many);
            b.advance(to, lanes as i32 * 4);
            if let Some((from, _)) = from {
                b.advance(from, lanes as i32 * 4);
            }
        });
    };
    let lanes = b.arg(LANES);
    let whole = b.int_shift(lanes, -log2);
    blocks(b, whole, width);
    let lanes = b.arg(LANES);
    let rest = b.int_op(IntOp::And, lanes, width as i32 - 1);
    blocks(b, rest, 1);
    std::mem::replace(b, Builder::new("", isa, 0)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_registers_enough() {
        for isa in [Isa::Avx512 { bf16: false }, Isa::Avx2] {
            let any = Extent { cap: 100, count: mixc_ir::expr::Expr::from(mixc_ir::expr::Var(2)) };
            let even = Extent::fixed(64);
            let long = Extent::fixed(256);
            let cases = [(None, Element::F32, &any), (Some(256), Element::F32, &any)];
            let halves = [(Some(256), Element::Bf16, &even), (Some(256), Element::F16, &long)];
            for (acc, element, summed) in cases.into_iter().chain(halves) {
                let kernel = kernel(isa, &Steps { many: 256, element, few: 256, out: 1024, acc }, summed);
                let emitted = emit(&kernel, isa);
                assert!(emitted.is_ok(), "{isa:?} {acc:?}: {:?}", emitted.err());
            }
        }
    }
}
