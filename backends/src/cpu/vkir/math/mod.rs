//! Mathematical functions as sequences of builder steps, accurate to two or three units in the last place.
//!
//! The polynomial coefficients are minimax fits made for this file: the exchange algorithm in exact rational
//! arithmetic on the reduced range, for the relative error of the function; then, from the lowest power up, each
//! coefficient rounded to f32 and the rest fitted again. The error stated beside each is what the f32 coefficients
//! leave, without the rounding of the evaluation.
//!
//! NaN in gives NaN out. Without fused multiply-adds (`baseline`) errors are up to a few units larger.

mod error_function;
mod exponential;
mod logarithm;
mod trigonometric;

use super::builder::Builder;
use super::ir::VReg;

impl Builder {
    /// `x` limited to low..=high; a NaN stays one.
    pub fn clamp(&mut self, x: VReg, low: f32, high: f32) -> VReg {
        // the second operand is what a comparison with NaN yields
        let high = self.constant(high);
        let x = self.min(high, x);
        let low = self.constant(low);
        self.max(low, x)
    }

    /// `1 / x`, correctly rounded.
    pub fn recip(&mut self, x: VReg) -> VReg {
        let one = self.constant(1.0);
        self.div(one, x)
    }

    /// `1 / sqrt(x)`.
    pub fn rsqrt(&mut self, x: VReg) -> VReg {
        let root = self.sqrt(x);
        self.recip(root)
    }
}
