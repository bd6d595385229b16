//! Emits a kernel as a Cranelift function over 128-bit vectors: for x86-64 without AVX2 and for aarch64.
//!
//! Masked, narrow and strided memory is scalar code. Rounding to integral values does not assume SSE4.1. Multiply-adds
//! are fused where the target can and two operations where it cannot, never a library call.

mod arithmetic;
mod memory;

use super::EmitError;
use super::ir::{
    Addr, BinaryOp, Condition, Count, FmaForm, IReg, IntOp, IntSource, Kernel, MReg, MaskOp, Node, Op, ReduceOp,
    ShiftOp, Source, VReg,
};
use crate::cpu::module::{CodeError, define_clif, integer_signature};
use crate::cpu::target::{Feature, Target};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, I32X4, I64};
use cranelift_codegen::ir::{ConstantData, Endianness, InstBuilder, MemFlagsData, Type, Value};
use cranelift_frontend::{FunctionBuilder, Variable};
use cranelift_module::{FuncId, Linkage, Module};

struct Emitter<'a, 'b> {
    builder: &'a mut FunctionBuilder<'b>,
    args: Value,
    ints: Vec<Variable>,
    /// Of type F32X4.
    vectors: Vec<Variable>,
    /// Of type I32X4, all ones where set.
    masks: Vec<Variable>,
    fused: bool,
    rounds: bool,
}

/// Defines `kernel` in `module`.
pub(super) fn define(
    module: &mut dyn Module,
    target: &Target,
    kernel: &Kernel,
    linkage: Linkage,
) -> Result<FuncId, CodeError> {
    if kernel.lanes != 4 {
        return Err(EmitError::Lanes { kernel: kernel.lanes, isa: 4 }.into());
    }
    let signature = integer_signature(module, 1, 0);
    define_clif(module, &kernel.name, linkage, signature, |builder, _| {
        let entry = builder.current_block().expect("a function body starts in its entry block");
        let args = builder.block_params(entry)[0];
        let mut declare = |count: u32, class: Type| (0..count).map(|_| builder.declare_var(class)).collect();
        let (ints, vectors) = (declare(kernel.ints, I64), declare(kernel.vectors, F32X4));
        let masks = declare(kernel.masks, I32X4);
        let rounds = !target.is_x86() || target.has(Feature::Sse41);
        let mut emitter = Emitter { builder, args, ints, vectors, masks, fused: target.fused(), rounds };
        emitter.nodes(&kernel.body)?;
        emitter.builder.ins().return_(&[]);
        Ok(())
    })
}

/// Memory that is mapped, of any alignment.
fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Emitter<'_, '_> {
    fn variable(table: &[Variable], id: u32) -> Result<Variable, EmitError> {
        table.get(id as usize).copied().ok_or(EmitError::Malformed("a register outside the kernel's counts"))
    }

    fn int(&mut self, register: IReg) -> Result<Value, EmitError> {
        let variable = Self::variable(&self.ints, register.0)?;
        Ok(self.builder.use_var(variable))
    }

    fn set_int(&mut self, register: IReg, value: Value) -> Result<(), EmitError> {
        let variable = Self::variable(&self.ints, register.0)?;
        self.builder.def_var(variable, value);
        Ok(())
    }

    fn vector(&mut self, register: VReg) -> Result<Value, EmitError> {
        let variable = Self::variable(&self.vectors, register.0)?;
        Ok(self.builder.use_var(variable))
    }

    /// Sets a vector register to a value of any 128-bit type.
    fn set_vector(&mut self, register: VReg, value: Value) -> Result<(), EmitError> {
        let variable = Self::variable(&self.vectors, register.0)?;
        let value = self.cast(F32X4, value);
        self.builder.def_var(variable, value);
        Ok(())
    }

    fn mask(&mut self, register: MReg) -> Result<Value, EmitError> {
        let variable = Self::variable(&self.masks, register.0)?;
        Ok(self.builder.use_var(variable))
    }

    fn set_mask(&mut self, register: MReg, value: Value) -> Result<(), EmitError> {
        let variable = Self::variable(&self.masks, register.0)?;
        let value = self.cast(I32X4, value);
        self.builder.def_var(variable, value);
        Ok(())
    }

    /// The same bits as another vector type.
    fn cast(&mut self, class: Type, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == class {
            return value;
        }
        self.builder.ins().bitcast(class, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }

    fn words(&mut self, class: Type, words: [u32; 4]) -> Value {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let constant = self.builder.func.dfg.constants.insert(ConstantData::from(bytes));
        self.builder.ins().vconst(class, constant)
    }

    fn float(&mut self, value: f32) -> Value {
        self.words(F32X4, [value.to_bits(); 4])
    }

    fn word(&mut self, bits: u32) -> Value {
        self.words(I32X4, [bits; 4])
    }

    fn address(&mut self, addr: &Addr) -> Result<Value, EmitError> {
        let base = self.int(addr.base)?;
        let Some((index, scale)) = addr.index else { return Ok(base) };
        let index = self.int(index)?;
        let scaled = self.builder.ins().ishl_imm_u(index, i64::from(scale.log2()));
        Ok(self.builder.ins().iadd(base, scaled))
    }

    fn source(&mut self, source: &Source) -> Result<Value, EmitError> {
        Ok(match source {
            Source::Reg(register) => self.vector(*register)?,
            Source::Const(bits) => self.words(F32X4, [*bits; 4]),
            Source::Memory(addr) => {
                let address = self.address(addr)?;
                self.builder.ins().load(F32X4, plain(), address, addr.displacement)
            }
            Source::Broadcast(addr) => {
                let address = self.address(addr)?;
                let lane = self.builder.ins().load(F32, plain(), address, addr.displacement);
                self.builder.ins().splat(F32X4, lane)
            }
        })
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), EmitError> {
        for node in nodes {
            match node {
                Node::Op(op) => self.op(op)?,
                Node::Loop { count, counter, body } => self.counted_loop(*count, *counter, body)?,
            }
        }
        Ok(())
    }

    fn counted_loop(&mut self, count: Count, counter: IReg, body: &[Node]) -> Result<(), EmitError> {
        let zero = self.builder.ins().iconst(I64, 0);
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        match count {
            Count::Const(n) if n <= 0 => return self.skip(exit),
            Count::Const(_) => {
                self.set_int(counter, zero)?;
                self.builder.ins().jump(head, &[]);
            }
            Count::Reg(register) => {
                let count = self.int(register)?;
                self.set_int(counter, zero)?;
                let some = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, count, 0);
                self.builder.ins().brif(some, head, &[], exit, &[]);
            }
        }
        self.builder.switch_to_block(head);
        self.nodes(body)?;
        let round = self.int(counter)?;
        let next = self.builder.ins().iadd_imm_s(round, 1);
        self.set_int(counter, next)?;
        let count = match count {
            Count::Const(n) => self.builder.ins().iconst(I64, n),
            Count::Reg(register) => self.int(register)?,
        };
        let more = self.builder.ins().icmp(IntCC::SignedLessThan, next, count);
        self.builder.ins().brif(more, head, &[], exit, &[]);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
        Ok(())
    }

    /// Goes on in `exit`, which nothing else jumps to.
    fn skip(&mut self, exit: cranelift_codegen::ir::Block) -> Result<(), EmitError> {
        self.builder.ins().jump(exit, &[]);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
        Ok(())
    }

    fn integer_op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Arg { dst, index } => {
                let offset = i32::try_from(u64::from(*index) * 8)
                    .map_err(|_| EmitError::Malformed("an argument slot out of reach"))?;
                let value = self.builder.ins().load(I64, plain(), self.args, offset);
                self.set_int(*dst, value)
            }
            Op::IntConst { dst, value } => {
                let value = self.builder.ins().iconst(I64, *value);
                self.set_int(*dst, value)
            }
            Op::IntCopy { dst, src } => {
                let value = self.int(*src)?;
                self.set_int(*dst, value)
            }
            Op::Int { op, dst, a, b } => {
                let a = self.int(*a)?;
                let b = match b {
                    IntSource::Reg(b) => self.int(*b)?,
                    IntSource::Imm(value) => self.builder.ins().iconst(I64, i64::from(*value)),
                };
                let ins = self.builder.ins();
                let value = match op {
                    IntOp::Add => ins.iadd(a, b),
                    IntOp::Sub => ins.isub(a, b),
                    IntOp::Mul => ins.imul(a, b),
                    IntOp::And => ins.band(a, b),
                    IntOp::Min => {
                        let less = ins.icmp(IntCC::SignedLessThan, a, b);
                        self.builder.ins().select(less, a, b)
                    }
                    IntOp::Max => {
                        let less = ins.icmp(IntCC::SignedLessThan, a, b);
                        self.builder.ins().select(less, b, a)
                    }
                };
                self.set_int(*dst, value)
            }
            Op::IntShift { dst, a, count } => {
                let a = self.int(*a)?;
                let amount = i64::from(count.unsigned_abs().min(63));
                let value = if *count >= 0 {
                    self.builder.ins().ishl_imm_u(a, amount)
                } else {
                    self.builder.ins().sshr_imm_u(a, amount)
                };
                self.set_int(*dst, value)
            }
            Op::LoadInt { dst, addr, wide } => {
                let address = self.address(addr)?;
                let value = if *wide {
                    self.builder.ins().load(I64, plain(), address, addr.displacement)
                } else {
                    self.builder.ins().sload32(plain(), address, addr.displacement)
                };
                self.set_int(*dst, value)
            }
            _ => Err(EmitError::Malformed("not an integer operation")),
        }
    }

    fn op(&mut self, op: &Op) -> Result<(), EmitError> {
        match op {
            Op::Arg { .. }
            | Op::IntConst { .. }
            | Op::IntCopy { .. }
            | Op::Int { .. }
            | Op::IntShift { .. }
            | Op::LoadInt { .. } => self.integer_op(op),
            Op::Const { dst, bits } => {
                let value = self.words(F32X4, [*bits; 4]);
                self.set_vector(*dst, value)
            }
            Op::Iota { dst } => {
                let value = self.words(F32X4, [0.0f32, 1.0, 2.0, 3.0].map(f32::to_bits));
                self.set_vector(*dst, value)
            }
            Op::Lanes { dst, words } => {
                let words = <[u32; 4]>::try_from(words.as_slice())
                    .map_err(|_| EmitError::Malformed("lane constants of other than W words"))?;
                let value = self.words(F32X4, words);
                self.set_vector(*dst, value)
            }
            Op::Lookup { dst, index, low, high } => {
                let (index, low, high) = (self.vector(*index)?, self.vector(*low)?, self.vector(*high)?);
                let value = self.lookup(index, low, high);
                self.set_vector(*dst, value)
            }
            Op::Copy { dst, src } => {
                let value = self.vector(*src)?;
                self.set_vector(*dst, value)
            }
            Op::Unary { op, dst, a } => {
                let a = self.vector(*a)?;
                let value = self.unary(*op, a);
                self.set_vector(*dst, value)
            }
            Op::Binary { op, dst, a, b } => {
                let (a, b) = (self.vector(*a)?, self.source(b)?);
                let value = self.binary(*op, a, b);
                self.set_vector(*dst, value)
            }
            Op::Fma { form, dst, a, b } => {
                let (d, a, b) = (self.vector(*dst)?, self.vector(*a)?, self.source(b)?);
                let value = self.fma(*form, d, a, b);
                self.set_vector(*dst, value)
            }
            Op::Shift { op, dst, a, count } => {
                let a = self.vector(*a)?;
                let value = self.shift(*op, a, *count);
                self.set_vector(*dst, value)
            }
            Op::Scale2 { dst, a, n, narrow } => {
                let (a, n) = (self.vector(*a)?, self.vector(*n)?);
                let value = self.scale2(a, n, *narrow);
                self.set_vector(*dst, value)
            }
            Op::Compare { condition, dst, a, b } => {
                let (a, b) = (self.vector(*a)?, self.source(b)?);
                let condition = match condition {
                    Condition::Eq => FloatCC::Equal,
                    Condition::Ne => FloatCC::NotEqual,
                    Condition::Lt => FloatCC::LessThan,
                    Condition::Le => FloatCC::LessThanOrEqual,
                    Condition::Gt => FloatCC::GreaterThan,
                    Condition::Ge => FloatCC::GreaterThanOrEqual,
                };
                let value = self.builder.ins().fcmp(condition, a, b);
                self.set_mask(*dst, value)
            }
            Op::FirstLanes { dst, count } => {
                let count = self.int(*count)?;
                let value = self.first_lanes(count);
                self.set_mask(*dst, value)
            }
            Op::Mask { op, dst, a, b } => {
                let (a, b) = (self.mask(*a)?, self.mask(*b)?);
                let value = match op {
                    MaskOp::And => self.builder.ins().band(a, b),
                    MaskOp::Or => self.builder.ins().bor(a, b),
                };
                self.set_mask(*dst, value)
            }
            Op::MaskNot { dst, a } => {
                let a = self.mask(*a)?;
                let value = self.bits(BinaryOp::Xor, a, u32::MAX);
                self.set_mask(*dst, value)
            }
            Op::Select { dst, mask, a, b } => {
                let (mask, a, b) = (self.mask(*mask)?, self.vector(*a)?, self.vector(*b)?);
                let value = self.select_bits(mask, a, b);
                self.set_vector(*dst, value)
            }
            Op::Reduce { op, dst, a } => {
                let op = match op {
                    ReduceOp::Sum => BinaryOp::Add,
                    ReduceOp::Max => BinaryOp::Max,
                    ReduceOp::Min => BinaryOp::Min,
                };
                let mut value = self.vector(*a)?;
                for order in [[2, 3, 0, 1], [1, 0, 3, 2]] {
                    let other = self.pick(value, value, order);
                    value = self.binary(op, value, other);
                }
                self.set_vector(*dst, value)
            }
            Op::Transpose { rows } => self.transpose(rows),
            Op::LaneSums { rows } => self.lane_sums(rows),
            Op::DotBf16 { dst, a, b } => {
                let (mut sum, a, b) = (self.vector(*dst)?, self.vector(*a)?, self.source(b)?);
                let (low_a, low_b) = (self.shift(ShiftOp::Left, a, 16), self.shift(ShiftOp::Left, b, 16));
                let high_a = self.bits(BinaryOp::And, a, 0xffff_0000);
                let high_b = self.bits(BinaryOp::And, b, 0xffff_0000);
                for (a, b) in [(low_a, low_b), (high_a, high_b)] {
                    let (a, b) = (self.cast(F32X4, a), self.cast(F32X4, b));
                    sum = self.fma(FmaForm::Accumulate, sum, a, b);
                }
                self.set_vector(*dst, sum)
            }
            _ => self.memory_op(op),
        }
    }
}
