//! Products of matrices, `C[.., m, n] = sum_k A[.., m, k] B[.., k, n]`, by register-friendly panels of B.
//!
//! B is first packed into panels of NR columns, `[panel][k][NR]`, so that a panel is one stream of vectors; A is read in
//! place. Packing weights happens at bind time. Blocking after Goto and van de Geijn (2008) without packing A: strides
//! are constants of the code, so its rows cost no more than a packed copy would.

use super::{Write, buffers_of, capacity, open};
use crate::lower::{Context, Failure, Lambda, Producer, Scribe, axis};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{COL, Expr, ROW};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileType};

/// Columns of a packed panel: four 16-lane vectors, which with 6 rows make the register tile that reached the peak.
const PANEL: usize = 64;
/// Rows of a block of C: its accumulators (PANEL x 128 x 4 bytes) fill one first-level cache, A's rows the second level.
const ROWS: usize = 128;
/// Depth of a block: a panel of B of that depth (128 KiB) stays in the second level.
const DEPTH: usize = 512;
/// Below this many rows packing an operand that is not a weight costs more than it saves.
const PACK_FROM: i64 = 16;

#[derive(Debug)]
struct Gemm {
    /// `[batch.., m, k]`.
    a: Lambda,
    /// `[batch.., panels, k, PANEL]` when packed, else `[batch.., k, n]`.
    b: Lambda,
    packed: bool,
    batch: Vec<Dim>,
    m: Dim,
    k: Dim,
    n: Dim,
    dtype: DType,
}

/// `a [batch.., m, k]` times `b [batch.., k, n]`, batch dims equal (already broadcast).
pub fn product(cx: &mut Context<'_>, a: &Lambda, b: &Lambda, shape: &[Dim], dtype: DType) -> Result<Producer, Failure> {
    let rank = shape.len();
    let (batch, m, n) = (shape[..rank - 2].to_vec(), shape[rank - 2].clone(), shape[rank - 1].clone());
    let k = a.shape[a.shape.len() - 1].clone();
    let a = cx.stored_lambda(a)?;
    // The panels do not depend on batch axes that B does not read.
    let reads_batch = (0..batch.len()).any(|x| b.body.mentions(crate::lower::lambda::axis_var(x)));
    let bindable = cx.known_at_bind(&b.body) && !reads_batch;
    let packed = bindable || cx.typical(&m) >= PACK_FROM;
    let b = if packed { pack(cx, b, if reads_batch { &batch } else { &[] }, &k, &n)? } else { cx.stored_lambda(b)? };
    Ok(open(Gemm { a, b, packed, batch, m, k, n, dtype }, dtype, shape.to_vec()))
}

/// B in panels, zeros in the columns past the last. The result is over `[batch.., panel, k, column]` for every batch axis.
fn pack(cx: &mut Context<'_>, b: &Lambda, batch: &[Dim], k: &Dim, n: &Dim) -> Result<Lambda, Failure> {
    let lead = b.shape.len() - 2;
    // Without the batch axes that it does not read: it is stored once, and read where the batch is empty too.
    let alone;
    let (b, own) = if batch.is_empty() && lead > 0 {
        let mut index = vec![Expr::int(0); lead];
        index.extend([axis(0), axis(1)]);
        alone = Lambda { dtype: b.dtype, shape: b.shape[lead..].to_vec(), body: b.at(&index) };
        (&alone, 0)
    } else {
        (b, lead)
    };
    let panels = n.ceil_div(PANEL as i64).map_err(|e| cx.dim_failure(e))?;
    let mut shape = batch.to_vec();
    shape.extend([panels, k.clone(), Dim::constant(PANEL as i64)]);
    let nb = batch.len();
    let column = axis(nb) * Expr::int(PANEL as i64) + axis(nb + 2);
    let inside = column.clone().lt(Expr::from(n));
    let mut index: Vec<Expr> = (0..own).map(axis).collect();
    index.extend([axis(nb + 1), column]);
    let element = b.at(&index);
    let divides = n.as_constant().is_some_and(|n| n % PANEL as i64 == 0);
    let body = if divides {
        element
    } else {
        let stored = cx.stored_lambda(b)?;
        match stored.at(&index).node() {
            mixc_ir::expr::Node::Load(l) => Expr::load_if(l.tensor, l.index.clone(), inside, 0.0),
            _ => Expr::select(inside, element, Expr::float(0.0)),
        }
    };
    // f32 panels whatever the stored type: widening happens once.
    let packed = cx.store_lambda(&Lambda { dtype: b.dtype.accumulator(), shape, body })?;
    let stored = cx.stored(packed);
    if nb == lead {
        return Ok(stored);
    }
    // Read under all batch axes of the product although it depends on none.
    let shift = [axis(lead), axis(lead + 1), axis(lead + 2)];
    Ok(Lambda { body: stored.at(&shift), ..stored })
}

impl Write for Gemm {
    fn form(&self) -> &'static str {
        "gemm"
    }

    fn reads(&self) -> Vec<BufferId> {
        buffers_of(&self.a.body).into_iter().chain(buffers_of(&self.b.body)).collect()
    }

    fn write(&self, cx: &mut Context<'_>, end: &Producer, out: BufferId) -> Result<(), Failure> {
        let mut s = Scribe::new("gemm");
        let tensor = s.output(cx, out);
        let (a, b) = (s.local_lambda(cx, &self.a), s.local_lambda(cx, &self.b));
        let ty = TileType::of(self.dtype);
        let mut batch = s.grid_over(&self.batch);
        let bm = s.b.knob("bm", capacity(cx, &self.m, ROWS));
        let bn = s.b.knob("bn", if self.packed { PANEL } else { capacity(cx, &self.n, PANEL) });
        let bk = s.b.knob("bk", capacity(cx, &self.k, DEPTH));
        let panels = Expr::from(&self.n).ceil_div(bn as i64);
        let panel = if cx.most(&self.n) <= bn as i64 { Expr::int(0) } else { s.b.grid("jn", panels) };
        let (i0, rows) = s.grid_blocks("im", &self.m, bm);
        let j0 = panel.clone() * Expr::int(bn as i64);
        let full = self.n.as_constant().is_some_and(|n| n > 0 && n % bn as i64 == 0);
        let cols = if full { Extent::fixed(bn) } else { Extent::block(bn, j0.clone(), Expr::from(&self.n)) };
        // A packed panel is whole: columns past the last are zeros in memory, computed and not stored.
        let width = if self.packed { Extent::fixed(bn) } else { cols.clone() };
        let total = Expr::from(&self.k);
        let start = s.b.map("zero", ty, &rows, &width, Expr::float(0.0));
        let sum = s.b.for_blocks(
            Expr::int(0),
            total.clone(),
            bk,
            |_| None,
            &[start],
            |t, k0, carried| {
                let depth = Extent::block(bk, k0.clone(), total);
                let (r, c) = (Expr::from(ROW), Expr::from(COL));
                let mut at = batch.clone();
                at.extend([i0.clone() + r.clone(), k0.clone() + c.clone()]);
                let left = t.map("a", ty, &rows, &depth, a.at(&at));
                let mut at = batch.clone();
                if self.packed {
                    at.extend([panel.clone(), k0.clone() + r, c]);
                } else {
                    at.extend([k0.clone() + r, j0.clone() + c]);
                }
                let right = t.map("b", ty, &depth, &width, b.at(&at));
                vec![t.dot("c", ty, left, right, Some(carried[0]))]
            },
        );
        batch.extend([i0 + Expr::from(ROW), j0 + Expr::from(COL)]);
        end.store(cx, &mut s, tensor, &batch, Expr::tile(sum[0]), &rows, &cols);
        s.finish(cx, self.form())
    }
}
