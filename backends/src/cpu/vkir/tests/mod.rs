//! Tests of the vector kernels: every emitter against the interpreter.

mod kernels;
mod masked;
mod math;
mod random;

use super::*;
use crate::cpu::module::{JitCode, JitModule};

/// A small generator of reproducible numbers (xorshift64*).
pub(crate) struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize * bound) >> 32
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// The targets that can run here: every emitter of this machine, and the baseline without FMA and SSE4.1.
pub(crate) fn targets() -> Vec<Target> {
    let native = Target::native();
    let mut all = vec![native.clone()];
    for isa in [Isa::Avx512 { bf16: false }, Isa::Avx2, Isa::Clif] {
        if isa != native.isa() {
            all.extend(native.with_isa(isa));
        }
    }
    if native.is_x86() {
        all.push(Target::from_name("baseline").unwrap());
    }
    all
}

/// One kernel as callable code.
pub(crate) struct Compiled {
    code: JitCode,
    function: FuncId,
}

pub(crate) fn compile(target: &Target, kernel: &Kernel) -> Result<Compiled, CodeError> {
    let mut module = JitModule::new(target, &[])?;
    let function = define(module.module(), target, kernel)?;
    Ok(Compiled { code: module.finish()?, function })
}

impl Compiled {
    /// Calls the kernel.
    ///
    /// # Safety
    ///
    /// The arguments must describe memory that the kernel may touch.
    pub unsafe fn call(&self, args: &[i64]) {
        let address = self.code.address(self.function);
        // SAFETY: `define` made a function of this type at this address, and `self` keeps the code.
        let function: extern "C" fn(*const i64) = unsafe { std::mem::transmute(address) };
        function(args.as_ptr());
    }
}

/// Bytes at a multiple of 64.
#[derive(Clone)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Aligned {
    pub fn new(bytes: usize) -> Aligned {
        Aligned { lines: vec![Line([0; 64]); bytes.div_ceil(64)] }
    }

    pub fn base(&self) -> i64 {
        self.lines.as_ptr() as i64
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: lines are plain bytes without padding, borrowed mutably for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64) }
    }
}
