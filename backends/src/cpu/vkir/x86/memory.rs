//! Loads and stores: masked, widening and narrowing, strided, broadcast, non-temporal.
//!
//! What AVX2 cannot mask goes lane by lane through 64 bytes of the red zone below the stack pointer.

use super::{Emitter, forms, low_half};
use crate::cpu::vkir::EmitError;
use crate::cpu::vkir::ir::{BinaryOp, Element, Op, ShiftOp, Tail};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// Scratch memory: `bytes` from its start.
fn scratch(bytes: usize) -> MemoryOperand {
    MemoryOperand::new(Register::RSP, Register::None, 1, bytes as i64 - 64, 1, false, Register::None)
}

fn moved(memory: MemoryOperand, bytes: usize) -> MemoryOperand {
    MemoryOperand { displacement: memory.displacement + bytes as i64, displ_size: 1, ..memory }
}

/// The 128-bit part of a vector register.
fn xmm(register: Register) -> Register {
    let first = if register >= Register::ZMM0 { Register::ZMM0 } else { Register::YMM0 };
    Register::XMM0 + (register as u32 - first as u32)
}

/// The 256-bit part of a vector register.
fn ymm(register: Register) -> Register {
    Register::YMM0 + (xmm(register) as u32 - Register::XMM0 as u32)
}

fn masked(
    instruction: Result<Instruction, iced_x86::IcedError>,
    mask: Option<Register>,
    zeroing: bool,
) -> Result<Instruction, iced_x86::IcedError> {
    instruction.map(|mut instruction| {
        if let Some(mask) = mask {
            instruction.set_op_mask(mask);
            instruction.set_zeroing_masking(zeroing);
        }
        instruction
    })
}

impl Emitter<'_> {
    pub(super) fn memory_op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Load { dst, addr, element, tail } => {
                let (dst, memory) = (self.vector(*dst), self.address(addr, false));
                self.load(dst, memory, *element, tail)
            }
            Op::Store { src, addr, element, tail } => {
                let (src, memory) = (self.vector(*src), self.address(addr, false));
                self.store(src, memory, *element, tail)
            }
            Op::Broadcast { dst, addr, element } => {
                let (dst, memory) = (self.vector(*dst), self.address(addr, false));
                self.broadcast(dst, memory, *element)
            }
            Op::StoreLane { src, addr, element } => {
                let (src, memory) = (self.vector(*src), self.address(addr, false));
                self.store_lane(src, memory, *element)
            }
            Op::StoreStream { src, addr } => {
                let (src, memory) = (self.vector(*src), self.address(addr, false));
                self.streamed = true;
                let code = self.pick((Code::EVEX_Vmovntps_m512_zmm, Code::VEX_Vmovntps_m256_ymm));
                self.asm.emit(Instruction::with2(code, memory, src))
            }
            Op::LoadStrided { dst, addr, stride, element, limit } => {
                let (dst, memory, stride) = (self.vector(*dst), self.address(addr, false), self.int(*stride));
                let limit = limit.map(|limit| self.int(limit));
                let (address, value) = (self.int_temp(0), self.int_temp(1));
                self.asm.emit(Instruction::with2(Code::Lea_r64_m, address, memory))?;
                if limit.is_some() {
                    self.clear_scratch(dst)?;
                }
                let from = MemoryOperand::new(address, Register::None, 1, 0, 0, false, Register::None);
                self.copy_lanes(*element, value, limit, &mut |_| from, &mut |at| scratch(at), Some((address, stride)))?;
                self.load(dst, scratch(0), *element, &None)
            }
            Op::StoreStrided { src, addr, stride, element, limit } => {
                let (src, memory, stride) = (self.vector(*src), self.address(addr, false), self.int(*stride));
                let limit = limit.map(|limit| self.int(limit));
                let (address, value) = (self.int_temp(0), self.int_temp(1));
                self.asm.emit(Instruction::with2(Code::Lea_r64_m, address, memory))?;
                self.store(src, scratch(0), *element, &None)?;
                let to = MemoryOperand::new(address, Register::None, 1, 0, 0, false, Register::None);
                self.copy_lanes(*element, value, limit, &mut |at| scratch(at), &mut |_| to, Some((address, stride)))
            }
            Op::Prefetch { addr } => {
                let memory = self.address(addr, false);
                self.asm.emit(Instruction::with1(Code::Prefetcht0_m8, memory))
            }
            _ => Err(EmitError::Malformed("not a memory operation")),
        }
    }

    /// Zeroes the scratch memory; `temp` is overwritten.
    fn clear_scratch(&mut self, temp: Register) -> Result<(), EmitError> {
        self.three(forms::binary(BinaryOp::Xor), temp, temp, super::Place::Register(temp))?;
        self.plain_store(temp, scratch(0), None)
    }

    /// Copies lanes one by one below an optional limit; `advance` is a pointer and what to add to it after each lane.
    fn copy_lanes(
        &mut self,
        element: Element,
        value: Register,
        limit: Option<Register>,
        from: &mut dyn FnMut(usize) -> MemoryOperand,
        to: &mut dyn FnMut(usize) -> MemoryOperand,
        advance: Option<(Register, Register)>,
    ) -> Result<(), EmitError> {
        let lanes = if self.wide { 16 } else { 8 };
        let done = self.asm.label();
        for lane in 0..lanes {
            if let Some(limit) = limit {
                self.asm.emit(Instruction::with2(Code::Cmp_rm64_imm8, limit, lane as i32))?;
                self.asm.jump(Code::Jle_rel32_64, done)?;
            }
            let at = lane * element.bytes();
            let low = low_half(value);
            let (load, store, part) = match element {
                Element::F32 => (Code::Mov_r32_rm32, Code::Mov_rm32_r32, low),
                Element::Bf16 | Element::F16 => {
                    let part = Register::AX + (value as u32 - Register::RAX as u32);
                    (Code::Movzx_r32_rm16, Code::Mov_rm16_r16, part)
                }
                Element::U8 => (Code::Movzx_r32_rm8, Code::Mov_rm8_r8, low_byte(value)),
            };
            self.asm.emit(Instruction::with2(load, low, from(at)))?;
            self.asm.emit(Instruction::with2(store, to(at), part))?;
            if let Some((pointer, stride)) = advance
                && lane + 1 < lanes
            {
                self.asm.emit(Instruction::with2(Code::Add_r64_rm64, pointer, stride))?;
            }
        }
        self.asm.bind(done);
        Ok(())
    }

    fn load(
        &mut self,
        dst: Register,
        memory: MemoryOperand,
        element: Element,
        tail: &Option<Tail>,
    ) -> Result<(), EmitError> {
        if let (Some(tail), false) = (tail, self.wide) {
            if element == Element::F32 {
                let mask = self.mask(tail.mask);
                return self.asm.emit(Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, dst, mask, memory));
            }
            let (limit, value) = (self.int(tail.count), self.int_temp(0));
            self.clear_scratch(dst)?;
            self.copy_lanes(element, value, Some(limit), &mut |at| moved(memory, at), &mut |at| scratch(at), None)?;
            return self.load(dst, scratch(0), element, &None);
        }
        let mask = tail.map(|tail| self.mask(tail.mask));
        let code = self.pick(match element {
            Element::F32 => (Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256),
            Element::Bf16 => (Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256, Code::VEX_Vpmovzxwd_ymm_xmmm128),
            Element::F16 => (Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, Code::VEX_Vcvtph2ps_ymm_xmmm128),
            Element::U8 => (Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Code::VEX_Vpmovzxbd_ymm_xmmm64),
        });
        self.asm.emit(masked(Instruction::with2(code, dst, memory), mask, true))?;
        if element == Element::Bf16 {
            self.shift_by(ShiftOp::Left, dst, dst, 16)?;
        }
        Ok(())
    }

    fn plain_store(&mut self, src: Register, memory: MemoryOperand, mask: Option<Register>) -> Result<(), EmitError> {
        let code = self.pick((Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm));
        self.asm.emit(masked(Instruction::with2(code, memory, src), mask, false))
    }

    fn store(
        &mut self,
        src: Register,
        memory: MemoryOperand,
        element: Element,
        tail: &Option<Tail>,
    ) -> Result<(), EmitError> {
        if self.wide {
            let mask = tail.map(|tail| self.mask(tail.mask));
            return self.store_wide(src, memory, element, mask);
        }
        if let Some(tail) = tail {
            if element == Element::F32 {
                let mask = self.mask(tail.mask);
                return self.asm.emit(Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, memory, mask, src));
            }
            let (limit, value) = (self.int(tail.count), self.int_temp(0));
            self.store(src, scratch(0), element, &None)?;
            let mut to = |at| moved(memory, at);
            return self.copy_lanes(element, value, Some(limit), &mut |at| scratch(at), &mut to, None);
        }
        match element {
            Element::F32 => self.plain_store(src, memory, None),
            Element::F16 => self.asm.emit(Instruction::with3(Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, memory, src, 0)),
            Element::Bf16 => {
                let (low, high) = (self.vector_temp(0), self.vector_temp(1));
                self.round_to_bf16(low, src)?;
                self.pack_words(low, high)?;
                self.asm.emit(Instruction::with2(Code::VEX_Vmovups_xmmm128_xmm, memory, xmm(low)))
            }
            Element::U8 => {
                let (low, high) = (self.vector_temp(0), self.vector_temp(1));
                self.binary_constant(BinaryOp::And, low, src, 0xff)?;
                self.pack_words(low, high)?;
                let low = xmm(low);
                self.asm.emit(Instruction::with3(Code::VEX_Vpackuswb_xmm_xmm_xmmm128, low, low, low))?;
                self.asm.emit(Instruction::with2(Code::VEX_Vmovq_xmmm64_xmm, memory, low))
            }
        }
    }

    /// Packs eight 32-bit lanes below 2^16 in `low` into eight words of its 128-bit part.
    fn pack_words(&mut self, low: Register, high: Register) -> Result<(), EmitError> {
        self.asm.emit(Instruction::with3(Code::VEX_Vextracti128_xmmm128_ymm_imm8, xmm(high), low, 1))?;
        let low = xmm(low);
        self.asm.emit(Instruction::with3(Code::VEX_Vpackusdw_xmm_xmm_xmmm128, low, low, xmm(high)))
    }

    fn store_wide(
        &mut self,
        src: Register,
        memory: MemoryOperand,
        element: Element,
        mask: Option<Register>,
    ) -> Result<(), EmitError> {
        match element {
            Element::F32 => self.plain_store(src, memory, mask),
            Element::F16 => {
                let code = Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae;
                self.asm.emit(masked(Instruction::with3(code, memory, src, 0), mask, false))
            }
            Element::U8 => {
                let code = Code::EVEX_Vpmovdb_xmmm128_k1z_zmm;
                self.asm.emit(masked(Instruction::with2(code, memory, src), mask, false))
            }
            Element::Bf16 if self.bf16 => {
                let temp = ymm(self.vector_temp(0));
                self.asm.emit(Instruction::with2(Code::EVEX_Vcvtneps2bf16_ymm_k1z_zmmm512b32, temp, src))?;
                let code = Code::EVEX_Vmovdqu16_ymmm256_k1z_ymm;
                self.asm.emit(masked(Instruction::with2(code, memory, temp), mask, false))
            }
            Element::Bf16 => {
                let temp = self.vector_temp(0);
                self.round_to_bf16(temp, src)?;
                let code = Code::EVEX_Vpmovdw_ymmm256_k1z_zmm;
                self.asm.emit(masked(Instruction::with2(code, memory, temp), mask, false))
            }
        }
    }

    /// `dst` = the bf16 bits of each f32 lane of `src`, zero-extended: adds half a unit of the last place kept, less one
    /// where that place is even, and cuts; a NaN becomes the standard one. Needs the temporaries of a bf16 store.
    fn round_to_bf16(&mut self, dst: Register, src: Register) -> Result<(), EmitError> {
        const UNORDERED: i32 = 3;
        const QUIET_NAN: u32 = 0x7fc0_0000;
        self.shift_by(ShiftOp::Logical, dst, src, 16)?;
        self.binary_constant(BinaryOp::And, dst, dst, 1)?;
        self.binary_constant(BinaryOp::IntAdd, dst, dst, 0x7fff)?;
        self.three(forms::binary(BinaryOp::IntAdd), dst, dst, super::Place::Register(src))?;
        let nan = self.constant(QUIET_NAN);
        if self.wide {
            let mask = Register::K0 + u32::from(self.temps().masks[0]);
            let compare = Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
            self.asm.emit(Instruction::with4(compare, mask, src, src, UNORDERED))?;
            let blend = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
            let blend = match nan {
                super::Place::Register(nan) => Instruction::with3(blend, dst, dst, nan),
                super::Place::Memory(nan) => Instruction::with3(blend, dst, dst, nan),
            };
            self.asm.emit(masked(blend, Some(mask), false))?;
        } else {
            let mask = self.vector_temp(1);
            self.asm.emit(Instruction::with4(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, mask, src, src, UNORDERED))?;
            let blend = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
            self.asm.emit(match nan {
                super::Place::Register(nan) => Instruction::with4(blend, dst, dst, nan, mask),
                super::Place::Memory(nan) => Instruction::with4(blend, dst, dst, nan, mask),
            })?;
        }
        self.shift_by(ShiftOp::Logical, dst, dst, 16)
    }

    fn broadcast(&mut self, dst: Register, memory: MemoryOperand, element: Element) -> Result<(), EmitError> {
        match element {
            Element::F32 => self.broadcast_word(dst, memory),
            Element::Bf16 => {
                let code = self.pick((Code::EVEX_Vpbroadcastw_zmm_k1z_xmmm16, Code::VEX_Vpbroadcastw_ymm_xmmm16));
                self.asm.emit(Instruction::with2(code, dst, memory))?;
                self.shift_by(ShiftOp::Left, dst, dst, 16)
            }
            Element::F16 if self.wide => {
                let half = ymm(dst);
                self.asm.emit(Instruction::with2(Code::EVEX_Vpbroadcastw_ymm_k1z_xmmm16, half, memory))?;
                self.asm.emit(Instruction::with2(Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, dst, half))
            }
            Element::F16 => {
                let half = xmm(dst);
                self.asm.emit(Instruction::with2(Code::VEX_Vpbroadcastw_xmm_xmmm16, half, memory))?;
                self.asm.emit(Instruction::with2(Code::VEX_Vcvtph2ps_ymm_xmmm128, dst, half))
            }
            Element::U8 => {
                let code = self.pick((Code::EVEX_Vpbroadcastb_zmm_k1z_xmmm8, Code::VEX_Vpbroadcastb_ymm_xmmm8));
                self.asm.emit(Instruction::with2(code, dst, memory))?;
                self.shift_by(ShiftOp::Logical, dst, dst, 24)
            }
        }
    }

    fn store_lane(&mut self, src: Register, memory: MemoryOperand, element: Element) -> Result<(), EmitError> {
        let word = self.pick((Code::EVEX_Vpextrw_r32m16_xmm_imm8, Code::VEX_Vpextrw_r32m16_xmm_imm8));
        match element {
            Element::F32 => {
                let code = self.pick((Code::EVEX_Vmovss_m32_k1_xmm, Code::VEX_Vmovss_m32_xmm));
                self.asm.emit(Instruction::with2(code, memory, xmm(src)))
            }
            Element::F16 => {
                let temp = xmm(self.vector_temp(0));
                let code = self.pick((Code::EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8, Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8));
                self.asm.emit(Instruction::with3(code, temp, xmm(src), 0))?;
                self.asm.emit(Instruction::with3(word, memory, temp, 0))
            }
            Element::Bf16 => {
                let temp = self.vector_temp(0);
                if self.bf16 {
                    let code = Code::EVEX_Vcvtneps2bf16_xmm_k1z_xmmm128b32;
                    self.asm.emit(Instruction::with2(code, xmm(temp), xmm(src)))?;
                } else {
                    self.round_to_bf16(temp, src)?;
                }
                self.asm.emit(Instruction::with3(word, memory, xmm(temp), 0))
            }
            Element::U8 => {
                let code = self.pick((Code::EVEX_Vpextrb_r32m8_xmm_imm8, Code::VEX_Vpextrb_r32m8_xmm_imm8));
                self.asm.emit(Instruction::with3(code, memory, xmm(src), 0))
            }
        }
    }
}

/// The byte register at the bottom of a 64-bit one.
fn low_byte(register: Register) -> Register {
    match register {
        Register::RAX => Register::AL,
        Register::RCX => Register::CL,
        Register::RDX => Register::DL,
        Register::RBX => Register::BL,
        Register::RBP => Register::BPL,
        Register::RSI => Register::SIL,
        Register::RDI => Register::DIL,
        _ => Register::R8L + (register as u32 - Register::R8 as u32),
    }
}
