//! Tile operations as calls of the block-wide functions in `prelude/tiles.cuh`.

use super::halves::{Product, product};
use super::{THREADS, Writer, tile_type};
use mixc_ir::expr::TileId;
use mixc_ir::tile::{Axis, Combine, Matrix, TileOp};

fn combine_name(combine: Combine) -> &'static str {
    match combine {
        Combine::Sum => "mx_sum",
        Combine::Product => "mx_product",
        Combine::Max => "mx_maximum",
        Combine::Min => "mx_minimum",
        Combine::LogSumExp => "mx_log_sum_exp",
    }
}

impl Writer<'_> {
    /// The call of the prelude that computes an operation other than a map.
    pub(super) fn call(&self, results: &[TileId], op: &TileOp) -> String {
        let name = |t: TileId| self.names.tile(t);
        let pitch = |t: TileId| self.names.storage.pitch(t);
        let rows = |t: TileId| self.counts.name(&self.names.program.tile(t).rows);
        let cols = |t: TileId| self.counts.name(&self.names.program.tile(t).cols);
        let to = results[0];
        let ty = tile_type(self.names.program.tile(to).ty);
        match op {
            TileOp::Map(_) => String::new(),
            TileOp::Dot { a, b, acc } => {
                let how = product(self.names.program, *a, *b);
                let inner = if a.transposed { rows(a.tile) } else { cols(a.tile) };
                let flags = format!("{}, {}, {}", a.transposed, b.transposed, acc.is_some());
                let function = match how {
                    Product::Plain => format!("mx_tile_dot<{ty}, {THREADS}, {flags}>"),
                    Product::Bf16 => format!("mx_tile_dot_halves<mx_bf16_product, {THREADS}, {flags}>"),
                    Product::F16 => format!("mx_tile_dot_halves<mx_f16_product, {THREADS}, {flags}>"),
                    Product::SplitRight => format!("mx_tile_dot_split<false, {THREADS}, {flags}>"),
                    Product::SplitLeft => format!("mx_tile_dot_split<true, {THREADS}, {flags}>"),
                };
                let operand = |m: &Matrix| format!("{}, {}", name(m.tile), pitch(m.tile));
                let acc = acc.unwrap_or(to);
                format!(
                    "{function}({}, {}, {}, {}, {}, {}, {}, {}, {inner});",
                    name(to),
                    pitch(to),
                    operand(a),
                    operand(b),
                    name(acc),
                    pitch(acc),
                    rows(to),
                    cols(to)
                )
            }
            TileOp::Reduce { combine, axis, of } => {
                let along = if *axis == Axis::Rows { "rows" } else { "cols" };
                format!(
                    "mx_tile_reduce_{along}<{}, {ty}, {THREADS}>({}, {}, {}, {}, {});",
                    combine_name(*combine),
                    name(to),
                    name(*of),
                    pitch(*of),
                    rows(*of),
                    cols(*of)
                )
            }
            TileOp::Scan { combine, axis, reverse, of } => {
                let along = if *axis == Axis::Rows { "rows" } else { "cols" };
                format!(
                    "mx_tile_scan_{along}<{}, {ty}, {THREADS}, {reverse}>({}, {}, {}, {}, {}, {});",
                    combine_name(*combine),
                    name(to),
                    pitch(to),
                    name(*of),
                    pitch(*of),
                    rows(*of),
                    cols(*of)
                )
            }
            TileOp::Recurrence { decay, input, start } => {
                let wide = self.names.program.tile(*decay).cols.cap > 1;
                let started = start.is_some();
                let start = start.unwrap_or(*input);
                format!(
                    "mx_tile_recurrence<{ty}, {THREADS}, {wide}, {started}>({}, {}, {}, {}, {}, {}, {}, {}, {});",
                    name(to),
                    pitch(to),
                    name(*decay),
                    pitch(*decay),
                    name(*input),
                    pitch(*input),
                    name(start),
                    rows(*input),
                    cols(*input)
                )
            }
            TileOp::Solve { lower, rhs } => format!(
                "mx_tile_solve<{ty}, {THREADS}>({}, {}, {}, {}, {}, {}, {}, {});",
                name(to),
                pitch(to),
                name(*lower),
                pitch(*lower),
                name(*rhs),
                pitch(*rhs),
                rows(*rhs),
                cols(*rhs)
            ),
            TileOp::TopK { of } => format!(
                "mx_tile_top_k<{ty}, {THREADS}>({}, {}, {}, {}, {}, {}, {}, {});",
                name(to),
                name(results[1]),
                pitch(to),
                name(*of),
                pitch(*of),
                rows(*of),
                cols(*of),
                cols(to)
            ),
        }
    }
}
