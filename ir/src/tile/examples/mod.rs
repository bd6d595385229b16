//! Algorithms written as tile programs: documentation of the language by example, and material for the tests of
//! everything that reads tile programs. Each is checked against its formula. Not the catalogue of forms: lowering
//! writes its own.
//!
//! Conventions: lengths called `T` are symbolic, others are numbers; blocks are knobs; tensors are f32.

#![allow(missing_docs, reason = "the module is hidden; each function says what it computes")]

mod attention;
mod fourier;
mod matrices;
mod recurrences;

pub use attention::{block_sparse_attention, decode_merge, decode_partial, flash_attention, top_k_gather};
pub use fourier::{fft_stage, monarch_product};
pub use matrices::{concat_rows, gather_rows, gemm_gelu, layer_norm, softmax_rows};
pub use recurrences::{chunked_diagonal_scan, chunked_linear_attention, delta_rule, selective_scan};

use super::{Extent, TileProgram};
use crate::dim::Dim;
use crate::expr::{COL, Expr, ROW, SlowId, TileId};
use crate::expr::{Pick, Unary};

fn row() -> Expr {
    Expr::from(ROW)
}

fn col() -> Expr {
    Expr::from(COL)
}

fn t() -> Dim {
    Dim::symbol("T")
}

fn length() -> Expr {
    Expr::from(&t())
}

fn blocks(total: &Dim, block: usize) -> Expr {
    Expr::from(total).ceil_div(block as i64)
}

/// The tile's column 0, for every column.
fn by_row(tile: TileId) -> Expr {
    Expr::tile_at(tile, Pick::Row, Pick::Zero)
}

/// The tile's row 0, for every row.
fn by_col(tile: TileId) -> Expr {
    Expr::tile_at(tile, Pick::Zero, Pick::Col)
}

/// The only element of a tile.
fn only(tile: TileId) -> Expr {
    Expr::tile_at(tile, Pick::Zero, Pick::Zero)
}

fn exp(e: Expr) -> Expr {
    e.apply(Unary::Exp)
}

fn load(tensor: SlowId, index: &[&Expr]) -> Expr {
    Expr::load(tensor, index.iter().map(|&e| e.clone()).collect())
}

/// Every example, at small blocks, by name, with the values of `T` it is defined for taken as any positive length.
pub fn all() -> Vec<TileProgram> {
    vec![
        gemm_gelu(13, 7, [4, 4, 3]),
        softmax_rows(4, 8),
        layer_norm(9, 4, 1e-5),
        gather_rows(11, 5, 4),
        concat_rows(3, 5, 4),
        flash_attention(3, 5, Some(6), [4, 3]),
        decode_partial(5, 16, 8),
        decode_merge(5, 16),
        top_k_gather(5, 3, 4),
        selective_scan(3, 5, 4),
        chunked_linear_attention(5, 3, 4),
        delta_rule(5, 3, 4),
        chunked_diagonal_scan(5, 3, 4),
        block_sparse_attention(5, 3, [4, 3]),
        fft_stage(16, 2, 1, 4),
        fft_stage(60, 3, 4, 3),
        fft_stage(60, 5, 1, 4),
        monarch_product(3, 5, 4),
    ]
}

/// A block of a length.
fn block(size: usize, start: &Expr, total: &Dim) -> Extent {
    Extent::block(size, start.clone(), Expr::from(total))
}

#[cfg(test)]
mod tests;
