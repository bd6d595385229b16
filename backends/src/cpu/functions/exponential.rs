//! Exponentials, logarithms and what is made of them.

use super::{Function, LN2, inverse_factorials, nearest, scale};
use crate::cpu::code::Code;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{Value, types};

pub(super) fn exp(f: &mut Code, x: Value) -> Value {
    // Beyond these the result is 0 or infinity all the same, and the scaling stays in its range. NaN passes through.
    let low = f.float(types::F64, -746.0);
    let high = f.float(types::F64, 710.0);
    let x = f.fmax(x, low);
    let x = f.fmin(x, high);
    let log2e = f.float(types::F64, std::f64::consts::LOG2_E);
    let t = f.fmul(x, log2e);
    let (n_real, n) = nearest(f, t);
    let r = minus_multiple(f, x, n_real, LN2);
    // |r| <= ln(2)/2: the fourteenth term of the Taylor series is below 1e-17.
    // The first terms one by one: their roundings alone are seen in the result.
    let series = inverse_factorials(0, 14);
    let rest = f.polynomial_in_pairs(r, &series[2..]);
    let square = f.fmul(r, r);
    let rest = f.fmul(square, rest);
    let rest = f.fadd(r, rest);
    let one = f.float(types::F64, series[0]);
    let p = f.fadd(one, rest);
    scale(f, p, n)
}

/// `x - n c` for a constant in two parts.
pub(super) fn minus_multiple(f: &mut Code, x: Value, n: Value, c: (f64, f64)) -> Value {
    let mut x = x;
    for part in [c.0, c.1] {
        let part = f.float(types::F64, part);
        let product = f.fmul(n, part);
        x = f.fsub(x, product);
    }
    x
}

pub(super) fn expm1(f: &mut Code, x: Value) -> Value {
    let size = f.fabs(x);
    let half = f.float(types::F64, 0.5);
    let small = f.fcmp(FloatCC::LessThan, size, half);
    f.choose(
        small,
        types::F64,
        |f| {
            let p = f.polynomial(x, &inverse_factorials(1, 16));
            f.fmul(x, p)
        },
        |f| {
            let e = f.library(Function::Exp, &[x]);
            let one = f.float(types::F64, 1.0);
            f.fsub(e, one)
        },
    )
}

/// A normal or subnormal positive `x` as m 2^e with m in [sqrt(1/2), sqrt(2)): log m and e.
pub(super) fn log_parts(f: &mut Code, x: Value) -> (Value, Value) {
    // Subnormals are brought into the normal range first.
    let least = f.float(types::F64, f64::MIN_POSITIVE);
    let tiny = f.fcmp(FloatCC::LessThan, x, least);
    let up = f.float(types::F64, 2f64.powi(54));
    let scaled = f.fmul(x, up);
    let x = f.select(tiny, scaled, x);
    let (zero, lift) = (f.int(0), f.int(54));
    let lift = f.select(tiny, lift, zero);
    // The exponent that leaves m in the wanted interval: subtract the bits of sqrt(1/2) and take the exponent field.
    let bits = f.bitcast(types::I64, x);
    let root_half = std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64;
    let shifted = f.iadd_imm(bits, -root_half);
    let e = f.sshr_imm(shifted, 52);
    let e_bits = f.ishl_imm(e, 52);
    let m_bits = f.isub(bits, e_bits);
    let m = f.bitcast(types::F64, m_bits);
    let e = f.isub(e, lift);
    // log m = 2 atanh s, s = (m-1)/(m+1), |s| <= 0.1716: the twelfth term is below 1e-18.
    let one = f.float(types::F64, 1.0);
    let a = f.fsub(m, one);
    let b = f.fadd(m, one);
    let s = f.fdiv(a, b);
    let s2 = f.fmul(s, s);
    let series: Vec<f64> = (0..11).map(|k| 2.0 / f64::from(2 * k + 3)).collect();
    let tail = f.polynomial(s2, &series);
    let tail = f.fmul(tail, s2);
    let tail = f.fmul(tail, s);
    let twice = f.fadd(s, s);
    let log_m = f.fadd(twice, tail);
    let e = f.fcvt_from_sint(types::F64, e);
    (log_m, e)
}

pub(super) fn log(f: &mut Code, x: Value) -> Value {
    let zero = f.float(types::F64, 0.0);
    let infinity = f.float(types::F64, f64::INFINITY);
    let positive = f.fcmp(FloatCC::GreaterThan, x, zero);
    let finite = f.fcmp(FloatCC::LessThan, x, infinity);
    let usual = f.band(positive, finite);
    f.choose(
        usual,
        types::F64,
        |f| {
            let (log_m, e) = log_parts(f, x);
            let low = f.float(types::F64, LN2.1);
            let high = f.float(types::F64, LN2.0);
            let low = f.fmul(e, low);
            let high = f.fmul(e, high);
            let sum = f.fadd(low, log_m);
            f.fadd(high, sum)
        },
        |f| {
            // 0 gives -infinity, infinity and NaN themselves, negative numbers NaN.
            let minus = f.float(types::F64, f64::NEG_INFINITY);
            let nan = f.float(types::F64, f64::NAN);
            let is_zero = f.fcmp(FloatCC::Equal, x, zero);
            let negative = f.fcmp(FloatCC::LessThan, x, zero);
            let rest = f.select(negative, nan, x);
            f.select(is_zero, minus, rest)
        },
    )
}

pub(super) fn log1p(f: &mut Code, x: Value) -> Value {
    // log(u) with u = 1 + x rounded, corrected by what the rounding lost.
    let one = f.float(types::F64, 1.0);
    let u = f.fadd(one, x);
    let log_u = f.library(Function::Log, &[u]);
    let back = f.fsub(u, one);
    let lost = f.fsub(x, back);
    let correction = f.fdiv(lost, u);
    let sum = f.fadd(log_u, correction);
    let infinity = f.float(types::F64, f64::INFINITY);
    let zero = f.float(types::F64, 0.0);
    let usual_low = f.fcmp(FloatCC::GreaterThan, u, zero);
    let usual_high = f.fcmp(FloatCC::LessThan, u, infinity);
    let usual = f.band(usual_low, usual_high);
    let small = f.fcmp(FloatCC::Equal, u, one);
    let value = f.select(usual, sum, log_u);
    f.select(small, x, value)
}

pub(super) fn tanh(f: &mut Code, x: Value) -> Value {
    // expm1(2a) / (expm1(2a) + 2), which is 1 in f64 from a = 20 on.
    let a = f.fabs(x);
    let limit = f.float(types::F64, 20.0);
    let a = f.fmin(a, limit);
    let twice = f.fadd(a, a);
    let t = f.library(Function::Expm1, &[twice]);
    let two = f.float(types::F64, 2.0);
    let below = f.fadd(t, two);
    let value = f.fdiv(t, below);
    f.fcopysign(value, x)
}

pub(super) fn sigmoid(f: &mut Code, x: Value) -> Value {
    let minus = f.fneg(x);
    let e = f.library(Function::Exp, &[minus]);
    let one = f.float(types::F64, 1.0);
    let below = f.fadd(one, e);
    f.fdiv(one, below)
}
