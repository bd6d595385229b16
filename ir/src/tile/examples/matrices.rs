//! Products, row-wise normalisations and movement of rows.

use super::{block, blocks, by_row, col, exp, length, load, row, t};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, Unary};
use crate::tile::{Axis, Combine, Extent, TileBuilder, TileProgram, TileType};

/// `y = gelu(x w + bias)`, x `[T, inner]`, w `[inner, width]`; blocks of rows, columns and the inner axis.
pub fn gemm_gelu(inner: usize, width: usize, [rows, cols, depth]: [usize; 3]) -> TileProgram {
    let mut b = TileBuilder::new("gemm_gelu");
    let (k, n) = (Dim::from(inner), Dim::from(width));
    let (bm, bn, bk) = (b.knob("BM", rows), b.knob("BN", cols), b.knob("BK", depth));
    let x = b.input("x", DType::F32, &[t(), k.clone()]);
    let w = b.input("w", DType::F32, &[k.clone(), n.clone()]);
    let bias = b.input("bias", DType::F32, std::slice::from_ref(&n));
    let y = b.output("y", DType::F32, &[t(), n.clone()]);
    let i0 = b.grid("i", blocks(&t(), bm)) * Expr::int(bm as i64);
    let j0 = b.grid("j", blocks(&n, bn)) * Expr::int(bn as i64);
    let (m, c) = (block(bm, &i0, &t()), block(bn, &j0, &n));
    let zero = b.map("zero", TileType::F32, &m, &c, Expr::float(0.0));
    let sum = b.for_blocks(
        Expr::int(0),
        Expr::from(&k),
        bk,
        |_| None,
        &[zero],
        |b, k0, carried| {
            let d = block(bk, k0, &k);
            let xs = b.map("xs", TileType::F32, &m, &d, load(x, &[&(i0.clone() + row()), &(k0.clone() + col())]));
            let ws = b.map("ws", TileType::F32, &d, &c, load(w, &[&(k0.clone() + row()), &(j0.clone() + col())]));
            vec![b.dot("sum", TileType::F32, xs, ws, Some(carried[0]))]
        },
    );
    let z = b.map("z", TileType::F32, &m, &c, Expr::tile(sum[0]) + load(bias, &[&(j0.clone() + col())]));
    let z = Expr::tile(z);
    let erf = (z.clone() * Expr::float(std::f64::consts::FRAC_1_SQRT_2)).apply(Unary::Erf);
    let gelu = Expr::float(0.5) * z * (Expr::float(1.0) + erf);
    b.store(y, vec![i0 + row(), j0 + col()], gelu, &m, &c);
    b.finish()
}

/// `y[i, :] = softmax(x[i, :])`, x `[T, S]`: one pass for maximum and sum, one to write.
pub fn softmax_rows(rows: usize, cols: usize) -> TileProgram {
    let mut b = TileBuilder::new("softmax_rows");
    let s = Dim::symbol("S");
    let (br, bc) = (b.knob("BR", rows), b.knob("BC", cols));
    let x = b.input("x", DType::F32, &[t(), s.clone()]);
    let y = b.output("y", DType::F32, &[t(), s.clone()]);
    let i0 = b.grid("i", blocks(&t(), br)) * Expr::int(br as i64);
    let (m, one) = (block(br, &i0, &t()), Extent::fixed(1));
    let top = b.map("top", TileType::F32, &m, &one, Expr::float(f64::NEG_INFINITY));
    let sum = b.map("sum", TileType::F32, &m, &one, Expr::float(0.0));
    let last = b.for_blocks(
        Expr::int(0),
        Expr::from(&s),
        bc,
        |_| None,
        &[top, sum],
        |b, j0, carried| {
            let c = block(bc, j0, &s);
            let xs = b.map("xs", TileType::F32, &m, &c, load(x, &[&(i0.clone() + row()), &(j0.clone() + col())]));
            let here = b.reduce("here", Combine::Max, Axis::Cols, xs);
            let top = b.map("top", TileType::F32, &m, &one, Expr::tile(carried[0]).max(Expr::tile(here)));
            let e = b.map("e", TileType::F32, &m, &c, exp(Expr::tile(xs) - by_row(top)));
            let part = b.reduce("part", Combine::Sum, Axis::Cols, e);
            let rescaled = Expr::tile(carried[1]) * exp(Expr::tile(carried[0]) - Expr::tile(top));
            vec![top, b.map("sum", TileType::F32, &m, &one, rescaled + Expr::tile(part))]
        },
    );
    b.for_blocks(
        Expr::int(0),
        Expr::from(&s),
        bc,
        |_| None,
        &[],
        |b, j0, _| {
            let c = block(bc, j0, &s);
            let place = [i0.clone() + row(), j0.clone() + col()];
            let value = exp(load(x, &[&place[0], &place[1]]) - by_row(last[0])) / by_row(last[1]);
            b.store(y, place.to_vec(), value, &m, &c);
            Vec::new()
        },
    );
    b.finish()
}

/// `y = (x - mean) / sqrt(variance + epsilon) * gain + bias` over the last axis, x `[T, width]`.
pub fn layer_norm(width: usize, rows: usize, epsilon: f64) -> TileProgram {
    let mut b = TileBuilder::new("layer_norm");
    let d = Dim::from(width);
    let br = b.knob("BR", rows);
    let x = b.input("x", DType::F32, &[t(), d.clone()]);
    let gain = b.input("gain", DType::F32, std::slice::from_ref(&d));
    let bias = b.input("bias", DType::F32, std::slice::from_ref(&d));
    let y = b.output("y", DType::F32, &[t(), d]);
    let i0 = b.grid("i", blocks(&t(), br)) * Expr::int(br as i64);
    let (m, c, one) = (block(br, &i0, &t()), Extent::fixed(width), Extent::fixed(1));
    let place = [i0 + row(), col()];
    let per = Expr::float(1.0 / width as f64);
    let xs = b.map("xs", TileType::F32, &m, &c, load(x, &[&place[0], &place[1]]));
    let sum = b.reduce("sum", Combine::Sum, Axis::Cols, xs);
    let centred = b.map("centred", TileType::F32, &m, &c, Expr::tile(xs) - by_row(sum) * per.clone());
    let square = b.map("square", TileType::F32, &m, &c, Expr::tile(centred) * Expr::tile(centred));
    let spread = b.reduce("spread", Combine::Sum, Axis::Cols, square);
    let variance = Expr::tile(spread) * per + Expr::float(epsilon);
    let scale = b.map("scale", TileType::F32, &m, &one, variance.apply(Unary::Rsqrt));
    let value = Expr::tile(centred) * by_row(scale) * load(gain, &[&col()]) + load(bias, &[&col()]);
    b.store(y, place.to_vec(), value, &m, &c);
    b.finish()
}

/// `y[i, :] = table[ids[i], :]`, table `[entries, width]`; ids are known to be in range.
pub fn gather_rows(entries: usize, width: usize, rows: usize) -> TileProgram {
    let mut b = TileBuilder::new("gather_rows");
    let br = b.knob("BR", rows);
    let table = b.input("table", DType::F32, &[Dim::from(entries), Dim::from(width)]);
    let ids = b.input("ids", DType::I32, &[t()]);
    let y = b.output("y", DType::F32, &[t(), Dim::from(width)]);
    let i0 = b.grid("i", blocks(&t(), br)) * Expr::int(br as i64);
    let (m, c) = (block(br, &i0, &t()), Extent::fixed(width));
    let place = [i0 + row(), col()];
    let value = load(table, &[&load(ids, &[&place[0]]), &col()]);
    b.store(y, place.to_vec(), value, &m, &c);
    b.finish()
}

/// `y = [a; b]` along the rows, a `[first, width]`, b `[T, width]`: which is read is a guard, nothing is copied twice.
pub fn concat_rows(first: usize, width: usize, rows: usize) -> TileProgram {
    let mut b = TileBuilder::new("concat_rows");
    let br = b.knob("BR", rows);
    let total = t().add(&Dim::from(first)).unwrap_or_default();
    let upper = b.input("a", DType::F32, &[Dim::from(first), Dim::from(width)]);
    let lower = b.input("b", DType::F32, &[t(), Dim::from(width)]);
    let y = b.output("y", DType::F32, &[total.clone(), Dim::from(width)]);
    let i0 = b.grid("i", blocks(&total, br)) * Expr::int(br as i64);
    let m = block(br, &i0, &total);
    let (i, n) = (i0 + row(), Expr::int(first as i64));
    let in_first = i.clone().lt(n.clone());
    let value = Expr::select(
        in_first.clone(),
        Expr::load_if(upper, vec![i.clone(), col()], in_first.clone(), 0.0),
        Expr::load_if(
            lower,
            vec![i.clone() - n, col()],
            (!in_first).and(i.clone().lt(length() + Expr::int(first as i64))),
            0.0,
        ),
    );
    b.store(y, vec![i, col()], value, &m, &Extent::fixed(width));
    b.finish()
}
