//! Integer division that rounds down and never traps.

use crate::cpu::code::Code;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Value, types};

/// `a / n` rounded towards plus infinity, `n` a positive constant.
pub fn ceil_div(f: &mut Code, a: Value, n: i64) -> Value {
    // -floor(-a / n) is safe at the upper end of the range, unlike (a + n - 1) / n.
    let minus = f.ineg(a);
    let quotient = floor_div_constant(f, minus, n).0;
    f.ineg(quotient)
}

/// Quotient rounded down and remainder, `n` a positive constant.
pub(super) fn floor_div_constant(f: &mut Code, a: Value, n: i64) -> (Value, Value) {
    if n.count_ones() == 1 {
        let quotient = f.sshr_imm(a, i64::from(n.trailing_zeros()));
        let rest = f.band_imm(a, n - 1);
        return (quotient, rest);
    }
    let divisor = f.int(n);
    let quotient = f.sdiv(a, divisor);
    let back = f.imul_imm(quotient, n);
    let rest = f.isub(a, back);
    let negative = f.sshr_imm(rest, 63);
    let quotient = f.iadd(quotient, negative);
    let lift = f.band_imm(negative, n);
    (quotient, f.iadd(rest, lift))
}

/// Quotient rounded down and remainder with the divisor's sign; 0 and 0 for the divisor 0.
pub(super) fn floor_div(f: &mut Code, a: Value, b: Value) -> (Value, Value) {
    // The divisors 0 and -1 (which overflows at the least integer) are replaced by 1 and their results put in after.
    let is_zero = f.icmp_imm(IntCC::Equal, b, 0);
    let is_minus = f.icmp_imm(IntCC::Equal, b, -1);
    let special = f.bor(is_zero, is_minus);
    let (zero, one) = (f.int(0), f.int(1));
    let safe = f.select(special, one, b);
    let quotient = f.sdiv(a, safe);
    let back = f.imul(quotient, safe);
    let rest = f.isub(a, back);
    let inexact = f.icmp_imm(IntCC::NotEqual, rest, 0);
    let signs = f.bxor(rest, safe);
    let apart = f.icmp_imm(IntCC::SignedLessThan, signs, 0);
    let adjust = f.band(inexact, apart);
    let adjust_wide = f.uextend(types::I64, adjust);
    let quotient = f.isub(quotient, adjust_wide);
    let lift = f.select(adjust, safe, zero);
    let rest = f.iadd(rest, lift);
    let minus_a = f.ineg(a);
    let quotient = f.select(is_minus, minus_a, quotient);
    (f.select(is_zero, zero, quotient), f.select(special, zero, rest))
}
