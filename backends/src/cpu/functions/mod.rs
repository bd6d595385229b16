//! The functions that generated code calls: transcendental functions of f64 and what the machine has no instruction
//! for. Each is defined in the module, without a public name, when something first uses it; none calls the C library.
//!
//! Relative errors are a few 1e-16 (`Pow` up to 1e-13 where the result is near the ends of the range). 32-bit values
//! are computed through these and rounded once.

mod error_function;
mod exponential;
mod power;
mod trigonometric;

use crate::cpu::code::{Code, define_data};
use crate::cpu::module::{CodeError, define_clif};
use crate::cpu::target::Target;
use crate::cpu::vkir::{Kernel, define};
use cranelift_codegen::ir::{AbiParam, Type, Value, types};
use cranelift_module::{DataId, FuncId, Linkage, Module};
use error_function::erf;
use exponential::{exp, expm1, log, log1p, sigmoid, tanh};
use power::{int_pow, pow, remainder};
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
                let bytes = trigonometric::TWO_OVER_PI.iter().flat_map(|w| w.to_ne_bytes()).collect();
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
                    trigonometric::sine(&mut f, x, k, table)
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
pub(super) const LN2: (f64, f64) = (0.6931471803691238, 1.9082149292705877e-10);

/// The nearest integer (ties to even) of `x`, |x| < 2^31: as a real and as an integer.
pub(super) fn nearest(f: &mut Code, x: Value) -> (Value, Value) {
    let magic = f.float(types::F64, ROUNDING);
    let shifted = f.fadd(x, magic);
    let real = f.fsub(shifted, magic);
    let bits = f.bitcast(types::I64, shifted);
    let low = f.ireduce(types::I32, bits);
    (real, f.sextend(types::I64, low))
}

/// `x * 2^n`, n in -2044..=2046, rounding once where the result is subnormal.
pub(super) fn scale(f: &mut Code, x: Value, n: Value) -> Value {
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
pub(super) fn inverse_factorials(from: u32, terms: usize) -> Vec<f64> {
    (from..).take(terms).map(|n| 1.0 / (1..=n).map(f64::from).product::<f64>()).collect()
}
