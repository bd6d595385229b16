//! Vector arithmetic, masks, reductions and transposes.

use super::{Emitter, Place, forms, low_half};
use crate::cpu::vkir::EmitError;
use crate::cpu::vkir::ir::{BinaryOp, FmaForm, MaskOp, Op, ReduceOp, ShiftOp, Source, UnaryOp, VReg};
use iced_x86::{Code, Instruction, Register};

/// Of two registers the lower, and the upper, elements of each 128-bit block side by side: of one lane, of two lanes.
const PAIRS: [((Code, Code), (Code, Code)); 2] = [
    (
        (Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpcklps_ymm_ymm_ymmm256),
        (Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vunpckhps_ymm_ymm_ymmm256),
    ),
    (
        (Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpcklpd_ymm_ymm_ymmm256),
        (Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vunpckhpd_ymm_ymm_ymmm256),
    ),
];

impl Emitter<'_> {
    fn vector_copy(&mut self, dst: Register, src: Register) -> Result<(), EmitError> {
        if dst == src {
            return Ok(());
        }
        let code = self.pick((Code::EVEX_Vmovaps_zmm_k1z_zmmm512, Code::VEX_Vmovaps_ymm_ymmm256));
        self.asm.emit(Instruction::with2(code, dst, src))
    }

    pub(super) fn shift_by(&mut self, op: ShiftOp, dst: Register, a: Register, count: u8) -> Result<(), EmitError> {
        let code = self.pick(forms::shift(op));
        self.asm.emit(Instruction::with3(code, dst, a, i32::from(count.min(31))))
    }

    pub(super) fn binary_constant(
        &mut self,
        op: BinaryOp,
        dst: Register,
        a: Register,
        bits: u32,
    ) -> Result<(), EmitError> {
        let b = self.constant(bits);
        self.three(forms::binary(op), dst, a, b)
    }

    pub(super) fn vector_op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Const { dst, bits } => {
                let dst = self.vector(*dst);
                if let Some(held) = self.kept_constant(*bits) {
                    return self.vector_copy(dst, held);
                }
                if *bits == 0 {
                    return self.three(forms::binary(BinaryOp::Xor), dst, dst, Place::Register(dst));
                }
                let memory = self.asm.constant(&[*bits], false);
                self.broadcast_word(dst, memory)
            }
            Op::Iota { dst } => {
                let lanes = if self.wide { 16 } else { 8 };
                let words: Vec<u32> = (0..lanes).map(|lane: u16| f32::from(lane).to_bits()).collect();
                let memory = self.asm.constant(&words, false);
                let code = self.pick((Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256));
                self.asm.emit(Instruction::with2(code, self.vector(*dst), memory))
            }
            Op::Lanes { dst, words } => {
                if words.len() != if self.wide { 16 } else { 8 } {
                    return Err(EmitError::Malformed("lane constants of other than W words"));
                }
                let memory = self.asm.constant(words, false);
                let code = self.pick((Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256));
                self.asm.emit(Instruction::with2(code, self.vector(*dst), memory))
            }
            Op::Lookup { dst, index, low, high } => self.lookup(*dst, *index, *low, *high),
            Op::Copy { dst, src } => self.vector_copy(self.vector(*dst), self.vector(*src)),
            Op::Unary { op, dst, a } => {
                let (dst, a) = (self.vector(*dst), self.vector(*a));
                match op {
                    UnaryOp::Neg => self.binary_constant(BinaryOp::Xor, dst, a, 0x8000_0000),
                    UnaryOp::Abs => self.binary_constant(BinaryOp::And, dst, a, 0x7fff_ffff),
                    _ => {
                        if let Some(codes) = forms::unary(*op) {
                            let code = self.pick(codes);
                            return self.asm.emit(Instruction::with2(code, dst, a));
                        }
                        let mode = forms::rounding(*op).ok_or(EmitError::Malformed("an operation without a form"))?;
                        let code = self.pick((
                            Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
                            Code::VEX_Vroundps_ymm_ymmm256_imm8,
                        ));
                        self.asm.emit(Instruction::with3(code, dst, a, mode))
                    }
                }
            }
            Op::Binary { op, dst, a, b } => {
                let b = self.place(b)?;
                self.three(forms::binary(*op), self.vector(*dst), self.vector(*a), b)
            }
            Op::Fma { form, dst, a, b } => {
                let b = self.place(b)?;
                self.three(forms::fma(*form), self.vector(*dst), self.vector(*a), b)
            }
            Op::Shift { op, dst, a, count } => self.shift_by(*op, self.vector(*dst), self.vector(*a), *count),
            Op::Scale2 { dst, a, n, narrow } => {
                let (dst, a, n) = (self.vector(*dst), self.vector(*a), self.vector(*n));
                if self.wide {
                    let code = Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er;
                    return self.asm.emit(Instruction::with3(code, dst, a, n));
                }
                self.scale2_narrow(dst, a, n, *narrow)
            }
            Op::Compare { condition, dst, a, b } => {
                let b = self.place(b)?;
                let codes = (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8);
                self.three_imm(codes, self.mask(*dst), self.vector(*a), b, forms::predicate(*condition))
            }
            Op::FirstLanes { dst, count } => self.first_lanes(self.mask(*dst), self.int(*count)),
            Op::Mask { op, dst, a, b } => {
                let codes = match op {
                    MaskOp::And => (Code::VEX_Kandw_kr_kr_kr, Code::VEX_Vpand_ymm_ymm_ymmm256),
                    MaskOp::Or => (Code::VEX_Korw_kr_kr_kr, Code::VEX_Vpor_ymm_ymm_ymmm256),
                };
                self.three(codes, self.mask(*dst), self.mask(*a), Place::Register(self.mask(*b)))
            }
            Op::MaskNot { dst, a } => {
                let (dst, a) = (self.mask(*dst), self.mask(*a));
                if self.wide {
                    return self.asm.emit(Instruction::with2(Code::VEX_Knotw_kr_kr, dst, a));
                }
                self.binary_constant(BinaryOp::Xor, dst, a, u32::MAX)
            }
            Op::Select { dst, mask, a, b } => {
                let (dst, mask, a, b) = (self.vector(*dst), self.mask(*mask), self.vector(*a), self.vector(*b));
                if self.wide {
                    let code = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
                    return self.asm.emit(Instruction::with3(code, dst, b, a).map(|mut blend| {
                        blend.set_op_mask(mask);
                        blend
                    }));
                }
                self.asm.emit(Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, dst, b, a, mask))
            }
            Op::Reduce { op, dst, a } => self.reduce(*op, self.vector(*dst), self.vector(*a)),
            Op::Transpose { rows } => self.transpose(rows),
            Op::LaneSums { rows } => self.lane_sums(rows),
            Op::DotBf16 { dst, a, b } => self.dot_bf16(*dst, *a, b),
            _ => Err(EmitError::Malformed("not a vector operation")),
        }
    }

    /// `dst = a * 2^n` by multiplying with powers of two built in the exponent field: two of them where |n| <= 252,
    /// three up to 300.
    fn scale2_narrow(&mut self, dst: Register, a: Register, n: Register, narrow: bool) -> Result<(), EmitError> {
        let (part, rest) = (self.vector_temp(0), self.vector_temp(1));
        let to_int = Code::VEX_Vcvtps2dq_ymm_ymmm256;
        let power = |this: &mut Self, register: Register| -> Result<(), EmitError> {
            this.binary_constant(BinaryOp::IntAdd, register, register, 127)?;
            this.shift_by(ShiftOp::Left, register, register, 23)
        };
        let subtract = forms::binary(BinaryOp::IntSub);
        let multiply = forms::binary(BinaryOp::Mul);
        if narrow {
            self.asm.emit(Instruction::with2(to_int, rest, n))?;
            self.shift_by(ShiftOp::Arithmetic, part, rest, 1)?;
            self.three(subtract, rest, rest, Place::Register(part))?;
        } else {
            self.binary_constant(BinaryOp::Mul, part, n, (1.0f32 / 3.0).to_bits())?;
            self.asm.emit(Instruction::with2(to_int, part, part))?;
            self.asm.emit(Instruction::with2(to_int, rest, n))?;
            self.three(subtract, rest, rest, Place::Register(part))?;
            self.three(subtract, rest, rest, Place::Register(part))?;
        }
        power(self, part)?;
        power(self, rest)?;
        self.three(multiply, dst, a, Place::Register(part))?;
        if !narrow {
            self.three(multiply, dst, dst, Place::Register(part))?;
        }
        self.three(multiply, dst, dst, Place::Register(rest))
    }

    fn first_lanes(&mut self, dst: Register, count: Register) -> Result<(), EmitError> {
        let (clamped, other) = (self.int_temp(0), self.int_temp(1));
        self.int_copy(clamped, count)?;
        self.int_constant(other, if self.wide { 16 } else { 8 })?;
        self.asm.emit(Instruction::with2(Code::Cmp_r64_rm64, clamped, other))?;
        self.asm.emit(Instruction::with2(Code::Cmovg_r64_rm64, clamped, other))?;
        self.int_constant(other, 0)?;
        self.asm.emit(Instruction::with2(Code::Test_rm64_r64, clamped, clamped))?;
        self.asm.emit(Instruction::with2(Code::Cmovs_r64_rm64, clamped, other))?;
        if self.wide {
            self.int_constant(other, 0xffff)?;
            let other = low_half(other);
            self.asm.emit(Instruction::with3(Code::VEX_Bzhi_r32_rm32_r32, other, other, low_half(clamped)))?;
            return self.asm.emit(Instruction::with2(Code::VEX_Kmovw_kr_r32, dst, other));
        }
        let low = Register::XMM0 + (dst as u32 - Register::YMM0 as u32);
        self.asm.emit(Instruction::with2(Code::VEX_Vmovd_xmm_rm32, low, low_half(clamped)))?;
        self.asm.emit(Instruction::with2(Code::VEX_Vpbroadcastd_ymm_xmmm32, dst, low))?;
        let lanes = self.asm.constant(&[0, 1, 2, 3, 4, 5, 6, 7], false);
        self.asm.emit(Instruction::with3(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, dst, dst, lanes))
    }

    fn reduce(&mut self, op: ReduceOp, dst: Register, a: Register) -> Result<(), EmitError> {
        let temp = self.vector_temp(0);
        let blocks = (Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8);
        // within 128 bits: swap the halves, then the neighbours; the same for the blocks of 128
        let block_steps: &[i32] = if self.wide { &[0x4e, 0xb1] } else { &[0x01] };
        let mut current = a;
        for &order in block_steps {
            self.three_imm(blocks, temp, current, Place::Register(current), order)?;
            self.three(forms::reduce(op), dst, current, Place::Register(temp))?;
            current = dst;
        }
        let within = self.pick((Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpermilps_ymm_ymmm256_imm8));
        for order in [0x4e, 0xb1] {
            self.asm.emit(Instruction::with3(within, temp, current, order))?;
            self.three(forms::reduce(op), dst, current, Place::Register(temp))?;
        }
        Ok(())
    }

    fn lookup(&mut self, dst: VReg, index: VReg, low: VReg, high: VReg) -> Result<(), EmitError> {
        let [dst, index, low, high] = [dst, index, low, high].map(|register| self.vector(register));
        let result = self.vector_temp(0);
        if self.wide {
            // the indices are overwritten by what they pick
            self.vector_copy(result, index)?;
            let code = Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32;
            self.asm.emit(Instruction::with3(code, result, low, high))?;
            return self.vector_copy(dst, result);
        }
        // each half of the table by itself, then bit 3 of the index moved to the sign decides
        let other = self.vector_temp(1);
        let choice = self.vector_temp(2);
        self.asm.emit(Instruction::with3(Code::VEX_Vpermps_ymm_ymm_ymmm256, result, index, low))?;
        self.asm.emit(Instruction::with3(Code::VEX_Vpermps_ymm_ymm_ymmm256, other, index, high))?;
        self.shift_by(ShiftOp::Left, choice, index, 28)?;
        self.asm.emit(Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, dst, result, other, choice))
    }

    /// Two registers at a time: the lower halves of what each holds beside the upper halves, added.
    fn lane_sums(&mut self, rows: &[VReg]) -> Result<(), EmitError> {
        if rows.len() != if self.wide { 16 } else { 8 } {
            return Err(EmitError::Malformed("lane sums of other than W rows"));
        }
        let mut left: Vec<Register> = rows.iter().map(|row| self.vector(*row)).collect();
        let temp = self.vector_temp(0);
        let add = forms::binary(BinaryOp::Add);
        let mut stage = 0;
        while left.len() > 1 {
            for pair in left.chunks_exact(2) {
                let (a, b) = (pair[0], pair[1]);
                match (stage, self.wide) {
                    (0 | 1, _) => {
                        let (low, high) = PAIRS[stage];
                        self.three(low, temp, a, Place::Register(b))?;
                        self.three(high, b, a, Place::Register(b))?;
                    }
                    (_, true) => {
                        let blocks = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
                        self.asm.emit(Instruction::with4(blocks, temp, a, b, 0x88))?;
                        self.asm.emit(Instruction::with4(blocks, b, a, b, 0xdd))?;
                    }
                    (_, false) => {
                        let blocks = Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
                        self.asm.emit(Instruction::with4(blocks, temp, a, b, 0x20))?;
                        self.asm.emit(Instruction::with4(blocks, b, a, b, 0x31))?;
                    }
                }
                self.three(add, a, temp, Place::Register(b))?;
            }
            left = left.chunks(2).map(|pair| pair[0]).collect();
            stage += 1;
        }
        Ok(())
    }

    fn transpose(&mut self, rows: &[VReg]) -> Result<(), EmitError> {
        let lanes = if self.wide { 16 } else { 8 };
        if rows.len() != lanes {
            return Err(EmitError::Malformed("a transpose of other than W rows"));
        }
        let rows: Vec<Register> = rows.iter().map(|row| self.vector(*row)).collect();
        let [(low_pairs, high_pairs), (low_halves, high_halves)] = PAIRS;
        let (t0, t1) = (self.vector_temp(0), self.vector_temp(1));
        // 4 x 4 transposes within the 128-bit blocks
        for quad in rows.chunks_exact(4) {
            let [a, b, c, d] = [quad[0], quad[1], quad[2], quad[3]];
            self.three(low_pairs, t0, a, Place::Register(b))?;
            self.three(high_pairs, b, a, Place::Register(b))?;
            self.three(low_pairs, t1, c, Place::Register(d))?;
            self.three(high_pairs, d, c, Place::Register(d))?;
            self.three(low_halves, a, t0, Place::Register(t1))?;
            self.three(low_halves, c, b, Place::Register(d))?;
            self.three(high_halves, d, b, Place::Register(d))?;
            self.three(high_halves, b, t0, Place::Register(t1))?;
        }
        // then of the blocks themselves
        if !self.wide {
            let blocks = Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8;
            for i in 0..4 {
                let (a, b) = (rows[i], rows[i + 4]);
                self.asm.emit(Instruction::with4(blocks, t0, a, b, 0x20))?;
                self.asm.emit(Instruction::with4(blocks, b, a, b, 0x31))?;
                self.vector_copy(a, t0)?;
            }
            return Ok(());
        }
        let blocks = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
        for i in 0..4 {
            let [a, b, c, d] = [rows[i], rows[i + 4], rows[i + 8], rows[i + 12]];
            self.asm.emit(Instruction::with4(blocks, t0, a, b, 0x44))?;
            self.asm.emit(Instruction::with4(blocks, b, a, b, 0xee))?;
            self.asm.emit(Instruction::with4(blocks, t1, c, d, 0x44))?;
            self.asm.emit(Instruction::with4(blocks, d, c, d, 0xee))?;
            self.asm.emit(Instruction::with4(blocks, a, t0, t1, 0x88))?;
            self.asm.emit(Instruction::with4(blocks, c, b, d, 0x88))?;
            self.asm.emit(Instruction::with4(blocks, d, b, d, 0xdd))?;
            self.asm.emit(Instruction::with4(blocks, b, t0, t1, 0xdd))?;
        }
        Ok(())
    }

    fn dot_bf16(&mut self, dst: VReg, a: VReg, b: &Source) -> Result<(), EmitError> {
        let (dst, a) = (self.vector(dst), self.vector(a));
        if self.bf16 {
            let b = self.place(b)?;
            let code = Code::EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32;
            return self.three((code, code), dst, a, b);
        }
        let (left, right) = (self.vector_temp(0), self.vector_temp(1));
        let pairs = match self.place(b)? {
            Place::Register(register) => register,
            Place::Memory(memory) => {
                let temp = self.vector_temp(2);
                if memory.is_broadcast {
                    self.broadcast_word(temp, iced_x86::MemoryOperand { is_broadcast: false, ..memory })?;
                } else {
                    let code = self.pick((Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256));
                    self.asm.emit(Instruction::with2(code, temp, memory))?;
                }
                temp
            }
        };
        let fma = forms::fma(FmaForm::Accumulate);
        self.shift_by(ShiftOp::Left, left, a, 16)?;
        self.shift_by(ShiftOp::Left, right, pairs, 16)?;
        self.three(fma, dst, left, Place::Register(right))?;
        self.binary_constant(BinaryOp::And, left, a, 0xffff_0000)?;
        self.binary_constant(BinaryOp::And, right, pairs, 0xffff_0000)?;
        self.three(fma, dst, left, Place::Register(right))
    }
}
