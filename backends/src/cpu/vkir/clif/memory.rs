//! Loads and stores: full f32 vectors in one piece, everything else lane by lane, conversions in vectors.

use super::{Emitter, plain};
use crate::cpu::vkir::EmitError;
use crate::cpu::vkir::ir::{BinaryOp, Element, IReg, Op, ShiftOp, Tail, VReg};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, I32, I32X4, I64};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value};

/// Where the lanes are: lane i at `address + offset`, stepped by a constant or by a register.
#[derive(Clone, Copy)]
struct Lanes {
    address: Value,
    offset: i32,
    stride: Stride,
}

#[derive(Clone, Copy)]
enum Stride {
    Packed,
    Bytes(Value),
}

impl Emitter<'_, '_> {
    pub(super) fn memory_op(&mut self, op: &Op) -> Result<(), EmitError> {
        let count = |tail: &Option<Tail>| tail.map(|tail| tail.count);
        match op {
            Op::Load { dst, addr, element, tail } => {
                let address = self.address(addr)?;
                if *element == Element::F32 && tail.is_none() {
                    let value = self.builder.ins().load(F32X4, plain(), address, addr.displacement);
                    return self.set_vector(*dst, value);
                }
                let lanes = Lanes { address, offset: addr.displacement, stride: Stride::Packed };
                self.load_lanes(*dst, lanes, *element, count(tail))
            }
            Op::Store { src, addr, element, tail } => {
                let address = self.address(addr)?;
                if *element == Element::F32 && tail.is_none() {
                    let value = self.vector(*src)?;
                    self.builder.ins().store(plain(), value, address, addr.displacement);
                    return Ok(());
                }
                let lanes = Lanes { address, offset: addr.displacement, stride: Stride::Packed };
                self.store_lanes(*src, lanes, *element, count(tail))
            }
            Op::StoreStream { src, addr } => {
                let (address, value) = (self.address(addr)?, self.vector(*src)?);
                self.builder.ins().store(plain(), value, address, addr.displacement);
                Ok(())
            }
            Op::Broadcast { dst, addr, element } => {
                let address = self.address(addr)?;
                let lane = self.load_lane(address, addr.displacement, *element);
                let lanes = self.builder.ins().splat(I32X4, lane);
                let value = self.widen(lanes, *element);
                self.set_vector(*dst, value)
            }
            Op::StoreLane { src, addr, element } => {
                let address = self.address(addr)?;
                let value = self.vector(*src)?;
                let narrow = self.narrow(value, *element);
                let lane = self.builder.ins().extractlane(narrow, 0);
                self.store_lane(lane, address, addr.displacement, *element);
                Ok(())
            }
            Op::LoadStrided { dst, addr, stride, element, limit } => {
                let (address, stride) = (self.address(addr)?, self.int(*stride)?);
                let lanes = Lanes { address, offset: addr.displacement, stride: Stride::Bytes(stride) };
                self.load_lanes(*dst, lanes, *element, *limit)
            }
            Op::StoreStrided { src, addr, stride, element, limit } => {
                let (address, stride) = (self.address(addr)?, self.int(*stride)?);
                let lanes = Lanes { address, offset: addr.displacement, stride: Stride::Bytes(stride) };
                self.store_lanes(*src, lanes, *element, *limit)
            }
            // there is no such instruction to ask for
            Op::Prefetch { .. } => Ok(()),
            _ => Err(EmitError::Malformed("not a memory operation")),
        }
    }

    fn load_lane(&mut self, address: Value, offset: i32, element: Element) -> Value {
        let ins = self.builder.ins();
        match element {
            Element::F32 => ins.load(I32, plain(), address, offset),
            Element::Bf16 | Element::F16 => ins.uload16(I32, plain(), address, offset),
            Element::U8 => ins.uload8(I32, plain(), address, offset),
        }
    }

    fn store_lane(&mut self, lane: Value, address: Value, offset: i32, element: Element) {
        let ins = self.builder.ins();
        match element {
            Element::F32 => ins.store(plain(), lane, address, offset),
            Element::Bf16 | Element::F16 => ins.istore16(plain(), lane, address, offset),
            Element::U8 => ins.istore8(plain(), lane, address, offset),
        };
    }

    /// Address and offset of a lane.
    fn lane(&mut self, lanes: Lanes, lane: u8, element: Element) -> (Value, i32) {
        match lanes.stride {
            Stride::Packed => (lanes.address, lanes.offset.wrapping_add(i32::from(lane) * element.bytes() as i32)),
            Stride::Bytes(stride) => {
                let count = self.builder.ins().iconst(I64, i64::from(lane));
                let distance = self.builder.ins().imul(stride, count);
                (self.builder.ins().iadd(lanes.address, distance), lanes.offset)
            }
        }
    }

    fn load_lanes(&mut self, dst: VReg, lanes: Lanes, element: Element, limit: Option<IReg>) -> Result<(), EmitError> {
        let mut value = self.word(0);
        let limit = limit.map(|limit| self.int(limit)).transpose()?;
        let done = self.builder.create_block();
        let result = self.builder.append_block_param(done, I32X4);
        for lane in 0..4 {
            if let Some(limit) = limit {
                let next = self.builder.create_block();
                let inside = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, limit, i64::from(lane));
                self.builder.ins().brif(inside, next, &[], done, &[BlockArg::from(value)]);
                self.builder.seal_block(next);
                self.builder.switch_to_block(next);
            }
            let (address, offset) = self.lane(lanes, lane, element);
            let loaded = self.load_lane(address, offset, element);
            value = self.builder.ins().insertlane(value, loaded, lane);
        }
        self.builder.ins().jump(done, &[BlockArg::from(value)]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        let wide = self.widen(result, element);
        self.set_vector(dst, wide)
    }

    fn store_lanes(&mut self, src: VReg, lanes: Lanes, element: Element, limit: Option<IReg>) -> Result<(), EmitError> {
        let value = self.vector(src)?;
        let narrow = self.narrow(value, element);
        let limit = limit.map(|limit| self.int(limit)).transpose()?;
        let done = self.builder.create_block();
        for lane in 0..4 {
            if let Some(limit) = limit {
                let next = self.builder.create_block();
                let inside = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, limit, i64::from(lane));
                self.builder.ins().brif(inside, next, &[], done, &[]);
                self.builder.seal_block(next);
                self.builder.switch_to_block(next);
            }
            let (address, offset) = self.lane(lanes, lane, element);
            let bits = self.builder.ins().extractlane(narrow, lane);
            self.store_lane(bits, address, offset, element);
        }
        self.builder.ins().jump(done, &[]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        Ok(())
    }

    /// From the bits of an element, zero-extended, to those of the lane.
    fn widen(&mut self, bits: Value, element: Element) -> Value {
        match element {
            Element::F32 | Element::U8 => bits,
            Element::Bf16 => self.shift(ShiftOp::Left, bits, 16),
            Element::F16 => self.widen_half(bits),
        }
    }

    /// Moves exponent and fraction to their f32 places and multiplies by 2^112, the difference of the exponent biases:
    /// exact for subnormals too. Infinities and NaNs get the full exponent instead.
    fn widen_half(&mut self, bits: Value) -> Value {
        let sign = self.bits(BinaryOp::And, bits, 0x8000);
        let sign = self.shift(ShiftOp::Left, sign, 16);
        let size = self.bits(BinaryOp::And, bits, 0x7fff);
        let special = self.word(0x7bff);
        let special = self.builder.ins().icmp(IntCC::SignedGreaterThan, size, special);
        let moved = self.shift(ShiftOp::Left, size, 13);
        let full = self.bits(BinaryOp::Or, moved, 0x7f80_0000);
        let bias = self.word((127 + 112) << 23);
        let (moved, bias) = (self.cast(F32X4, moved), self.cast(F32X4, bias));
        let finite = self.builder.ins().fmul(moved, bias);
        let size = self.select_bits(special, full, finite);
        self.binary(BinaryOp::Or, size, sign)
    }

    /// From a lane to the bits of an element, in the low part of each i32 lane.
    fn narrow(&mut self, value: Value, element: Element) -> Value {
        match element {
            Element::F32 | Element::U8 => self.cast(I32X4, value),
            Element::Bf16 => self.narrow_bf16(value),
            Element::F16 => self.narrow_half(value),
        }
    }

    /// Adds half a unit of the last place kept, less one where that place is even, and cuts.
    fn narrow_bf16(&mut self, value: Value) -> Value {
        let upper = self.shift(ShiftOp::Logical, value, 16);
        let odd = self.bits(BinaryOp::And, upper, 1);
        let half = self.bits(BinaryOp::IntAdd, odd, 0x7fff);
        let sum = self.binary(BinaryOp::IntAdd, value, half);
        let rounded = self.shift(ShiftOp::Logical, sum, 16);
        let nan = self.is_nan(value);
        let quiet = self.word(0x7fc0);
        self.select_bits(nan, quiet, rounded)
    }

    fn is_nan(&mut self, value: Value) -> Value {
        let size = self.bits(BinaryOp::And, value, 0x7fff_ffff);
        let infinity = self.word(0x7f80_0000);
        self.builder.ins().icmp(IntCC::SignedGreaterThan, size, infinity)
    }

    /// Three cases by size: normal halves round like bf16 after the exponent bias is taken away; below 2^-14 adding
    /// 0.5 leaves the half's subnormal fraction, rounded by the addition, in the last bits; from 2^16 on it is infinity.
    fn narrow_half(&mut self, value: Value) -> Value {
        let sign = self.shift(ShiftOp::Logical, value, 16);
        let sign = self.bits(BinaryOp::And, sign, 0x8000);
        let size = self.bits(BinaryOp::And, value, 0x7fff_ffff);
        let odd = self.shift(ShiftOp::Logical, size, 13);
        let odd = self.bits(BinaryOp::And, odd, 1);
        let half = self.bits(BinaryOp::IntAdd, odd, 0x0fff);
        let sum = self.binary(BinaryOp::IntAdd, size, half);
        let rebased = self.bits(BinaryOp::IntSub, sum, 112 << 23);
        let normal = self.shift(ShiftOp::Logical, rebased, 13);
        let one_half = self.float(0.5);
        let size_float = self.cast(F32X4, size);
        let shifted = self.builder.ins().fadd(size_float, one_half);
        let subnormal = self.bits(BinaryOp::IntSub, shifted, 0.5f32.to_bits());
        let first_normal = self.word((127 - 14) << 23);
        let small = self.builder.ins().icmp(IntCC::SignedLessThan, size, first_normal);
        let finite = self.select_bits(small, subnormal, normal);
        let last_small = self.word(((127 + 16) << 23) - 1);
        let large = self.builder.ins().icmp(IntCC::SignedGreaterThan, size, last_small);
        let infinity = self.word(0x7c00);
        let bounded = self.select_bits(large, infinity, finite);
        let nan = self.is_nan(value);
        let quiet = self.word(0x7e00);
        let bounded = self.select_bits(nan, quiet, bounded);
        self.binary(BinaryOp::Or, bounded, sign)
    }
}
