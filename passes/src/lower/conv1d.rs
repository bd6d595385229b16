//! Short convolutions over channels: a product of windows and weights, or a sum over taps where that would leave vectors
//! idle.

use super::{Context, Failure, Lambda, Producer, axis, guard_loads};
use crate::forms;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::Expr;
use mixc_ir::program::Node;
use mixc_ir::tile::Combine;

/// Outputs from which a convolution is a product of windows and weights: fewer leave most of a vector idle.
const WINDOW_OUTPUTS: i64 = 8;
/// The longest window that is written out: a row of 16 KiB of f32.
const WINDOW: i64 = 4096;

/// `y[o, i] = b[o] + sum_{c, t} w[o, c, t] x[i*stride + t*dilation - before, g*c_g + c]`, x `[.., T, c]`: a reduction
/// over taps times channels of a group.
pub(super) fn conv1d(cx: &mut Context<'_>, node: &Node, shape: &[Dim], dtype: DType) -> Result<Producer, Failure> {
    let x = cx.read_stored(cx.operand(node, 0)?)?;
    let w = cx.read_stored(cx.operand(node, 1)?)?;
    let int = |name: &str, default: i64| node.attrs.int(name).unwrap_or(default);
    let (stride, dilation, groups) = (int("stride", 1), int("dilation", 1), int("groups", 1));
    let before = node.attrs.dim("before").cloned().unwrap_or_default();
    let rank = shape.len();
    let (outputs, inputs, taps) = (w.shape[0].clone(), w.shape[1].clone(), w.shape[2].clone());
    let known = |d: &Dim| d.as_constant().unwrap_or(0);
    if groups == 1 && known(&outputs) >= WINDOW_OUTPUTS && (1..=WINDOW).contains(&(known(&inputs) * known(&taps))) {
        // A product of windows [.., T, K*c] and weights: row i holds its taps side by side, channels innermost.
        let reduced = inputs.mul(&taps).map_err(|e| cx.dim_failure(e))?;
        let (i, r) = (axis(rank - 2), axis(rank - 1));
        let (t, c) = (r.clone().floor_div(Expr::from(&inputs)), r.modulo(Expr::from(&inputs)));
        let place = i * Expr::int(stride) + t * Expr::int(dilation) - Expr::from(&before);
        let inside = place.clone().ge(0).and(place.clone().lt(Expr::from(&x.shape[x.shape.len() - 2])));
        let mut index: Vec<Expr> = (0..rank - 2).map(axis).collect();
        index.extend([place, c]);
        let body = guard_loads(&x.at(&index), &inside);
        let mut windows = shape.to_vec();
        windows[rank - 1] = reduced.clone();
        let windows = Lambda { dtype: x.dtype, shape: windows, body };
        let (r, o) = (axis(rank - 2), axis(rank - 1));
        let (t, c) = (r.clone().floor_div(Expr::from(&inputs)), r.modulo(Expr::from(&inputs)));
        let mut weights = shape.to_vec();
        weights[rank - 2] = reduced;
        let weights = Lambda { dtype: w.dtype, body: w.at(&[o, c, t]), shape: weights };
        let mut p = forms::gemm::product(cx, &windows, &weights, shape, dtype)?;
        if let Some(b) = node.operands.get(2).copied().flatten() {
            let b = cx.read_stored(b)?;
            p.epilogue = p.epilogue + b.at(&[axis(rank - 1)]);
        }
        return Ok(p);
    }
    let per_group = outputs.div(groups).map_err(|e| cx.dim_failure(e))?;
    let reduced = inputs.mul(&taps).map_err(|e| cx.dim_failure(e))?;
    let (i, o, r) = (axis(rank - 2), axis(rank - 1), axis(rank));
    let (c, t) = (r.clone().floor_div(Expr::from(&taps)), r.modulo(Expr::from(&taps)));
    let place = i * Expr::int(stride) + t.clone() * Expr::int(dilation) - Expr::from(&before);
    let length = Expr::from(&x.shape[x.shape.len() - 2]);
    let inside = place.clone().ge(0).and(place.clone().lt(length));
    let channel = if groups == 1 {
        c.clone()
    } else {
        o.clone().floor_div(Expr::from(&per_group)) * Expr::from(&inputs) + c.clone()
    };
    let mut index: Vec<Expr> = (0..rank - 2).map(axis).collect();
    index.extend([place, channel]);
    let tap = guard_loads(&x.at(&index), &inside);
    let mut wide = shape.to_vec();
    wide.push(reduced);
    let body = tap * w.at(&[o.clone(), c, t]);
    let mut p =
        forms::reduce::reduce(Lambda { dtype: dtype.accumulator(), shape: wide, body }, rank, Combine::Sum, dtype);
    if let Some(b) = node.operands.get(2).copied().flatten() {
        let b = cx.read_stored(b)?;
        p.epilogue = p.epilogue + b.at(&[axis(rank - 1)]);
    }
    Ok(p)
}
