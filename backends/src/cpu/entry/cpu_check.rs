//! The question whether this CPU can run the code: raw `cpuid` and `xgetbv`, which Cranelift has not.
//!
//! It is asked at every entry, for there is nowhere to keep the answer: an object has no memory of its own. A virtual
//! machine traps each `cpuid` (microseconds), so that no leaf is asked for twice, and none that others vouch for.

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

/// Which bits of eax, ebx, ecx and edx must be set in the answer to a leaf and subleaf.
type Answers = BTreeMap<(u32, u32), [u32; 4]>;

/// The last leaf of those below the extended ones that an answer with OSXSAVE vouches for: it describes the state that
/// `xsave` saves.
const XSAVE_LEAF: u32 = 0xd;

fn assemble(features: &[Feature]) -> Result<Vec<u8>, iced_x86::IcedError> {
    let vector = features.iter().any(|f| f.name().starts_with("avx"));
    let mut answers = Answers::new();
    for b in features.iter().map(|f| f.cpuid()).chain(vector.then_some(OSXSAVE)) {
        answers.entry((b.leaf, b.subleaf)).or_default()[usize::from(b.register)] |= 1 << b.bit;
    }
    // The answer to subleaf 0 says which others there are.
    let subleaves: Vec<(u32, u32)> = answers.keys().copied().filter(|(_, subleaf)| *subleaf > 0).collect();
    for (leaf, _) in &subleaves {
        answers.entry((*leaf, 0)).or_default();
    }
    let mut a = CodeAssembler::new(64)?;
    let mut lacking = a.create_label();
    a.push(rbx)?;
    // A leaf above the highest one answers with another leaf's bits. Leaf 1 is always there.
    let highest = answers.keys().map(|(leaf, _)| *leaf).max().unwrap_or(1);
    if highest > if vector { XSAVE_LEAF } else { 1 } {
        a.xor(eax, eax)?;
        a.cpuid()?;
        a.cmp(eax, highest as i32)?;
        a.jb(lacking)?;
    }
    for ((leaf, subleaf), masks) in answers {
        a.mov(eax, leaf)?;
        a.mov(ecx, subleaf)?;
        a.cpuid()?;
        if let Some((_, further)) = subleaves.iter().filter(|(of, _)| *of == leaf && subleaf == 0).max() {
            a.cmp(eax, *further as i32)?;
            a.jb(lacking)?;
        }
        for (register, mask) in [eax, ebx, ecx, edx].into_iter().zip(masks).filter(|(_, mask)| *mask != 0) {
            a.and(register, mask as i32)?;
            a.cmp(register, mask as i32)?;
            a.jne(lacking)?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_asked_for_once() {
        const CPUID: &[u8] = &[0x0f, 0xa2];
        const XGETBV: &[u8] = &[0x0f, 0x01, 0xd0];
        // Leaves 1, 7 and subleaf 1 of 7.
        for (name, questions) in [("x86-64-v2", 1), ("x86-64-v3", 2), ("x86-64-v4", 2), ("znver4", 3)] {
            let code = assemble(Target::from_name(name).unwrap().features()).unwrap();
            let times = |bytes: &[u8]| code.windows(bytes.len()).filter(|w| *w == bytes).count();
            assert_eq!((times(CPUID), times(XGETBV)), (questions, usize::from(questions > 1)), "{name}");
        }
    }
}
