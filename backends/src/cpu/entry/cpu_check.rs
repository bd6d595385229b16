//! The question whether this CPU can run the code: raw `cpuid` and `xgetbv`, which Cranelift has not.

use crate::cpu::module::{CodeError, FUNCTION_ALIGNMENT, integer_signature};
use crate::cpu::target::{CpuidBit, Feature, Target};
use cranelift_module::{FuncId, Linkage, Module};
use iced_x86::code_asm::{CodeAssembler, eax, ebx, ecx, edx, rbx};
use std::collections::BTreeMap;

/// OSXSAVE: whether `xgetbv` may be asked.
const OSXSAVE: CpuidBit = CpuidBit { leaf: 1, subleaf: 0, register: 2, bit: 27 };

/// Register state that the operating system must save: XMM and YMM, for AVX-512 also masks and both halves of ZMM.
fn saved_state(features: &[Feature]) -> u32 {
    let wide = features.iter().any(|f| f.name().starts_with("avx512"));
    if wide { 0xe6 } else { 0x06 }
}

/// Defines `fn() -> i64`, 1 if the CPU has all that `target` uses and else 0; `None` when nothing needs asking.
pub fn define(module: &mut dyn Module, target: &Target, name: &str) -> Result<Option<FuncId>, CodeError> {
    if !target.is_x86() || target.features().is_empty() {
        return Ok(None);
    }
    let bytes = assemble(target.features()).map_err(|error| CodeError::Module(error.to_string()))?;
    let signature = integer_signature(module, 0, 1);
    let function = module.declare_function(name, Linkage::Local, &signature)?;
    module.define_function_bytes(function, FUNCTION_ALIGNMENT, &bytes, &[])?;
    Ok(Some(function))
}

fn assemble(features: &[Feature]) -> Result<Vec<u8>, iced_x86::IcedError> {
    let vector = features.iter().any(|f| matches!(f, Feature::Avx) || f.name().starts_with("avx"));
    let mut bits: Vec<CpuidBit> = features.iter().map(|f| f.cpuid()).collect();
    if vector {
        bits.push(OSXSAVE);
    }
    let mut masks: BTreeMap<(u32, u32, u8), u32> = BTreeMap::new();
    for b in bits {
        *masks.entry((b.leaf, b.subleaf, b.register)).or_default() |= 1 << b.bit;
    }
    let mut a = CodeAssembler::new(64)?;
    let mut lacking = a.create_label();
    a.push(rbx)?;
    // A leaf above the highest one answers with another leaf's bits.
    for (first, highest) in [
        (0, masks.keys().map(|k| k.0).filter(|&l| l < 0x8000_0000).max()),
        (0x8000_0000u32, masks.keys().map(|k| k.0).filter(|&l| l >= 0x8000_0000).max()),
    ] {
        if let Some(highest) = highest {
            a.mov(eax, first)?;
            a.xor(ecx, ecx)?;
            a.cpuid()?;
            a.cmp(eax, highest as i32)?;
            a.jb(lacking)?;
        }
    }
    if masks.keys().any(|k| k.0 == 7 && k.1 > 0) {
        a.mov(eax, 7u32)?;
        a.xor(ecx, ecx)?;
        a.cpuid()?;
        a.test(eax, eax)?;
        a.jz(lacking)?;
    }
    for ((leaf, subleaf, register), mask) in masks {
        a.mov(eax, leaf)?;
        a.mov(ecx, subleaf)?;
        a.cpuid()?;
        let register = [eax, ebx, ecx, edx][usize::from(register)];
        a.and(register, mask as i32)?;
        a.cmp(register, mask as i32)?;
        a.jne(lacking)?;
    }
    if vector {
        let state = saved_state(features) as i32;
        a.xor(ecx, ecx)?;
        a.xgetbv()?;
        a.and(eax, state)?;
        a.cmp(eax, state)?;
        a.jne(lacking)?;
    }
    a.mov(eax, 1u32)?;
    a.pop(rbx)?;
    a.ret()?;
    a.set_label(&mut lacking)?;
    a.xor(eax, eax)?;
    a.pop(rbx)?;
    a.ret()?;
    a.assemble(0)
}
