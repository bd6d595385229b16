//! Small Fourier transforms of tiles, element by element: what one stage of few operations does.
//!
//! Turns by quarters cost nothing and factors are put off until they meet an addition, where they are a fused
//! multiply-add.

use super::plan::root;
use mixc_ir::expr::Expr;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// `factor * value`; the value is a tile's element.
#[derive(Clone, Debug)]
pub struct Scaled {
    value: Expr,
    factor: f64,
}

impl From<Expr> for Scaled {
    fn from(value: Expr) -> Scaled {
        Scaled { value, factor: 1.0 }
    }
}

impl Scaled {
    fn negated(&self) -> Scaled {
        self.scaled(-1.0)
    }

    fn scaled(&self, by: f64) -> Scaled {
        Scaled { value: self.value.clone(), factor: self.factor * by }
    }

    /// The product written out.
    pub fn expr(&self) -> Expr {
        if self.factor == 1.0 { self.value.clone() } else { self.value.clone() * Expr::float(self.factor) }
    }
}

/// A complex number.
#[derive(Clone, Debug)]
pub struct Complex {
    /// Real part.
    pub re: Scaled,
    /// Imaginary part.
    pub im: Scaled,
}

/// Where the numbers of a transform are made: tiles of these extents.
pub struct Numbers<'b> {
    /// The program.
    pub b: &'b mut TileBuilder,
    /// Element type.
    pub ty: TileType,
    /// Rows of every tile.
    pub rows: Extent,
    /// Columns of every tile.
    pub cols: Extent,
}

impl Numbers<'_> {
    /// A tile of an expression.
    pub fn tile(&mut self, name: &str, value: Expr) -> Scaled {
        Expr::tile(self.b.map(name, self.ty, &self.rows, &self.cols, value)).into()
    }

    fn add(&mut self, a: &Scaled, b: &Scaled) -> Scaled {
        let (x, y) = (a.value.clone(), b.value.clone());
        if a.factor.abs() == b.factor.abs() {
            let (value, factor) = match (a.factor < 0.0, b.factor < 0.0) {
                (false, false) => (x + y, a.factor),
                (false, true) => (x - y, a.factor),
                (true, false) => (y - x, b.factor),
                (true, true) => (x + y, a.factor),
            };
            return self.tile("s", value).scaled(factor);
        }
        // One of them as it is, or made so, the other's factor in a multiply-add.
        let (plain, other) = if b.factor.abs() == 1.0 { (b, a) } else { (a, b) };
        let value = if plain.factor == -1.0 { other.expr() - plain.value.clone() } else { plain.expr() + other.expr() };
        self.tile("s", value)
    }

    fn sum(&mut self, a: &Complex, b: &Complex) -> Complex {
        Complex { re: self.add(&a.re, &b.re), im: self.add(&a.im, &b.im) }
    }

    fn difference(&mut self, a: &Complex, b: &Complex) -> Complex {
        Complex { re: self.add(&a.re, &b.re.negated()), im: self.add(&a.im, &b.im.negated()) }
    }

    /// `x` times `cos + i sin` of `n / whole` of a turn.
    fn rotated(&mut self, x: &Complex, n: usize, whole: usize) -> Complex {
        let (c, s) = root(n, whole);
        let parts = |c: f64, s: f64| match (c == 0.0, s == 0.0) {
            (false, true) => Some(Complex { re: x.re.scaled(c), im: x.im.scaled(c) }),
            (true, false) => Some(Complex { re: x.im.scaled(-s), im: x.re.scaled(s) }),
            _ => None,
        };
        if let Some(turned) = parts(c, s) {
            return turned;
        }
        if (8 * n).is_multiple_of(whole) {
            // An odd eighth: both factors are the same up to sign.
            let h = std::f64::consts::FRAC_1_SQRT_2;
            let re = self.add(&x.re.scaled(c.signum()), &x.im.scaled(-s.signum()));
            let im = self.add(&x.re.scaled(s.signum()), &x.im.scaled(c.signum()));
            return Complex { re: re.scaled(h), im: im.scaled(h) };
        }
        self.multiplied(x, &Expr::float(c), &Expr::float(s))
    }

    /// `x` times `cos + i sin`.
    pub fn multiplied(&mut self, x: &Complex, cos: &Expr, sin: &Expr) -> Complex {
        let (re, im) = (x.re.expr(), x.im.expr());
        let real = re.clone() * cos.clone() - im.clone() * sin.clone();
        let imaginary = re * sin.clone() + im * cos.clone();
        Complex { re: self.tile("re", real), im: self.tile("im", imaginary) }
    }

    /// The sums over j of `x_j e^(2 pi i j k / q)`, for k = 0..q; with the other sign when `conjugate`.
    pub fn transform(&mut self, x: &[Complex], conjugate: bool) -> Vec<Complex> {
        let n = x.len();
        match n {
            0 | 1 => x.to_vec(),
            2 => vec![self.sum(&x[0], &x[1]), self.difference(&x[0], &x[1])],
            _ => match [4, 2, 3, 5, 7].into_iter().find(|p| n > *p && n.is_multiple_of(*p)) {
                Some(p) => self.composite(x, p, conjugate),
                None => self.prime(x, conjugate),
            },
        }
    }

    /// With j = j1 q + j2 and k = k1 + k2 p, n = p q (Cooley and Tukey 1965).
    fn composite(&mut self, x: &[Complex], p: usize, conjugate: bool) -> Vec<Complex> {
        let n = x.len();
        let q = n / p;
        let mut columns = Vec::with_capacity(q);
        for j2 in 0..q {
            let part: Vec<Complex> = (0..p).map(|j1| x[j1 * q + j2].clone()).collect();
            columns.push(self.transform(&part, conjugate));
        }
        let mut out = vec![None; n];
        for k1 in 0..p {
            let mut row = Vec::with_capacity(q);
            for (j2, column) in columns.iter().enumerate() {
                let turn = if conjugate { (n - j2 * k1 % n) % n } else { j2 * k1 % n };
                row.push(self.rotated(&column[k1], turn, n));
            }
            for (k2, value) in self.transform(&row, conjugate).into_iter().enumerate() {
                out[k1 + k2 * p] = Some(value);
            }
        }
        out.into_iter().flatten().collect()
    }

    /// An odd prime: sums and differences of the pairs j, n - j meet cosines and sines.
    fn prime(&mut self, x: &[Complex], conjugate: bool) -> Vec<Complex> {
        let n = x.len();
        let pairs: Vec<(Complex, Complex)> =
            (1..=n / 2).map(|j| (self.sum(&x[j], &x[n - j]), self.difference(&x[j], &x[n - j]))).collect();
        let mut first = x[0].clone();
        for (sum, _) in &pairs {
            first = self.sum(&first, sum);
        }
        let mut out = vec![first.clone(); n];
        for k in 1..=n / 2 {
            let (mut re, mut im) = (x[0].re.expr(), x[0].im.expr());
            let (mut cross_re, mut cross_im) = (Expr::float(0.0), Expr::float(0.0));
            for (j, (sum, difference)) in pairs.iter().enumerate() {
                let (c, s) = root((j + 1) * k % n, n);
                let s = if conjugate { -s } else { s };
                re = re + sum.re.expr() * Expr::float(c);
                im = im + sum.im.expr() * Expr::float(c);
                let (r, i) = (difference.re.expr() * Expr::float(s), difference.im.expr() * Expr::float(s));
                (cross_re, cross_im) = if j == 0 { (r, i) } else { (cross_re + r, cross_im + i) };
            }
            let even = Complex { re: self.tile("e", re), im: self.tile("e", im) };
            // i times the odd part.
            let odd = Complex { re: self.tile("o", cross_im).negated(), im: self.tile("o", cross_re) };
            out[k] = self.sum(&even, &odd);
            out[n - k] = self.difference(&even, &odd);
        }
        out
    }
}
