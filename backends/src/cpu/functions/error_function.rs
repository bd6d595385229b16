//! The error function.

use super::Function;
use crate::cpu::code::Code;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{Value, types};

pub(super) fn erf(f: &mut Code, x: Value) -> Value {
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
