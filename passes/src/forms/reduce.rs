//! Reductions along one axis of a function of the index, block by block with a carried accumulator. Short convolutions
//! and general contractions are reductions too: of a product, over the taps.

use super::{Write, buffers_of, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, Pick, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Axis, Combine, Extent, TileType};

/// Elements of a block.
const BLOCK: usize = 4096;

/// A reduction.
#[derive(Debug)]
struct Reduce {
    of: Lambda,
    axis: usize,
    combine: Combine,
}

/// `combine` over `axis` of `of`: the result lacks the axis.
pub fn reduce(of: Lambda, axis: usize, combine: Combine, dtype: DType) -> Producer {
    let mut shape = of.shape.clone();
    shape.remove(axis);
    open(Reduce { of, axis, combine }, dtype, shape)
}

impl Write for Reduce {
    fn form(&self) -> &'static str {
        "reduce"
    }

    fn reads(&self) -> Vec<BufferId> {
        buffers_of(&self.of.body)
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let mut s = Scribe::new("reduce");
        let tensor = s.output(cx, out);
        let of = s.local_lambda(cx, &self.of);
        let rank = self.of.shape.len();
        let ty = TileType::of(self.of.dtype);
        let one = Dim::constant(1);
        // Tile: the reduced axis and one kept axis, the last of the tensor (or of what is kept, when the last is
        // reduced); everything else is grid.
        let last_reduced = self.axis + 1 == rank;
        let kept_axis = if last_reduced { rank.checked_sub(2) } else { Some(rank - 1) };
        let kept = kept_axis.map_or(&one, |k| &self.of.shape[k]);
        let length = &self.of.shape[self.axis];
        let mut at: Vec<Option<Expr>> = vec![None; rank];
        for k in 0..rank {
            if k != self.axis && Some(k) != kept_axis {
                at[k] = Some(s.grid_over(std::slice::from_ref(&self.of.shape[k])).remove(0));
            }
        }
        let (along, across) = if last_reduced {
            let along = capacity(cx, length, BLOCK / 4);
            (along, capacity(cx, kept, (BLOCK / along).max(1)))
        } else {
            let across = capacity(cx, kept, BLOCK / 8);
            (capacity(cx, length, (BLOCK / across).max(1)), across)
        };
        s.b.knob("along", along);
        s.b.knob("across", across);
        let (k0, kept_extent) = s.grid_blocks("k", kept, across);
        let total = Expr::from(length);
        let one_extent = Extent::fixed(1);
        let (rows, cols) =
            if last_reduced { (kept_extent.clone(), one_extent) } else { (one_extent, kept_extent.clone()) };
        let nothing = neutral(self.combine, ty);
        let start = s.b.map("start", ty, &rows, &cols, nothing);
        let sum = s.b.for_blocks(
            Expr::int(0),
            total.clone(),
            along,
            |_| None,
            &[start],
            |b, a0, carried| {
                let extent = Extent::block(along, a0.clone(), total);
                let (along_at, kept_at) =
                    if last_reduced { (Expr::from(COL), Expr::from(ROW)) } else { (Expr::from(ROW), Expr::from(COL)) };
                let index: Vec<Expr> = (0..rank)
                    .map(|k| {
                        if k == self.axis {
                            a0.clone() + along_at.clone()
                        } else if Some(k) == kept_axis {
                            k0.clone() + kept_at.clone()
                        } else {
                            at[k].clone().unwrap_or_else(|| Expr::int(0))
                        }
                    })
                    .collect();
                let (r, c) = if last_reduced { (&kept_extent, &extent) } else { (&extent, &kept_extent) };
                let value = of.at(&index);
                let block = b.map("block", ty, r, c, value);
                let part = b.reduce("part", self.combine, if last_reduced { Axis::Cols } else { Axis::Rows }, block);
                let joined = combine_expr(self.combine, Expr::tile(carried[0]), Expr::tile(part));
                vec![b.map("joined", ty, &rows, &cols, joined)]
            },
        );
        let mut natural: Vec<Expr> = Vec::new();
        for k in (0..rank).filter(|k| *k != self.axis) {
            natural.push(match &at[k] {
                Some(e) => e.clone(),
                None => k0.clone() + if last_reduced { Expr::from(ROW) } else { Expr::from(COL) },
            });
        }
        end.store(cx, &mut s, tensor, &natural, Expr::tile(sum[0]), &rows, &cols);
        s.finish(cx, self.form())
    }
}

/// What a reduction of nothing gives.
pub fn neutral(combine: Combine, ty: TileType) -> Expr {
    let real = |x: f64| Expr::float(x);
    match (combine, ty) {
        (Combine::Sum, TileType::I64) => Expr::int(0),
        (Combine::Product, TileType::I64) => Expr::int(1),
        (Combine::Max, TileType::I64) => Expr::int(i64::MIN),
        (Combine::Min, TileType::I64) => Expr::int(i64::MAX),
        (Combine::Max | Combine::Sum, TileType::Bool) => Expr::bool(false),
        (Combine::Min | Combine::Product, TileType::Bool) => Expr::bool(true),
        (Combine::Sum, _) => real(0.0),
        (Combine::Product, _) => real(1.0),
        (Combine::Max | Combine::LogSumExp, _) => real(f64::NEG_INFINITY),
        (Combine::Min, _) => real(f64::INFINITY),
    }
}

/// Two partial results joined.
pub fn combine_expr(combine: Combine, a: Expr, b: Expr) -> Expr {
    use mixc_ir::expr::Unary;
    match combine {
        Combine::Sum => a + b,
        Combine::Product => a * b,
        Combine::Max => a.max(b),
        Combine::Min => a.min(b),
        Combine::LogSumExp => {
            // With the greater taken out; where both are minus infinity so is the result, and no difference is formed.
            let most = a.clone().max(b.clone());
            let least = a.min(b);
            let empty = most.clone().equals(Expr::float(f64::NEG_INFINITY));
            let gap = Expr::select(empty, Expr::float(0.0), least - most.clone());
            most + gap.apply(Unary::Exp).apply(Unary::Log1p)
        }
    }
}

/// A tile read at its row alone.
pub fn by_row(t: mixc_ir::expr::TileId) -> Expr {
    Expr::tile_at(t, Pick::Row, Pick::Zero)
}

/// A tile read at its column alone.
pub fn by_col(t: mixc_ir::expr::TileId) -> Expr {
    Expr::tile_at(t, Pick::Zero, Pick::Col)
}
