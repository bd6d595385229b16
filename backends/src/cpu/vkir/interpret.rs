//! Runs a kernel one lane at a time over checked memory: the meaning of the operations, and the oracle of the emitters'
//! tests.

use super::ir::{
    Addr, BinaryOp, Condition, Count, Element, FmaForm, IReg, IntOp, IntSource, Kernel, MReg, MaskOp, Node, Op,
    ReduceOp, ShiftOp, Source, Tail, UnaryOp, VReg,
};
use half::{bf16, f16};
use std::fmt;

/// Why interpretation stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An access outside the arena.
    OutOfBounds {
        /// First byte.
        address: i64,
        /// Bytes.
        size: usize,
    },
    /// A register was read that no executed step had written.
    Undefined(&'static str),
    /// An argument slot that was not given.
    MissingArgument(u32),
    /// A non-temporal store to an address that is not aligned.
    Misaligned(i64),
    /// A register outside the kernel's counts, or a transpose of other than W rows.
    Malformed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::OutOfBounds { address, size } => {
                write!(f, "access to {size} bytes at {address:#x} is out of bounds")
            }
            Fault::Undefined(class) => write!(f, "a {class} register is read before it is written"),
            Fault::MissingArgument(index) => write!(f, "argument {index} is missing"),
            Fault::Misaligned(address) => write!(f, "non-temporal store to {address:#x} is not aligned"),
            Fault::Malformed => write!(f, "the kernel is malformed"),
        }
    }
}

impl std::error::Error for Fault {}

/// The only memory that the kernel may touch.
#[derive(Debug)]
pub struct Arena<'a> {
    /// The address of the first byte, as the arguments express it.
    pub base: i64,
    /// The bytes.
    pub bytes: &'a mut [u8],
}

impl Arena<'_> {
    fn range(&self, address: i64, size: usize) -> Result<std::ops::Range<usize>, Fault> {
        let fault = Fault::OutOfBounds { address, size };
        let start = usize::try_from(address.wrapping_sub(self.base)).map_err(|_| fault.clone())?;
        match start.checked_add(size) {
            Some(end) if end <= self.bytes.len() => Ok(start..end),
            _ => Err(fault),
        }
    }

    fn read<const N: usize>(&self, address: i64) -> Result<[u8; N], Fault> {
        let range = self.range(address, N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[range]);
        Ok(bytes)
    }

    fn write(&mut self, address: i64, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.range(address, bytes.len())?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }
}

struct Machine<'a, 'b> {
    args: &'a [i64],
    arena: &'a mut Arena<'b>,
    lanes: usize,
    ints: Vec<Option<i64>>,
    vectors: Vec<Option<Vec<u32>>>,
    masks: Vec<Option<Vec<bool>>>,
}

/// Runs `kernel` on `args` over `arena`.
pub fn interpret(kernel: &Kernel, args: &[i64], arena: &mut Arena<'_>) -> Result<(), Fault> {
    let mut machine = Machine {
        args,
        arena,
        lanes: kernel.lanes,
        ints: vec![None; kernel.ints as usize],
        vectors: vec![None; kernel.vectors as usize],
        masks: vec![None; kernel.masks as usize],
    };
    machine.nodes(&kernel.body)
}

fn widen(bits: u32, element: Element) -> u32 {
    match element {
        Element::F32 | Element::U8 => bits,
        Element::Bf16 => bits << 16,
        Element::F16 => f16::from_bits(bits as u16).to_f32().to_bits(),
    }
}

fn narrow(bits: u32, element: Element) -> u32 {
    match element {
        Element::F32 => bits,
        Element::U8 => bits & 0xff,
        Element::Bf16 => u32::from(bf16::from_f32(f32::from_bits(bits)).to_bits()),
        Element::F16 => u32::from(f16::from_f32(f32::from_bits(bits)).to_bits()),
    }
}

fn binary(op: BinaryOp, a: u32, b: u32) -> u32 {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    match op {
        BinaryOp::Add => (x + y).to_bits(),
        BinaryOp::Sub => (x - y).to_bits(),
        BinaryOp::Mul => (x * y).to_bits(),
        BinaryOp::Div => (x / y).to_bits(),
        BinaryOp::Max => (if x > y { x } else { y }).to_bits(),
        BinaryOp::Min => (if x < y { x } else { y }).to_bits(),
        BinaryOp::IntAdd => a.wrapping_add(b),
        BinaryOp::IntSub => a.wrapping_sub(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
    }
}

fn unary(op: UnaryOp, a: u32) -> u32 {
    let x = f32::from_bits(a);
    match op {
        UnaryOp::Neg => a ^ 0x8000_0000,
        UnaryOp::Abs => a & 0x7fff_ffff,
        UnaryOp::Sqrt => x.sqrt().to_bits(),
        UnaryOp::Floor => x.floor().to_bits(),
        UnaryOp::Ceil => x.ceil().to_bits(),
        UnaryOp::Trunc => x.trunc().to_bits(),
        UnaryOp::Nearest => x.round_ties_even().to_bits(),
        UnaryOp::ToInt => (x as i32) as u32,
        UnaryOp::ToFloat => (a as i32 as f32).to_bits(),
    }
}

fn holds(condition: Condition, a: u32, b: u32) -> bool {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    match condition {
        Condition::Eq => x == y,
        Condition::Ne => x != y,
        Condition::Lt => x < y,
        Condition::Le => x <= y,
        Condition::Gt => x > y,
        Condition::Ge => x >= y,
    }
}

/// `x * 2^n` rounded once: the f64 product is exact, since x has 24 bits and n stays within f64's range.
fn scale2(a: u32, n: u32) -> u32 {
    let n = f64::from(f32::from_bits(n)).floor().clamp(-600.0, 600.0);
    ((f64::from(f32::from_bits(a)) * n.exp2()) as f32).to_bits()
}

impl Machine<'_, '_> {
    fn int(&self, register: IReg) -> Result<i64, Fault> {
        self.ints.get(register.0 as usize).ok_or(Fault::Malformed)?.ok_or(Fault::Undefined("integer"))
    }

    fn set_int(&mut self, register: IReg, value: i64) -> Result<(), Fault> {
        *self.ints.get_mut(register.0 as usize).ok_or(Fault::Malformed)? = Some(value);
        Ok(())
    }

    fn vector(&self, register: VReg) -> Result<Vec<u32>, Fault> {
        self.vectors.get(register.0 as usize).ok_or(Fault::Malformed)?.clone().ok_or(Fault::Undefined("vector"))
    }

    fn set_vector(&mut self, register: VReg, value: Vec<u32>) -> Result<(), Fault> {
        *self.vectors.get_mut(register.0 as usize).ok_or(Fault::Malformed)? = Some(value);
        Ok(())
    }

    fn mask(&self, register: MReg) -> Result<Vec<bool>, Fault> {
        self.masks.get(register.0 as usize).ok_or(Fault::Malformed)?.clone().ok_or(Fault::Undefined("mask"))
    }

    fn set_mask(&mut self, register: MReg, value: Vec<bool>) -> Result<(), Fault> {
        *self.masks.get_mut(register.0 as usize).ok_or(Fault::Malformed)? = Some(value);
        Ok(())
    }

    fn address(&self, addr: &Addr) -> Result<i64, Fault> {
        let mut address = self.int(addr.base)?.wrapping_add(i64::from(addr.displacement));
        if let Some((index, scale)) = addr.index {
            address = address.wrapping_add(self.int(index)?.wrapping_mul(scale.bytes()));
        }
        Ok(address)
    }

    fn read_element(&self, address: i64, element: Element) -> Result<u32, Fault> {
        let bits = match element.bytes() {
            1 => u32::from(u8::from_le_bytes(self.arena.read(address)?)),
            2 => u32::from(u16::from_le_bytes(self.arena.read(address)?)),
            _ => u32::from_le_bytes(self.arena.read(address)?),
        };
        Ok(widen(bits, element))
    }

    fn write_element(&mut self, address: i64, element: Element, lane: u32) -> Result<(), Fault> {
        let bytes = narrow(lane, element).to_le_bytes();
        self.arena.write(address, &bytes[..element.bytes()])
    }

    fn source(&self, source: &Source) -> Result<Vec<u32>, Fault> {
        match source {
            Source::Reg(register) => self.vector(*register),
            Source::Const(bits) => Ok(vec![*bits; self.lanes]),
            Source::Broadcast(addr) => Ok(vec![self.read_element(self.address(addr)?, Element::F32)?; self.lanes]),
            Source::Memory(addr) => {
                let address = self.address(addr)?;
                (0..self.lanes).map(|lane| self.read_element(address + 4 * lane as i64, Element::F32)).collect()
            }
        }
    }

    /// Lanes below an optional count.
    fn active(&self, count: Option<IReg>) -> Result<usize, Fault> {
        match count {
            None => Ok(self.lanes),
            Some(count) => Ok(self.int(count)?.clamp(0, self.lanes as i64) as usize),
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), Fault> {
        for node in nodes {
            match node {
                Node::Op(op) => self.op(op)?,
                Node::Loop { count, counter, body } => {
                    let count = match count {
                        Count::Const(count) => *count,
                        Count::Reg(register) => self.int(*register)?,
                    };
                    for round in 0..count.max(0) {
                        self.set_int(*counter, round)?;
                        self.nodes(body)?;
                    }
                    *self.ints.get_mut(counter.0 as usize).ok_or(Fault::Malformed)? = None;
                }
            }
        }
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), Fault> {
        match op {
            Op::Arg { dst, index } => {
                let value = *self.args.get(*index as usize).ok_or(Fault::MissingArgument(*index))?;
                self.set_int(*dst, value)
            }
            Op::IntConst { dst, value } => self.set_int(*dst, *value),
            Op::IntCopy { dst, src } => self.set_int(*dst, self.int(*src)?),
            Op::Int { op, dst, a, b } => {
                let a = self.int(*a)?;
                let b = match b {
                    IntSource::Reg(b) => self.int(*b)?,
                    IntSource::Imm(value) => i64::from(*value),
                };
                let value = match op {
                    IntOp::Add => a.wrapping_add(b),
                    IntOp::Sub => a.wrapping_sub(b),
                    IntOp::Mul => a.wrapping_mul(b),
                    IntOp::Min => a.min(b),
                    IntOp::Max => a.max(b),
                    IntOp::And => a & b,
                };
                self.set_int(*dst, value)
            }
            Op::IntShift { dst, a, count } => {
                let a = self.int(*a)?;
                let amount = u32::from(count.unsigned_abs().min(63));
                self.set_int(*dst, if *count >= 0 { a << amount } else { a >> amount })
            }
            Op::LoadInt { dst, addr, wide } => {
                let address = self.address(addr)?;
                let value = if *wide {
                    i64::from_le_bytes(self.arena.read(address)?)
                } else {
                    i64::from(i32::from_le_bytes(self.arena.read(address)?))
                };
                self.set_int(*dst, value)
            }
            Op::Const { dst, bits } => self.set_vector(*dst, vec![*bits; self.lanes]),
            Op::Iota { dst } => {
                let value = (0..self.lanes as u16).map(|lane| f32::from(lane).to_bits()).collect();
                self.set_vector(*dst, value)
            }
            Op::Lanes { dst, words } => {
                if words.len() != self.lanes {
                    return Err(Fault::Malformed);
                }
                self.set_vector(*dst, words.clone())
            }
            Op::Lookup { dst, index, low, high } => {
                let (index, mut table) = (self.vector(*index)?, self.vector(*low)?);
                table.extend(self.vector(*high)?);
                let value = index.iter().map(|index| table[*index as usize % table.len()]).collect();
                self.set_vector(*dst, value)
            }
            Op::Copy { dst, src } => self.set_vector(*dst, self.vector(*src)?),
            Op::Unary { op, dst, a } => {
                let value = self.vector(*a)?.iter().map(|lane| unary(*op, *lane)).collect();
                self.set_vector(*dst, value)
            }
            Op::Binary { op, dst, a, b } => {
                let (a, b) = (self.vector(*a)?, self.source(b)?);
                self.set_vector(*dst, a.iter().zip(&b).map(|(a, b)| binary(*op, *a, *b)).collect())
            }
            Op::Fma { form, dst, a, b } => self.fma(*form, *dst, *a, b),
            Op::Shift { op, dst, a, count } => {
                let count = u32::from((*count).min(31));
                let shifted = |lane: &u32| match op {
                    ShiftOp::Left => lane << count,
                    ShiftOp::Logical => lane >> count,
                    ShiftOp::Arithmetic => (*lane as i32 >> count) as u32,
                };
                let value = self.vector(*a)?.iter().map(shifted).collect();
                self.set_vector(*dst, value)
            }
            Op::Scale2 { dst, a, n, .. } => {
                let (a, n) = (self.vector(*a)?, self.vector(*n)?);
                self.set_vector(*dst, a.iter().zip(&n).map(|(a, n)| scale2(*a, *n)).collect())
            }
            Op::Compare { condition, dst, a, b } => {
                let (a, b) = (self.vector(*a)?, self.source(b)?);
                self.set_mask(*dst, a.iter().zip(&b).map(|(a, b)| holds(*condition, *a, *b)).collect())
            }
            Op::FirstLanes { dst, count } => {
                let active = self.active(Some(*count))?;
                self.set_mask(*dst, (0..self.lanes).map(|lane| lane < active).collect())
            }
            Op::Mask { op, dst, a, b } => {
                let (a, b) = (self.mask(*a)?, self.mask(*b)?);
                let join = |(a, b): (&bool, &bool)| match op {
                    MaskOp::And => *a && *b,
                    MaskOp::Or => *a || *b,
                };
                self.set_mask(*dst, a.iter().zip(&b).map(join).collect())
            }
            Op::MaskNot { dst, a } => {
                let value = self.mask(*a)?.iter().map(|bit| !bit).collect();
                self.set_mask(*dst, value)
            }
            Op::Select { dst, mask, a, b } => {
                let (mask, a, b) = (self.mask(*mask)?, self.vector(*a)?, self.vector(*b)?);
                let value = (0..self.lanes).map(|lane| if mask[lane] { a[lane] } else { b[lane] }).collect();
                self.set_vector(*dst, value)
            }
            Op::Reduce { op, dst, a } => {
                let op = match op {
                    ReduceOp::Sum => BinaryOp::Add,
                    ReduceOp::Max => BinaryOp::Max,
                    ReduceOp::Min => BinaryOp::Min,
                };
                let mut value = self.vector(*a)?;
                let mut distance = self.lanes / 2;
                while distance > 0 {
                    value = (0..self.lanes).map(|l| binary(op, value[l], value[l ^ distance])).collect();
                    distance /= 2;
                }
                self.set_vector(*dst, value)
            }
            Op::Transpose { rows } => {
                if rows.len() != self.lanes {
                    return Err(Fault::Malformed);
                }
                let before = rows.iter().map(|row| self.vector(*row)).collect::<Result<Vec<_>, _>>()?;
                for (i, row) in rows.iter().enumerate() {
                    self.set_vector(*row, before.iter().map(|column| column[i]).collect())?;
                }
                Ok(())
            }
            Op::LaneSums { rows } => {
                if rows.len() != self.lanes {
                    return Err(Fault::Malformed);
                }
                let add = |a: u32, b: u32| binary(BinaryOp::Add, a, b);
                let mut sums = Vec::with_capacity(self.lanes);
                for row in rows {
                    let lanes = self.vector(*row)?;
                    let mut parts: Vec<u32> = lanes.chunks(4).map(|b| add(add(b[0], b[2]), add(b[1], b[3]))).collect();
                    while parts.len() > 1 {
                        parts = parts.chunks(2).map(|pair| add(pair[0], pair[1])).collect();
                    }
                    sums.push(parts[0]);
                }
                self.set_vector(rows[0], sums)
            }
            Op::DotBf16 { dst, a, b } => {
                let (sum, a, b) = (self.vector(*dst)?, self.vector(*a)?, self.source(b)?);
                let value = (0..self.lanes).map(|l| {
                    let low = f32::from_bits(a[l] << 16).mul_add(f32::from_bits(b[l] << 16), f32::from_bits(sum[l]));
                    let mask = 0xffff_0000;
                    f32::from_bits(a[l] & mask).mul_add(f32::from_bits(b[l] & mask), low).to_bits()
                });
                let value = value.collect();
                self.set_vector(*dst, value)
            }
            _ => self.memory_op(op),
        }
    }

    fn fma(&mut self, form: FmaForm, dst: VReg, a: VReg, b: &Source) -> Result<(), Fault> {
        let (d, a, b) = (self.vector(dst)?, self.vector(a)?, self.source(b)?);
        let value = (0..self.lanes).map(|lane| {
            let (d, a, b) = (f32::from_bits(d[lane]), f32::from_bits(a[lane]), f32::from_bits(b[lane]));
            let result = match form {
                FmaForm::Accumulate => a.mul_add(b, d),
                FmaForm::Subtract => (-a).mul_add(b, d),
                FmaForm::Horner => d.mul_add(a, b),
                FmaForm::HornerSub => d.mul_add(a, -b),
                FmaForm::HornerNeg => (-d).mul_add(a, b),
            };
            result.to_bits()
        });
        let value = value.collect();
        self.set_vector(dst, value)
    }

    fn memory_op(&mut self, op: &Op) -> Result<(), Fault> {
        let count = |tail: &Option<Tail>| tail.map(|tail| tail.count);
        match op {
            Op::Load { dst, addr, element, tail } => {
                self.load_lanes(*dst, self.address(addr)?, element.bytes() as i64, *element, count(tail))
            }
            Op::Store { src, addr, element, tail } => {
                self.store_lanes(*src, self.address(addr)?, element.bytes() as i64, *element, count(tail))
            }
            Op::Broadcast { dst, addr, element } => {
                let lane = self.read_element(self.address(addr)?, *element)?;
                self.set_vector(*dst, vec![lane; self.lanes])
            }
            Op::StoreLane { src, addr, element } => {
                let lane = self.vector(*src)?[0];
                self.write_element(self.address(addr)?, *element, lane)
            }
            Op::StoreStream { src, addr } => {
                let address = self.address(addr)?;
                if address % (4 * self.lanes as i64) != 0 {
                    return Err(Fault::Misaligned(address));
                }
                self.store_lanes(*src, address, 4, Element::F32, None)
            }
            Op::LoadStrided { dst, addr, stride, element, limit } => {
                self.load_lanes(*dst, self.address(addr)?, self.int(*stride)?, *element, *limit)
            }
            Op::StoreStrided { src, addr, stride, element, limit } => {
                self.store_lanes(*src, self.address(addr)?, self.int(*stride)?, *element, *limit)
            }
            Op::Prefetch { addr } => self.address(addr).map(|_| ()),
            _ => Err(Fault::Malformed),
        }
    }

    fn load_lanes(
        &mut self,
        dst: VReg,
        address: i64,
        stride: i64,
        element: Element,
        limit: Option<IReg>,
    ) -> Result<(), Fault> {
        let mut value = vec![0; self.lanes];
        for (lane, slot) in value.iter_mut().enumerate().take(self.active(limit)?) {
            *slot = self.read_element(address.wrapping_add(stride.wrapping_mul(lane as i64)), element)?;
        }
        self.set_vector(dst, value)
    }

    fn store_lanes(
        &mut self,
        src: VReg,
        address: i64,
        stride: i64,
        element: Element,
        limit: Option<IReg>,
    ) -> Result<(), Fault> {
        let value = self.vector(src)?;
        for (lane, bits) in value.iter().enumerate().take(self.active(limit)?) {
            self.write_element(address.wrapping_add(stride.wrapping_mul(lane as i64)), element, *bits)?;
        }
        Ok(())
    }
}
