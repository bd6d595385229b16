//! Eigenvalues and eigenvectors of a general real matrix, in f64: to Hessenberg form by reflections, to triangular form
//! by shifted QR steps, vectors by back substitution. For matrices of some hundred rows, made once at compile time.

use std::ops::{Add, Mul, Neg, Sub};

/// A complex number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Complex {
    /// A real number.
    pub fn real(re: f64) -> Complex {
        Complex { re, im: 0.0 }
    }

    /// The conjugate.
    pub fn conj(self) -> Complex {
        Complex { re: self.re, im: -self.im }
    }

    /// The absolute value.
    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// Times a real number.
    pub fn times(self, x: f64) -> Complex {
        Complex { re: self.re * x, im: self.im * x }
    }

    /// The quotient (Smith's way, which does not overflow early).
    pub fn over(self, d: Complex) -> Complex {
        if d.re.abs() >= d.im.abs() {
            let r = d.im / d.re;
            let n = d.re + d.im * r;
            Complex { re: (self.re + self.im * r) / n, im: (self.im - self.re * r) / n }
        } else {
            let r = d.re / d.im;
            let n = d.re * r + d.im;
            Complex { re: (self.re * r + self.im) / n, im: (self.im * r - self.re) / n }
        }
    }

    /// The square root with a real part that is not negative.
    fn sqrt(self) -> Complex {
        let size = self.abs();
        let re = ((size + self.re.abs()) / 2.0).sqrt();
        if size == 0.0 {
            Complex::default()
        } else if self.re >= 0.0 {
            Complex { re, im: self.im / (2.0 * re) }
        } else {
            Complex { re: self.im.abs() / (2.0 * re), im: re.copysign(self.im) }
        }
    }
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, o: Complex) -> Complex {
        Complex { re: self.re + o.re, im: self.im + o.im }
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, o: Complex) -> Complex {
        Complex { re: self.re - o.re, im: self.im - o.im }
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, o: Complex) -> Complex {
        Complex { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }
}

impl Neg for Complex {
    type Output = Complex;
    fn neg(self) -> Complex {
        Complex { re: -self.re, im: -self.im }
    }
}

/// A square matrix, row-major.
#[derive(Clone, Debug)]
pub struct Square {
    n: usize,
    data: Vec<Complex>,
}

impl Square {
    /// The matrix with these elements.
    pub fn real(n: usize, elements: &[f64]) -> Square {
        Square { n, data: elements.iter().map(|x| Complex::real(*x)).collect() }
    }

    /// s I - the matrix with these elements.
    #[cfg(test)]
    pub fn shifted(n: usize, elements: &[f64], s: Complex) -> Square {
        let mut m = Square { n, data: elements.iter().map(|x| Complex::real(-x)).collect() };
        (0..n).for_each(|k| m.set(k, k, m.at(k, k) + s));
        m
    }

    fn identity(n: usize) -> Square {
        let one = |p: usize| Complex::real(if p / n == p % n { 1.0 } else { 0.0 });
        Square { n, data: (0..n * n).map(one).collect() }
    }

    /// The element of row i and column j.
    pub fn at(&self, i: usize, j: usize) -> Complex {
        self.data[i * self.n + j]
    }

    fn set(&mut self, i: usize, j: usize, x: Complex) {
        self.data[i * self.n + j] = x;
    }

    /// Rows i and k, columns `from..`: (c x + s y, -conj(s) x + c y).
    fn turn_rows(&mut self, i: usize, k: usize, from: usize, (c, s): (f64, Complex)) {
        for j in from..self.n {
            let (x, y) = (self.at(i, j), self.at(k, j));
            self.set(i, j, x.times(c) + s * y);
            self.set(k, j, y.times(c) - s.conj() * x);
        }
    }

    /// Columns i and k, rows `..to`, by the adjoint of that turn.
    fn turn_columns(&mut self, i: usize, k: usize, to: usize, (c, s): (f64, Complex)) {
        for j in 0..to {
            let (x, y) = (self.at(j, i), self.at(j, k));
            self.set(j, i, x.times(c) + s.conj() * y);
            self.set(j, k, y.times(c) - s * x);
        }
    }
}

/// The turn (c, s) that takes (x, y) to (r, 0).
fn turn(x: Complex, y: Complex) -> (f64, Complex) {
    let size = x.abs().hypot(y.abs());
    if y.abs() == 0.0 {
        return (1.0, Complex::default());
    }
    if x.abs() == 0.0 {
        return (0.0, y.conj().times(1.0 / y.abs()));
    }
    let phase = x.times(1.0 / x.abs());
    (x.abs() / size, phase * y.conj().times(1.0 / size))
}

/// QR steps for an eigenvalue before the matrix is given up; a few are usual.
const STEPS: usize = 120;

/// Turns `a` into an upper triangular t and gives the unitary q with a = q t q^H; `None` when an eigenvalue does not
/// settle.
fn schur(a: &mut Square) -> Option<Square> {
    let n = a.n;
    let mut q = Square::identity(n);
    for column in 0..n.saturating_sub(2) {
        for row in (column + 2..n).rev() {
            let t = turn(a.at(row - 1, column), a.at(row, column));
            a.turn_rows(row - 1, row, column, t);
            a.set(row, column, Complex::default());
            a.turn_columns(row - 1, row, n, t);
            q.turn_columns(row - 1, row, n, t);
        }
    }
    let size = a.data.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let mut end = n;
    let mut steps = 0;
    while end > 1 {
        // The block at the end that has not come apart.
        let small = |a: &Square, k: usize| {
            let beside = a.at(k, k).abs() + a.at(k - 1, k - 1).abs();
            a.at(k, k - 1).abs() <= f64::EPSILON * if beside == 0.0 { size } else { beside }
        };
        let start = (1..end).rev().find(|k| small(a, *k)).unwrap_or(0);
        if start > 0 {
            a.set(start, start - 1, Complex::default());
        }
        if start + 1 == end {
            end -= 1;
            steps = 0;
            continue;
        }
        steps += 1;
        if steps > STEPS {
            return None;
        }
        let (p, r) = (a.at(end - 2, end - 2), a.at(end - 1, end - 1));
        let shift = if steps % 10 == 0 {
            // Out of a cycle: a shift of another size.
            r + Complex::real(a.at(end - 1, end - 2).abs())
        } else {
            // The eigenvalue of the last two rows that is nearer to the last element.
            let half = (p - r).times(0.5);
            let root = (half * half + a.at(end - 2, end - 1) * a.at(end - 1, end - 2)).sqrt();
            let (one, other) = (half + root, half - root);
            r + if one.abs() < other.abs() { one } else { other }
        };
        for k in start..end {
            a.set(k, k, a.at(k, k) - shift);
        }
        let mut turns = Vec::with_capacity(end - start - 1);
        for k in start..end - 1 {
            let t = turn(a.at(k, k), a.at(k + 1, k));
            a.turn_rows(k, k + 1, k, t);
            a.set(k + 1, k, Complex::default());
            turns.push(t);
        }
        for (k, t) in (start..).zip(turns) {
            a.turn_columns(k, k + 1, (k + 2).min(end), t);
            q.turn_columns(k, k + 1, n, t);
        }
        for k in start..end {
            a.set(k, k, a.at(k, k) + shift);
        }
    }
    Some(q)
}

/// Eigenvalues by ascending imaginary part, then real part, with eigenvectors of length 1 as columns of a matrix; `None`
/// when they are not found.
pub fn eigen(n: usize, elements: &[f64]) -> Option<(Vec<Complex>, Square)> {
    let mut t = Square::real(n, elements);
    let q = schur(&mut t)?;
    let size = t.data.iter().map(|x| x.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let mut order: Vec<usize> = (0..n).collect();
    // What differs from a real eigenvalue by rounding is one.
    let real = f64::EPSILON * size * n as f64;
    let value = |k: usize| {
        let x = t.at(k, k);
        if x.im.abs() <= real { Complex::real(x.re) } else { x }
    };
    order.sort_by(|i, j| value(*i).im.total_cmp(&value(*j).im).then(value(*i).re.total_cmp(&value(*j).re)));
    let mut vectors = Square { n, data: vec![Complex::default(); n * n] };
    for (to, &k) in order.iter().enumerate() {
        let mut y = vec![Complex::default(); n];
        y[k] = Complex::real(1.0);
        for i in (0..k).rev() {
            let sum = (i + 1..=k).fold(Complex::default(), |s, j| s + t.at(i, j) * y[j]);
            let mut gap = t.at(i, i) - t.at(k, k);
            if gap.abs() < f64::EPSILON * size {
                gap = Complex::real(f64::EPSILON * size);
            }
            y[i] = -sum.over(gap);
            // Vectors of nearly equal eigenvalues grow without bound; only their direction counts.
            let most = y[i].abs();
            if most > 1e150 {
                y.iter_mut().for_each(|x| *x = x.times(1.0 / most));
            }
        }
        let v: Vec<Complex> = (0..n).map(|i| (0..=k).fold(Complex::default(), |s, j| s + q.at(i, j) * y[j])).collect();
        let length = v.iter().fold(0.0f64, |l, x| l.hypot(x.abs()));
        v.iter().enumerate().for_each(|(i, x)| vectors.set(i, to, x.times(1.0 / length)));
    }
    Some((order.into_iter().map(value).collect(), vectors))
}

/// m^-1 b for the columns of `b [n, columns]`, row-major; `None` when m is singular.
pub fn solve(m: &Square, b: &[Complex], columns: usize) -> Option<Vec<Complex>> {
    let n = m.n;
    let (mut m, mut x) = (m.clone(), b.to_vec());
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| m.at(*i, k).abs().total_cmp(&m.at(*j, k).abs()))?;
        if m.at(pivot, k).abs() == 0.0 || !m.at(pivot, k).abs().is_finite() {
            return None;
        }
        if pivot != k {
            (0..n).for_each(|j| m.data.swap(k * n + j, pivot * n + j));
            (0..columns).for_each(|j| x.swap(k * columns + j, pivot * columns + j));
        }
        for i in k + 1..n {
            let factor = m.at(i, k).over(m.at(k, k));
            for j in k..n {
                m.set(i, j, m.at(i, j) - factor * m.at(k, j));
            }
            for j in 0..columns {
                x[i * columns + j] = x[i * columns + j] - factor * x[k * columns + j];
            }
        }
    }
    for i in (0..n).rev() {
        for j in 0..columns {
            let sum = (i + 1..n).fold(x[i * columns + j], |s, k| s - m.at(i, k) * x[k * columns + j]);
            x[i * columns + j] = sum.over(m.at(i, i));
        }
    }
    Some(x)
}
