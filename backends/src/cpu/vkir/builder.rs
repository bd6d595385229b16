//! Builds kernels step by step.
//!
//! Methods that return a register make a fresh one; `..._to` methods and the multiply-adds write a given one.

use super::ir::{
    Addr, BinaryOp, Condition, Count, Element, FmaForm, IReg, IntOp, IntSource, Isa, Kernel, MReg, MaskOp, Node, Op,
    ReduceOp, ShiftOp, Source, Tail, UnaryOp, VReg,
};
use super::references::{Access, AnyReg, references};

/// A kernel under construction.
#[derive(Debug)]
pub struct Builder {
    isa: Isa,
    name: String,
    args: usize,
    ints: u32,
    vectors: u32,
    masks: u32,
    body: Vec<Node>,
}

/// Whether `nodes` write the integer register.
fn writes(nodes: &[Node], register: IReg) -> bool {
    nodes.iter().any(|node| match node {
        Node::Op(op) => {
            let mut written = false;
            references(op, Isa::Clif, &mut |mentioned, access| {
                written |= mentioned == AnyReg::Int(register) && access != Access::Use;
            });
            written
        }
        Node::Loop { counter, body, .. } => *counter == register || writes(body, register),
    })
}

impl Builder {
    /// An empty kernel with `args` argument slots, for the lane count of `isa`.
    pub fn new(name: &str, isa: Isa, args: usize) -> Builder {
        Builder { isa, name: name.to_owned(), args, ints: 0, vectors: 0, masks: 0, body: Vec::new() }
    }

    /// The finished kernel.
    pub fn finish(self) -> Kernel {
        Kernel {
            name: self.name,
            args: self.args,
            lanes: self.isa.lanes(),
            ints: self.ints,
            vectors: self.vectors,
            masks: self.masks,
            body: self.body,
        }
    }

    /// The instruction set that the kernel is built for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// 32-bit lanes in a vector register.
    pub fn lanes(&self) -> usize {
        self.isa.lanes()
    }

    /// Appends an operation made by hand.
    pub fn push(&mut self, op: Op) {
        self.body.push(Node::Op(op));
    }

    /// A fresh integer register, without a value.
    pub fn int_register(&mut self) -> IReg {
        self.ints += 1;
        IReg(self.ints - 1)
    }

    /// A fresh vector register, without a value.
    pub fn vector_register(&mut self) -> VReg {
        self.vectors += 1;
        VReg(self.vectors - 1)
    }

    /// A fresh mask register, without a value.
    pub fn mask_register(&mut self) -> MReg {
        self.masks += 1;
        MReg(self.masks - 1)
    }

    // ---- integers ----

    /// Argument slot `index`.
    pub fn arg(&mut self, index: usize) -> IReg {
        let dst = self.int_register();
        self.push(Op::Arg { dst, index: index as u32 });
        dst
    }

    /// An integer constant.
    pub fn int(&mut self, value: i64) -> IReg {
        let dst = self.int_register();
        self.push(Op::IntConst { dst, value });
        dst
    }

    /// A copy of an integer.
    pub fn int_copy(&mut self, src: IReg) -> IReg {
        let dst = self.int_register();
        self.push(Op::IntCopy { dst, src });
        dst
    }

    /// `dst = a op b`
    pub fn int_op_to(&mut self, dst: IReg, op: IntOp, a: IReg, b: impl Into<IntSource>) {
        self.push(Op::Int { op, dst, a, b: b.into() });
    }

    /// `a op b`
    pub fn int_op(&mut self, op: IntOp, a: IReg, b: impl Into<IntSource>) -> IReg {
        let dst = self.int_register();
        self.int_op_to(dst, op, a, b);
        dst
    }

    /// `a + b`
    pub fn int_add(&mut self, a: IReg, b: impl Into<IntSource>) -> IReg {
        self.int_op(IntOp::Add, a, b)
    }

    /// `a - b`
    pub fn int_sub(&mut self, a: IReg, b: impl Into<IntSource>) -> IReg {
        self.int_op(IntOp::Sub, a, b)
    }

    /// `a * b`
    pub fn int_mul(&mut self, a: IReg, b: impl Into<IntSource>) -> IReg {
        self.int_op(IntOp::Mul, a, b)
    }

    /// The smaller, signed.
    pub fn int_min(&mut self, a: IReg, b: impl Into<IntSource>) -> IReg {
        self.int_op(IntOp::Min, a, b)
    }

    /// The larger, signed.
    pub fn int_max(&mut self, a: IReg, b: impl Into<IntSource>) -> IReg {
        self.int_op(IntOp::Max, a, b)
    }

    /// `a += b`: the usual step of a pointer.
    pub fn advance(&mut self, a: IReg, b: impl Into<IntSource>) {
        self.int_op_to(a, IntOp::Add, a, b);
    }

    /// `a << count`, or `a >> -count` with the sign kept; |count| below 64.
    pub fn int_shift(&mut self, a: IReg, count: i8) -> IReg {
        let dst = self.int_register();
        self.push(Op::IntShift { dst, a, count });
        dst
    }

    /// The i32 at `addr`, sign-extended.
    pub fn load_i32(&mut self, addr: Addr) -> IReg {
        let dst = self.int_register();
        self.push(Op::LoadInt { dst, addr, wide: false });
        dst
    }

    /// The i64 at `addr`.
    pub fn load_i64(&mut self, addr: Addr) -> IReg {
        let dst = self.int_register();
        self.push(Op::LoadInt { dst, addr, wide: true });
        dst
    }

    /// Runs `body` for counter = 0, 1, ..., count - 1.
    pub fn loop_(&mut self, count: impl Into<Count>, body: impl FnOnce(&mut Builder, IReg)) {
        let mut count = count.into();
        let counter = self.int_register();
        let outer = std::mem::take(&mut self.body);
        body(self, counter);
        let inner = std::mem::replace(&mut self.body, outer);
        if let Count::Reg(register) = count
            && writes(&inner, register)
        {
            count = Count::Reg(self.int_copy(register));
        }
        self.body.push(Node::Loop { count, counter, body: inner });
    }

    /// Runs `body` once if `value` is positive.
    pub fn if_positive(&mut self, value: IReg, body: impl FnOnce(&mut Builder)) {
        let once = self.int_min(value, 1);
        self.loop_(once, |b, _| body(b));
    }

    // ---- vectors ----

    /// The same f32 in all lanes.
    pub fn constant(&mut self, value: f32) -> VReg {
        self.constant_bits(value.to_bits())
    }

    /// The same 32 bits in all lanes.
    pub fn constant_bits(&mut self, bits: u32) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Const { dst, bits });
        dst
    }

    /// 0.0, 1.0, ..., W-1.
    pub fn iota(&mut self) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Iota { dst });
        dst
    }

    /// A constant of its own in each lane; `words` are W.
    pub fn lane_constants(&mut self, words: &[u32]) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Lanes { dst, words: words.to_vec() });
        dst
    }

    /// Words `index mod 2 W` of the table that `low` and `high` hold.
    pub fn lookup(&mut self, index: VReg, low: VReg, high: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Lookup { dst, index, low, high });
        dst
    }

    /// A copy of a vector.
    pub fn copy(&mut self, src: VReg) -> VReg {
        let dst = self.vector_register();
        self.copy_to(dst, src);
        dst
    }

    /// `dst = src`
    pub fn copy_to(&mut self, dst: VReg, src: VReg) {
        self.push(Op::Copy { dst, src });
    }

    /// `op a`
    pub fn unary(&mut self, op: UnaryOp, a: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Unary { op, dst, a });
        dst
    }

    /// `a op b`
    pub fn binary(&mut self, op: BinaryOp, a: VReg, b: impl Into<Source>) -> VReg {
        let dst = self.vector_register();
        self.binary_to(dst, op, a, b);
        dst
    }

    /// `dst = a op b`
    pub fn binary_to(&mut self, dst: VReg, op: BinaryOp, a: VReg, b: impl Into<Source>) {
        self.push(Op::Binary { op, dst, a, b: b.into() });
    }

    /// `a + b`
    pub fn add(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Add, a, b)
    }

    /// `a - b`
    pub fn sub(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// `a * b`
    pub fn mul(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// `a / b`
    pub fn div(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Div, a, b)
    }

    /// `a > b ? a : b`
    pub fn max(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Max, a, b)
    }

    /// `a < b ? a : b`
    pub fn min(&mut self, a: VReg, b: impl Into<Source>) -> VReg {
        self.binary(BinaryOp::Min, a, b)
    }

    /// `-a`
    pub fn neg(&mut self, a: VReg) -> VReg {
        self.unary(UnaryOp::Neg, a)
    }

    /// `|a|`
    pub fn abs(&mut self, a: VReg) -> VReg {
        self.unary(UnaryOp::Abs, a)
    }

    /// The square root.
    pub fn sqrt(&mut self, a: VReg) -> VReg {
        self.unary(UnaryOp::Sqrt, a)
    }

    /// The nearest integral value, ties to even.
    pub fn nearest(&mut self, a: VReg) -> VReg {
        self.unary(UnaryOp::Nearest, a)
    }

    /// A multiply-add into `dst`.
    pub fn fma_form(&mut self, form: FmaForm, dst: VReg, a: VReg, b: impl Into<Source>) {
        self.push(Op::Fma { form, dst, a, b: b.into() });
    }

    /// `acc += a * b`
    pub fn fma(&mut self, acc: VReg, a: VReg, b: impl Into<Source>) {
        self.fma_form(FmaForm::Accumulate, acc, a, b);
    }

    /// `acc -= a * b`
    pub fn fnma(&mut self, acc: VReg, a: VReg, b: impl Into<Source>) {
        self.fma_form(FmaForm::Subtract, acc, a, b);
    }

    /// `x = x * a + b`
    pub fn horner(&mut self, x: VReg, a: VReg, b: impl Into<Source>) {
        self.fma_form(FmaForm::Horner, x, a, b);
    }

    /// The polynomial in x whose coefficients are given, the highest power's first.
    pub fn polynomial(&mut self, x: VReg, coefficients: &[f32]) -> VReg {
        let Some((first, rest)) = coefficients.split_first() else { return self.constant(0.0) };
        let sum = self.constant(*first);
        for coefficient in rest {
            self.horner(sum, x, *coefficient);
        }
        sum
    }

    /// `acc += a.low * b.low + a.high * b.high` over pairs of bf16.
    pub fn dot_bf16(&mut self, acc: VReg, a: VReg, b: impl Into<Source>) {
        self.push(Op::DotBf16 { dst: acc, a, b: b.into() });
    }

    /// Lane shift by a constant below 32.
    pub fn shift(&mut self, op: ShiftOp, a: VReg, count: u8) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Shift { op, dst, a, count });
        dst
    }

    /// `a * 2^n` (see [`Op::Scale2`]).
    pub fn scale2(&mut self, a: VReg, n: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Scale2 { dst, a, n, narrow: false });
        dst
    }

    /// `a * 2^n` for n in -252..=252.
    pub fn scale2_narrow(&mut self, a: VReg, n: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Scale2 { dst, a, n, narrow: true });
        dst
    }

    /// The reduction of all lanes, in all lanes.
    pub fn reduce(&mut self, op: ReduceOp, a: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Reduce { op, dst, a });
        dst
    }

    /// Transposes W registers of W lanes in place.
    pub fn transpose(&mut self, rows: &[VReg]) {
        self.push(Op::Transpose { rows: rows.to_vec() });
    }

    /// The sums of the lanes of W registers, which are overwritten: lane i that of register i.
    pub fn lane_sums(&mut self, rows: &[VReg]) -> VReg {
        self.push(Op::LaneSums { rows: rows.to_vec() });
        rows[0]
    }

    // ---- masks ----

    /// `a condition b` lane by lane.
    pub fn compare(&mut self, condition: Condition, a: VReg, b: impl Into<Source>) -> MReg {
        let dst = self.mask_register();
        self.push(Op::Compare { condition, dst, a, b: b.into() });
        dst
    }

    /// Both masks.
    pub fn mask_and(&mut self, a: MReg, b: MReg) -> MReg {
        let dst = self.mask_register();
        self.push(Op::Mask { op: MaskOp::And, dst, a, b });
        dst
    }

    /// Either mask.
    pub fn mask_or(&mut self, a: MReg, b: MReg) -> MReg {
        let dst = self.mask_register();
        self.push(Op::Mask { op: MaskOp::Or, dst, a, b });
        dst
    }

    /// The other lanes.
    pub fn mask_not(&mut self, a: MReg) -> MReg {
        let dst = self.mask_register();
        self.push(Op::MaskNot { dst, a });
        dst
    }

    /// `mask ? a : b`
    pub fn select(&mut self, mask: MReg, a: VReg, b: VReg) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Select { dst, mask, a, b });
        dst
    }

    /// The lanes below `count`, for masked memory operations. `count` must keep its value while the tail is in use.
    pub fn tail(&mut self, count: IReg) -> Tail {
        let mask = self.mask_register();
        self.push(Op::FirstLanes { dst: mask, count });
        Tail { count, mask }
    }

    // ---- memory ----

    /// W consecutive f32 (or i32).
    pub fn load(&mut self, addr: Addr) -> VReg {
        self.load_as(addr, Element::F32, None)
    }

    /// Consecutive elements, all W or those of the tail and zeros.
    pub fn load_as(&mut self, addr: Addr, element: Element, tail: Option<Tail>) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Load { dst, addr, element, tail });
        dst
    }

    /// Stores W consecutive f32 (or i32).
    pub fn store(&mut self, src: VReg, addr: Addr) {
        self.store_as(src, addr, Element::F32, None);
    }

    /// Stores consecutive elements, all W or those of the tail.
    pub fn store_as(&mut self, src: VReg, addr: Addr, element: Element, tail: Option<Tail>) {
        self.push(Op::Store { src, addr, element, tail });
    }

    /// One element in all lanes.
    pub fn broadcast(&mut self, addr: Addr, element: Element) -> VReg {
        let dst = self.vector_register();
        self.push(Op::Broadcast { dst, addr, element });
        dst
    }

    /// Stores lane 0.
    pub fn store_lane(&mut self, src: VReg, addr: Addr, element: Element) {
        self.push(Op::StoreLane { src, addr, element });
    }

    /// Stores W f32 past the caches; `addr` must be aligned to 4 W bytes.
    pub fn store_stream(&mut self, src: VReg, addr: Addr) {
        self.push(Op::StoreStream { src, addr });
    }

    /// Lane i from `addr + i * stride` bytes, for lanes below the limit.
    pub fn load_strided(&mut self, addr: Addr, stride: IReg, element: Element, limit: Option<IReg>) -> VReg {
        let dst = self.vector_register();
        self.push(Op::LoadStrided { dst, addr, stride, element, limit });
        dst
    }

    /// Lane i to `addr + i * stride` bytes, for lanes below the limit.
    pub fn store_strided(&mut self, src: VReg, addr: Addr, stride: IReg, element: Element, limit: Option<IReg>) {
        self.push(Op::StoreStrided { src, addr, stride, element, limit });
    }

    /// Asks for the cache line at `addr`.
    pub fn prefetch(&mut self, addr: Addr) {
        self.push(Op::Prefetch { addr });
    }
}
