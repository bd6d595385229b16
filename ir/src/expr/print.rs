//! Expressions as text, for people.

use super::{Binary, COL, Expr, Node, Pick, ROW, Unary, Var};
use std::fmt;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Node::Float(x) => write!(f, "{x:?}"),
            Node::Int(n) => write!(f, "{n}"),
            Node::Bool(b) => write!(f, "{b}"),
            Node::Arg(k) => write!(f, "arg{k}"),
            Node::Var(ROW) => f.write_str("r"),
            Node::Var(COL) => f.write_str("c"),
            Node::Var(Var(n)) => write!(f, "x{n}"),
            Node::Dim(d) if d.as_symbol().is_some() => write!(f, "{d}"),
            Node::Dim(d) => write!(f, "({d})"),
            Node::Unary(Unary::Neg, a) => write!(f, "-{a}"),
            Node::Unary(op, a) => write!(f, "{}({a})", format!("{op:?}").to_lowercase()),
            Node::Binary(op, a, b) => match op {
                Binary::Add => write!(f, "({a} + {b})"),
                Binary::Sub => write!(f, "({a} - {b})"),
                Binary::Mul => write!(f, "{a}*{b}"),
                Binary::Div => write!(f, "({a} / {b})"),
                Binary::Mod => write!(f, "({a} % {b})"),
                Binary::And => write!(f, "({a} and {b})"),
                Binary::Or => write!(f, "({a} or {b})"),
                Binary::Max | Binary::Min | Binary::Pow => {
                    write!(f, "{}({a}, {b})", format!("{op:?}").to_lowercase())
                }
            },
            Node::Compare(op, a, b) => {
                let sign = op.sign();
                write!(f, "({a} {sign} {b})")
            }
            Node::Select(c, a, b) => write!(f, "({c} ? {a} : {b})"),
            Node::ToFloat(a) => write!(f, "float({a})"),
            Node::ToInt(a) => write!(f, "int({a})"),
            Node::ToBool(a) => write!(f, "bool({a})"),
            Node::Round(d, a) => write!(f, "{d}({a})"),
            Node::Load(l) => {
                write!(f, "m{}[", l.tensor.0)?;
                for (k, e) in l.index.iter().enumerate() {
                    if k > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{e}")?;
                }
                f.write_str("]")?;
                match &l.guard {
                    Some(g) => write!(f, " if {g} else {:?}", l.fill),
                    None => Ok(()),
                }
            }
            Node::Tile(t, row, col) => {
                let axis = |p: &Pick| match p {
                    Pick::Row => "r",
                    Pick::Col => "c",
                    Pick::Zero => "0",
                };
                match (row, col) {
                    (Pick::Row, Pick::Col) => write!(f, "t{}", t.0),
                    _ => write!(f, "t{}[{}, {}]", t.0, axis(row), axis(col)),
                }
            }
        }
    }
}
