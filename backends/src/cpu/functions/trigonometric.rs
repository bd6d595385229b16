//! Sine and cosine, reduced exactly for every argument.

use super::{inverse_factorials, nearest};
use crate::cpu::code::Code;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Value, types};
use cranelift_module::DataId;

/// 64 zero bits, then the first 1280 binary digits of 2/pi.
pub(super) const TWO_OVER_PI: [u64; 21] = [
    0x0000000000000000,
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
    0xf0cfbc209af4361d,
];

/// pi/2 in three parts, the first two with 33 significant bits: their products with numbers below 2^20 are exact.
const HALF_PI: [f64; 3] = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21];

pub(super) fn sine(f: &mut Code, x: Value, k: Value, table: Option<DataId>) -> Value {
    // x = n pi/2 + r, |r| <= pi/4.
    let a = f.fabs(x);
    let near = f.float(types::F64, 1.0e6);
    let small = f.fcmp(FloatCC::LessThan, a, near);
    let zero = f.int(0);
    let n = f.var(zero);
    let r = f.choose(
        small,
        types::F64,
        |f| {
            let c = f.float(types::F64, std::f64::consts::FRAC_2_PI);
            let t = f.fmul(x, c);
            let (n_real, n_int) = nearest(f, t);
            f.set(n, n_int);
            let mut r = x;
            for part in HALF_PI {
                let part = f.float(types::F64, part);
                let product = f.fmul(n_real, part);
                r = f.fsub(r, product);
            }
            r
        },
        |f| {
            // x = m 2^e with an integer m: the digits of 2/pi that matter for m 2^e 2/pi modulo 4 are a window of 192
            // bits, the first two of whose product with m are the quadrant.
            let infinity = f.float(types::F64, f64::INFINITY);
            let finite = f.fcmp(FloatCC::LessThan, a, infinity);
            f.choose(
                finite,
                types::F64,
                |f| {
                    let bits = f.bitcast(types::I64, a);
                    let field = f.ushr_imm(bits, 52);
                    let mantissa = f.band_imm(bits, (1 << 52) - 1);
                    let m = f.bor_imm(mantissa, 1 << 52);
                    // The window starts at bit e - 2 of the digits; the 64 zeros before them make that positive.
                    let start = f.iadd_imm(field, -(1023 + 52) - 2 + 64);
                    let word = f.ushr_imm(start, 6);
                    let shift = f.band_imm(start, 63);
                    let table = f.data(table.expect("the table is defined before the sine"));
                    let byte = f.ishl_imm(word, 3);
                    let at = f.iadd(table, byte);
                    let words: Vec<Value> = (0..4).map(|k| f.load(types::I64, at, 8 * k)).collect();
                    let sixty_three = f.int(63);
                    let back = f.isub(sixty_three, shift);
                    let window: Vec<Value> = (0..3)
                        .map(|k| {
                            let high = f.ishl(words[k], shift);
                            let low = f.ushr_imm(words[k + 1], 1);
                            let low = f.ushr(low, back);
                            f.bor(high, low)
                        })
                        .collect();
                    let carry = f.umulhi(m, window[2]);
                    let low = f.imul(m, window[1]);
                    let low = f.iadd(low, carry);
                    let overflow = f.icmp(IntCC::UnsignedLessThan, low, carry);
                    let overflow = f.uextend(types::I64, overflow);
                    let high = f.imul(m, window[0]);
                    let middle = f.umulhi(m, window[1]);
                    let high = f.iadd(high, middle);
                    let high = f.iadd(high, overflow);
                    let quadrant = f.ushr_imm(high, 62);
                    let fraction = f.ishl_imm(high, 2);
                    let more = f.ushr_imm(low, 62);
                    let fraction = f.bor(fraction, more);
                    // As a signed number the fraction is the distance to the nearest multiple.
                    let up = f.ushr_imm(fraction, 63);
                    let quadrant = f.iadd(quadrant, up);
                    let fraction = f.fcvt_from_sint(types::F64, fraction);
                    let unit = f.float(types::F64, std::f64::consts::FRAC_PI_2 * 2f64.powi(-64));
                    let r = f.fmul(fraction, unit);
                    // Of -x both change sign.
                    let negative = f.fcmp(FloatCC::NotEqual, x, a);
                    let minus_r = f.fneg(r);
                    let minus_n = f.ineg(quadrant);
                    let n_int = f.select(negative, minus_n, quadrant);
                    f.set(n, n_int);
                    f.select(negative, minus_r, r)
                },
                |f| f.float(types::F64, f64::NAN),
            )
        },
    );
    let n = f.get(n);
    let n = f.iadd(n, k);
    let r2 = f.fmul(r, r);
    let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
    // Taylor series on |r| <= pi/4: the first terms left out are below 1e-18.
    let odd: Vec<f64> = inverse_factorials(0, 20).into_iter().skip(1).step_by(2).collect();
    let even: Vec<f64> = inverse_factorials(0, 20).into_iter().step_by(2).collect();
    let signed = |v: Vec<f64>| -> Vec<f64> { v.into_iter().enumerate().map(|(k, c)| c * sign(k)).collect() };
    let s = f.polynomial(r2, &signed(odd));
    let s = f.fmul(s, r);
    let c = f.polynomial(r2, &signed(even));
    let swap = f.band_imm(n, 1);
    let value = f.select(swap, c, s);
    let flip = f.band_imm(n, 2);
    let minus = f.fneg(value);
    f.select(flip, minus, value)
}
