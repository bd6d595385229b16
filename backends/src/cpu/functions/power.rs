//! Powers and remainders.

use super::{Function, scale};
use crate::cpu::code::Code;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Value, types};

pub(super) fn pow(f: &mut Code, x: Value, y: Value) -> Value {
    let (zero, one) = (f.float(types::F64, 0.0), f.float(types::F64, 1.0));
    let infinity = f.float(types::F64, f64::INFINITY);
    let a = f.fabs(x);
    // Of a negative base: defined for integers y, with the sign of the power's parity.
    let y_size = f.fabs(y);
    let two53 = f.float(types::F64, 2f64.powi(53));
    let whole_always = f.fcmp(FloatCC::GreaterThanOrEqual, y_size, two53);
    let y_int = f.fcvt_to_sint_sat(types::I64, y);
    let y_back = f.fcvt_from_sint(types::F64, y_int);
    let y_same = f.fcmp(FloatCC::Equal, y_back, y);
    let whole = f.bor(whole_always, y_same);
    let low_bit = f.band_imm(y_int, 1);
    let low_bit = f.ireduce(types::I8, low_bit);
    let small_whole = f.bxor_imm(whole_always, 1);
    let odd = f.band(low_bit, small_whole);
    let odd = f.band(odd, y_same);
    let log = f.library(Function::Log, &[a]);
    let product = f.fmul(y, log);
    // 0 * infinity (a = 1 or y = 0) is met below.
    let size = f.library(Function::Exp, &[product]);
    let x_bits = f.bitcast(types::I64, x);
    let x_negative = f.icmp_imm(IntCC::SignedLessThan, x_bits, 0);
    let flip = f.band(odd, x_negative);
    let minus = f.fneg(size);
    let value = f.select(flip, minus, size);
    // NaN for a finite negative base and a broken power.
    let nan = f.float(types::F64, f64::NAN);
    let below = f.fcmp(FloatCC::LessThan, x, zero);
    let a_finite = f.fcmp(FloatCC::LessThan, a, infinity);
    let broken = f.bxor_imm(whole, 1);
    let undefined = f.band(below, a_finite);
    let undefined = f.band(undefined, broken);
    let value = f.select(undefined, nan, value);
    // 1^y and x^0 are 1 whatever the other is; (-1)^(+-infinity) too.
    let is_one = f.fcmp(FloatCC::Equal, x, one);
    let no_power = f.fcmp(FloatCC::Equal, y, zero);
    let unit = f.fcmp(FloatCC::Equal, a, one);
    let y_infinite = f.fcmp(FloatCC::Equal, y_size, infinity);
    let unit = f.band(unit, y_infinite);
    let always = f.bor(is_one, no_power);
    let always = f.bor(always, unit);
    f.select(always, one, value)
}

/// Long division in binary on the mantissas.
pub(super) fn remainder(f: &mut Code, x: Value, y: Value) -> Value {
    let (a, b) = (f.fabs(x), f.fabs(y));
    let infinity = f.float(types::F64, f64::INFINITY);
    let zero = f.float(types::F64, 0.0);
    let x_finite = f.fcmp(FloatCC::LessThan, a, infinity);
    let y_usable = f.fcmp(FloatCC::GreaterThan, b, zero);
    let defined = f.band(x_finite, y_usable);
    f.choose(
        defined,
        types::F64,
        |f| {
            let smaller = f.fcmp(FloatCC::LessThan, a, b);
            f.choose(
                smaller,
                types::F64,
                |_| x,
                |f| {
                    let (mx, ex) = mantissa(f, a);
                    let (my, ey) = mantissa(f, b);
                    let difference = f.isub(ex, ey);
                    let rest = f.var(mx);
                    let reduce = |f: &mut Code| {
                        let m = f.get(rest);
                        let less = f.isub(m, my);
                        let fits = f.icmp(IntCC::SignedGreaterThanOrEqual, m, my);
                        let m = f.select(fits, less, m);
                        f.set(rest, m);
                    };
                    f.for_count(difference, |f, _| {
                        reduce(f);
                        let m = f.get(rest);
                        let m = f.ishl_imm(m, 1);
                        f.set(rest, m);
                    });
                    reduce(f);
                    // m 2^ey, exact: m < 2^53, and the result is a multiple of the least subnormal.
                    let m = f.get(rest);
                    let m = f.fcvt_from_sint(types::F64, m);
                    let value = scale(f, m, ey);
                    f.fcopysign(value, x)
                },
            )
        },
        |f| f.float(types::F64, f64::NAN),
    )
}

/// A finite positive number as m 2^e with integers, m in 2^52..2^53 unless it is subnormal.
pub(super) fn mantissa(f: &mut Code, a: Value) -> (Value, Value) {
    let bits = f.bitcast(types::I64, a);
    let field = f.ushr_imm(bits, 52);
    let low = f.band_imm(bits, (1 << 52) - 1);
    let with_one = f.bor_imm(low, 1 << 52);
    let subnormal = f.icmp_imm(IntCC::Equal, field, 0);
    let m = f.select(subnormal, low, with_one);
    let one = f.int(1);
    let field = f.select(subnormal, one, field);
    (m, f.iadd_imm(field, -(1023 + 52)))
}

pub(super) fn int_pow(f: &mut Code, x: Value, n: Value) -> Value {
    let negative = f.icmp_imm(IntCC::SignedLessThan, n, 0);
    f.choose(
        negative,
        types::I64,
        |f| {
            let (zero, one) = (f.int(0), f.int(1));
            let odd = f.band_imm(n, 1);
            let twice = f.ishl_imm(odd, 1);
            let sign = f.isub(one, twice);
            let is_one = f.icmp_imm(IntCC::Equal, x, 1);
            let is_minus = f.icmp_imm(IntCC::Equal, x, -1);
            let value = f.select(is_minus, sign, zero);
            f.select(is_one, one, value)
        },
        |f| {
            let huge = f.icmp_imm(IntCC::UnsignedGreaterThan, n, i64::from(u32::MAX));
            let zero = f.int(0);
            let n = f.select(huge, zero, n);
            let one = f.int(1);
            let result = f.var(one);
            let base = f.var(x);
            let left = f.var(n);
            f.while_(
                |f| {
                    let left = f.get(left);
                    f.icmp_imm(IntCC::NotEqual, left, 0)
                },
                |f| {
                    let (b, r, n) = (f.get(base), f.get(result), f.get(left));
                    let product = f.imul(r, b);
                    let odd = f.band_imm(n, 1);
                    let r = f.select(odd, product, r);
                    f.set(result, r);
                    let square = f.imul(b, b);
                    f.set(base, square);
                    let n = f.ushr_imm(n, 1);
                    f.set(left, n);
                },
            );
            let r = f.get(result);
            f.select(huge, zero, r)
        },
    )
}
