//! Random kernels: what the code does to memory is what the interpreter does.

use super::*;
use crate::cpu::vkir::interpret;

const FLOATS: i64 = 0;
const MODERATE: i64 = 8192;
const NARROW: i64 = 16384;
const OUT: i64 = 24576;
const SLOT: i64 = 512;
const SLOTS: usize = 48;
const BYTES: usize = OUT as usize + SLOTS * SLOT as usize;

/// What a slot of the output holds, for comparing it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Float(Element),
    Bits,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: i64,
    content: Content,
    stride: i64,
}

struct Generator<'a> {
    b: Builder,
    rng: &'a mut Rng,
    floats: Vec<VReg>,
    lanes: Vec<VReg>,
    masks: Vec<MReg>,
    counts: Vec<IReg>,
    offsets: Vec<IReg>,
    tails: Vec<Tail>,
    pointers: [IReg; 3],
    out: IReg,
    walker: IReg,
    slots: Vec<Slot>,
    fma: bool,
    depth: usize,
}

const ARITHMETIC: [BinaryOp; 6] =
    [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Max, BinaryOp::Min];
const LOGIC: [BinaryOp; 5] = [BinaryOp::IntAdd, BinaryOp::IntSub, BinaryOp::And, BinaryOp::Or, BinaryOp::Xor];
const UNARY: [UnaryOp; 7] =
    [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Trunc, UnaryOp::Nearest];
const FORMS: [FmaForm; 5] =
    [FmaForm::Accumulate, FmaForm::Subtract, FmaForm::Horner, FmaForm::HornerSub, FmaForm::HornerNeg];
const CONDITIONS: [Condition; 6] =
    [Condition::Eq, Condition::Ne, Condition::Lt, Condition::Le, Condition::Gt, Condition::Ge];
const ELEMENTS: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];
const CONSTANTS: [f32; 6] = [0.0, -0.0, 1.0, -2.5, f32::INFINITY, 3.0e-39];
const KEEP: usize = 4;

fn keep<T>(pool: &mut Vec<T>, item: T, rng: &mut Rng) {
    if pool.len() < KEEP {
        pool.push(item);
    } else {
        let at = rng.below(pool.len());
        pool[at] = item;
    }
}

impl Generator<'_> {
    fn address(&mut self, region: usize) -> Addr {
        let base = if region == 0 && self.rng.below(3) == 0 { self.walker } else { self.pointers[region] };
        let addr = Addr::new(base).offset(self.rng.below(1024) as i32);
        match self.rng.below(3) {
            0 => addr,
            _ => {
                let scale = self.rng.pick(&[Scale::One, Scale::Two, Scale::Four, Scale::Eight]);
                addr.indexed(self.rng.pick(&self.offsets), scale)
            }
        }
    }

    fn aligned_address(&mut self, region: usize) -> Addr {
        let addr = self.address(region);
        Addr { displacement: addr.displacement & !3, index: None, ..addr }
    }

    fn source(&mut self) -> Source {
        match self.rng.below(6) {
            0 => Source::from(self.rng.pick(&CONSTANTS)),
            1 => Source::Memory(self.aligned_address(0)),
            2 => Source::Broadcast(self.aligned_address(0)),
            _ => Source::Reg(self.rng.pick(&self.floats)),
        }
    }

    fn slot(&mut self, content: Content, stride: i64) -> Option<Addr> {
        if self.slots.len() == SLOTS {
            return None;
        }
        let offset = self.slots.len() as i64 * SLOT;
        self.slots.push(Slot { offset: OUT + offset, content, stride });
        Some(Addr::new(self.out).offset(offset as i32))
    }

    fn tail(&mut self) -> Option<Tail> {
        if self.rng.below(2) == 0 || self.tails.is_empty() { None } else { Some(self.rng.pick(&self.tails)) }
    }

    fn limit(&mut self) -> Option<IReg> {
        if self.rng.below(2) == 0 { None } else { Some(self.rng.pick(&self.counts)) }
    }

    fn keep_float(&mut self, register: VReg) {
        keep(&mut self.floats, register, self.rng);
    }

    fn step(&mut self) {
        let float = self.rng.pick(&self.floats);
        let lane = self.rng.pick(&self.lanes);
        match self.rng.below(25) {
            0..3 => {
                let (op, b) = (self.rng.pick(&ARITHMETIC), self.source());
                let result = self.b.binary(op, float, b);
                self.keep_float(result);
            }
            3 => {
                let (op, b, dst) = (self.rng.pick(&ARITHMETIC), self.source(), self.rng.pick(&self.floats));
                self.b.binary_to(dst, op, float, b);
            }
            4..7 if self.fma => {
                let (form, b, dst) = (self.rng.pick(&FORMS), self.source(), self.rng.pick(&self.floats));
                self.b.fma_form(form, dst, float, b);
            }
            7 => {
                let op = self.rng.pick(&UNARY);
                let result = self.b.unary(op, float);
                self.keep_float(result);
            }
            8 => {
                let other = self.rng.pick(&self.lanes);
                let op = self.rng.pick(&LOGIC);
                let result = self.b.binary(op, lane, other);
                keep(&mut self.lanes, result, self.rng);
            }
            9 => {
                let (op, count) =
                    (self.rng.pick(&[ShiftOp::Left, ShiftOp::Logical, ShiftOp::Arithmetic]), self.rng.below(32));
                let result = self.b.shift(op, lane, count as u8);
                keep(&mut self.lanes, result, self.rng);
            }
            10 => {
                let (condition, b) = (self.rng.pick(&CONDITIONS), self.source());
                let mask = self.b.compare(condition, float, b);
                keep(&mut self.masks, mask, self.rng);
            }
            11 if !self.masks.is_empty() => {
                let (a, b) = (self.rng.pick(&self.masks), self.rng.pick(&self.masks));
                let mask = match self.rng.below(3) {
                    0 => self.b.mask_and(a, b),
                    1 => self.b.mask_or(a, b),
                    _ => self.b.mask_not(a),
                };
                keep(&mut self.masks, mask, self.rng);
            }
            12 if !self.masks.is_empty() => {
                let (mask, other) = (self.rng.pick(&self.masks), self.rng.pick(&self.floats));
                let result = self.b.select(mask, float, other);
                self.keep_float(result);
            }
            13 => {
                let op = self.rng.pick(&[ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min]);
                let result = self.b.reduce(op, float);
                self.keep_float(result);
            }
            14 => {
                let addr = self.aligned_address(1);
                let x = self.b.load(addr);
                let n = self.b.constant((self.rng.below(601) as f32) - 300.0);
                let result = self.b.scale2(x, n);
                self.keep_float(result);
            }
            15 => {
                let addr = self.aligned_address(1);
                let x = self.b.load(addr);
                let n = self.b.constant((self.rng.below(505) as f32) - 252.0);
                let result = self.b.scale2_narrow(x, n);
                self.keep_float(result);
            }
            16 => {
                let addr = self.aligned_address(1);
                let x = self.b.load(addr);
                let result = self.b.unary(UnaryOp::ToInt, x);
                keep(&mut self.lanes, result, self.rng);
            }
            17 => {
                let result = self.b.unary(UnaryOp::ToFloat, lane);
                self.keep_float(result);
            }
            18 => {
                let (element, tail) = (self.rng.pick(&ELEMENTS), self.tail());
                let addr = self.address(if element == Element::F32 { 0 } else { 2 });
                let result = self.b.load_as(addr, element, tail);
                self.keep_float(result);
            }
            19 => {
                let element = self.rng.pick(&ELEMENTS);
                let addr = self.address(if element == Element::F32 { 0 } else { 2 });
                let result = self.b.broadcast(addr, element);
                self.keep_float(result);
            }
            20 => {
                let (addr, tail) = (self.address(2), self.tail());
                let result = self.b.load_as(addr, Element::U8, tail);
                keep(&mut self.lanes, result, self.rng);
                let addr = self.address(2);
                let result = self.b.broadcast(addr, Element::U8);
                keep(&mut self.lanes, result, self.rng);
            }
            21 => {
                let (element, limit, addr) = (self.rng.pick(&ELEMENTS), self.limit(), self.address(2));
                let stride = self.b.int(self.rng.below(40) as i64 - 4);
                let result = self.b.load_strided(addr, stride, element, limit);
                self.keep_float(result);
            }
            22 => {
                let element = self.rng.pick(&ELEMENTS);
                let bytes = self.rng.below(4) as i64 * 8 + 4;
                let limit = self.limit();
                if let Some(addr) = self.slot(Content::Float(element), bytes) {
                    let stride = self.b.int(bytes);
                    self.b.store_strided(float, addr, stride, element, limit);
                }
            }
            23 if self.rng.below(2) == 0 => {
                let words: Vec<u32> = (0..self.b.lanes()).map(|_| self.rng.next() as u32).collect();
                let (low, high) = (self.b.lane_constants(&words), self.rng.pick(&self.lanes));
                let result = self.b.lookup(lane, low, high);
                keep(&mut self.lanes, result, self.rng);
            }
            23 => self.integers(),
            _ => self.store(float, lane),
        }
    }

    fn store(&mut self, float: VReg, lane: VReg) {
        let element = self.rng.pick(&ELEMENTS);
        let content = Content::Float(element);
        match self.rng.below(5) {
            0 => {
                let tail = self.tail();
                if let Some(addr) = self.slot(Content::Bits, 4) {
                    self.b.store_as(lane, addr, Element::F32, tail);
                }
            }
            1 => {
                let tail = self.tail();
                if let Some(addr) = self.slot(Content::Bits, 1) {
                    self.b.store_as(lane, addr, Element::U8, tail);
                }
            }
            2 => {
                if let Some(addr) = self.slot(content, element.bytes() as i64) {
                    self.b.store_lane(float, addr, element);
                }
                if let Some(addr) = self.slot(Content::Float(Element::F32), 4) {
                    self.b.store_stream(float, addr);
                }
            }
            _ => {
                let tail = self.tail();
                if let Some(addr) = self.slot(content, element.bytes() as i64) {
                    self.b.store_as(float, addr, element, tail);
                }
            }
        }
    }

    fn integers(&mut self) {
        let (a, b) = (self.rng.pick(&self.counts), self.rng.pick(&self.offsets));
        let op = self.rng.pick(&[IntOp::Add, IntOp::Sub, IntOp::Mul, IntOp::Min, IntOp::Max, IntOp::And]);
        let dst = self.b.int_register();
        let value = self.rng.below(9) as i32 - 2;
        match self.rng.below(4) {
            0 => self.b.int_op_to(dst, op, a, b),
            1 => self.b.int_op_to(dst, op, b, a),
            2 => self.b.int_op_to(dst, op, a, value),
            _ => {
                let shifted = self.b.int_shift(a, value as i8);
                self.b.int_op_to(dst, IntOp::Add, shifted, shifted);
            }
        }
        // as a count, bounded so that loops stay short, and seen through memory
        let small = self.b.int_min(dst, 3);
        keep(&mut self.counts, small, self.rng);
        let low = self.b.int_op(IntOp::And, dst, 31);
        keep(&mut self.offsets, low, self.rng);
    }

    fn block(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.depth < 3 && self.rng.below(9) == 0 {
                let count = match self.rng.below(3) {
                    0 => Count::Const(self.rng.below(4) as i64),
                    _ => Count::Reg(self.rng.pick(&self.counts)),
                };
                self.nest(count);
            } else {
                self.step();
            }
        }
    }

    /// A loop; what its body makes fresh is gone after it, since it may not run.
    fn nest(&mut self, count: Count) {
        let saved = (
            self.floats.clone(),
            self.lanes.clone(),
            self.masks.clone(),
            self.counts.clone(),
            self.offsets.clone(),
            self.tails.clone(),
        );
        let inner = self.rng.below(6) + 1;
        // the closure of the builder needs the builder inside the generator
        let placeholder = Builder::new("", self.b.isa(), 0);
        let mut b = std::mem::replace(&mut self.b, placeholder);
        b.loop_(count, |b, counter| {
            std::mem::swap(&mut self.b, b);
            self.depth += 1;
            if self.rng.below(2) == 0 {
                keep(&mut self.offsets, counter, self.rng);
            }
            self.b.advance(self.walker, 4);
            self.block(inner);
            self.depth -= 1;
            std::mem::swap(&mut self.b, b);
        });
        self.b = b;
        (self.floats, self.lanes, self.masks, self.counts, self.offsets, self.tails) = saved;
    }
}

/// A random kernel of seven arguments: three input regions, the output, two counts of loops and one of lanes.
fn generate(rng: &mut Rng, isa: Isa, fma: bool) -> (Kernel, Vec<Slot>) {
    let mut b = Builder::new("random", isa, 7);
    let pointers = [b.arg(0), b.arg(1), b.arg(2)];
    let out = b.arg(3);
    let walker = b.int_copy(pointers[0]);
    let counts = vec![b.arg(4), b.arg(5)];
    let offsets = vec![b.int(8), b.int(12)];
    let lengths = b.arg(6);
    let tails = vec![b.tail(counts[0]), b.tail(lengths)];
    let floats = vec![b.load(Addr::new(pointers[0])), b.iota(), b.constant(1.5)];
    let lanes = vec![b.load(Addr::new(pointers[2])), b.constant_bits(0x1234_5678)];
    let mut generator = Generator {
        b,
        rng,
        floats,
        lanes,
        masks: Vec::new(),
        counts,
        offsets,
        tails,
        pointers,
        out,
        walker,
        slots: Vec::new(),
        fma,
        depth: 0,
    };
    let steps = generator.rng.below(30) + 2;
    generator.block(steps);
    for register in generator.floats.clone() {
        if let Some(addr) = generator.slot(Content::Float(Element::F32), 4) {
            generator.b.store(register, addr);
        }
    }
    for register in generator.lanes.clone() {
        if let Some(addr) = generator.slot(Content::Bits, 4) {
            generator.b.store(register, addr);
        }
    }
    (generator.b.finish(), generator.slots)
}

fn fill(rng: &mut Rng, memory: &mut Aligned) {
    let bytes = memory.bytes();
    for chunk in bytes.chunks_exact_mut(4) {
        chunk.copy_from_slice(&(rng.next() as u32).to_le_bytes());
    }
    for (i, chunk) in bytes[..NARROW as usize].chunks_exact_mut(4).enumerate() {
        let special = i < 2048 && rng.below(12) == 0;
        let value = if special {
            rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0e-40, 3.0e38, 0.5, -1.5])
        } else {
            (rng.unit() - 0.5) * rng.pick(&[2.0, 20.0, 3000.0])
        };
        chunk.copy_from_slice(&value.to_le_bytes());
    }
}

/// Whether two stored elements count as the same.
fn same(content: Content, want: &[u8], got: &[u8]) -> bool {
    if want == got {
        return true;
    }
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    match content {
        Content::Bits => false,
        Content::Float(Element::F32) => {
            let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            value(want).is_nan() && value(got).is_nan()
        }
        Content::Float(Element::Bf16) => {
            let (want, got) = (half(want), half(got));
            let nan = |bits: u16| bits & 0x7fff > 0x7f80;
            // the hardware's rounding takes subnormals for zeros
            let flushed = want & 0x7fff <= 0x80 && got & 0x7fff == 0 && (want ^ got) & 0x8000 == 0;
            (nan(want) && nan(got)) || flushed
        }
        Content::Float(_) => {
            let nan = |bits: u16| bits & 0x7fff > 0x7c00;
            nan(half(want)) && nan(half(got))
        }
    }
}

fn difference(lanes: usize, slots: &[Slot], want: &[u8], got: &[u8]) -> Option<String> {
    let mut checked = vec![false; want.len()];
    for slot in slots {
        let width = match slot.content {
            Content::Float(element) => element.bytes(),
            Content::Bits => slot.stride as usize,
        };
        for lane in 0..lanes {
            let at = (slot.offset + slot.stride * lane as i64) as usize;
            checked[at..at + width].fill(true);
            if !same(slot.content, &want[at..at + width], &got[at..at + width]) {
                let (want, got) = (&want[at..at + width], &got[at..at + width]);
                return Some(format!("{slot:?} lane {lane}: want {want:02x?}, got {got:02x?}"));
            }
        }
    }
    let at = (0..want.len()).find(|&at| !checked[at] && want[at] != got[at])?;
    Some(format!("byte {at} was touched"))
}

enum Outcome {
    Agree,
    Differ(String),
    Skipped,
}

/// Runs the interpreter on `kernel` and the code of `emitted` (the same, unless a fault is planted).
fn compare(target: &Target, kernel: &Kernel, emitted: &Kernel, slots: &[Slot], rng: &mut Rng) -> Outcome {
    let compiled = match compile(target, emitted) {
        Ok(compiled) => compiled,
        Err(CodeError::Emit(EmitError::OutOfRegisters(_))) => return Outcome::Skipped,
        Err(error) => panic!("{error}\n{emitted:#?}"),
    };
    let mut memory = Aligned::new(BYTES);
    fill(rng, &mut memory);
    let base = memory.base();
    let mut expected = memory.clone();
    let counts = [rng.below(5) as i64 - 1, rng.below(20) as i64 - 2];
    let regions = [base + FLOATS, base + MODERATE, base + NARROW, base + OUT];
    let args = [regions[0], regions[1], regions[2], regions[3], counts[0], counts[1].min(4), counts[1]];
    let result = interpret(kernel, &args, &mut Arena { base, bytes: expected.bytes() });
    match result {
        Ok(()) => {}
        Err(Fault::OutOfBounds { .. }) => return Outcome::Skipped,
        Err(fault) => panic!("{fault}\n{kernel:#?}"),
    }
    // SAFETY: the interpreter found every access of the kernel inside the arena.
    unsafe { compiled.call(&args) };
    match difference(kernel.lanes, slots, expected.bytes(), memory.bytes()) {
        None => Outcome::Agree,
        Some(what) => Outcome::Differ(what),
    }
}

#[test]
fn random_kernels_agree_with_the_interpreter() {
    for target in targets() {
        let (mut agreed, rounds) = (0, 300);
        for seed in 0..rounds {
            let mut rng = Rng::new(seed);
            let (kernel, slots) = generate(&mut rng, target.isa(), target.fused());
            match compare(&target, &kernel, &kernel, &slots, &mut rng) {
                Outcome::Agree => agreed += 1,
                Outcome::Skipped => {}
                Outcome::Differ(what) => {
                    panic!("{} {:?}, seed {seed}: {what}\n{kernel:?}", target.name(), target.isa())
                }
            }
        }
        assert!(agreed > rounds * 2 / 3, "{:?}: only {agreed} of {rounds} kernels were comparable", target.isa());
    }
}

/// Replaces the first operation that `replace` knows.
fn plant(nodes: &mut [Node], replace: &dyn Fn(&Op) -> Option<Op>) -> bool {
    for node in nodes {
        match node {
            Node::Op(op) => {
                if let Some(wrong) = replace(op) {
                    *op = wrong;
                    return true;
                }
            }
            Node::Loop { .. } => {}
        }
    }
    false
}

#[test]
fn a_planted_fault_is_caught() {
    let faults: [&dyn Fn(&Op) -> Option<Op>; 4] = [
        &|op| match *op {
            Op::Binary { op: BinaryOp::Add, dst, a, b } => Some(Op::Binary { op: BinaryOp::Sub, dst, a, b }),
            _ => None,
        },
        &|op| match *op {
            Op::Compare { condition: Condition::Lt, dst, a, b } => {
                Some(Op::Compare { condition: Condition::Ge, dst, a, b })
            }
            _ => None,
        },
        &|op| match *op {
            Op::Store { src, addr, element: Element::F16, tail } => {
                Some(Op::Store { src, addr, element: Element::Bf16, tail })
            }
            _ => None,
        },
        &|op| match *op {
            Op::Shift { op: ShiftOp::Logical, dst, a, count } => {
                Some(Op::Shift { op: ShiftOp::Arithmetic, dst, a, count })
            }
            _ => None,
        },
    ];
    for target in targets() {
        for (number, fault) in faults.iter().enumerate() {
            let caught = (0..400).any(|seed| {
                let mut rng = Rng::new(seed);
                let (kernel, slots) = generate(&mut rng, target.isa(), target.fused());
                let mut wrong = kernel.clone();
                plant(&mut wrong.body, fault)
                    && matches!(compare(&target, &kernel, &wrong, &slots, &mut rng), Outcome::Differ(_))
            });
            assert!(caught, "{:?}: fault {number} passes", target.isa());
        }
    }
}

#[test]
fn a_wrong_opcode_byte_is_caught() {
    let mut b = Builder::new("sum", Isa::Avx2, 2);
    let (x, y) = (b.arg(0), b.arg(1));
    let left = b.load(Addr::new(x));
    let sum = b.add(left, Source::Memory(Addr::new(x)));
    b.store(sum, Addr::new(y));
    let kernel = b.finish();
    let Some(target) = Target::native().with_isa(Isa::Avx2) else { return };
    let mut bytes = emit(&kernel, Isa::Avx2).unwrap();
    // vaddps has opcode 58, vsubps 5c, in the two-byte VEX map
    let at = bytes.windows(4).position(|w| w[0] == 0xc5 && w[2] == 0x58).unwrap();
    for wrong in [false, true] {
        if wrong {
            bytes[at + 2] = 0x5c;
        }
        let mut module = JitModule::new(&target, &[]).unwrap();
        let function = define_raw(module.module(), "sum", Linkage::Local, &bytes).unwrap();
        let compiled = Compiled { code: module.finish().unwrap(), function };
        let (input, mut output) = ([1.5f32; 8], [0.0f32; 8]);
        // SAFETY: both arrays have the eight lanes that the kernel touches.
        unsafe { compiled.call(&[input.as_ptr() as i64, output.as_mut_ptr() as i64]) };
        assert_eq!(output == [3.0; 8], !wrong);
    }
}

/// A random kernel for tests that only need one of any kind.
pub(super) fn sample(rng: &mut Rng, isa: Isa) -> Kernel {
    generate(rng, isa, true).0
}
