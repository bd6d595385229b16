//! log, log1p, pow.

use super::super::builder::Builder;
use super::super::ir::{BinaryOp, Condition, MReg, ShiftOp, Source, UnaryOp, VReg};

/// `(log(1 + f) - f + f^2 / 2) / f^3` for sqrt(1/2) <= 1 + f <= sqrt 2, highest power first; relative error of the
/// logarithm 1.1e-9.
const LOG: [f32; 9] = [
    0.063_254_68,
    -0.114_169_136,
    0.119_463_65,
    -0.124_565_92,
    0.142_178_98,
    -0.166_647_76,
    0.200_020_94,
    -0.250_000_72,
    0.333_333_13,
];
/// `(log((1 + s) / (1 - s)) - 2 s) / s^3` in powers of s^2 for |s| <= 0.1718, highest first; relative error 2.5e-11.
const LOG_RATIO: [f32; 4] = [0.242_788_42, 0.284_987_93, 0.400_009_72, 0.666_666_6];

fn bits(value: u32) -> Source {
    Source::Const(value)
}

impl Builder {
    /// Splits a positive normal or subnormal `x = m 2^e` with sqrt(1/2) <= m < sqrt 2; returns m and e.
    fn split_exponent(&mut self, x: VReg) -> (VReg, VReg) {
        const ROOT_HALF: u32 = 0x3f35_04f3;
        // subnormals first become normal
        let scaled = self.mul(x, 8_388_608.0);
        let tiny = self.compare(Condition::Lt, x, f32::MIN_POSITIVE);
        let normal = self.select(tiny, scaled, x);
        let (zero, shift) = (self.constant(0.0), self.constant(23.0));
        let correction = self.select(tiny, shift, zero);
        // counted from sqrt(1/2), the exponent field is e and the rest m
        let offset = self.binary(BinaryOp::IntSub, normal, bits(ROOT_HALF));
        let exponent = self.shift(ShiftOp::Arithmetic, offset, 23);
        let exponent = self.unary(UnaryOp::ToFloat, exponent);
        let fraction = self.binary(BinaryOp::And, offset, bits(0x007f_ffff));
        let m = self.binary(BinaryOp::IntAdd, fraction, bits(ROOT_HALF));
        let exponent = self.sub(exponent, correction);
        (m, exponent)
    }

    /// Lanes of NaN.
    fn is_nan(&mut self, x: VReg) -> MReg {
        self.compare(Condition::Ne, x, x)
    }

    /// The natural logarithm: minus infinity at zero, NaN below.
    pub fn log(&mut self, x: VReg) -> VReg {
        let (m, e) = self.split_exponent(x);
        let f = self.add(m, -1.0);
        let square = self.mul(f, f);
        let p = self.polynomial(f, &LOG);
        let cube = self.mul(square, f);
        let (high, low) = self.ln2_parts();
        // f^3 P + e low, then - f^2 / 2, + f, + e high: from small to large
        let low_part = self.mul(e, low);
        self.horner(p, cube, low_part);
        self.fnma(p, square, 0.5);
        let sum = self.add(p, f);
        self.fma(sum, e, high);
        self.log_edges(x, sum)
    }

    /// Puts the values at zero, infinity, below zero and NaN in place of what the formula gives there.
    fn log_edges(&mut self, x: VReg, formula: VReg) -> VReg {
        let infinity = self.constant(f32::INFINITY);
        let is_infinite = self.compare(Condition::Eq, x, f32::INFINITY);
        let result = self.select(is_infinite, infinity, formula);
        let minus_infinity = self.constant(f32::NEG_INFINITY);
        let is_zero = self.compare(Condition::Eq, x, 0.0);
        let result = self.select(is_zero, minus_infinity, result);
        let nan = self.constant(f32::NAN);
        let valid = self.compare(Condition::Ge, x, 0.0);
        self.select(valid, result, nan)
    }

    /// `log(1 + x)`, accurate near zero: `log u + (x - (u - 1)) / u` with u = 1 + x rounded.
    pub fn log1p(&mut self, x: VReg) -> VReg {
        let u = self.add(x, 1.0);
        let taken = self.add(u, -1.0);
        let left = self.sub(x, taken);
        let correction = self.div(left, u);
        // infinity and zero u leave NaN here, and need no correction
        let valid = self.compare(Condition::Eq, correction, correction);
        let zero = self.constant(0.0);
        let correction = self.select(valid, correction, zero);
        let log = self.log(u);
        self.add(log, correction)
    }

    /// `log x` of a positive finite x as an unevaluated sum, good to about 2^-33: with `s = f / (2 + f)`,
    /// `log(1 + f) = 2 s + s^3 Q(s^2)`, s in two parts.
    fn log_in_two_parts(&mut self, x: VReg) -> (VReg, VReg) {
        let (m, e) = self.split_exponent(x);
        let f = self.add(m, -1.0);
        let u = self.add(m, 1.0);
        // m + 1 = u + lost
        let back = self.add(u, -1.0);
        let lost = self.sub(m, back);
        let inverse = self.recip(u);
        let s = self.mul(f, inverse);
        // (f - s (u + lost)) / u
        let rest = self.copy(f);
        self.fnma(rest, s, u);
        self.fnma(rest, s, lost);
        let s_low = self.mul(rest, inverse);
        let square = self.mul(s, s);
        let q = self.polynomial(square, &LOG_RATIO);
        let cube = self.mul(square, s);
        let low = self.add(s_low, s_low);
        self.fma(low, cube, q);
        let twice = self.add(s, s);
        // + e ln 2, the larger first
        let (ln2_high, ln2_low) = (0.693_145_75, 1.428_606_8e-6);
        let large = self.mul(e, ln2_high);
        let high = self.add(large, twice);
        let large_back = self.sub(high, twice);
        let twice_back = self.sub(high, large_back);
        let large_error = self.sub(large, large_back);
        let twice_error = self.sub(twice, twice_back);
        let error = self.add(large_error, twice_error);
        let low = self.add(low, error);
        self.fma(low, e, ln2_low);
        // so that the second part is below the first one's last place
        let sum = self.add(high, low);
        let taken = self.sub(sum, high);
        let low = self.sub(low, taken);
        (sum, low)
    }

    /// `x^y` with the usual edge cases: 1 for y = 0 or x = 1, NaN for negative x and fractional y, the sign of x kept
    /// for odd y.
    pub fn pow(&mut self, x: VReg, y: VReg) -> VReg {
        let size = self.abs(x);
        let (log_high, log_low) = self.log_in_two_parts(size);
        // far beyond any finite result, and no infinity times zero
        let exponent = self.clamp(y, -1.0e30, 1.0e30);
        let product = self.mul(exponent, log_high);
        let low = self.neg(product);
        self.fma(low, exponent, log_high);
        self.fma(low, exponent, log_low);
        let product_size = self.abs(product);
        let in_range = self.compare(Condition::Lt, product_size, 200.0);
        let zero = self.constant(0.0);
        let low = self.select(in_range, low, zero);
        let result = self.exp_with_low(product, low);

        // |x| zero or infinite: zero or infinity, whichever way y points
        let infinity = self.constant(f32::INFINITY);
        let y_negative = self.compare(Condition::Lt, y, 0.0);
        let x_zero = self.compare(Condition::Eq, size, 0.0);
        let x_infinite = self.compare(Condition::Eq, size, f32::INFINITY);
        let at_zero = self.select(y_negative, infinity, zero);
        let result = self.select(x_zero, at_zero, result);
        let at_infinity = self.select(y_negative, zero, infinity);
        let result = self.select(x_infinite, at_infinity, result);

        // negative x: y must be integral, and an odd one passes the sign on
        let whole = self.nearest(y);
        let fractional = self.compare(Condition::Ne, y, whole);
        let half = self.mul(exponent, 0.5);
        let half_whole = self.nearest(half);
        let odd = self.compare(Condition::Ne, half, half_whole);
        let sign = self.sign_bit(x);
        let sign = self.select(odd, sign, zero);
        let sign = self.select(fractional, zero, sign);
        let result = self.binary(BinaryOp::Xor, result, sign);
        let x_negative = self.compare(Condition::Lt, x, 0.0);
        let finite = self.mask_not(x_infinite);
        let wrong = self.mask_and(x_negative, fractional);
        let wrong = self.mask_and(wrong, finite);
        let x_nan = self.is_nan(x);
        let y_nan = self.is_nan(y);
        let wrong = self.mask_or(wrong, x_nan);
        let wrong = self.mask_or(wrong, y_nan);
        let nan = self.constant(f32::NAN);
        let result = self.select(wrong, nan, result);

        let one = self.constant(1.0);
        let x_one = self.compare(Condition::Eq, x, 1.0);
        let y_zero = self.compare(Condition::Eq, y, 0.0);
        let trivial = self.mask_or(x_one, y_zero);
        self.select(trivial, one, result)
    }
}
