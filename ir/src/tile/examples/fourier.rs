//! Products of structured matrices in factors: a stage of a Fourier transform, the Monarch product.

use super::{block, blocks, col, load, row};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, TileId, Unary};
use crate::tile::{Extent, TileBuilder, TileProgram, TileType};

/// Stage of a self-sorting transform (Stockham) of `length` complex numbers; `stride` is the product of the radices of
/// the stages before. With `n = length / stride` and `part = n / radix`, x seen as `[radix, part, stride]` gives y as
/// `[part, radix, stride]`: `y[p, q] = exp(-2 pi i p q / n) sum_k x[k, p] exp(-2 pi i k q / radix)`. Real and imaginary
/// parts are the last axis. Blocks of `columns` numbers of the stride.
pub fn fft_stage(length: usize, radix: usize, stride: usize, columns: usize) -> TileProgram {
    let mut b = TileBuilder::new(&format!("fft_stage_{radix}"));
    let bc = b.knob("BC", columns);
    let n = length / stride;
    let part = n / radix;
    let dims = |shape: [usize; 4]| shape.map(Dim::from);
    let x = b.input("x", DType::F32, &dims([radix, part, stride, 2]));
    let y = b.output("y", DType::F32, &dims([part, radix, stride, 2]));
    let p = b.grid("p", Expr::int(part as i64));
    let j0 = b.grid("j", Expr::int(stride.div_ceil(bc) as i64)) * Expr::int(bc as i64);
    let (one, cols) = (Extent::fixed(1), Extent::block(bc, j0.clone(), Expr::int(stride as i64)));
    let j = j0 + col();
    let mut side = |k: usize, part: i64| {
        let element = load(x, &[&Expr::int(k as i64), &p, &j, &Expr::int(part)]);
        b.map("x", TileType::F32, &one, &cols, element)
    };
    let parts: Vec<[TileId; 2]> = (0..radix).map(|k| [side(k, 0), side(k, 1)]).collect();
    for q in 0..radix {
        // The butterfly's factors are constants of the program.
        let factor = |k: usize| (std::f64::consts::TAU * (k * q % radix) as f64 / radix as f64).sin_cos();
        let mut sums = [Expr::tile(parts[0][0]), Expr::tile(parts[0][1])];
        for (k, &[re, im]) in parts.iter().enumerate().skip(1) {
            let (sin, cos) = factor(k);
            let times = |t: TileId, x: f64| Expr::tile(t) * Expr::float(x);
            sums =
                [sums[0].clone() + times(re, cos) + times(im, sin), sums[1].clone() + times(im, cos) - times(re, sin)];
        }
        let [re, im] = sums.map(|e| b.map("sum", TileType::F32, &one, &cols, e));
        let angle = p.clone().to_float() * Expr::float(std::f64::consts::TAU * q as f64 / n as f64);
        let (cos, sin) = (angle.clone().apply(Unary::Cos), angle.apply(Unary::Sin));
        let real = Expr::tile(re) * cos.clone() + Expr::tile(im) * sin.clone();
        let imaginary = Expr::tile(im) * cos - Expr::tile(re) * sin;
        for (part, value) in [real, imaginary].into_iter().enumerate() {
            let at = vec![p.clone(), Expr::int(q as i64), j.clone(), Expr::int(part as i64)];
            b.store(y, at, value, &one, &cols);
        }
    }
    b.finish()
}

/// The Monarch product (Dao et al., arXiv 2204.00595) of `n1 n2` tokens: `u[a, :] = R[a] x[a, :]`, then
/// `y[:, c] = L[c] u[:, c]`. x, y `[n1, n2, D]`, R `[n1, n2, n2]`, L `[n2, n1, n1]`; u is kept, and read back along the
/// other axis by the grid point that wrote it. Blocks of `features` columns.
pub fn monarch_product(n1: usize, n2: usize, features: usize) -> TileProgram {
    let mut b = TileBuilder::new("monarch_product");
    let bd = b.knob("BD", features);
    let width = Dim::symbol("D");
    let shape = [Dim::from(n1), Dim::from(n2), width.clone()];
    let x = b.input("x", DType::F32, &shape);
    let right = b.input("right", DType::F32, &[n1, n2, n2].map(Dim::from));
    let left = b.input("left", DType::F32, &[n2, n1, n1].map(Dim::from));
    let (u, y) = (b.output("u", DType::F32, &shape), b.output("y", DType::F32, &shape));
    let d0 = b.grid("d", blocks(&width, bd)) * Expr::int(bd as i64);
    let (cols, first, second) = (block(bd, &d0, &width), Extent::fixed(n1), Extent::fixed(n2));
    let d = d0 + col();
    let each = |n: usize| (Expr::int(0), Expr::int(n as i64), 1);
    let (from, to, step) = each(n1);
    b.for_blocks(
        from,
        to,
        step,
        |_| None,
        &[],
        |b, a, _| {
            let factor = b.map("factor", TileType::F32, &second, &second, load(right, &[a, &row(), &col()]));
            let tokens = b.map("tokens", TileType::F32, &second, &cols, load(x, &[a, &row(), &d]));
            let product = b.dot("product", TileType::F32, factor, tokens, None);
            b.store(u, vec![a.clone(), row(), d.clone()], Expr::tile(product), &second, &cols);
            vec![]
        },
    );
    let (from, to, step) = each(n2);
    b.for_blocks(
        from,
        to,
        step,
        |_| None,
        &[],
        |b, c, _| {
            let factor = b.map("factor", TileType::F32, &first, &first, load(left, &[c, &row(), &col()]));
            let tokens = b.map("tokens", TileType::F32, &first, &cols, load(u, &[&row(), c, &d]));
            let product = b.dot("product", TileType::F32, factor, tokens, None);
            b.store(y, vec![row(), c.clone(), d.clone()], Expr::tile(product), &first, &cols);
            vec![]
        },
    );
    b.finish()
}
