//! The functions that generated code calls: transcendental functions of f64 and what the machine has no instruction
//! for. Each is defined in the module, without a public name, when something first uses it; none calls the C library.
//!
//! Relative errors are a few 1e-16 (`Pow` up to 1e-13 where the result is near the ends of the range). 32-bit values
//! are computed through these and rounded once.

use super::code::{Code, define_data};
use super::module::{CodeError, define_clif};
use super::target::Target;
use super::vkir::{Kernel, define};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{AbiParam, Type, Value, types};
use cranelift_module::{DataId, FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// A function of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// e^x
    Exp,
    /// e^x - 1
    Expm1,
    /// log x
    Log,
    /// log(1 + x)
    Log1p,
    /// tanh x
    Tanh,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// erf x
    Erf,
    /// sin(x + k pi/2), k an integer
    Sine,
    /// x^y
    Pow,
    /// Remainder of x / y with the sign of x, exact.
    Remainder,
    /// x^n of integers, wrapping, by the rules of [`ir::expr::Binary::Pow`](mixc_ir::expr::Binary::Pow).
    IntPow,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Exp => "mixc_exp",
            Function::Expm1 => "mixc_expm1",
            Function::Log => "mixc_log",
            Function::Log1p => "mixc_log1p",
            Function::Tanh => "mixc_tanh",
            Function::Sigmoid => "mixc_sigmoid",
            Function::Erf => "mixc_erf",
            Function::Sine => "mixc_sine",
            Function::Pow => "mixc_pow",
            Function::Remainder => "mixc_remainder",
            Function::IntPow => "mixc_int_pow",
        }
    }

    fn signature(self) -> (&'static [Type], Type) {
        match self {
            Function::Sine => (&[types::F64, types::I64], types::F64),
            Function::Pow | Function::Remainder => (&[types::F64, types::F64], types::F64),
            Function::IntPow => (&[types::I64, types::I64], types::I64),
            _ => (&[types::F64], types::F64),
        }
    }
}

/// What a module has of the library so far.
#[derive(Debug, Default)]
pub struct Library {
    defined: BTreeMap<Function, FuncId>,
    two_over_pi: Option<DataId>,
    kernels: Vec<(Kernel, FuncId)>,
}

impl Library {
    /// The function of a vector kernel, defining it if no equal one is there.
    pub fn kernel(&mut self, module: &mut dyn Module, target: &Target, kernel: &Kernel) -> Result<FuncId, CodeError> {
        if let Some((_, id)) = self.kernels.iter().find(|(k, _)| k == kernel) {
            return Ok(*id);
        }
        let name = format!("mixc_{}{}", kernel.name, self.kernels.len());
        let id = define(module, target, &Kernel { name, ..kernel.clone() })?;
        self.kernels.push((kernel.clone(), id));
        Ok(id)
    }

    /// The function's id, defining it if need be.
    pub fn get(&mut self, module: &mut dyn Module, function: Function) -> Result<FuncId, CodeError> {
        if let Some(id) = self.defined.get(&function) {
            return Ok(*id);
        }
        let table = match (function, self.two_over_pi) {
            (Function::Sine, None) => {
                let bytes = TWO_OVER_PI.iter().flat_map(|w| w.to_ne_bytes()).collect();
                let id = define_data(module, "mixc_two_over_pi", bytes, 8)?;
                self.two_over_pi = Some(id);
                Some(id)
            }
            (_, known) => known,
        };
        let (params, result) = function.signature();
        let mut signature = module.make_signature();
        signature.params = params.iter().map(|&ty| AbiParam::new(ty)).collect();
        signature.returns = vec![AbiParam::new(result)];
        let id = define_clif(module, function.name(), Linkage::Local, signature, |b, module| {
            let mut f = Code::new(b, module, self);
            let x = f.param(0);
            let value = match function {
                Function::Exp => exp(&mut f, x),
                Function::Expm1 => expm1(&mut f, x),
                Function::Log => log(&mut f, x),
                Function::Log1p => log1p(&mut f, x),
                Function::Tanh => tanh(&mut f, x),
                Function::Sigmoid => sigmoid(&mut f, x),
                Function::Erf => erf(&mut f, x),
                Function::Sine => {
                    let k = f.param(1);
                    sine(&mut f, x, k, table)
                }
                Function::Pow => {
                    let y = f.param(1);
                    pow(&mut f, x, y)
                }
                Function::Remainder => {
                    let y = f.param(1);
                    remainder(&mut f, x, y)
                }
                Function::IntPow => {
                    let n = f.param(1);
                    int_pow(&mut f, x, n)
                }
            };
            f.return_(&[value]);
            f.finish()
        })?;
        self.defined.insert(function, id);
        Ok(id)
    }
}

/// 1.5 * 2^52: adding it to a real below 2^51 leaves the nearest integer in the low bits.
const ROUNDING: f64 = 6755399441055744.0;
/// ln 2 in two parts, the first with 32 significant bits, so that its products with exponents are exact.
const LN2: (f64, f64) = (0.6931471803691238, 1.9082149292705877e-10);

/// The nearest integer (ties to even) of `x`, |x| < 2^31: as a real and as an integer.
fn nearest(f: &mut Code, x: Value) -> (Value, Value) {
    let magic = f.float(types::F64, ROUNDING);
    let shifted = f.fadd(x, magic);
    let real = f.fsub(shifted, magic);
    let bits = f.bitcast(types::I64, shifted);
    let low = f.ireduce(types::I32, bits);
    (real, f.sextend(types::I64, low))
}

/// `x * 2^n`, n in -2044..=2046, rounding once where the result is subnormal.
fn scale(f: &mut Code, x: Value, n: Value) -> Value {
    let half = f.sshr_imm(n, 1);
    let rest = f.isub(n, half);
    let mut x = x;
    for part in [half, rest] {
        let biased = f.iadd_imm(part, 1023);
        let bits = f.ishl_imm(biased, 52);
        let power = f.bitcast(types::F64, bits);
        x = f.fmul(x, power);
    }
    x
}

/// 1/from!, 1/(from+1)!, ... of `terms` terms.
fn inverse_factorials(from: u32, terms: usize) -> Vec<f64> {
    (from..).take(terms).map(|n| 1.0 / (1..=n).map(f64::from).product::<f64>()).collect()
}

fn exp(f: &mut Code, x: Value) -> Value {
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
    let p = f.polynomial(r, &inverse_factorials(0, 14));
    scale(f, p, n)
}

/// `x - n c` for a constant in two parts.
fn minus_multiple(f: &mut Code, x: Value, n: Value, c: (f64, f64)) -> Value {
    let mut x = x;
    for part in [c.0, c.1] {
        let part = f.float(types::F64, part);
        let product = f.fmul(n, part);
        x = f.fsub(x, product);
    }
    x
}

fn expm1(f: &mut Code, x: Value) -> Value {
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
fn log_parts(f: &mut Code, x: Value) -> (Value, Value) {
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

fn log(f: &mut Code, x: Value) -> Value {
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

fn log1p(f: &mut Code, x: Value) -> Value {
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

fn tanh(f: &mut Code, x: Value) -> Value {
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

fn sigmoid(f: &mut Code, x: Value) -> Value {
    let minus = f.fneg(x);
    let e = f.library(Function::Exp, &[minus]);
    let one = f.float(types::F64, 1.0);
    let below = f.fadd(one, e);
    f.fdiv(one, below)
}

fn erf(f: &mut Code, x: Value) -> Value {
    let a = f.fabs(x);
    let limit = f.float(types::F64, 6.0);
    let a = f.fmin(a, limit);
    let square = f.fmul(a, a);
    let minus = f.fneg(square);
    let gauss = f.library(Function::Exp, &[minus]);
    let series_below = f.float(types::F64, 2.5);
    let small = f.fcmp(FloatCC::LessThan, a, series_below);
    let value = f.choose(
        small,
        types::F64,
        |f| {
            // erf a = 2/sqrt(pi) e^(-a^2) sum_n 2^n a^(2n+1) / (1*3*...*(2n+1)) (Abramowitz and Stegun 7.1.6): all
            // terms are positive; at a = 2.5 the fiftieth is below 1e-17 of the sum.
            let term = f.var(a);
            let sum = f.var(a);
            let count = f.int(50);
            let twice = f.fadd(square, square);
            f.for_count(count, |f, n| {
                let n = f.fcvt_from_sint(types::F64, n);
                let (two, three) = (f.float(types::F64, 2.0), f.float(types::F64, 3.0));
                let odd = f.fmul(n, two);
                let odd = f.fadd(odd, three);
                let ratio = f.fdiv(twice, odd);
                let old = f.get(term);
                let new = f.fmul(old, ratio);
                f.set(term, new);
                let so_far = f.get(sum);
                let so_far = f.fadd(so_far, new);
                f.set(sum, so_far);
            });
            let c = f.float(types::F64, std::f64::consts::FRAC_2_SQRT_PI);
            let sum = f.get(sum);
            let product = f.fmul(gauss, sum);
            f.fmul(c, product)
        },
        |f| {
            // erfc a = e^(-a^2)/sqrt(pi) / (a + (1/2)/(a + 1/(a + (3/2)/(a + ...)))) (7.1.14), from the inside.
            let tail = f.var(a);
            let count = f.int(60);
            f.for_count(count, |f, n| {
                let sixty = f.int(60);
                let k = f.isub(sixty, n);
                let k = f.fcvt_from_sint(types::F64, k);
                let half = f.float(types::F64, 0.5);
                let k = f.fmul(k, half);
                let inner = f.get(tail);
                let quotient = f.fdiv(k, inner);
                let next = f.fadd(a, quotient);
                f.set(tail, next);
            });
            let c = f.float(types::F64, std::f64::consts::FRAC_2_SQRT_PI / 2.0);
            let above = f.fmul(c, gauss);
            let tail = f.get(tail);
            let complement = f.fdiv(above, tail);
            let one = f.float(types::F64, 1.0);
            f.fsub(one, complement)
        },
    );
    f.fcopysign(value, x)
}

/// 64 zero bits, then the first 1280 binary digits of 2/pi.
const TWO_OVER_PI: [u64; 21] = [
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

fn sine(f: &mut Code, x: Value, k: Value, table: Option<DataId>) -> Value {
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

fn pow(f: &mut Code, x: Value, y: Value) -> Value {
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
fn remainder(f: &mut Code, x: Value, y: Value) -> Value {
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
fn mantissa(f: &mut Code, a: Value) -> (Value, Value) {
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

fn int_pow(f: &mut Code, x: Value, n: Value) -> Value {
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
