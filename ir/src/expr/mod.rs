//! Scalar expressions: one language for the meaning of elementwise operations, for the maps of tile programs, for
//! positions and for addresses. Immutable trees, built by smart constructors that fold what is constant.
//!
//! Three kinds of values: reals (computed in the precision of where they stand), 64-bit integers (wrapping), booleans.
//! Reading a tensor element ([`Load`]) may be guarded: where the guard is false nothing is read and the fill value
//! stands instead, so padding, shifts and ragged edges are expressions and not copies.

use crate::dim::Dim;
use std::sync::Arc;

mod arithmetic;
mod eval;
mod print;
mod traverse;

pub use eval::{Scalar, erf, eval_binary, eval_compare, eval_unary};

/// An index variable: a grid axis, a block loop, or the row or column of the tile under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u32);

/// The row within the tile that an expression is evaluated for.
pub const ROW: Var = Var(0);
/// The column within the tile that an expression is evaluated for.
pub const COL: Var = Var(1);

/// A tensor in slow memory, by its place in the program's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlowId(pub u32);

/// A tile, by its place in the program's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId(pub u32);

/// Which of its own coordinates a tile is read at, for one of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pick {
    /// At the row of the element under construction.
    Row,
    /// At the column of the element under construction.
    Col,
    /// At 0: the axis has length 1 and is broadcast.
    Zero,
}

/// Functions of one value. Reals unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unary {
    /// Real or integer.
    Neg,
    /// Real or integer.
    Abs,
    Exp,
    Expm1,
    Log,
    Log1p,
    Sqrt,
    Rsqrt,
    Recip,
    Tanh,
    Sigmoid,
    Erf,
    Sin,
    Cos,
    /// -1, 0 or 1 of a real or integer; NaN stays.
    Sign,
    Floor,
    Ceil,
    Trunc,
    /// To the nearest integer, ties to even.
    RoundEven,
    /// Real to boolean.
    IsNan,
    /// Boolean.
    Not,
}

/// Functions of two values of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binary {
    /// Sum (integers wrap).
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient; of integers rounded towards minus infinity, 0 when the divisor is 0.
    Div,
    /// Remainder with the divisor's sign, as NumPy's; of integers 0 when the divisor is 0.
    Mod,
    /// The greater; NaN when either is.
    Max,
    /// The lesser; NaN when either is.
    Min,
    /// Power; of integers by repeated wrapping products, 0 for a negative exponent unless the base is 1 or -1.
    Pow,
    /// Boolean.
    And,
    /// Boolean.
    Or,
}

/// Comparisons of two values of one kind, giving a boolean; with NaN all but `Ne` are false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Compare {
    /// The sign between the two values, as it is printed and as C writes it.
    pub fn sign(self) -> &'static str {
        match self {
            Compare::Eq => "==",
            Compare::Ne => "!=",
            Compare::Lt => "<",
            Compare::Le => "<=",
            Compare::Gt => ">",
            Compare::Ge => ">=",
        }
    }
}

/// An element of a tensor in slow memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Which tensor.
    pub tensor: SlowId,
    /// One integer expression an axis.
    pub index: Vec<Expr>,
    /// Where false, nothing is read and `fill` is the value.
    pub guard: Option<Expr>,
    /// The value where the guard is false.
    pub fill: f64,
}

/// A node of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A real constant.
    Float(f64),
    /// An integer constant.
    Int(i64),
    /// A boolean constant.
    Bool(bool),
    /// The element of operand k, in the meaning of an elementwise operation.
    Arg(usize),
    /// An index variable (integer).
    Var(Var),
    /// A dimension's value (integer).
    Dim(Dim),
    /// A function of one value.
    Unary(Unary, Expr),
    /// A function of two values.
    Binary(Binary, Expr, Expr),
    /// A comparison.
    Compare(Compare, Expr, Expr),
    /// The second where the first (boolean) is true, else the third.
    Select(Expr, Expr, Expr),
    /// Integer or boolean to real.
    ToFloat(Expr),
    /// Real (truncated, saturating; NaN is 0) or boolean to integer.
    ToInt(Expr),
    /// Integer or real to boolean: not 0.
    ToBool(Expr),
    /// A real rounded to an element type, or an integer wrapped to i32.
    Round(crate::dtype::DType, Expr),
    /// A tensor element.
    Load(Load),
    /// A tile element.
    Tile(TileId, Pick, Pick),
}

/// An expression: a shared immutable node.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr(Arc<Node>);

/// The kind of value an expression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Real.
    Float,
    /// 64-bit integer.
    Int,
    /// Boolean.
    Bool,
}

impl From<Var> for Expr {
    fn from(v: Var) -> Expr {
        Expr::new(Node::Var(v))
    }
}

impl From<i64> for Expr {
    fn from(n: i64) -> Expr {
        Expr::int(n)
    }
}

impl From<&Dim> for Expr {
    fn from(d: &Dim) -> Expr {
        match d.as_constant() {
            Some(n) => Expr::int(n),
            None => Expr::new(Node::Dim(d.clone())),
        }
    }
}

impl Expr {
    fn new(node: Node) -> Expr {
        Expr(Arc::new(node))
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.0
    }

    /// A real constant.
    pub fn float(x: f64) -> Expr {
        Expr::new(Node::Float(x))
    }

    /// An integer constant.
    pub fn int(n: i64) -> Expr {
        Expr::new(Node::Int(n))
    }

    /// A boolean constant.
    pub fn bool(b: bool) -> Expr {
        Expr::new(Node::Bool(b))
    }

    /// Operand k's element.
    pub fn arg(k: usize) -> Expr {
        Expr::new(Node::Arg(k))
    }

    /// A tile's element at the present row and column.
    pub fn tile(t: TileId) -> Expr {
        Expr::new(Node::Tile(t, Pick::Row, Pick::Col))
    }

    /// A tile's element at chosen coordinates.
    pub fn tile_at(t: TileId, row: Pick, col: Pick) -> Expr {
        Expr::new(Node::Tile(t, row, col))
    }

    /// An element of a tensor in slow memory.
    pub fn load(tensor: SlowId, index: Vec<Expr>) -> Expr {
        Expr::new(Node::Load(Load { tensor, index, guard: None, fill: 0.0 }))
    }

    /// An element of a tensor where `guard` holds, else `fill`.
    pub fn load_if(tensor: SlowId, index: Vec<Expr>, guard: Expr, fill: f64) -> Expr {
        let guard = if guard.as_bool() == Some(true) { None } else { Some(guard) };
        Expr::new(Node::Load(Load { tensor, index, guard, fill }))
    }

    /// The integer constant this is.
    pub fn as_int(&self) -> Option<i64> {
        match self.node() {
            Node::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The real constant this is.
    pub fn as_float(&self) -> Option<f64> {
        match self.node() {
            Node::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The boolean constant this is.
    pub fn as_bool(&self) -> Option<bool> {
        match self.node() {
            Node::Bool(b) => Some(*b),
            _ => None,
        }
    }

    fn as_scalar(&self) -> Option<Scalar> {
        match self.node() {
            Node::Float(x) => Some(Scalar::Float(*x)),
            Node::Int(n) => Some(Scalar::Int(*n)),
            Node::Bool(b) => Some(Scalar::Bool(*b)),
            _ => None,
        }
    }

    fn constant(s: Scalar) -> Expr {
        match s {
            Scalar::Float(x) => Expr::float(x),
            Scalar::Int(n) => Expr::int(n),
            Scalar::Bool(b) => Expr::bool(b),
        }
    }

    /// A function of one value.
    pub fn unary(op: Unary, a: Expr) -> Expr {
        match a.as_scalar() {
            Some(x) => Expr::constant(eval_unary(op, x)),
            None => Expr::new(Node::Unary(op, a)),
        }
    }

    /// A function of two values.
    pub fn binary(op: Binary, a: Expr, b: Expr) -> Expr {
        if let (Some(x), Some(y)) = (a.as_scalar(), b.as_scalar()) {
            return Expr::constant(eval_binary(op, x, y));
        }
        // Integer and boolean identities only: on reals x + 0 and x * 0 differ for signed zeros, infinities and NaN.
        match (op, a.as_int(), b.as_int()) {
            (Binary::Add, Some(0), _) | (Binary::Mul, Some(1), _) => return b,
            (Binary::Add | Binary::Sub, _, Some(0)) | (Binary::Mul | Binary::Div, _, Some(1)) => return a,
            (Binary::Mul, Some(0), _) | (Binary::Mul, _, Some(0)) | (Binary::Mod, _, Some(1)) => return Expr::int(0),
            _ => {}
        }
        match (op, a.as_bool(), b.as_bool()) {
            (Binary::And, Some(true), _) | (Binary::Or, Some(false), _) => return b,
            (Binary::And, _, Some(true)) | (Binary::Or, _, Some(false)) => return a,
            (Binary::And, Some(false), _) | (Binary::And, _, Some(false)) => return Expr::bool(false),
            (Binary::Or, Some(true), _) | (Binary::Or, _, Some(true)) => return Expr::bool(true),
            _ => {}
        }
        Expr::new(Node::Binary(op, a, b))
    }

    /// A comparison.
    pub fn compare(op: Compare, a: Expr, b: Expr) -> Expr {
        match (a.as_scalar(), b.as_scalar()) {
            (Some(x), Some(y)) => Expr::bool(eval_compare(op, x, y)),
            _ => Expr::new(Node::Compare(op, a, b)),
        }
    }

    /// `a` where `c` holds, else `b`.
    pub fn select(c: Expr, a: Expr, b: Expr) -> Expr {
        match c.as_bool() {
            Some(true) => a,
            Some(false) => b,
            None => Expr::new(Node::Select(c, a, b)),
        }
    }

    /// As a real.
    pub fn to_float(self) -> Expr {
        match self.as_scalar() {
            Some(x) => Expr::float(x.as_float()),
            None => Expr::new(Node::ToFloat(self)),
        }
    }

    /// As an integer.
    pub fn to_int(self) -> Expr {
        match self.as_scalar() {
            Some(x) => Expr::int(x.as_int()),
            None => Expr::new(Node::ToInt(self)),
        }
    }

    /// As a boolean.
    pub fn to_bool(self) -> Expr {
        match self.as_scalar() {
            Some(x) => Expr::bool(x.as_bool()),
            None => Expr::new(Node::ToBool(self)),
        }
    }

    /// Rounded to what `dtype` holds.
    pub fn round_to(self, dtype: crate::dtype::DType) -> Expr {
        Expr::new(Node::Round(dtype, self))
    }

    /// The lesser of two.
    pub fn min(self, other: impl Into<Expr>) -> Expr {
        Expr::binary(Binary::Min, self, other.into())
    }

    /// The greater of two.
    pub fn max(self, other: impl Into<Expr>) -> Expr {
        Expr::binary(Binary::Max, self, other.into())
    }

    /// Integer quotient rounded down.
    pub fn floor_div(self, other: impl Into<Expr>) -> Expr {
        Expr::binary(Binary::Div, self, other.into())
    }

    /// Integer quotient by a positive constant, rounded up.
    pub fn ceil_div(self, n: i64) -> Expr {
        (self + Expr::int(n - 1)).floor_div(n)
    }

    /// Remainder, with the divisor's sign.
    pub fn modulo(self, other: impl Into<Expr>) -> Expr {
        Expr::binary(Binary::Mod, self, other.into())
    }

    /// `self < other`.
    pub fn lt(self, other: impl Into<Expr>) -> Expr {
        Expr::compare(Compare::Lt, self, other.into())
    }

    /// `self <= other`.
    pub fn le(self, other: impl Into<Expr>) -> Expr {
        Expr::compare(Compare::Le, self, other.into())
    }

    /// `self >= other`.
    pub fn ge(self, other: impl Into<Expr>) -> Expr {
        Expr::compare(Compare::Ge, self, other.into())
    }

    /// `self == other`.
    pub fn equals(self, other: impl Into<Expr>) -> Expr {
        Expr::compare(Compare::Eq, self, other.into())
    }

    /// Both.
    pub fn and(self, other: Expr) -> Expr {
        Expr::binary(Binary::And, self, other)
    }

    /// Either.
    pub fn or(self, other: Expr) -> Expr {
        Expr::binary(Binary::Or, self, other)
    }

    /// A function of this value.
    pub fn apply(self, op: Unary) -> Expr {
        Expr::unary(op, self)
    }
}
