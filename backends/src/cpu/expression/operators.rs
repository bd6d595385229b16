//! Functions of one and two values, and comparisons.

use super::Emitter;
use super::division::floor_div;
use crate::cpu::code::Code;
use crate::cpu::element::{Typed, as_bool, as_float, to_precision};
use crate::cpu::functions::Function;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Type, Value, types};
use mixc_ir::expr::{Binary, Compare, Kind, Unary};

impl Emitter<'_> {
    pub(super) fn unary(&mut self, f: &mut Code, op: Unary, a: Typed) -> Typed {
        if a.kind == Kind::Int {
            let x = a.value;
            let value = match op {
                Unary::Neg => Some(f.ineg(x)),
                Unary::Abs => {
                    let minus = f.ineg(x);
                    let negative = f.icmp_imm(IntCC::SignedLessThan, x, 0);
                    Some(f.select(negative, minus, x))
                }
                Unary::Sign => {
                    let (low, high) = (f.int(-1), f.int(1));
                    let x = f.smax(x, low);
                    Some(f.smin(x, high))
                }
                _ => None,
            };
            if let Some(value) = value {
                return Typed { value, kind: Kind::Int };
            }
        }
        let bool_result = match op {
            Unary::Not => {
                let b = as_bool(f, a);
                Some(f.bxor_imm(b, 1))
            }
            Unary::IsNan => {
                let x = as_float(f, a, self.real);
                Some(f.fcmp(FloatCC::Unordered, x, x))
            }
            _ => None,
        };
        if let Some(value) = bool_result {
            return Typed { value, kind: Kind::Bool };
        }
        let x = as_float(f, a, self.real);
        Typed { value: self.real_unary(f, op, x), kind: Kind::Float }
    }

    fn real_unary(&mut self, f: &mut Code, op: Unary, x: Value) -> Value {
        let real = self.real;
        let one = |f: &mut Code| f.float(real, 1.0);
        let call = |f: &mut Code, function: Function, more: &[Value]| {
            let wide = to_precision(f, x, types::F64);
            let args: Vec<Value> = std::iter::once(wide).chain(more.iter().copied()).collect();
            let value = f.library(function, &args);
            to_precision(f, value, real)
        };
        match op {
            Unary::Neg => f.fneg(x),
            Unary::Abs => f.fabs(x),
            Unary::Sqrt => f.sqrt(x),
            Unary::Rsqrt => {
                let root = f.sqrt(x);
                let one = one(f);
                f.fdiv(one, root)
            }
            Unary::Recip => {
                let one = one(f);
                f.fdiv(one, x)
            }
            Unary::Exp => call(f, Function::Exp, &[]),
            Unary::Expm1 => call(f, Function::Expm1, &[]),
            Unary::Log => call(f, Function::Log, &[]),
            Unary::Log1p => call(f, Function::Log1p, &[]),
            Unary::Tanh => call(f, Function::Tanh, &[]),
            Unary::Sigmoid => call(f, Function::Sigmoid, &[]),
            Unary::Erf => call(f, Function::Erf, &[]),
            Unary::Sin | Unary::Cos => {
                let quarter = f.int(i64::from(op == Unary::Cos));
                call(f, Function::Sine, &[quarter])
            }
            Unary::Sign => {
                let zero = f.float(real, 0.0);
                let one = one(f);
                let unit = f.fcopysign(one, x);
                let nonzero = f.fcmp(FloatCC::OrderedNotEqual, x, zero);
                f.select(nonzero, unit, x)
            }
            Unary::RoundEven => round_even(f, real, x),
            Unary::Floor | Unary::Ceil | Unary::Trunc => {
                let near = round_even(f, real, x);
                // The nearest integer may lie on the wrong side by one.
                let (size_x, size_near) = (f.fabs(x), f.fabs(near));
                let (wrong, step) = match op {
                    Unary::Floor => (f.fcmp(FloatCC::GreaterThan, near, x), f.float(real, -1.0)),
                    Unary::Ceil => (f.fcmp(FloatCC::LessThan, near, x), f.float(real, 1.0)),
                    _ => {
                        let towards_zero = f.float(real, -1.0);
                        let step = f.fcopysign(towards_zero, x);
                        let step = f.fneg(step);
                        (f.fcmp(FloatCC::GreaterThan, size_near, size_x), step)
                    }
                };
                let moved = f.fadd(near, step);
                let value = f.select(wrong, moved, near);
                f.fcopysign(value, x)
            }
            Unary::IsNan | Unary::Not => x,
        }
    }

    pub(super) fn binary(&mut self, f: &mut Code, op: Binary, a: Typed, b: Typed) -> Typed {
        let kind = a.kind;
        let y = self.convert(f, b, kind);
        let x = a.value;
        let value = match kind {
            Kind::Int => match op {
                Binary::Add => f.iadd(x, y),
                Binary::Sub => f.isub(x, y),
                Binary::Mul => f.imul(x, y),
                Binary::Div => floor_div(f, x, y).0,
                Binary::Mod => floor_div(f, x, y).1,
                Binary::Max => f.smax(x, y),
                Binary::Min => f.smin(x, y),
                Binary::Pow => f.library(Function::IntPow, &[x, y]),
                Binary::And => f.band(x, y),
                Binary::Or => f.bor(x, y),
            },
            Kind::Bool => match op {
                Binary::And | Binary::Min | Binary::Mul => f.band(x, y),
                Binary::Or | Binary::Max | Binary::Add => f.bor(x, y),
                Binary::Sub | Binary::Mod => f.bxor(x, y),
                Binary::Div | Binary::Pow => x,
            },
            Kind::Float => self.real_binary(f, op, x, y),
        };
        Typed { value, kind }
    }

    fn real_binary(&mut self, f: &mut Code, op: Binary, x: Value, y: Value) -> Value {
        let real = self.real;
        let wide = |f: &mut Code, function: Function| {
            let (a, b) = (to_precision(f, x, types::F64), to_precision(f, y, types::F64));
            let value = f.library(function, &[a, b]);
            to_precision(f, value, real)
        };
        let truth = |f: &mut Code, both: bool| {
            let (zero, one) = (f.float(real, 0.0), f.float(real, 1.0));
            let a = f.fcmp(FloatCC::NotEqual, x, zero);
            let b = f.fcmp(FloatCC::NotEqual, y, zero);
            let c = if both { f.band(a, b) } else { f.bor(a, b) };
            f.select(c, one, zero)
        };
        match op {
            Binary::Add => f.fadd(x, y),
            Binary::Sub => f.fsub(x, y),
            Binary::Mul => f.fmul(x, y),
            Binary::Div => f.fdiv(x, y),
            Binary::Max => f.fmax(x, y),
            Binary::Min => f.fmin(x, y),
            Binary::Pow => wide(f, Function::Pow),
            Binary::Mod => {
                let rest = wide(f, Function::Remainder);
                let zero = f.float(real, 0.0);
                let nonzero = f.fcmp(FloatCC::NotEqual, rest, zero);
                let rest_negative = f.fcmp(FloatCC::LessThan, rest, zero);
                let y_negative = f.fcmp(FloatCC::LessThan, y, zero);
                let apart = f.bxor(rest_negative, y_negative);
                let adjust = f.band(nonzero, apart);
                let lifted = f.fadd(rest, y);
                f.select(adjust, lifted, rest)
            }
            Binary::And => truth(f, true),
            Binary::Or => truth(f, false),
        }
    }

    pub(super) fn compare(&mut self, f: &mut Code, op: Compare, a: Typed, b: Typed) -> Value {
        let int = match op {
            Compare::Eq => IntCC::Equal,
            Compare::Ne => IntCC::NotEqual,
            Compare::Lt => IntCC::SignedLessThan,
            Compare::Le => IntCC::SignedLessThanOrEqual,
            Compare::Gt => IntCC::SignedGreaterThan,
            Compare::Ge => IntCC::SignedGreaterThanOrEqual,
        };
        let real = match op {
            Compare::Eq => FloatCC::Equal,
            Compare::Ne => FloatCC::NotEqual,
            Compare::Lt => FloatCC::LessThan,
            Compare::Le => FloatCC::LessThanOrEqual,
            Compare::Gt => FloatCC::GreaterThan,
            Compare::Ge => FloatCC::GreaterThanOrEqual,
        };
        match (a.kind, b.kind) {
            (Kind::Int, Kind::Int) | (Kind::Bool, Kind::Bool) => f.icmp(int, a.value, b.value),
            _ => {
                let (x, y) = (as_float(f, a, self.real), as_float(f, b, self.real));
                f.fcmp(real, x, y)
            }
        }
    }
}

/// To the nearest integer, ties to even: adding and subtracting a number whose unit is 1. The sign of zero is kept.
fn round_even(f: &mut Code, real: Type, x: Value) -> Value {
    let magic = if real == types::F32 { 2f64.powi(23) } else { 2f64.powi(52) };
    let size = f.fabs(x);
    let magic = f.float(real, magic);
    let up = f.fadd(size, magic);
    let near = f.fsub(up, magic);
    let fractional = f.fcmp(FloatCC::LessThan, size, magic);
    let near = f.fcopysign(near, x);
    f.select(fractional, near, x)
}
