//! erf and the exact GELU.

use super::super::builder::Builder;
use super::super::ir::{Condition, VReg};

/// `erf(x) / x - 1` in powers of x^2 for |x| <= 1, highest first; relative error 1.5e-9.
const ERF: [f32; 7] =
    [7.806_904e-5, -0.000_799_785_3, 0.005_187_162, -0.026_853_347, 0.112_835_79, -0.376_126_26, 0.128_379_17];
/// `e^(z^2) erfc(z) (z + 2)` in powers of t = (z - 2) / (z + 2) for z in 0..=10.5, highest first; relative error 3.1e-8.
const SCALED_ERFC: [f32; 10] = [
    -3.405_324e-5,
    -0.000_507_771_6,
    -0.000_731_164,
    0.003_023_111_5,
    0.006_433_411_5,
    -0.021_496_935,
    -0.036_435_146,
    0.279_470_95,
    -0.687_160_97,
    1.021_582_7,
];

impl Builder {
    /// `e^-(square + square_low) * e^(z^2) erfc(z)` for z >= 0: erfc(z) itself where the square is z's, in two parts so
    /// that the exponential keeps its relative accuracy.
    fn erfc_of(&mut self, z: VReg, square: VReg, square_low: VReg) -> VReg {
        let z = self.clamp(z, 0.0, 10.5);
        let minus = self.neg(square);
        let minus_low = self.neg(square_low);
        let power = self.exp_with_low(minus, minus_low);
        let shifted = self.add(z, 2.0);
        let inverse = self.recip(shifted);
        // (z - 2) / (z + 2) = 1 - 4 / (z + 2)
        let t = self.constant(1.0);
        self.fnma(t, inverse, 4.0);
        let p = self.polynomial(t, &SCALED_ERFC);
        let scaled = self.mul(p, inverse);
        self.mul(power, scaled)
    }

    /// `a * b` as a rounded product and what it lacks; without fused multiply-adds the second part is a rounding error.
    fn product_in_two_parts(&mut self, a: VReg, b: VReg) -> (VReg, VReg) {
        let product = self.mul(a, b);
        let low = self.neg(product);
        self.fma(low, a, b);
        (product, low)
    }

    /// The error function.
    pub fn erf(&mut self, x: VReg) -> VReg {
        let size = self.clamp_size(x, 4.5);
        let (square, low) = self.product_in_two_parts(size, size);
        let complement = self.erfc_of(size, square, low);
        let one = self.constant(1.0);
        let large = self.sub(one, complement);
        let large = self.with_sign_of(large, x);
        let small = self.polynomial(square, &ERF);
        self.horner(small, x, x);
        let near = self.compare(Condition::Lt, size, 1.0);
        self.select(near, small, large)
    }

    /// |x| up to a limit where the tail has ended; so no subnormal, which are slow, is computed only to be lost.
    fn clamp_size(&mut self, x: VReg, limit: f32) -> VReg {
        let size = self.abs(x);
        let limit = self.constant(limit);
        self.min(limit, size)
    }

    /// `x Phi(x) = x/2 erfc(-x / sqrt 2)`, relatively accurate in the negative tail too; zero below -12.9, where the
    /// value is about 3e-37.
    pub fn gelu_erf(&mut self, x: VReg) -> VReg {
        const END: f32 = 12.9;
        let size = self.clamp_size(x, END);
        let half_size = self.mul(size, 0.5);
        let (square, low) = self.product_in_two_parts(half_size, size);
        let z = self.mul(size, std::f32::consts::FRAC_1_SQRT_2);
        let complement = self.erfc_of(z, square, low);
        let tail = self.mul(complement, 0.5);
        let one = self.constant(1.0);
        let body = self.sub(one, tail);
        let negative = self.compare(Condition::Lt, x, 0.0);
        let phi = self.select(negative, tail, body);
        let gone = self.compare(Condition::Lt, x, -END);
        let zero = self.constant(0.0);
        let phi = self.select(gone, zero, phi);
        self.mul(x, phi)
    }
}
