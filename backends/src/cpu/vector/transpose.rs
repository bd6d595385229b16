//! Moving a tile to the other lane axis: squares of W by W elements, transposed in registers.

use super::affine::other;
use super::lanes::Forms;
use crate::cpu::vkir::{Addr, Builder, Isa, Kernel, VReg, emit};
use mixc_ir::expr::{Node, Pick, TileId};
use mixc_ir::tile::{Axis, Extent, Stmt, TileOp, TileProgram};

/// A transposition and its kernel.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// Slots: squares along the source's lanes, squares along its other axis, source, destination.
    pub kernel: Kernel,
    /// From.
    pub source: TileId,
    /// To.
    pub out: TileId,
    /// The source's lanes.
    pub lanes: Extent,
    /// Its other axis.
    pub across: Extent,
}

/// The source of a statement that copies a tile to the other lane axis.
pub fn source(forms: &Forms, stmt: &Stmt) -> Option<(TileId, TileId)> {
    let Stmt::Let { results, op: TileOp::Map(value) } = stmt else { return None };
    let Node::Tile(source, Pick::Row, Pick::Col) = value.node() else { return None };
    let (from, to) = (forms.lane(*source)?, forms.lane(results[0])?);
    (from != to).then_some((*source, results[0]))
}

/// The kernel of such a statement.
pub fn build(program: &TileProgram, forms: &Forms, stmt: &Stmt, isa: Isa) -> Option<Transpose> {
    let (from, to) = source(forms, stmt)?;
    if !forms.square[from.0 as usize] || !forms.square[to.0 as usize] {
        return None;
    }
    let lane = forms.lane(from)?;
    let stride = |t: TileId, axis: Axis| {
        let (row, col) = forms.strides(program, t);
        i32::try_from(if axis == Axis::Rows { row } else { col }).ok()
    };
    let (source_stride, out_stride) = (stride(from, other(lane))?, stride(to, lane)?);
    let width = isa.lanes() as i32;
    if source_stride.checked_mul(width).is_none() || out_stride.checked_mul(width).is_none() {
        return None;
    }
    let tile = program.tile(from);
    let (lanes, across) = if lane == Axis::Rows {
        (tile.rows.clone(), tile.cols.clone())
    } else {
        (tile.cols.clone(), tile.rows.clone())
    };
    let mut b = Builder::new("transpose", isa, 4);
    let b = &mut b;
    let (along, down, source, out) = (b.arg(0), b.arg(1), b.arg(2), b.arg(3));
    b.loop_(down, |b, _| {
        let from = b.int_copy(source);
        let to = b.int_copy(out);
        b.loop_(along, |b, _| {
            let rows: Vec<VReg> = (0..width).map(|i| b.load(Addr::new(from).offset(i * source_stride))).collect();
            b.transpose(&rows);
            for (i, row) in rows.iter().enumerate() {
                b.store(*row, Addr::new(to).offset(i as i32 * out_stride));
            }
            b.advance(from, width * 4);
            b.advance(to, width * out_stride);
        });
        b.advance(source, width * source_stride);
        b.advance(out, width * 4);
    });
    let kernel = std::mem::replace(b, Builder::new("", isa, 0)).finish();
    let fits = isa == Isa::Clif || emit(&kernel, isa).is_ok();
    fits.then_some(Transpose { kernel, source: from, out: to, lanes, across })
}
