//! Triangular systems: every vector of right sides is solved by itself, row after row.

use super::lanes::Forms;
use crate::cpu::vkir::{Addr, Builder, Element, Isa, Kernel, Source, VReg, emit};
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Axis, Extent, Stmt, TileOp, TileProgram, TileType};

/// A system and its kernels.
#[derive(Clone, Debug)]
pub struct Solve {
    /// Vectors of columns that each kernel does at once, falling; the last is 1. Slots: rows, triangle, right sides,
    /// result.
    pub kernels: Vec<(usize, Kernel)>,
    /// The triangle.
    pub lower: TileId,
    /// The right sides.
    pub rhs: TileId,
    /// The solutions.
    pub out: TileId,
    /// Rows.
    pub rows: Extent,
    /// Columns.
    pub cols: Extent,
}

/// The kernels of a system, if its tiles lie as they must.
pub fn build(program: &TileProgram, forms: &Forms, stmt: &Stmt, isa: Isa) -> Option<Solve> {
    let Stmt::Let { results, op: TileOp::Solve { lower, rhs } } = stmt else { return None };
    let out = results[0];
    let narrow = [*lower, *rhs, out].iter().all(|t| program.tile(*t).ty == TileType::F32);
    let across = [*rhs, out].iter().all(|t| forms.strides(program, *t).1 == 4 && forms.lane(*t).is_some());
    if !narrow || !across || forms.lane(out) != Some(Axis::Cols) && program.tile(out).rows.cap > 1 {
        return None;
    }
    let stride = |t: TileId| i32::try_from(forms.strides(program, t).0).ok();
    let column = i32::try_from(forms.strides(program, *lower).1).ok()?;
    let strides = (stride(*lower)?, column, stride(*rhs)?, stride(out)?);
    let kernels: Vec<(usize, Kernel)> = [4, 2, 1].into_iter().map(|v| (v, kernel(isa, v, strides))).collect();
    if isa != Isa::Clif && kernels.iter().any(|(_, k)| emit(k, isa).is_err()) {
        return None;
    }
    let tile = program.tile(out);
    Some(Solve { kernels, lower: *lower, rhs: *rhs, out, rows: tile.rows.clone(), cols: tile.cols.clone() })
}

fn kernel(isa: Isa, vectors: usize, (lower_row, lower_col, rhs_row, out_row): (i32, i32, i32, i32)) -> Kernel {
    let mut b = Builder::new("solve", isa, 4);
    let b = &mut b;
    let bytes = (b.lanes() * 4) as i32;
    let (rows, lower, rhs, out) = (b.arg(0), b.arg(1), b.arg(2), b.arg(3));
    let to = b.int_copy(out);
    b.loop_(rows, |b, i| {
        let sums: Vec<VReg> = (0..vectors).map(|v| b.load(Addr::new(rhs).offset(v as i32 * bytes))).collect();
        let factor = b.int_copy(lower);
        let known = b.int_copy(out);
        b.loop_(i, |b, _| {
            let l = b.broadcast(Addr::new(factor), Element::F32);
            for (v, sum) in sums.iter().enumerate() {
                b.fnma(*sum, l, Source::Memory(Addr::new(known).offset(v as i32 * bytes)));
            }
            b.advance(factor, lower_col);
            b.advance(known, out_row);
        });
        // After i steps along the row: the diagonal.
        let diagonal = b.broadcast(Addr::new(factor), Element::F32);
        for (v, sum) in sums.iter().enumerate() {
            let x = b.div(*sum, diagonal);
            b.store(x, Addr::new(to).offset(v as i32 * bytes));
        }
        b.advance(lower, lower_row);
        b.advance(rhs, rhs_row);
        b.advance(to, out_row);
    });
    std::mem::replace(b, Builder::new("", isa, 0)).finish()
}
