//! Row normalisations: layer norm, root-mean-square norm, softmax of a row. A row is one tile when it fits.

use super::reduce::by_row;
use super::{Write, buffers_of, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW, Unary};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, TileType};

/// Which normalisation of a row x.
#[derive(Clone, Debug)]
pub enum Norm {
    /// (x - mean) / sqrt(variance + eps) * gain + bias.
    Layer {
        /// Inside the root.
        eps: f64,
        /// `[features]`.
        gain: Option<Lambda>,
        /// `[features]`.
        bias: Option<Lambda>,
    },
    /// x / sqrt(mean of squares + eps) * gain.
    RootMeanSquare {
        /// Inside the root.
        eps: f64,
        /// `[features]`.
        gain: Option<Lambda>,
    },
    /// exp(x - max) / sum.
    Softmax,
}

/// Longest row taken as one tile.
pub const LONGEST: i64 = 16384;
/// Elements of a block of rows.
const BLOCK: usize = 8192;

#[derive(Debug)]
struct Rows {
    x: Lambda,
    norm: Norm,
}

/// The normalisation of the last axis of `x`, whose greatest length is at most [`LONGEST`].
pub fn norm(x: Lambda, norm: Norm, dtype: DType) -> Producer {
    let shape = x.shape.clone();
    open(Rows { x, norm }, dtype, shape)
}

/// A part of a sum; of an empty row (all at minus infinity) 0.
pub fn share(part: Expr, sum: Expr) -> Expr {
    let empty = sum.clone().equals(Expr::float(0.0));
    part / Expr::select(empty, Expr::float(1.0), sum)
}

impl Write for Rows {
    fn form(&self) -> &'static str {
        "norm"
    }

    fn reads(&self) -> Vec<BufferId> {
        let mut found = buffers_of(&self.x.body);
        let gains = match &self.norm {
            Norm::Layer { gain, bias, .. } => vec![gain, bias],
            Norm::RootMeanSquare { gain, .. } => vec![gain],
            Norm::Softmax => vec![],
        };
        found.extend(gains.into_iter().flatten().flat_map(|l| buffers_of(&l.body)));
        found
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let mut s = Scribe::new("norm");
        let tensor = s.output(cx, out);
        let x = s.local_lambda(cx, &self.x);
        let ty = TileType::of(x.dtype);
        let (lead, last) = x.shape.split_at(x.shape.len() - 1);
        let features = &last[0];
        let one = Dim::constant(1);
        let (outer, rows_dim) = match lead.split_last() {
            Some((rows, outer)) => (outer, rows),
            None => (&[][..], &one),
        };
        let mut at = s.grid_over(outer);
        let width = capacity(cx, features, LONGEST as usize);
        let height = s.b.knob("rows", capacity(cx, rows_dim, (BLOCK / width).clamp(1, 64)));
        let (i0, rows) = s.grid_blocks("i", rows_dim, height);
        if !lead.is_empty() {
            at.push(i0 + Expr::from(ROW));
        }
        at.push(Expr::from(COL));
        let cols = super::flash::whole(features, width);
        let local =
            |s: &mut Scribe, l: &Option<Lambda>| l.as_ref().map(|l| s.local_lambda(cx, l).at(&[Expr::from(COL)]));
        let (gain, bias, eps) = match &self.norm {
            Norm::Layer { eps, gain, bias } => (local(&mut s, gain), local(&mut s, bias), *eps),
            Norm::RootMeanSquare { eps, gain } => (local(&mut s, gain), None, *eps),
            Norm::Softmax => (None, None, 0.0),
        };
        let b = &mut s.b;
        let row = b.map("x", ty, &rows, &cols, x.at(&at));
        let count = Expr::from(features).to_float();
        let one = mixc_ir::tile::Extent::fixed(1);
        let mut value = match self.norm {
            Norm::Layer { .. } => {
                let sum = b.reduce("sum", Combine::Sum, Axis::Cols, row);
                let centred = b.map("centred", ty, &rows, &cols, Expr::tile(row) - by_row(sum) / count.clone());
                let squares = b.map("squares", ty, &rows, &cols, Expr::tile(centred) * Expr::tile(centred));
                let sum = b.reduce("variance", Combine::Sum, Axis::Cols, squares);
                let root = (Expr::tile(sum) / count + Expr::float(eps)).apply(Unary::Rsqrt);
                let root = b.map("root", ty, &rows, &one, root);
                Expr::tile(centred) * by_row(root)
            }
            Norm::RootMeanSquare { .. } => {
                let squares = b.map("squares", ty, &rows, &cols, Expr::tile(row) * Expr::tile(row));
                let sum = b.reduce("sum", Combine::Sum, Axis::Cols, squares);
                let root = (Expr::tile(sum) / count + Expr::float(eps)).apply(Unary::Rsqrt);
                let root = b.map("root", ty, &rows, &one, root);
                Expr::tile(row) * by_row(root)
            }
            Norm::Softmax => {
                let most = b.reduce("most", Combine::Max, Axis::Cols, row);
                let most = b.map("least", ty, &rows, &one, Expr::tile(most).max(Expr::float(super::flash::LEAST)));
                let e = b.map("e", ty, &rows, &cols, (Expr::tile(row) - by_row(most)).apply(Unary::Exp));
                let sum = b.reduce("sum", Combine::Sum, Axis::Cols, e);
                share(Expr::tile(e), by_row(sum))
            }
        };
        if let Some(g) = gain {
            value = value * g;
        }
        if let Some(h) = bias {
            value = value + h;
        }
        end.store(cx, &mut s, tensor, &at, value, &rows, &cols);
        s.finish(cx, self.form())
    }
}
