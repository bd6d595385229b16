//! Matrix products: register tiles of "a scalar of one operand times vectors of the other".
//!
//! The result's lane axis decides which operand gives vectors (lanes side by side, whole vectors readable) and which
//! gives scalars (any strides, so it may be read where it lies in slow memory). A kernel runs over all rows of scalars
//! for one block of lanes; narrower kernels do what is left of the lanes.

use super::affine::other;
use super::lanes::{Forms, axis_of};
use crate::cpu::vkir::{Addr, Builder, Element, IReg, IntOp, IntSource, Isa, Kernel, Source, VReg, emit};
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Axis, Extent, Stmt, TileOp, TileProgram, TileType};
use std::collections::BTreeSet;

/// A product and its kernels.
#[derive(Clone, Debug)]
pub struct Product {
    /// Vectors of lanes that each kernel does at once, falling; the last is 1. Slots: see [`slot`].
    pub kernels: Vec<(usize, Kernel)>,
    /// Result.
    pub out: TileId,
    /// What is added.
    pub acc: Option<TileId>,
    /// Operand of vectors.
    pub vectors: TileId,
    /// Operand of scalars.
    pub scalars: TileId,
    /// Lanes of the result.
    pub lanes: Extent,
    /// Its other axis.
    pub across: Extent,
    /// What is summed over.
    pub inner: Extent,
    /// Rows of a register tile.
    pub rows: usize,
    /// How the elements of the operand of vectors are kept.
    pub element: Element,
}

/// Argument slots of a product's kernels.
pub mod slot {
    /// Whole rounds of the unrolled inner loop.
    pub const ROUNDS: usize = 0;
    /// Steps after these.
    pub const STEPS: usize = 1;
    /// Whole register tiles along the other axis.
    pub const BLOCKS: usize = 2;
    /// Rows after these.
    pub const ROWS: usize = 3;
    /// Scalars.
    pub const SCALARS: usize = 4;
    /// Vectors.
    pub const VECTORS: usize = 5;
    /// Result.
    pub const OUT: usize = 6;
    /// Addend.
    pub const ACC: usize = 7;
    /// Length of the inner loop.
    pub const INNER: usize = 8;
    /// Slots in all.
    pub const COUNT: usize = 9;
}

/// Steps of the inner loop written out.
pub const UNROLL: usize = 4;

/// Strides in bytes.
#[derive(Clone, Copy)]
struct Strides {
    scalar_row: i32,
    scalar_inner: i32,
    vector_inner: i32,
    vector: Element,
    out_row: i32,
    acc_row: i32,
}

/// Register tile: vectors of lanes and rows.
fn shape(isa: Isa, vectors: usize, across: usize, most_rows: usize) -> (usize, usize) {
    let registers = isa.vector_registers();
    let choices: &[(usize, usize)] = match isa {
        // Measured on Zen 4: all of these reach 98 % of peak from L2.
        Isa::Avx512 { .. } => &[(4, 6), (3, 8), (2, 13), (1, 14)],
        Isa::Avx2 => &[(2, 6), (1, 10), (3, 4)],
        Isa::Clif => &[(2, 4), (1, 8), (3, 3)],
    };
    debug_assert!(choices.iter().all(|&(v, r)| v * r + v < registers));
    let most = choices.iter().map(|c| c.0).max().unwrap_or(1);
    let (width, rows) = match choices.iter().find(|c| c.0 == vectors) {
        Some(&exact) => exact,
        None => {
            let divides = choices.iter().find(|c| c.0 > 1 && vectors.is_multiple_of(c.0));
            *divides.unwrap_or(choices.iter().find(|c| c.0 == most.min(vectors)).unwrap_or(&choices[0]))
        }
    };
    let rows = rows.min(most_rows);
    // As few register tiles as that takes, of one height as far as possible.
    let blocks = across.div_ceil(rows).max(1);
    (width, across.div_ceil(blocks).clamp(1, rows))
}

fn tile_rows(b: &mut Builder, rows: usize, vectors: usize, s: Strides, registers: &Registers, init: bool) {
    let lanes = b.lanes();
    let bytes = (lanes * 4) as i32;
    let sums: Vec<VReg> = if init {
        let at = |i: usize, j: usize| Addr::new(registers.acc).offset(i as i32 * s.acc_row + j as i32 * bytes);
        (0..rows * vectors).map(|k| b.load(at(k / vectors, k % vectors))).collect()
    } else {
        (0..rows * vectors).map(|_| b.constant(0.0)).collect()
    };
    let (rounds, steps) = match registers.ends {
        Ends::Together { rounds, steps } => (rounds, steps),
        Ends::OnDiagonal(row) => {
            b.advance(row, rows as i32);
            let inner = b.arg(slot::INNER);
            let n = b.int_op(IntOp::Min, row, IntSource::Reg(inner));
            let rounds = b.int_shift(n, -(UNROLL.trailing_zeros() as i8));
            (rounds, b.int_op(IntOp::And, n, UNROLL as i32 - 1))
        }
    };
    let scalar = b.int_copy(registers.scalars);
    let vector = b.int_copy(registers.vectors);
    let step = |b: &mut Builder, round: i32| {
        let bytes = (lanes * s.vector.bytes()) as i32;
        let at = |j: usize| Addr::new(vector).offset(round * s.vector_inner + j as i32 * bytes);
        let columns: Vec<VReg> = (0..vectors).map(|j| b.load_as(at(j), s.vector, None)).collect();
        for i in 0..rows {
            let at = Addr::new(scalar).offset(i as i32 * s.scalar_row + round * s.scalar_inner);
            let embedded = b.isa().embedded_broadcast() && vectors <= 4;
            let factor = if embedded { Source::Broadcast(at) } else { Source::Reg(b.broadcast(at, Element::F32)) };
            for j in 0..vectors {
                b.fma(sums[i * vectors + j], columns[j], factor);
            }
        }
    };
    b.loop_(rounds, |b, _| {
        (0..UNROLL as i32).for_each(|round| step(b, round));
        b.advance(scalar, UNROLL as i32 * s.scalar_inner);
        b.advance(vector, UNROLL as i32 * s.vector_inner);
    });
    b.loop_(steps, |b, _| {
        step(b, 0);
        b.advance(scalar, s.scalar_inner);
        b.advance(vector, s.vector_inner);
    });
    for i in 0..rows {
        for j in 0..vectors {
            b.store(sums[i * vectors + j], Addr::new(registers.out).offset(i as i32 * s.out_row + j as i32 * bytes));
        }
    }
    b.advance(registers.scalars, rows as i32 * s.scalar_row);
    b.advance(registers.out, rows as i32 * s.out_row);
    if init {
        b.advance(registers.acc, rows as i32 * s.acc_row);
    }
}

/// Where the inner loop of a register tile ends.
#[derive(Clone, Copy)]
enum Ends {
    /// At the same place for all rows: rounds and steps.
    Together { rounds: IReg, steps: IReg },
    /// At the diagonal of a triangle: one past the last row that was done.
    OnDiagonal(IReg),
}

struct Registers {
    ends: Ends,
    scalars: IReg,
    vectors: IReg,
    out: IReg,
    acc: IReg,
}

fn kernel(isa: Isa, rows: usize, vectors: usize, across: &Extent, s: Strides, init: bool, triangular: bool) -> Kernel {
    let mut b = Builder::new("product", isa, slot::COUNT);
    let b = &mut b;
    let registers = Registers {
        ends: match triangular {
            true => Ends::OnDiagonal(b.int(0)),
            false => Ends::Together { rounds: b.arg(slot::ROUNDS), steps: b.arg(slot::STEPS) },
        },
        scalars: b.arg(slot::SCALARS),
        vectors: b.arg(slot::VECTORS),
        out: b.arg(slot::OUT),
        acc: if init { b.arg(slot::ACC) } else { IReg(0) },
    };
    let blocks = b.arg(slot::BLOCKS);
    b.loop_(blocks, |b, _| tile_rows(b, rows, vectors, s, &registers, init));
    if across.is_fixed() {
        let rest = across.cap % rows;
        if rest > 0 {
            tile_rows(b, rest, vectors, s, &registers, init);
        }
    } else {
        let rest = b.arg(slot::ROWS);
        let mut part = (rows.next_power_of_two() / 2).max(1);
        while part > 0 && rows > 1 {
            let bit = b.int_op(IntOp::And, rest, part as i32);
            b.if_positive(bit, |b| tile_rows(b, part, vectors, s, &registers, init));
            part /= 2;
        }
    }
    std::mem::replace(b, Builder::new("", isa, 0)).finish()
}

/// What a dot needs of an operand that it does not have: the tile, and the lane axis that it should have.
pub fn wanted(program: &TileProgram, forms: &Forms, stmt: &Stmt) -> Vec<(TileId, Axis)> {
    let Stmt::Let { results, op: TileOp::Dot { a, b, acc } } = stmt else { return Vec::new() };
    let Some(lane) = forms.product_lane(results[0]) else { return Vec::new() };
    let turned = super::inner::fits(program, forms, stmt);
    let vectors = if lane == Axis::Cols { *b } else { *a };
    let mut all = Vec::new();
    let narrow = |t: TileId| program.tile(t).ty == TileType::F32;
    let axis = axis_of(vectors, lane);
    if !turned && narrow(vectors.tile) && !forms.is_contiguous(program, vectors.tile, axis) {
        all.push((vectors.tile, axis));
    }
    if let Some(acc) = acc
        && narrow(*acc)
        && stride_along(program, forms, *acc, lane) != 4
    {
        all.push((*acc, lane));
    }
    all
}

fn stride_along(program: &TileProgram, forms: &Forms, t: TileId, axis: Axis) -> i64 {
    let (row, col) = forms.strides(program, t);
    if axis == Axis::Rows { row } else { col }
}

/// The kernels of a dot, if its operands lie as they must; `triangles` are the tiles that are 0 above the diagonal.
pub fn build(
    program: &TileProgram,
    forms: &Forms,
    triangles: &BTreeSet<TileId>,
    stmt: &Stmt,
    isa: Isa,
) -> Option<Product> {
    let Stmt::Let { results, op: TileOp::Dot { a, b, acc } } = stmt else { return None };
    let out = results[0];
    let lane = forms.product_lane(out)?;
    let tiles = [Some(out), Some(a.tile), Some(b.tile), *acc];
    if tiles.into_iter().flatten().any(|t| program.tile(t).ty != TileType::F32) {
        return None;
    }
    if !wanted(program, forms, stmt).is_empty() || super::inner::fits(program, forms, stmt) {
        return None;
    }
    let (vectors, scalars) = if lane == Axis::Cols { (*b, *a) } else { (*a, *b) };
    let across = other(lane);
    let extent = |t: TileId, axis: Axis| {
        let tile = program.tile(t);
        if axis == Axis::Rows { tile.rows.clone() } else { tile.cols.clone() }
    };
    let stride = |t: TileId, axis: Axis| i32::try_from(stride_along(program, forms, t, axis)).ok();
    let strides = Strides {
        scalar_row: stride(scalars.tile, axis_of(scalars, across))?,
        scalar_inner: stride(scalars.tile, axis_of(scalars, lane))?,
        vector_inner: stride(vectors.tile, axis_of(vectors, across))?,
        vector: forms.element(vectors.tile),
        out_row: stride(out, across)?,
        acc_row: acc.map_or(Some(0), |acc| stride(acc, across))?,
    };
    if forms.half(scalars.tile).is_some() {
        return None;
    }
    // Displacements of a register tile stay in 32 bits.
    let reach = [strides.scalar_row, strides.scalar_inner, strides.vector_inner, strides.out_row, strides.acc_row];
    if reach.iter().any(|s| s.unsigned_abs() > 1 << 24) {
        return None;
    }
    let (lanes, across_extent) = (extent(out, lane), extent(out, across));
    let count = lanes.cap.div_ceil(isa.lanes());
    // Rows of scalars a multiple of 4096 bytes apart share one set of an eight-way first-level cache; one way is left
    // for the vectors.
    let most_rows = if strides.scalar_row % 4096 == 0 && strides.scalar_inner == 4 { 7 } else { usize::MAX };
    let (width, rows) = shape(isa, count, across_extent.cap, most_rows);
    let of_triangle = lane == Axis::Cols && !scalars.transposed && triangles.contains(&scalars.tile);
    let mut kernels = Vec::new();
    let mut left = width;
    let mut vectors_done = 0;
    while left > 0 {
        // A block of fixed width that divides needs no narrower kernels.
        let needed = if lanes.is_fixed() { (count - vectors_done) / left > 0 } else { count >= left };
        if needed {
            let kernel = kernel(isa, rows, left, &across_extent, strides, acc.is_some(), of_triangle);
            if isa != Isa::Clif && emit(&kernel, isa).is_err() {
                return None;
            }
            if lanes.is_fixed() {
                vectors_done += (count - vectors_done) / left * left;
            }
            kernels.push((left, kernel));
        }
        left = if left == 1 { 0 } else { left.next_power_of_two() / 2 };
    }
    Some(Product {
        kernels,
        out,
        acc: *acc,
        vectors: vectors.tile,
        scalars: scalars.tile,
        lanes,
        across: across_extent,
        inner: extent(vectors.tile, axis_of(vectors, across)),
        rows,
        element: strides.vector,
    })
}
