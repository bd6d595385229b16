//! Arithmetic of vectors in what four lanes of 128 bits have: what the wide instruction sets do in one instruction.

use super::super::EmitError;
use super::super::ir::{BinaryOp, FmaForm, ShiftOp, UnaryOp, VReg};
use super::{Emitter, plain};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, I8X16, I32, I32X4, I64};
use cranelift_codegen::ir::{ConstantData, InstBuilder, StackSlotData, StackSlotKind, Value};

impl Emitter<'_, '_> {
    pub(super) fn select_bits(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let (mask, a, b) = (self.cast(I32X4, mask), self.cast(I32X4, a), self.cast(I32X4, b));
        self.builder.ins().bitselect(mask, a, b)
    }

    /// `a < b ? a : b`, in the shape that becomes one instruction.
    fn minimum(&mut self, a: Value, b: Value) -> Value {
        let less = self.builder.ins().fcmp(FloatCC::LessThan, a, b);
        let less = self.cast(F32X4, less);
        self.builder.ins().bitselect(less, a, b)
    }

    /// `a > b ? a : b`, in the shape that becomes one instruction.
    fn maximum(&mut self, a: Value, b: Value) -> Value {
        let less = self.builder.ins().fcmp(FloatCC::LessThan, b, a);
        let less = self.cast(F32X4, less);
        self.builder.ins().bitselect(less, a, b)
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        match op {
            BinaryOp::Add => self.builder.ins().fadd(a, b),
            BinaryOp::Sub => self.builder.ins().fsub(a, b),
            BinaryOp::Mul => self.builder.ins().fmul(a, b),
            BinaryOp::Div => self.builder.ins().fdiv(a, b),
            BinaryOp::Max => self.maximum(a, b),
            BinaryOp::Min => self.minimum(a, b),
            BinaryOp::IntAdd | BinaryOp::IntSub | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => {
                let (a, b) = (self.cast(I32X4, a), self.cast(I32X4, b));
                let ins = self.builder.ins();
                match op {
                    BinaryOp::IntAdd => ins.iadd(a, b),
                    BinaryOp::IntSub => ins.isub(a, b),
                    BinaryOp::And => ins.band(a, b),
                    BinaryOp::Or => ins.bor(a, b),
                    _ => ins.bxor(a, b),
                }
            }
        }
    }

    pub(super) fn bits(&mut self, op: BinaryOp, a: Value, bits: u32) -> Value {
        let b = self.word(bits);
        self.binary(op, a, b)
    }

    /// `x` with its sign taken from `sign`.
    fn with_sign(&mut self, x: Value, sign: Value) -> Value {
        let sign = self.bits(BinaryOp::And, sign, 0x8000_0000);
        let size = self.bits(BinaryOp::And, x, 0x7fff_ffff);
        let joined = self.binary(BinaryOp::Or, size, sign);
        self.cast(F32X4, joined)
    }

    /// The nearest integral value by adding and taking away 2^23, below which f32 has fractions.
    fn nearest(&mut self, x: Value) -> Value {
        let two_to_23 = self.float(8_388_608.0);
        let size = self.bits(BinaryOp::And, x, 0x7fff_ffff);
        let size = self.cast(F32X4, size);
        let sum = self.builder.ins().fadd(size, two_to_23);
        let rounded = self.builder.ins().fsub(sum, two_to_23);
        let rounded = self.with_sign(rounded, x);
        let has_fraction = self.builder.ins().fcmp(FloatCC::LessThan, size, two_to_23);
        let chosen = self.select_bits(has_fraction, rounded, x);
        self.cast(F32X4, chosen)
    }

    fn floor(&mut self, x: Value) -> Value {
        let near = self.nearest(x);
        let above = self.builder.ins().fcmp(FloatCC::GreaterThan, near, x);
        let one = self.float(1.0);
        let excess = self.binary(BinaryOp::And, above, one);
        let excess = self.cast(F32X4, excess);
        self.builder.ins().fsub(near, excess)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        match op {
            UnaryOp::Neg => self.bits(BinaryOp::Xor, a, 0x8000_0000),
            UnaryOp::Abs => self.bits(BinaryOp::And, a, 0x7fff_ffff),
            UnaryOp::Sqrt => self.builder.ins().sqrt(a),
            UnaryOp::Floor if self.rounds => self.builder.ins().floor(a),
            UnaryOp::Ceil if self.rounds => self.builder.ins().ceil(a),
            UnaryOp::Trunc if self.rounds => self.builder.ins().trunc(a),
            UnaryOp::Nearest if self.rounds => self.builder.ins().nearest(a),
            UnaryOp::Nearest => self.nearest(a),
            UnaryOp::Floor => self.floor(a),
            UnaryOp::Ceil => {
                let negated = self.builder.ins().fneg(a);
                let floor = self.floor(negated);
                self.builder.ins().fneg(floor)
            }
            UnaryOp::Trunc => {
                let size = self.builder.ins().fabs(a);
                let floor = self.floor(size);
                self.with_sign(floor, a)
            }
            UnaryOp::ToInt => self.builder.ins().fcvt_to_sint_sat(I32X4, a),
            UnaryOp::ToFloat => {
                let lanes = self.cast(I32X4, a);
                self.builder.ins().fcvt_from_sint(F32X4, lanes)
            }
        }
    }

    pub(super) fn fma(&mut self, form: FmaForm, d: Value, a: Value, b: Value) -> Value {
        let ins = self.builder.ins();
        if !self.fused {
            return match form {
                FmaForm::Accumulate => {
                    let product = ins.fmul(a, b);
                    self.builder.ins().fadd(d, product)
                }
                FmaForm::Subtract => {
                    let product = ins.fmul(a, b);
                    self.builder.ins().fsub(d, product)
                }
                FmaForm::Horner => {
                    let product = ins.fmul(d, a);
                    self.builder.ins().fadd(product, b)
                }
                FmaForm::HornerSub => {
                    let product = ins.fmul(d, a);
                    self.builder.ins().fsub(product, b)
                }
                FmaForm::HornerNeg => {
                    let product = ins.fmul(d, a);
                    self.builder.ins().fsub(b, product)
                }
            };
        }
        match form {
            FmaForm::Accumulate => ins.fma(a, b, d),
            FmaForm::Subtract => {
                let a = ins.fneg(a);
                self.builder.ins().fma(a, b, d)
            }
            FmaForm::Horner => ins.fma(d, a, b),
            FmaForm::HornerSub => {
                let b = ins.fneg(b);
                self.builder.ins().fma(d, a, b)
            }
            FmaForm::HornerNeg => {
                let d = ins.fneg(d);
                self.builder.ins().fma(d, a, b)
            }
        }
    }

    pub(super) fn shift(&mut self, op: ShiftOp, a: Value, count: u8) -> Value {
        let a = self.cast(I32X4, a);
        let count = i64::from(count.min(31));
        let ins = self.builder.ins();
        match op {
            ShiftOp::Left => ins.ishl_imm_u(a, count),
            ShiftOp::Logical => ins.ushr_imm_u(a, count),
            ShiftOp::Arithmetic => ins.sshr_imm_u(a, count),
        }
    }

    /// `a * 2^n`: integers by adding 1.5 * 2^23, whose last bits are then the integer; powers by the exponent field.
    pub(super) fn scale2(&mut self, a: Value, n: Value, narrow: bool) -> Value {
        const MAGIC: f32 = 12_582_912.0;
        let magic = self.float(MAGIC);
        let to_int = |this: &mut Self, x: Value| {
            let sum = this.builder.ins().fadd(x, magic);
            this.bits(BinaryOp::IntSub, sum, MAGIC.to_bits())
        };
        let power = |this: &mut Self, n: Value| {
            let biased = this.bits(BinaryOp::IntAdd, n, 127);
            let field = this.shift(ShiftOp::Left, biased, 23);
            this.cast(F32X4, field)
        };
        let whole = to_int(self, n);
        let part = if narrow {
            self.shift(ShiftOp::Arithmetic, whole, 1)
        } else {
            let third = self.float(1.0 / 3.0);
            let third = self.builder.ins().fmul(n, third);
            to_int(self, third)
        };
        let mut rest = self.builder.ins().isub(whole, part);
        if !narrow {
            rest = self.builder.ins().isub(rest, part);
        }
        let (part, rest) = (power(self, part), power(self, rest));
        let mut product = self.builder.ins().fmul(a, part);
        if !narrow {
            product = self.builder.ins().fmul(product, part);
        }
        self.builder.ins().fmul(product, rest)
    }

    pub(super) fn first_lanes(&mut self, count: Value) -> Value {
        let zero = self.builder.ins().iconst(I64, 0);
        let four = self.builder.ins().iconst(I64, 4);
        let negative = self.builder.ins().icmp(IntCC::SignedLessThan, count, zero);
        let count = self.builder.ins().select(negative, zero, count);
        let above = self.builder.ins().icmp(IntCC::SignedGreaterThan, count, four);
        let count = self.builder.ins().select(above, four, count);
        let count = self.builder.ins().ireduce(I32, count);
        let count = self.builder.ins().splat(I32X4, count);
        let lanes = self.words(I32X4, [0, 1, 2, 3]);
        self.builder.ins().icmp(IntCC::SignedGreaterThan, count, lanes)
    }

    /// Lanes picked from two vectors: 0..4 are those of `a`, 4..8 those of `b`.
    pub(super) fn pick(&mut self, a: Value, b: Value, lanes: [u8; 4]) -> Value {
        let (a, b) = (self.cast(I8X16, a), self.cast(I8X16, b));
        let bytes: Vec<u8> = lanes.iter().flat_map(|lane| (0..4).map(move |byte| lane * 4 + byte)).collect();
        let order = self.builder.func.dfg.immediates.push(ConstantData::from(bytes));
        let picked = self.builder.ins().shuffle(a, b, order);
        self.cast(F32X4, picked)
    }

    /// Through memory: the table goes to the stack, each lane comes from there.
    pub(super) fn lookup(&mut self, index: Value, low: Value, high: Value) -> Value {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 32, 4);
        let slot = self.builder.create_sized_stack_slot(slot);
        let table = self.builder.ins().stack_addr(I64, slot, 0);
        self.builder.ins().store(plain(), low, table, 0);
        self.builder.ins().store(plain(), high, table, 16);
        let index = self.bits(BinaryOp::And, index, 7);
        let mut value = self.word(0);
        for lane in 0..4 {
            let word = self.builder.ins().extractlane(index, lane);
            let word = self.builder.ins().uextend(I64, word);
            let offset = self.builder.ins().ishl_imm_u(word, 2);
            let address = self.builder.ins().iadd(table, offset);
            let picked = self.builder.ins().load(I32, plain(), address, 0);
            value = self.builder.ins().insertlane(value, picked, lane);
        }
        value
    }

    pub(super) fn transpose(&mut self, rows: &[VReg]) -> Result<(), EmitError> {
        let [a, b, c, d] = *rows else { return Err(EmitError::Malformed("a transpose of other than W rows")) };
        let [a, b, c, d] = [self.vector(a)?, self.vector(b)?, self.vector(c)?, self.vector(d)?];
        let (ab_low, ab_high) = (self.pick(a, b, [0, 4, 1, 5]), self.pick(a, b, [2, 6, 3, 7]));
        let (cd_low, cd_high) = (self.pick(c, d, [0, 4, 1, 5]), self.pick(c, d, [2, 6, 3, 7]));
        let columns = [
            self.pick(ab_low, cd_low, [0, 1, 4, 5]),
            self.pick(ab_low, cd_low, [2, 3, 6, 7]),
            self.pick(ab_high, cd_high, [0, 1, 4, 5]),
            self.pick(ab_high, cd_high, [2, 3, 6, 7]),
        ];
        for (row, column) in rows.iter().zip(columns) {
            self.set_vector(*row, column)?;
        }
        Ok(())
    }

    pub(super) fn lane_sums(&mut self, rows: &[VReg]) -> Result<(), EmitError> {
        let [a, b, c, d] = *rows else { return Err(EmitError::Malformed("lane sums of other than W rows")) };
        let [a, b, c, d] = [self.vector(a)?, self.vector(b)?, self.vector(c)?, self.vector(d)?];
        let mut halves = |a, b, low, high| {
            let (low, high) = (self.pick(a, b, low), self.pick(a, b, high));
            self.builder.ins().fadd(low, high)
        };
        let ab = halves(a, b, [0, 4, 1, 5], [2, 6, 3, 7]);
        let cd = halves(c, d, [0, 4, 1, 5], [2, 6, 3, 7]);
        let sums = halves(ab, cd, [0, 1, 4, 5], [2, 3, 6, 7]);
        self.set_vector(rows[0], sums)
    }
}
