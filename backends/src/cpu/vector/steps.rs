//! Functions of reals as steps on vectors.

use crate::cpu::vkir::{BinaryOp, Builder, Condition, ShiftOp, Source, UnaryOp, VReg};
use mixc_ir::expr::Unary;

/// Maximum or minimum that is NaN when either is.
pub fn strict(b: &mut Builder, op: BinaryOp, x: VReg, y: VReg) -> VReg {
    let value = b.binary(op, x, y);
    let broken = b.compare(Condition::Ne, x, x);
    b.select(broken, x, value)
}

/// Rounds to even at a bit of the mantissa; infinities and NaN stay.
pub fn round_bits(b: &mut Builder, x: VReg, bit: u8) -> VReg {
    let last = b.shift(ShiftOp::Logical, x, bit);
    let last = b.binary(BinaryOp::And, last, Source::Const(1));
    let half = b.binary(BinaryOp::IntAdd, x, Source::Const((1 << (bit - 1)) - 1));
    let sum = b.binary(BinaryOp::IntAdd, half, last);
    let rounded = b.binary(BinaryOp::And, sum, Source::Const(!((1u32 << bit) - 1)));
    let broken = b.compare(Condition::Ne, x, x);
    b.select(broken, x, rounded)
}

/// Rounds to what f16 holds.
pub fn round_f16(b: &mut Builder, x: VReg) -> VReg {
    let size = b.abs(x);
    let rounded = round_bits(b, size, 13);
    // Below 2^-14 the unit is 2^-24, that of sums with 1/2.
    let up = b.add(size, 0.5);
    let small = b.sub(up, 0.5);
    let is_small = b.compare(Condition::Lt, size, 2f32.powi(-14));
    let value = b.select(is_small, small, rounded);
    let infinity = b.constant(f32::INFINITY);
    let large = b.compare(Condition::Ge, size, 65520.0);
    let value = b.select(large, infinity, value);
    let sign = b.binary(BinaryOp::And, x, Source::Const(0x8000_0000));
    b.binary(BinaryOp::Or, value, Source::Reg(sign))
}

pub fn unary(b: &mut Builder, op: Unary, x: VReg) -> VReg {
    match op {
        Unary::Neg => b.neg(x),
        Unary::Abs => b.abs(x),
        Unary::Exp => b.exp(x),
        Unary::Expm1 => b.expm1(x),
        Unary::Log => b.log(x),
        Unary::Log1p => b.log1p(x),
        Unary::Sqrt => b.sqrt(x),
        Unary::Rsqrt => b.rsqrt(x),
        Unary::Recip => b.recip(x),
        Unary::Tanh => b.tanh(x),
        Unary::Sigmoid => b.sigmoid(x),
        Unary::Erf => b.erf(x),
        Unary::Sin => b.sin(x),
        Unary::Cos => b.cos(x),
        Unary::Floor => b.unary(UnaryOp::Floor, x),
        Unary::Ceil => b.unary(UnaryOp::Ceil, x),
        Unary::Trunc => b.unary(UnaryOp::Trunc, x),
        Unary::RoundEven => b.nearest(x),
        Unary::Sign => {
            let (one, minus) = (b.constant(1.0), b.constant(-1.0));
            let positive = b.compare(Condition::Gt, x, 0.0);
            let negative = b.compare(Condition::Lt, x, 0.0);
            let value = b.select(positive, one, x);
            b.select(negative, minus, value)
        }
        Unary::IsNan | Unary::Not => x,
    }
}
