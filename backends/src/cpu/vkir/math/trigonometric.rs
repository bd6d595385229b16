//! sin and cos, for arguments up to about 1e5.

use super::super::builder::Builder;
use super::super::ir::{BinaryOp, ShiftOp, Source, UnaryOp, VReg};

/// pi/2 in parts of 24 bits: with fused multiply-adds, `x - n * part` is exact or rounds once.
const HALF_PI_FUSED: [f32; 3] = [std::f32::consts::FRAC_PI_2, -4.371_139e-8, -1.715_124_5e-15];
/// pi/2 in parts of 8 bits, whose products with n below 2^16 are exact without fusion, and the rest.
const HALF_PI: [f32; 4] = [1.570_312_5, 4.844_665_5e-4, -6.407_499_3e-7, 9.920_936e-10];
/// `(sin r - r) / r^3` in powers of r^2 for |r| <= pi/4, highest first; relative error of the sine 1.7e-10.
const SIN: [f32; 4] = [2.832_51e-6, -0.000_198_530_64, 0.008_333_379, -0.166_666_67];
/// `(cos r - 1 + r^2 / 2) / r^4` in powers of r^2 for |r| <= pi/4, highest first; error 1.1e-10.
const COS: [f32; 3] = [2.443_067e-5, -0.001_388_730_1, 0.041_666_646];

impl Builder {
    /// The sine. Absolute error below 1e-7 up to |x| = 1e5, where the reduction starts to lose bits; always within
    /// -1..=1 for finite x, NaN for infinities.
    pub fn sin(&mut self, x: VReg) -> VReg {
        self.sin_of_quadrant(x, 0)
    }

    /// The cosine, with the same limits as [`Builder::sin`].
    pub fn cos(&mut self, x: VReg) -> VReg {
        self.sin_of_quadrant(x, 1)
    }

    /// `sin(x + first * pi/2)`
    fn sin_of_quadrant(&mut self, x: VReg, first: u32) -> VReg {
        let turns = self.mul(x, std::f32::consts::FRAC_2_PI);
        let n = self.nearest(turns);
        let r = self.copy(x);
        let parts: &[f32] = if self.lanes() == 4 { &HALF_PI } else { &HALF_PI_FUSED };
        for part in parts {
            self.fnma(r, n, *part);
        }
        let r = self.clamp(r, -0.8, 0.8);
        let square = self.mul(r, r);
        let sin = self.polynomial(square, &SIN);
        let cube = self.mul(square, r);
        self.horner(sin, cube, r);
        let cos = self.polynomial(square, &COS);
        let fourth = self.mul(square, square);
        let one = self.constant(1.0);
        self.fnma(one, square, 0.5);
        self.horner(cos, fourth, one);
        // odd quadrants take the cosine, the last two the other sign
        let quadrant = self.unary(UnaryOp::ToInt, n);
        let quadrant = self.binary(BinaryOp::IntAdd, quadrant, Source::Const(first));
        let odd = self.shift(ShiftOp::Left, quadrant, 31);
        let odd = self.shift(ShiftOp::Arithmetic, odd, 31);
        let differing = self.binary(BinaryOp::Xor, sin, cos);
        let taken = self.binary(BinaryOp::And, differing, odd);
        let value = self.binary(BinaryOp::Xor, sin, taken);
        let sign = self.binary(BinaryOp::And, quadrant, Source::Const(2));
        let sign = self.shift(ShiftOp::Left, sign, 30);
        self.binary(BinaryOp::Xor, value, sign)
    }
}
