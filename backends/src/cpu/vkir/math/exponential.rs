//! exp and what is made of it: expm1, tanh, sigmoid, silu, softplus.

use super::super::builder::Builder;
use super::super::ir::{BinaryOp, Condition, FmaForm, Source, VReg};

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 rounded to f32, and the rest: with a fused multiply-add `x - n * high` is exact near a multiple.
const LN2_HIGH: f32 = std::f32::consts::LN_2;
const LN2_LOW: f32 = -1.904_654_2e-9;
/// ln 2 rounded to 15 bits, so that its product with n is exact without fusion too, and the rest.
const LN2_SHORT: f32 = 0.693_145_75;
const LN2_SHORT_REST: f32 = 1.428_606_8e-6;

/// `(e^r - 1 - r) / r^2` for |r| <= ln 2 / 2, highest power first; relative error of `e^r` 3.2e-9.
const EXP: [f32; 5] = [0.001_383_800_3, 0.008_369_165, 0.041_668_102, 0.166_665_17, 0.499_999_94];
/// `(e^r - 1) / r` for |r| <= ln 2 / 64, highest power first; relative error of `e^r` 5.3e-8. It is
/// the series with its next term replaced by the best line or constant over the range.
const EXP_SHORT: [f32; 2] = [0.500_005, 1.000_014_7];
/// The bits of `2^(i / 32)` rounded to f32.
const POWERS: [u32; 32] = [
    0x3f80_0000,
    0x3f82_cd87,
    0x3f85_aac3,
    0x3f88_980f,
    0x3f8b_95c2,
    0x3f8e_a43a,
    0x3f91_c3d3,
    0x3f94_f4f0,
    0x3f98_37f0,
    0x3f9b_8d3a,
    0x3f9e_f532,
    0x3fa2_7043,
    0x3fa5_fed7,
    0x3fa9_a15b,
    0x3fad_583f,
    0x3fb1_23f6,
    0x3fb5_04f3,
    0x3fb8_fbaf,
    0x3fbd_08a4,
    0x3fc1_2c4d,
    0x3fc5_672a,
    0x3fc9_b9be,
    0x3fce_248c,
    0x3fd2_a81e,
    0x3fd7_44fd,
    0x3fdb_fbb8,
    0x3fe0_ccdf,
    0x3fe5_b907,
    0x3fea_c0c7,
    0x3fef_e4ba,
    0x3ff5_257d,
    0x3ffa_83b3,
];
/// The same as [`EXP`], weighted for the relative error of `e^r - 1`: 3.4e-9.
const EXPM1: [f32; 6] = [0.000_150_462_25, 0.001_393_054_3, 0.008_341_51, 0.041_666_51, 0.166_666_36, 0.5];

impl Builder {
    /// Splits `x = n ln 2 + r`, |r| <= ln 2 / 2; x is overwritten by r. Returns n.
    fn reduce_exponent(&mut self, x: VReg) -> VReg {
        let scaled = self.mul(x, LOG2_E);
        let n = self.nearest(scaled);
        let (high, low) = self.ln2_parts();
        self.fnma(x, n, high);
        self.fnma(x, n, low);
        n
    }

    /// ln 2 in two parts, the first of which multiplies an exponent without error on this instruction set.
    pub(super) fn ln2_parts(&self) -> (f32, f32) {
        if self.lanes() == 4 { (LN2_SHORT, LN2_SHORT_REST) } else { (LN2_HIGH, LN2_LOW) }
    }

    /// `e^x`. Zero below -104, infinity above 88.73; results below 2^-126 are rounded once.
    pub fn exp(&mut self, x: VReg) -> VReg {
        let r = self.clamp(x, -105.0, 89.0);
        if self.lanes() == 16 {
            return self.exp_by_table(r);
        }
        let n = self.reduce_exponent(r);
        let p = self.exp_polynomial(r);
        self.scale2_narrow(p, n)
    }

    /// `e^(x + low)` for a small correction `low`, to less than one unit in the last place.
    pub(super) fn exp_with_low(&mut self, x: VReg, low: VReg) -> VReg {
        let r = self.clamp(x, -105.0, 89.0);
        let n = self.reduce_exponent(r);
        self.binary_to(r, BinaryOp::Add, r, low);
        let p = self.exp_polynomial(r);
        self.scale2_narrow(p, n)
    }

    /// `e^r` for r in range: with n the multiple of 1/32 nearest to r / ln 2, `2^floor(n) 2^(n - floor(n)) e^(r - n ln 2)`,
    /// the middle factor from a table that fits in two registers. Half the multiplications of the long polynomial.
    fn exp_by_table(&mut self, r: VReg) -> VReg {
        // adding it rounds to multiples of 1/32, and leaves 32 n in the last bits
        const ROUND: f32 = 1.5 * (1 << 18) as f32;
        let shifted = self.constant(ROUND);
        self.fma(shifted, r, LOG2_E);
        let n = self.sub(shifted, ROUND);
        self.fnma(r, n, LN2_HIGH);
        self.fnma(r, n, LN2_LOW);
        let (first, second) = (self.lane_constants(&POWERS[..16]), self.lane_constants(&POWERS[16..]));
        let power = self.lookup(shifted, first, second);
        let p = self.polynomial(r, &EXP_SHORT);
        let scaled = self.mul(r, power);
        self.fma(power, scaled, Source::Reg(p));
        self.scale2_narrow(power, n)
    }

    fn exp_polynomial(&mut self, r: VReg) -> VReg {
        let p = self.polynomial(r, &EXP);
        self.horner(p, r, 1.0);
        self.horner(p, r, 1.0);
        p
    }

    /// `e^x - 1`, accurate near zero.
    pub fn expm1(&mut self, x: VReg) -> VReg {
        let r = self.clamp(x, -20.0, 89.0);
        let n = self.reduce_exponent(r);
        let p = self.polynomial(r, &EXPM1);
        let square = self.mul(r, r);
        // e^r - 1
        self.horner(p, square, r);
        // half the power: 2^128 is not a number
        let below = self.add(n, -1.0);
        let one = self.constant(1.0);
        let half_power = self.scale2_narrow(one, below);
        let rest = self.add(half_power, -0.5);
        self.horner(p, half_power, rest);
        self.add(p, p)
    }

    /// `tanh x`: `-t / (t + 2)` with `t = e^(-2|x|) - 1`, and x's sign.
    pub fn tanh(&mut self, x: VReg) -> VReg {
        let size = self.abs(x);
        let minus_twice = self.mul(size, -2.0);
        let t = self.expm1(minus_twice);
        let below = self.add(t, 2.0);
        let above = self.neg(t);
        let quotient = self.div(above, below);
        self.with_sign_of(quotient, x)
    }

    /// `1 / (1 + e^-x)`, accurate in both tails.
    pub fn sigmoid(&mut self, x: VReg) -> VReg {
        let (above, below) = self.sigmoid_fraction(x);
        self.div(above, below)
    }

    /// `x sigmoid(x)`; NaN for minus infinity.
    pub fn silu(&mut self, x: VReg) -> VReg {
        let (above, below) = self.sigmoid_fraction(x);
        let scaled = self.mul(x, above);
        self.div(scaled, below)
    }

    /// Numerator and denominator of the sigmoid: `e^-|x|` never overflows.
    fn sigmoid_fraction(&mut self, x: VReg) -> (VReg, VReg) {
        let size = self.abs(x);
        let minus = self.neg(size);
        let e = self.exp(minus);
        let below = self.add(e, 1.0);
        let one = self.constant(1.0);
        let negative = self.compare(Condition::Lt, x, 0.0);
        (self.select(negative, e, one), below)
    }

    /// `log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)`.
    pub fn softplus(&mut self, x: VReg) -> VReg {
        let size = self.abs(x);
        let minus = self.neg(size);
        let e = self.exp(minus);
        let tail = self.log1p(e);
        let zero = self.constant(0.0);
        let positive = self.max(zero, x);
        self.add(positive, tail)
    }

    /// `tanh`-approximated GELU: `x/2 (1 + tanh u) = x sigmoid(2u)`, `u = sqrt(2/pi) (x + 0.044715 x^3)`. The relative
    /// error grows with |u| (as e^2u does), but has no cancellation.
    pub fn gelu_tanh(&mut self, x: VReg) -> VReg {
        const TWICE_ROOT: f32 = 1.595_769;
        let square = self.mul(x, x);
        let factor = self.constant(TWICE_ROOT);
        self.fma_form(FmaForm::Accumulate, factor, square, TWICE_ROOT * 0.044_715);
        let twice_u = self.mul(x, factor);
        let (above, below) = self.sigmoid_fraction(twice_u);
        let scaled = self.mul(x, above);
        self.div(scaled, below)
    }

    /// `size` (not negative) with the sign of `x`.
    pub(super) fn with_sign_of(&mut self, size: VReg, x: VReg) -> VReg {
        let sign = self.sign_bit(x);
        self.binary(BinaryOp::Or, size, sign)
    }

    /// The sign bit alone.
    pub(super) fn sign_bit(&mut self, x: VReg) -> VReg {
        self.binary(BinaryOp::And, x, -0.0)
    }
}
