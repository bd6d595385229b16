//! The vector-kernel program as plain data: registers, operations, counted loops.
//!
//! Registers are mutable and unlimited in number; the emitters map them to machine registers. Nothing here refers to a
//! machine except the lane count that a kernel is built for.

/// The instruction set that a kernel is built and emitted for; it fixes the lane count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ, VL: 16 lanes, 32 vector registers, 7 mask registers.
    Avx512 {
        /// Whether AVX512_BF16 may be used (bf16 rounding and bf16 dot products in hardware).
        bf16: bool,
    },
    /// x86-64 with AVX2, FMA, F16C and BMI2: 8 lanes, 16 vector registers, which hold the masks too.
    Avx2,
    /// Whatever Cranelift compiles 128-bit vectors to (SSE, NEON): 4 lanes, registers chosen by Cranelift.
    Clif,
}

impl Isa {
    /// 32-bit lanes in one vector register.
    pub fn lanes(self) -> usize {
        match self {
            Isa::Avx512 { .. } => 16,
            Isa::Avx2 => 8,
            Isa::Clif => 4,
        }
    }

    /// Vector registers that a kernel may keep live at once. For [`Isa::Clif`] this is advice: more is spilled.
    pub fn vector_registers(self) -> usize {
        match self {
            Isa::Avx512 { .. } => 32,
            Isa::Avx2 | Isa::Clif => 16,
        }
    }

    /// Whether [`Source::Broadcast`] costs no vector register and no instruction of its own.
    pub fn embedded_broadcast(self) -> bool {
        matches!(self, Isa::Avx512 { .. })
    }
}

/// A virtual 64-bit integer register: pointers, counts, byte strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IReg(pub u32);

/// A virtual vector register of W lanes of 32 bits, read as f32 or as i32 by each operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VReg(pub u32);

/// A virtual mask register: one bit a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MReg(pub u32);

/// Factor of an index register in an address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// 1
    One,
    /// 2
    Two,
    /// 4
    Four,
    /// 8
    Eight,
}

impl Scale {
    /// The factor.
    pub fn bytes(self) -> i64 {
        1 << self.log2()
    }

    /// Its binary logarithm.
    pub fn log2(self) -> u32 {
        match self {
            Scale::One => 0,
            Scale::Two => 1,
            Scale::Four => 2,
            Scale::Eight => 3,
        }
    }
}

/// The byte address `base + index * scale + displacement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr {
    /// A pointer.
    pub base: IReg,
    /// A scaled offset.
    pub index: Option<(IReg, Scale)>,
    /// A constant offset in bytes.
    pub displacement: i32,
}

impl Addr {
    /// The address that `base` holds.
    pub fn new(base: IReg) -> Addr {
        Addr { base, index: None, displacement: 0 }
    }

    /// The same address with a scaled index register added (replacing an earlier one).
    pub fn indexed(self, index: IReg, scale: Scale) -> Addr {
        Addr { index: Some((index, scale)), ..self }
    }

    /// The same address moved by `bytes`; wraps around at the 32-bit range of displacements.
    pub fn offset(self, bytes: i32) -> Addr {
        Addr { displacement: self.displacement.wrapping_add(bytes), ..self }
    }
}

/// How one lane is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32 bits, f32 or i32, unchanged.
    F32,
    /// bfloat16: loads widen exactly; stores round to nearest even (an f32 subnormal may be stored as a signed zero, a
    /// NaN as any quiet NaN).
    Bf16,
    /// IEEE half: loads widen exactly; stores round to nearest even (a NaN as any quiet NaN).
    F16,
    /// A byte: loads zero-extend to an i32 lane (bool is 0 or 1); stores keep the low eight bits.
    U8,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 => 2,
            Element::U8 => 1,
        }
    }
}

/// "The first n lanes only": made once by [`super::Builder::tail`], then given to masked memory operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Lane count; anything at or below zero means none, W and above means all.
    pub count: IReg,
    /// The same as a mask.
    pub mask: MReg,
}

/// The last operand of an arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// A register.
    Reg(VReg),
    /// W consecutive 32-bit lanes in memory, any alignment.
    Memory(Addr),
    /// One 32-bit element in memory, repeated in all lanes.
    Broadcast(Addr),
    /// The same bits in all lanes.
    Const(u32),
}

impl From<VReg> for Source {
    fn from(register: VReg) -> Source {
        Source::Reg(register)
    }
}

impl From<f32> for Source {
    fn from(value: f32) -> Source {
        Source::Const(value.to_bits())
    }
}

/// The right operand of an integer operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntSource {
    /// A register.
    Reg(IReg),
    /// A constant, sign-extended to 64 bits.
    Imm(i32),
}

impl From<IReg> for IntSource {
    fn from(register: IReg) -> IntSource {
        IntSource::Reg(register)
    }
}

impl From<i32> for IntSource {
    fn from(value: i32) -> IntSource {
        IntSource::Imm(value)
    }
}

/// Wrapping 64-bit integer arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// Signed minimum.
    Min,
    /// Signed maximum.
    Max,
    /// Bitwise and.
    And,
}

/// Operations on one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// Sign flipped.
    Neg,
    /// Sign cleared.
    Abs,
    /// Correctly rounded square root.
    Sqrt,
    /// Largest integral value not above.
    Floor,
    /// Smallest integral value not below.
    Ceil,
    /// Towards zero.
    Trunc,
    /// Nearest integral value, ties to even.
    Nearest,
    /// f32 to i32, truncating; unspecified outside the range of i32 and for NaN.
    ToInt,
    /// i32 to f32, rounding to nearest even.
    ToFloat,
}

/// Operations on two vectors, lane by lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b
    Div,
    /// `if a > b { a } else { b }`: b if either is NaN, and of two zeros.
    Max,
    /// `if a < b { a } else { b }`: b if either is NaN, and of two zeros.
    Min,
    /// Wrapping i32 addition.
    IntAdd,
    /// Wrapping i32 subtraction.
    IntSub,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
}

/// Multiply-add forms. All are fused (one rounding) where the target has the instruction, else product and sum round
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FmaForm {
    /// `dst += a * b`
    Accumulate,
    /// `dst -= a * b`
    Subtract,
    /// `dst = dst * a + b`
    Horner,
    /// `dst = dst * a - b`
    HornerSub,
    /// `dst = b - dst * a`
    HornerNeg,
}

/// Shifts of 32-bit lanes by a constant below 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShiftOp {
    /// Left.
    Left,
    /// Right, zeros in.
    Logical,
    /// Right, sign in.
    Arithmetic,
}

/// f32 comparisons with C's meaning: all false for NaN, except `Ne`, which is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// ==
    Eq,
    /// !=
    Ne,
    /// <
    Lt,
    /// <=
    Le,
    /// >
    Gt,
    /// >=
    Ge,
}

/// Two-operand mask logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskOp {
    /// Both.
    And,
    /// Either.
    Or,
}

/// Reductions over the lanes of one register: for s = W/2, ..., 2, 1, lane l becomes `lane[l] op lane[l ^ s]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// f32 sum.
    Sum,
    /// Maximum, as [`BinaryOp::Max`].
    Max,
    /// Minimum, as [`BinaryOp::Min`].
    Min,
}

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
