//! Integer operations on the general registers.

use super::{ARGUMENT_POINTER, Emitter, gpr, low_half};
use crate::cpu::vkir::EmitError;
use crate::cpu::vkir::ir::{IntOp, IntSource, Op};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

impl Emitter<'_> {
    pub(super) fn int_constant(&mut self, dst: Register, value: i64) -> Result<(), EmitError> {
        if value == 0 {
            let low = low_half(dst);
            return self.asm.emit(Instruction::with2(Code::Xor_r32_rm32, low, low));
        }
        if let Ok(value) = u32::try_from(value) {
            return self.asm.emit(Instruction::with2(Code::Mov_r32_imm32, low_half(dst), value));
        }
        if let Ok(value) = i32::try_from(value) {
            return self.asm.emit(Instruction::with2(Code::Mov_rm64_imm32, dst, value));
        }
        self.asm.emit(Instruction::with2(Code::Mov_r64_imm64, dst, value))
    }

    pub(super) fn int_copy(&mut self, dst: Register, src: Register) -> Result<(), EmitError> {
        if dst == src { Ok(()) } else { self.asm.emit(Instruction::with2(Code::Mov_r64_rm64, dst, src)) }
    }

    pub(super) fn integer_op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Arg { dst, index } => {
                let displacement = i64::from(*index) * 8;
                let size = u32::from(displacement != 0);
                let base = gpr(ARGUMENT_POINTER);
                let memory = MemoryOperand::new(base, Register::None, 1, displacement, size, false, Register::None);
                self.asm.emit(Instruction::with2(Code::Mov_r64_rm64, self.int(*dst), memory))
            }
            Op::IntConst { dst, value } => self.int_constant(self.int(*dst), *value),
            Op::IntCopy { dst, src } => self.int_copy(self.int(*dst), self.int(*src)),
            Op::Int { op, dst, a, b } => {
                let (dst, a) = (self.int(*dst), self.int(*a));
                match b {
                    IntSource::Reg(b) => self.int_registers(*op, dst, a, self.int(*b)),
                    IntSource::Imm(value) => self.int_immediate(*op, dst, a, *value),
                }
            }
            Op::IntShift { dst, a, count } => {
                let (dst, a) = (self.int(*dst), self.int(*a));
                self.int_copy(dst, a)?;
                let amount = i32::from(count.unsigned_abs().min(63));
                match count {
                    0 => Ok(()),
                    1.. => self.asm.emit(Instruction::with2(Code::Shl_rm64_imm8, dst, amount)),
                    _ => self.asm.emit(Instruction::with2(Code::Sar_rm64_imm8, dst, amount)),
                }
            }
            Op::LoadInt { dst, addr, wide } => {
                let memory = self.address(addr, false);
                let code = if *wide { Code::Mov_r64_rm64 } else { Code::Movsxd_r64_rm32 };
                self.asm.emit(Instruction::with2(code, self.int(*dst), memory))
            }
            _ => Err(EmitError::Malformed("not an integer operation")),
        }
    }

    fn int_registers(&mut self, op: IntOp, dst: Register, a: Register, b: Register) -> Result<(), EmitError> {
        // two-operand forms: get one operand into dst, and never overwrite the other
        let other = if dst == b && dst != a {
            if op == IntOp::Sub {
                self.asm.emit(Instruction::with1(Code::Neg_rm64, dst))?;
                return self.asm.emit(Instruction::with2(Code::Add_r64_rm64, dst, a));
            }
            a
        } else {
            if op == IntOp::Add && dst != a {
                let sum = MemoryOperand::new(a, b, 1, 0, 0, false, Register::None);
                return self.asm.emit(Instruction::with2(Code::Lea_r64_m, dst, sum));
            }
            self.int_copy(dst, a)?;
            b
        };
        let code = match op {
            IntOp::Add => Code::Add_r64_rm64,
            IntOp::Sub => Code::Sub_r64_rm64,
            IntOp::Mul => Code::Imul_r64_rm64,
            IntOp::And => Code::And_r64_rm64,
            IntOp::Min | IntOp::Max => {
                self.asm.emit(Instruction::with2(Code::Cmp_r64_rm64, dst, other))?;
                if op == IntOp::Min { Code::Cmovg_r64_rm64 } else { Code::Cmovl_r64_rm64 }
            }
        };
        self.asm.emit(Instruction::with2(code, dst, other))
    }

    fn int_immediate(&mut self, op: IntOp, dst: Register, a: Register, value: i32) -> Result<(), EmitError> {
        let code = match op {
            IntOp::Mul => return self.asm.emit(Instruction::with3(Code::Imul_r64_rm64_imm32, dst, a, value)),
            IntOp::Min | IntOp::Max => {
                let temp = self.int_temp(0);
                self.int_constant(temp, i64::from(value))?;
                return self.int_registers(op, dst, a, temp);
            }
            IntOp::Add if dst != a => {
                let sum = MemoryOperand::new(a, Register::None, 1, i64::from(value), 1, false, Register::None);
                return self.asm.emit(Instruction::with2(Code::Lea_r64_m, dst, sum));
            }
            IntOp::Add => Code::Add_rm64_imm32,
            IntOp::Sub => Code::Sub_rm64_imm32,
            IntOp::And => Code::And_rm64_imm32,
        };
        self.int_copy(dst, a)?;
        self.asm.emit(Instruction::with2(code, dst, value))
    }
}
