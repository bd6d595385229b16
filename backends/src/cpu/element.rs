//! Elements in memory: widening on load, rounding on store. Halves are converted in integer arithmetic, since Cranelift
//! has none of its own.

use super::code::{Code, plain};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use mixc_ir::dtype::DType;
use mixc_ir::expr::Kind;

/// A value in registers: reals are F32 or F64 as their context says, integers I64, booleans I8 (0 or 1).
#[derive(Clone, Copy, Debug)]
pub struct Typed {
    /// The value.
    pub value: Value,
    /// Its kind.
    pub kind: Kind,
}

/// The kind of value that elements of `dtype` have.
pub fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => Kind::Float,
        DType::I32 | DType::I64 => Kind::Int,
        DType::Bool => Kind::Bool,
    }
}

/// A real brought to the type `real`.
pub fn to_precision(f: &mut Code, x: Value, real: Type) -> Value {
    match (f.b.func.dfg.value_type(x), real) {
        (types::F32, types::F64) => f.fpromote(types::F64, x),
        (types::F64, types::F32) => f.fdemote(types::F32, x),
        _ => x,
    }
}

/// Reads an element; reals in the type `real`.
pub fn load_element(f: &mut Code, dtype: DType, address: Value, real: Type) -> Typed {
    let value = match dtype {
        DType::F32 => f.load(types::F32, address, 0),
        DType::F64 => f.load(types::F64, address, 0),
        DType::F16 => {
            let bits = f.b.ins().uload16(types::I32, plain(), address, 0);
            widen_f16(f, bits)
        }
        DType::BF16 => {
            let bits = f.b.ins().uload16(types::I32, plain(), address, 0);
            let bits = f.ishl_imm(bits, 16);
            f.bitcast(types::F32, bits)
        }
        DType::I32 => f.b.ins().sload32(plain(), address, 0),
        DType::I64 => f.load(types::I64, address, 0),
        DType::Bool => {
            let byte = f.load(types::I8, address, 0);
            f.icmp_imm(IntCC::NotEqual, byte, 0)
        }
    };
    let kind = kind_of(dtype);
    let value = if kind == Kind::Float { to_precision(f, value, real) } else { value };
    Typed { value, kind }
}

/// Writes a value, converted and rounded to `dtype`.
pub fn store_element(f: &mut Code, dtype: DType, address: Value, x: Typed) {
    let value = match dtype {
        DType::F32 | DType::F64 => {
            let real = if dtype == DType::F32 { types::F32 } else { types::F64 };
            // Integers go by way of f64, which is exact up to 2^53.
            let wide = as_float(f, x, types::F64);
            to_precision(f, wide, real)
        }
        DType::F16 | DType::BF16 => {
            let wide = as_float(f, x, types::F64);
            let bits = half_bits(f, dtype, wide);
            f.ireduce(types::I16, bits)
        }
        DType::I32 => match x.kind {
            Kind::Float => f.fcvt_to_sint_sat(types::I32, x.value),
            _ => {
                let wide = as_int(f, x);
                f.ireduce(types::I32, wide)
            }
        },
        DType::I64 => as_int(f, x),
        DType::Bool => as_bool(f, x),
    };
    f.store(value, address, 0);
}

/// As a real of type `real`; a real keeps the type it has.
pub fn as_float(f: &mut Code, x: Typed, real: Type) -> Value {
    match x.kind {
        Kind::Float => x.value,
        Kind::Int => f.fcvt_from_sint(real, x.value),
        Kind::Bool => {
            let wide = f.uextend(types::I64, x.value);
            f.fcvt_from_sint(real, wide)
        }
    }
}

/// As an integer: reals truncate and saturate, NaN is 0.
pub fn as_int(f: &mut Code, x: Typed) -> Value {
    match x.kind {
        Kind::Float => f.fcvt_to_sint_sat(types::I64, x.value),
        Kind::Int => x.value,
        Kind::Bool => f.uextend(types::I64, x.value),
    }
}

/// As a boolean: not 0.
pub fn as_bool(f: &mut Code, x: Typed) -> Value {
    match x.kind {
        Kind::Float => {
            let zero = f.float(f.b.func.dfg.value_type(x.value), 0.0);
            f.fcmp(FloatCC::NotEqual, x.value, zero)
        }
        Kind::Int => f.icmp_imm(IntCC::NotEqual, x.value, 0),
        Kind::Bool => x.value,
    }
}

/// A real rounded to what `dtype` holds.
pub fn round_to(f: &mut Code, dtype: DType, x: Value) -> Value {
    let real = f.b.func.dfg.value_type(x);
    match dtype {
        DType::F64 => x,
        DType::F32 => {
            let narrow = to_precision(f, x, types::F32);
            to_precision(f, narrow, real)
        }
        DType::F16 | DType::BF16 => {
            let bits = half_bits(f, dtype, x);
            let value = if dtype == DType::F16 {
                widen_f16(f, bits)
            } else {
                let bits = f.ishl_imm(bits, 16);
                f.bitcast(types::F32, bits)
            };
            to_precision(f, value, real)
        }
        DType::I32 => {
            let n = f.fcvt_to_sint_sat(types::I32, x);
            f.fcvt_from_sint(real, n)
        }
        DType::I64 => {
            let n = f.fcvt_to_sint_sat(types::I64, x);
            f.fcvt_from_sint(real, n)
        }
        DType::Bool => {
            let b = as_bool(f, Typed { value: x, kind: Kind::Float });
            as_float(f, Typed { value: b, kind: Kind::Bool }, real)
        }
    }
}

/// The bits of a real rounded to a half type, in the low part of an I32.
fn half_bits(f: &mut Code, dtype: DType, x: Value) -> Value {
    let narrow = if f.b.func.dfg.value_type(x) == types::F64 { round_to_odd(f, x) } else { x };
    let bits = f.bitcast(types::I32, narrow);
    if dtype == DType::BF16 { narrow_bf16(f, bits) } else { narrow_f16(f, bits) }
}

/// An f64 as f32, inexact values with their last bit set: rounding that to a half gives what rounding the f64 directly
/// would, for f32 has more than two bits more than either half.
fn round_to_odd(f: &mut Code, x: Value) -> Value {
    let nearest = f.fdemote(types::F32, x);
    let back = f.fpromote(types::F64, nearest);
    let exact = f.fcmp(FloatCC::Equal, back, x);
    let bits = f.bitcast(types::I32, nearest);
    let (size, back_size) = (f.fabs(x), f.fabs(back));
    let too_far = f.fcmp(FloatCC::GreaterThan, back_size, size);
    let too_far = f.uextend(types::I32, too_far);
    let truncated = f.isub(bits, too_far);
    let odd = f.bor_imm(truncated, 1);
    let bits = f.select(exact, bits, odd);
    f.bitcast(types::F32, bits)
}

fn narrow_bf16(f: &mut Code, bits: Value) -> Value {
    let high = f.ushr_imm(bits, 16);
    let even = f.band_imm(high, 1);
    let rounded = f.iadd_imm(bits, 0x7fff);
    let rounded = f.iadd(rounded, even);
    let rounded = f.ushr_imm(rounded, 16);
    let quiet = f.bor_imm(high, 0x40);
    let size = f.band_imm(bits, 0x7fff_ffff);
    let nan = f.icmp_imm(IntCC::UnsignedGreaterThan, size, 0x7f80_0000);
    f.select(nan, quiet, rounded)
}

fn narrow_f16(f: &mut Code, bits: Value) -> Value {
    let sign = f.ushr_imm(bits, 16);
    let sign = f.band_imm(sign, 0x8000);
    let size = f.band_imm(bits, 0x7fff_ffff);
    // Normal: rebias the exponent (127 to 15), round to even at the thirteenth bit; a carry goes on into infinity.
    let last = f.ushr_imm(size, 13);
    let last = f.band_imm(last, 1);
    let rounded = f.iadd_imm(size, 0xfff - (112 << 23));
    let rounded = f.iadd(rounded, last);
    let normal = f.ushr_imm(rounded, 13);
    // Below 2^-14: adding 1/2 makes the machine round at 2^-24, the unit of half subnormals.
    let real = f.bitcast(types::F32, size);
    let half = f.float(types::F32, 0.5);
    let sum = f.fadd(real, half);
    let sum = f.bitcast(types::I32, sum);
    let subnormal = f.iadd_imm(sum, -0x3f00_0000);
    let small = f.icmp_imm(IntCC::UnsignedLessThan, size, 0x3880_0000);
    let value = f.select(small, subnormal, normal);
    let infinity = f.int_of(types::I32, 0x7c00);
    let large = f.icmp_imm(IntCC::UnsignedGreaterThanOrEqual, size, 0x4780_0000);
    let value = f.select(large, infinity, value);
    let quiet = f.int_of(types::I32, 0x7e00);
    let nan = f.icmp_imm(IntCC::UnsignedGreaterThan, size, 0x7f80_0000);
    let value = f.select(nan, quiet, value);
    f.bor(value, sign)
}

fn widen_f16(f: &mut Code, bits: Value) -> Value {
    let sign = f.band_imm(bits, 0x8000);
    let sign = f.ishl_imm(sign, 16);
    let size = f.band_imm(bits, 0x7fff);
    let shifted = f.ishl_imm(size, 13);
    let normal = f.iadd_imm(shifted, 112 << 23);
    let special = f.iadd_imm(shifted, 224 << 23);
    let is_special = f.icmp_imm(IntCC::UnsignedGreaterThanOrEqual, size, 0x7c00);
    let normal = f.select(is_special, special, normal);
    // A subnormal, put behind the implicit one of 2^-14, less that one.
    let with_one = f.iadd_imm(shifted, 113 << 23);
    let with_one = f.bitcast(types::F32, with_one);
    let one = f.float(types::F32, 2f64.powi(-14));
    let subnormal = f.fsub(with_one, one);
    let subnormal = f.bitcast(types::I32, subnormal);
    let is_small = f.icmp_imm(IntCC::UnsignedLessThan, size, 0x400);
    let value = f.select(is_small, subnormal, normal);
    let value = f.bor(value, sign);
    f.bitcast(types::F32, value)
}
