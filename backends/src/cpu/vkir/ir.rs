//! The vector-kernel program as plain data: registers, operations, counted loops.
//!
//! Registers are mutable and unlimited in number; the emitters map them to machine registers. Nothing here refers to a
//! machine except the lane count that a kernel is built for.

mod operands;

pub use operands::{
    Addr, BinaryOp, Condition, Element, FmaForm, IReg, IntOp, IntSource, Isa, MReg, MaskOp, ReduceOp, Scale, ShiftOp,
    Source, Tail, UnaryOp, VReg,
};

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Reads argument slot `index`.
    Arg {
        /// Result.
        dst: IReg,
        /// Slot, below the kernel's `args`.
        index: u32,
    },
    /// An integer constant.
    IntConst {
        /// Result.
        dst: IReg,
        /// Value.
        value: i64,
    },
    /// Copies an integer register.
    IntCopy {
        /// Result.
        dst: IReg,
        /// Source.
        src: IReg,
    },
    /// Integer arithmetic.
    Int {
        /// Which.
        op: IntOp,
        /// Result.
        dst: IReg,
        /// Left operand.
        a: IReg,
        /// Right operand.
        b: IntSource,
    },
    /// Shift left (positive count) or arithmetically right (negative), by less than 64.
    IntShift {
        /// Result.
        dst: IReg,
        /// Operand.
        a: IReg,
        /// Left positive, right negative.
        count: i8,
    },
    /// Reads an integer from memory: 4 bytes sign-extended, or 8.
    LoadInt {
        /// Result.
        dst: IReg,
        /// Where.
        addr: Addr,
        /// Eight bytes instead of four.
        wide: bool,
    },
    /// The same bits in all lanes.
    Const {
        /// Result.
        dst: VReg,
        /// Bits of one lane.
        bits: u32,
    },
    /// 0.0, 1.0, ..., W-1.
    Iota {
        /// Result.
        dst: VReg,
    },
    /// A constant of its own in each lane.
    Lanes {
        /// Result.
        dst: VReg,
        /// W words.
        words: Vec<u32>,
    },
    /// Picks words from a table of 2 W: lane l becomes word `index[l] mod 2 W` of `low` followed by `high`.
    Lookup {
        /// Result.
        dst: VReg,
        /// Integers, of which the last bits count.
        index: VReg,
        /// The first W words of the table.
        low: VReg,
        /// The last W words of the table.
        high: VReg,
    },
    /// Copies a vector register.
    Copy {
        /// Result.
        dst: VReg,
        /// Source.
        src: VReg,
    },
    /// One-operand arithmetic.
    Unary {
        /// Which.
        op: UnaryOp,
        /// Result.
        dst: VReg,
        /// Operand.
        a: VReg,
    },
    /// Two-operand arithmetic.
    Binary {
        /// Which.
        op: BinaryOp,
        /// Result.
        dst: VReg,
        /// Left operand.
        a: VReg,
        /// Right operand.
        b: Source,
    },
    /// Multiply-add into `dst`.
    Fma {
        /// Which.
        form: FmaForm,
        /// Accumulator: read and written.
        dst: VReg,
        /// A factor.
        a: VReg,
        /// The other factor or the addend.
        b: Source,
    },
    /// Lane shift.
    Shift {
        /// Which.
        op: ShiftOp,
        /// Result.
        dst: VReg,
        /// Operand.
        a: VReg,
        /// Below 32.
        count: u8,
    },
    /// `a * 2^n` for integral f32 lanes `n` in -300..=300, overflowing to infinity and underflowing gradually to zero.
    /// Exact up to one rounding while `|a|` lies in 2^-20..2^20; a NaN in `a` stays one.
    Scale2 {
        /// Result.
        dst: VReg,
        /// Operand.
        a: VReg,
        /// Exponent.
        n: VReg,
        /// Promise that n lies in -252..=252 (cheaper without AVX-512).
        narrow: bool,
    },
    /// Lane comparison.
    Compare {
        /// Which.
        condition: Condition,
        /// Result.
        dst: MReg,
        /// Left operand.
        a: VReg,
        /// Right operand.
        b: Source,
    },
    /// The mask of lanes below `count` (signed; at most W are set).
    FirstLanes {
        /// Result.
        dst: MReg,
        /// Lane count.
        count: IReg,
    },
    /// Two-operand mask logic.
    Mask {
        /// Which.
        op: MaskOp,
        /// Result.
        dst: MReg,
        /// Left operand.
        a: MReg,
        /// Right operand.
        b: MReg,
    },
    /// All bits flipped.
    MaskNot {
        /// Result.
        dst: MReg,
        /// Operand.
        a: MReg,
    },
    /// `mask ? a : b` lane by lane.
    Select {
        /// Result.
        dst: VReg,
        /// Condition.
        mask: MReg,
        /// Where set.
        a: VReg,
        /// Where clear.
        b: VReg,
    },
    /// Reduction over the lanes, result in all of them.
    Reduce {
        /// Which.
        op: ReduceOp,
        /// Result.
        dst: VReg,
        /// Operand.
        a: VReg,
    },
    /// Transposes the W x W matrix whose rows are W distinct registers, in place.
    Transpose {
        /// Row i in register i, before and after.
        rows: Vec<VReg>,
    },
    /// Sums the lanes of W distinct registers: lane i of the first becomes the sum of register i, the others hold nothing
    /// of use then. Within blocks of four lanes (0 + 2) + (1 + 3), then neighbouring blocks.
    LaneSums {
        /// What is summed.
        rows: Vec<VReg>,
    },
    /// `acc[l] += a[l].low * b[l].low + a[l].high * b[l].high`, each lane of `a` and `b` being a pair of bf16 (low: the
    /// bits 0..16). The order of the two sums and the treatment of subnormals depend on the target.
    DotBf16 {
        /// Accumulator, f32: read and written.
        dst: VReg,
        /// Pairs.
        a: VReg,
        /// Pairs.
        b: Source,
    },
    /// Loads consecutive elements; lanes outside the tail become zero and are not read.
    Load {
        /// Result.
        dst: VReg,
        /// Of lane 0.
        addr: Addr,
        /// In memory.
        element: Element,
        /// All lanes if absent.
        tail: Option<Tail>,
    },
    /// Stores consecutive elements; memory outside the tail is not touched.
    Store {
        /// What.
        src: VReg,
        /// Of lane 0.
        addr: Addr,
        /// In memory.
        element: Element,
        /// All lanes if absent.
        tail: Option<Tail>,
    },
    /// Loads one element into all lanes.
    Broadcast {
        /// Result.
        dst: VReg,
        /// Of the element.
        addr: Addr,
        /// In memory.
        element: Element,
    },
    /// Stores lane 0.
    StoreLane {
        /// What.
        src: VReg,
        /// Of the element.
        addr: Addr,
        /// In memory.
        element: Element,
    },
    /// Stores W f32 past the caches where the target can. The address must be aligned to 4 W bytes.
    StoreStream {
        /// What.
        src: VReg,
        /// Of lane 0.
        addr: Addr,
    },
    /// Loads lane i from `addr + i * stride`; lanes at or above the limit become zero and are not read.
    LoadStrided {
        /// Result.
        dst: VReg,
        /// Of lane 0.
        addr: Addr,
        /// Bytes.
        stride: IReg,
        /// In memory.
        element: Element,
        /// All lanes if absent.
        limit: Option<IReg>,
    },
    /// Stores lane i to `addr + i * stride`, lanes in ascending order, for lanes below the limit.
    StoreStrided {
        /// What.
        src: VReg,
        /// Of lane 0.
        addr: Addr,
        /// Bytes.
        stride: IReg,
        /// In memory.
        element: Element,
        /// All lanes if absent.
        limit: Option<IReg>,
    },
    /// Asks for a cache line into L1; never faults.
    Prefetch {
        /// Any address.
        addr: Addr,
    },
}

/// How often a loop runs; not at all where the value is not positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Known when the kernel is built.
    Const(i64),
    /// Read on entry. The body does not write the register (the builder copies it where it does).
    Reg(IReg),
}

impl From<IReg> for Count {
    fn from(register: IReg) -> Count {
        Count::Reg(register)
    }
}

impl From<i64> for Count {
    fn from(value: i64) -> Count {
        Count::Const(value)
    }
}

/// A step of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// One operation.
    Op(Op),
    /// A counted loop.
    Loop {
        /// How often.
        count: Count,
        /// 0, 1, ..., count - 1 inside the body; undefined after the loop; not written by the body.
        counter: IReg,
        /// What is repeated.
        body: Vec<Node>,
    },
}

/// A leaf function `extern "C" fn(args: *const i64)`: reads its argument slots, touches memory, returns nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Symbol, where one is needed.
    pub name: String,
    /// Argument slots of eight bytes.
    pub args: usize,
    /// 32-bit lanes in a vector register.
    pub lanes: usize,
    /// Integer registers used: ids below this.
    pub ints: u32,
    /// Vector registers used: ids below this.
    pub vectors: u32,
    /// Mask registers used: ids below this.
    pub masks: u32,
    /// The program.
    pub body: Vec<Node>,
}
