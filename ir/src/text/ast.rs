//! The text format as a tree: what is written, in order, with comments and places, and nothing concluded from it.

use crate::attr::Real;
use crate::diag::Span;

/// A place in the source. Any two are equal, so that trees compare by what they say.
#[derive(Clone, Copy, Debug, Default)]
pub struct At(pub Span);

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

/// A comment line, with its `//`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comment {
    /// The text from `//` on.
    pub text: String,
    /// Whether an empty line stands before it.
    pub blank_before: bool,
}

/// What surrounds an item, parameter or statement.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Trivia {
    /// Comment lines before it.
    pub lead: Vec<Comment>,
    /// Whether an empty line stands right before it.
    pub blank_before: bool,
    /// The comment behind it on its last line.
    pub trail: Option<String>,
}

/// A name with its place; `%` and `@` are not part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The letters.
    pub text: String,
    /// Where, sigil included.
    pub at: At,
}

/// A string literal with its escapes resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The characters.
    pub text: String,
    /// Where, quotes included.
    pub at: At,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct File {
    /// Its items.
    pub items: Vec<Item>,
    /// Comments after the last item.
    pub tail: Vec<Comment>,
}

/// An item with its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Where.
    pub at: At,
    /// Comments and blank lines.
    pub trivia: Trivia,
}

/// An item.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemKind {
    /// `ir 1`.
    Version(i64),
    /// `weights "a", "b"`.
    Weights(Vec<Text>),
    /// `dim T = 1..8`.
    Dim {
        /// The symbol.
        name: Name,
        /// Least value.
        low: Expr,
        /// Greatest value.
        high: Expr,
    },
    /// `func @f(...) -> ... { ... }`.
    Func(Func),
    /// An item that did not parse.
    Broken,
}

/// A function.
#[derive(Clone, Debug, PartialEq)]
pub struct Func {
    /// Its name.
    pub name: Name,
    /// Parameters.
    pub params: Vec<Param>,
    /// Comments after the last parameter.
    pub params_tail: Vec<Comment>,
    /// Result types; `None` when the signature did not parse.
    pub results: Option<Vec<TypeExpr>>,
    /// The comment behind `{`.
    pub open: Option<String>,
    /// Statements.
    pub body: Vec<Stmt>,
    /// Comments after the last statement.
    pub tail: Vec<Comment>,
    /// Where the closing brace is (or should be).
    pub end: At,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its type; `None` when it did not parse.
    pub ty: Option<TypeExpr>,
    /// Comments and blank lines.
    pub trivia: Trivia,
}

/// A statement with its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Where.
    pub at: At,
    /// Comments and blank lines.
    pub trivia: Trivia,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `const %w = ... : type`.
    Const {
        /// The value's name.
        name: Name,
        /// What it holds.
        value: Constant,
        /// Its type.
        ty: TypeExpr,
    },
    /// `%a, %b = op %x, _, %y {...} : type`.
    Op {
        /// Names of the results.
        results: Vec<Name>,
        /// The operation.
        op: Name,
        /// Operands; `None` is `_`.
        operands: Vec<Operand>,
        /// Attributes.
        attrs: Vec<Attr>,
        /// Written result types.
        types: Vec<TypeExpr>,
    },
    /// `%a, %b = call @f(%x) : type`.
    Call {
        /// Names of the results.
        results: Vec<Name>,
        /// The function.
        func: Name,
        /// Arguments.
        args: Vec<Name>,
        /// Written result types.
        types: Vec<TypeExpr>,
    },
    /// `return %a, %b`.
    Return(Vec<Name>),
    /// A statement that did not parse.
    Broken {
        /// The results it would have defined, as far as they were read.
        results: Vec<Name>,
        /// Whether it began with `return`.
        returns: bool,
    },
}

/// An operand: a value, or `_`.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The value's name; `None` is `_`.
    pub name: Option<String>,
    /// Where.
    pub at: At,
}

/// What a constant holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// `weight "name"`.
    Weight(Text),
    /// `splat 1.0`.
    Splat(Element),
    /// `dense [[...]]`: lengths of the nested lists, and the numbers in order.
    Dense {
        /// Lengths, outermost first; none is a bare number.
        shape: Vec<usize>,
        /// Row-major.
        elements: Vec<Element>,
        /// Where the literal is.
        at: At,
    },
}

/// A number of a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element {
    /// The number.
    pub number: Number,
    /// Where.
    pub at: At,
}

/// A number as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Without point and exponent.
    Int(i64),
    /// With a point or an exponent, or `inf`, `nan`.
    Float(Real),
    /// `true` or `false`.
    Bool(bool),
}

/// An attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attr {
    /// Its name.
    pub name: Name,
    /// Its value; a bare name has none.
    pub value: Option<Expr>,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeExpr {
    /// Whether `mix` stands before it.
    pub mix: bool,
    /// The element type's name.
    pub dtype: Name,
    /// Lengths.
    pub dims: Vec<Expr>,
    /// Where.
    pub at: At,
}

/// An expression: a dim, or an attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub at: At,
}

/// An operator between two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// An integer; a minus sign before digits belongs to it.
    Int(i64),
    /// A real number.
    Float(Real),
    /// A word.
    Name(String),
    /// A string.
    Text(String),
    /// `-x`; of anything but a number.
    Neg(Box<Expr>),
    /// `x + y`, ...
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `ceil(x)`.
    Ceil(Box<Expr>),
    /// `[x, y]`.
    List(Vec<Expr>),
}
