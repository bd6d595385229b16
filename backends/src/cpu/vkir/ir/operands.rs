//! What operations work on, and which they are: registers, addresses, elements, and the functions by name.

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

/// "The first n lanes only": made once by [`super::super::Builder::tail`], then given to masked memory operations.
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
