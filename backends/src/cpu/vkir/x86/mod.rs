//! Emits a kernel as raw x86-64 machine code, for AVX-512 and for AVX2 with FMA.
//!
//! The result is a leaf function in the System V convention: its one argument stays in a register, callee-saved
//! registers in use are pushed, scratch memory is the red zone, the stack pointer is otherwise left alone, and
//! `vzeroupper` stands before the return. Constants are behind the code; there are no relocations.

mod assembler;
mod forms;
mod integer;
mod memory;
mod vector;

use super::EmitError;
use super::allocate::{Assignment, INT_ORDER, TempCounts, Temps, allocate};
use super::ir::{Addr, Count, Element, IReg, IntOp, IntSource, Isa, Kernel, MReg, Node, Op, Source, VReg};
use assembler::Assembler;
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// Encodings of the callee-saved registers.
const CALLEE_SAVED: [u8; 6] = [3, 5, 12, 13, 14, 15];

/// The encoding of the register of the first argument.
const ARGUMENT_POINTER: u8 = INT_ORDER[0];

/// A source operand as an instruction takes it.
#[derive(Clone, Copy, Debug)]
enum Place {
    Register(Register),
    Memory(MemoryOperand),
}

struct Emitter<'a> {
    asm: Assembler,
    assignment: &'a Assignment,
    /// 512 bits, else 256.
    wide: bool,
    /// AVX512_BF16 may be used.
    bf16: bool,
    /// As counted by the register assignment.
    step: u32,
    /// A non-temporal store has been emitted.
    streamed: bool,
}

/// The scratch that the expansion of `op` needs.
fn temp_counts(op: &Op, isa: Isa) -> TempCounts {
    let (wide, bf16) = match isa {
        Isa::Avx512 { bf16 } => (true, bf16),
        Isa::Avx2 | Isa::Clif => (false, false),
    };
    let counts = |ints, vectors, masks| TempCounts { ints, vectors, masks };
    let narrowing = |element: Element| match (element, wide) {
        (Element::F32 | Element::F16, _) => counts(0, 0, 0),
        (Element::Bf16, true) => counts(0, 1, usize::from(!bf16)),
        (Element::U8, true) => counts(0, 0, 0),
        (Element::Bf16 | Element::U8, false) => counts(0, 2, 0),
    };
    let loaded = |b: &Source| usize::from(!wide && matches!(b, Source::Broadcast(_)));
    match op {
        Op::Int { op: IntOp::Min | IntOp::Max, b: IntSource::Imm(_), .. } => counts(1, 0, 0),
        Op::Binary { b, .. } | Op::Fma { b, .. } | Op::Compare { b, .. } => counts(0, loaded(b), 0),
        Op::FirstLanes { .. } => counts(2, 0, 0),
        Op::Scale2 { .. } if !wide => counts(0, 2, 0),
        Op::Reduce { .. } => counts(0, 1, 0),
        Op::Lookup { .. } => counts(0, if wide { 1 } else { 3 }, 0),
        Op::Transpose { .. } => counts(0, 2, 0),
        Op::LaneSums { .. } => counts(0, 1, 0),
        Op::DotBf16 { .. } if !bf16 => counts(0, 3, 0),
        Op::Load { element, tail: Some(_), .. } if !wide && *element != Element::F32 => counts(1, 0, 0),
        Op::Store { element, tail, .. } => {
            let copied = !wide && tail.is_some() && *element != Element::F32;
            TempCounts { ints: usize::from(copied), ..narrowing(*element) }
        }
        Op::StoreLane { element: Element::F16, .. } => counts(0, 1, 0),
        Op::StoreLane { element: Element::Bf16, .. } => narrowing(Element::Bf16),
        Op::LoadStrided { .. } => counts(2, 0, 0),
        Op::StoreStrided { element, .. } => TempCounts { ints: 2, ..narrowing(*element) },
        _ => counts(0, 0, 0),
    }
}

/// The machine code of `kernel`, constants included.
pub(super) fn emit(kernel: &Kernel, isa: Isa) -> Result<Vec<u8>, EmitError> {
    let (wide, bf16) = match isa {
        Isa::Avx512 { bf16 } => (true, bf16),
        Isa::Avx2 => (false, false),
        Isa::Clif => return Err(EmitError::Malformed("not an x86 vector instruction set")),
    };
    let assignment = allocate(kernel, isa, &|op| temp_counts(op, isa))?;
    let asm = Assembler::new();
    let mut emitter = Emitter { asm, assignment: &assignment, wide, bf16, step: 1, streamed: false };
    let saved: Vec<u8> = CALLEE_SAVED.into_iter().filter(|r| assignment.used_ints.contains(r)).collect();
    for &register in &saved {
        emitter.asm.emit(Instruction::with1(Code::Push_r64, gpr(register)))?;
    }
    for &(bits, register) in &assignment.constants {
        let memory = emitter.asm.constant(&[bits], false);
        let register = emitter.vector_register(register);
        emitter.broadcast_word(register, memory)?;
    }
    emitter.nodes(&kernel.body)?;
    for &register in saved.iter().rev() {
        emitter.asm.emit(Instruction::with1(Code::Pop_r64, gpr(register)))?;
    }
    if emitter.streamed {
        // non-temporal stores are ordered with nothing else
        emitter.asm.emit(Ok(Instruction::with(Code::Sfence)))?;
    }
    emitter.asm.emit(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
    emitter.asm.emit(Ok(Instruction::with(Code::Retnq)))?;
    emitter.asm.finish()
}

/// The 64-bit register with this encoding.
fn gpr(encoding: u8) -> Register {
    Register::RAX + u32::from(encoding)
}

/// The low half of a 64-bit register.
fn low_half(register: Register) -> Register {
    Register::EAX + (register as u32 - Register::RAX as u32)
}

fn steps(nodes: &[Node]) -> u32 {
    let mut total = 0;
    for node in nodes {
        total += match node {
            Node::Op(_) => 1,
            Node::Loop { body, .. } => 2 + steps(body),
        };
    }
    total
}

impl Emitter<'_> {
    fn pick(&self, codes: (Code, Code)) -> Code {
        if self.wide { codes.0 } else { codes.1 }
    }

    fn int(&self, register: IReg) -> Register {
        gpr(self.assignment.ints[register.0 as usize])
    }

    fn vector_register(&self, number: u8) -> Register {
        (if self.wide { Register::ZMM0 } else { Register::YMM0 }) + u32::from(number)
    }

    fn vector(&self, register: VReg) -> Register {
        self.vector_register(self.assignment.vectors[register.0 as usize])
    }

    fn mask(&self, register: MReg) -> Register {
        let number = u32::from(self.assignment.masks[register.0 as usize]);
        (if self.wide { Register::K0 } else { Register::YMM0 }) + number
    }

    fn temps(&self) -> Temps {
        self.assignment.temps.get(&self.step).cloned().unwrap_or_default()
    }

    fn int_temp(&self, index: usize) -> Register {
        gpr(self.temps().ints[index])
    }

    fn vector_temp(&self, index: usize) -> Register {
        self.vector_register(self.temps().vectors[index])
    }

    fn address(&self, addr: &Addr, broadcast: bool) -> MemoryOperand {
        let (index, scale) = match addr.index {
            Some((index, scale)) => (self.int(index), scale.bytes() as u32),
            None => (Register::None, 1),
        };
        let displacement = i64::from(addr.displacement);
        let size = u32::from(displacement != 0);
        MemoryOperand::new(self.int(addr.base), index, scale, displacement, size, broadcast, Register::None)
    }

    fn broadcast_word(&mut self, dst: Register, memory: MemoryOperand) -> Result<(), EmitError> {
        let code = self.pick((Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32));
        self.asm.emit(Instruction::with2(code, dst, memory))
    }

    /// The register that holds a constant for the whole kernel, if one does.
    fn kept_constant(&self, bits: u32) -> Option<Register> {
        let kept = self.assignment.constants.iter().find(|(held, _)| *held == bits);
        kept.map(|&(_, register)| self.vector_register(register))
    }

    /// A constant as an operand of an arithmetic instruction.
    fn constant(&mut self, bits: u32) -> Place {
        if let Some(register) = self.kept_constant(bits) {
            return Place::Register(register);
        }
        Place::Memory(if self.wide { self.asm.constant(&[bits], true) } else { self.asm.constant(&[bits; 8], false) })
    }

    fn place(&mut self, source: &Source) -> Result<Place, EmitError> {
        Ok(match source {
            Source::Reg(register) => Place::Register(self.vector(*register)),
            Source::Memory(addr) => Place::Memory(self.address(addr, false)),
            Source::Broadcast(addr) if self.wide => Place::Memory(self.address(addr, true)),
            Source::Broadcast(addr) => {
                let memory = self.address(addr, false);
                let last = self.temps().vectors.len() - 1;
                let temp = self.vector_temp(last);
                self.broadcast_word(temp, memory)?;
                Place::Register(temp)
            }
            Source::Const(bits) => self.constant(*bits),
        })
    }

    /// `code dst, a, b`
    fn three(&mut self, codes: (Code, Code), dst: Register, a: Register, b: Place) -> Result<(), EmitError> {
        let code = self.pick(codes);
        self.asm.emit(match b {
            Place::Register(b) => Instruction::with3(code, dst, a, b),
            Place::Memory(b) => Instruction::with3(code, dst, a, b),
        })
    }

    /// `code dst, a, b, immediate`
    fn three_imm(
        &mut self,
        codes: (Code, Code),
        dst: Register,
        a: Register,
        b: Place,
        immediate: i32,
    ) -> Result<(), EmitError> {
        let code = self.pick(codes);
        self.asm.emit(match b {
            Place::Register(b) => Instruction::with4(code, dst, a, b, immediate),
            Place::Memory(b) => Instruction::with4(code, dst, a, b, immediate),
        })
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), EmitError> {
        for node in nodes {
            match node {
                Node::Op(op) => {
                    self.op(op)?;
                    self.step += 1;
                }
                Node::Loop { count, counter, body } => self.counted_loop(*count, *counter, body)?,
            }
        }
        Ok(())
    }

    fn counted_loop(&mut self, count: Count, counter: IReg, body: &[Node]) -> Result<(), EmitError> {
        let up = self.assignment.counted_up.get(&self.step).copied().unwrap_or(true);
        if matches!(count, Count::Const(n) if n <= 0) {
            self.step += 2 + steps(body);
            return Ok(());
        }
        self.step += 1;
        let counter = self.int(counter);
        let top = self.asm.label();
        let done = self.asm.label();
        match count {
            Count::Const(1) => {
                if up {
                    self.int_constant(counter, 0)?;
                }
                self.nodes(body)?;
                self.step += 1;
                return Ok(());
            }
            Count::Const(n) => self.int_constant(counter, if up { 0 } else { n })?,
            Count::Reg(register) => {
                let register = self.int(register);
                self.asm.emit(Instruction::with2(Code::Test_rm64_r64, register, register))?;
                self.asm.jump(Code::Jle_rel32_64, done)?;
                if up {
                    self.int_constant(counter, 0)?;
                } else {
                    self.int_copy(counter, register)?;
                }
            }
        }
        self.asm.bind(top);
        self.nodes(body)?;
        if up {
            self.asm.emit(Instruction::with2(Code::Add_rm64_imm8, counter, 1))?;
            match count {
                Count::Const(n) => match i32::try_from(n) {
                    Ok(n) => self.asm.emit(Instruction::with2(Code::Cmp_rm64_imm32, counter, n))?,
                    Err(_) => return Err(EmitError::Malformed("a constant loop count above 2^31")),
                },
                Count::Reg(register) => {
                    let register = self.int(register);
                    self.asm.emit(Instruction::with2(Code::Cmp_r64_rm64, counter, register))?;
                }
            }
            self.asm.jump(Code::Jl_rel32_64, top)?;
        } else {
            self.asm.emit(Instruction::with2(Code::Sub_rm64_imm8, counter, 1))?;
            self.asm.jump(Code::Jne_rel32_64, top)?;
        }
        self.asm.bind(done);
        self.step += 1;
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Arg { .. }
            | Op::IntConst { .. }
            | Op::IntCopy { .. }
            | Op::Int { .. }
            | Op::IntShift { .. }
            | Op::LoadInt { .. } => self.integer_op(op),
            Op::Load { .. }
            | Op::Store { .. }
            | Op::Broadcast { .. }
            | Op::StoreLane { .. }
            | Op::StoreStream { .. }
            | Op::LoadStrided { .. }
            | Op::StoreStrided { .. }
            | Op::Prefetch { .. } => self.memory_op(op),
            _ => self.vector_op(op),
        }
    }
}
