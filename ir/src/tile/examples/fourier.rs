//! A stage of a Fourier transform.

use super::{col, load, row};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, Unary};
use crate::tile::{Extent, TileBuilder, TileProgram, TileType};

/// Stage of a self-sorting radix-2 transform of `length` complex numbers, `length` a power of two: `stride` is
/// 2^number of stages before. With `n = length / stride` and `half = n / 2`, x seen as `[2, half, stride]` gives y as
/// `[half, 2, stride]`: y[p, 0] = x[0, p] + x[1, p], y[p, 1] = (x[0, p] - x[1, p]) exp(-2 pi i p / n). Real and
/// imaginary parts are the last axis. Blocks of `columns` numbers of the stride.
pub fn fft_stage(length: usize, stride: usize, columns: usize) -> TileProgram {
    let mut b = TileBuilder::new("fft_stage");
    let bc = b.knob("BC", columns);
    let n = length / stride;
    let half = n / 2;
    let dims = |shape: [usize; 4]| shape.map(Dim::from);
    let x = b.input("x", DType::F32, &dims([2, half, stride, 2]));
    let y = b.output("y", DType::F32, &dims([half, 2, stride, 2]));
    let p = b.grid("p", Expr::int(half as i64));
    let j0 = b.grid("j", Expr::int(stride.div_ceil(bc) as i64)) * Expr::int(bc as i64);
    let (two, one) = (Extent::fixed(2), Extent::fixed(1));
    let cols = Extent::block(bc, j0.clone(), Expr::int(stride as i64));
    let j = j0 + col();
    // Rows are the real and the imaginary part.
    let (upper, lower) = (load(x, &[&Expr::int(0), &p, &j, &row()]), load(x, &[&Expr::int(1), &p, &j, &row()]));
    let sum = upper.clone() + lower.clone();
    b.store(y, vec![p.clone(), Expr::int(0), j.clone(), row()], sum, &two, &cols);
    let part = |b: &mut TileBuilder, name: &str, k: i64| {
        let of = |side: i64| load(x, &[&Expr::int(side), &p, &j, &Expr::int(k)]);
        b.map(name, TileType::F32, &one, &cols, of(0) - of(1))
    };
    let (re, im) = (part(&mut b, "re", 0), part(&mut b, "im", 1));
    let angle = p.clone().to_float() * Expr::float(-std::f64::consts::TAU / n as f64);
    let (cos, sin) = (angle.clone().apply(Unary::Cos), angle.apply(Unary::Sin));
    let real = Expr::tile(re) * cos.clone() - Expr::tile(im) * sin.clone();
    let imaginary = Expr::tile(re) * sin + Expr::tile(im) * cos;
    b.store(y, vec![p.clone(), Expr::int(1), j.clone(), Expr::int(0)], real, &one, &cols);
    b.store(y, vec![p, Expr::int(1), j, Expr::int(1)], imaginary, &one, &cols);
    b.finish()
}
