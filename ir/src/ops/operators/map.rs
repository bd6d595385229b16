//! A function of every value.

use super::signature::by_row;
use crate::attr::AttrKind;
use crate::dim::DimValues;
use crate::expr::{Compare, Expr, Node, Scalar, Unary};
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::reference::{Eval, RefValue};
use crate::support::Structure;
use crate::ty::Type;

/// The functions that `map` and the feature maps of layers know.
pub const FUNCTIONS: &[&str] =
    &["exp", "relu", "square", "silu", "sigmoid", "tanh", "elu", "elu1", "gelu", "gelu_tanh", "identity", "abs"];

/// `map`.
pub static OP: Op = Op {
    name: "map",
    group: Group::Operator,
    doc: "fn(M[i,j]) on the support, which is kept. elu1 is elu + 1, gelu the erf form, gelu_tanh its approximation.",
    example: "\
func @main(%q: f32[5, 4], %k: f32[7, 4], %x: f32[7, 3]) -> f32[5, 3] {
  %m = gram %q, %k
  %r = map %m {fn = relu}
  %y = apply %r, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[required("fn", AttrKind::Name(FUNCTIONS), "the function")],
    infer: |call| Ok(vec![Type::Mix(call.mix(0)?.clone())]),
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[],
};

/// The function of that name at `x`; `None` for a name that is not in [`FUNCTIONS`].
pub fn function(name: &str, x: Expr) -> Option<Expr> {
    let float = Expr::float;
    // Where x is above 0, the first; else the second.
    let sided =
        |above: Expr, below: Expr| Expr::select(Expr::compare(Compare::Gt, x.clone(), float(0.0)), above, below);
    Some(match name {
        "exp" => x.apply(Unary::Exp),
        "relu" => x.max(float(0.0)),
        "square" => x.clone() * x,
        "silu" => x.clone() * x.apply(Unary::Sigmoid),
        "sigmoid" => x.apply(Unary::Sigmoid),
        "tanh" => x.apply(Unary::Tanh),
        "elu" => sided(x.clone(), x.clone().apply(Unary::Expm1)),
        // exp(x) - 1 + 1: never below 0, and exact for large negative x.
        "elu1" => sided(x.clone() + float(1.0), x.clone().apply(Unary::Exp)),
        "gelu" => {
            let erf = (x.clone() * float(std::f64::consts::FRAC_1_SQRT_2)).apply(Unary::Erf);
            float(0.5) * x * (float(1.0) + erf)
        }
        "gelu_tanh" => {
            // sqrt(2/pi) (x + 0.044715 x^3): Hendrycks and Gimpel, "Gaussian Error Linear Units".
            let root = float((2.0 / std::f64::consts::PI).sqrt());
            let inner = root * (x.clone() + float(0.044715) * x.clone() * x.clone() * x.clone());
            float(0.5) * x * (float(1.0) + inner.apply(Unary::Tanh))
        }
        "identity" => x,
        "abs" => x.apply(Unary::Abs),
        _ => return None,
    })
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let name = call.attrs.name("fn").unwrap_or_default();
    match name {
        "identity" => s,
        _ => Structure {
            non_negative: s.non_negative || matches!(name, "exp" | "relu" | "square" | "sigmoid" | "elu1" | "abs"),
            rank: None,
            ..s
        },
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let name = e.attrs.name("fn").unwrap_or_default();
    let f = function(name, Expr::arg(0)).ok_or_else(|| format!("no function `{name}`"))?;
    let none = DimValues::new();
    by_row(e, move |row, _| {
        row.map(|_, x| {
            let leaf = &mut |n: &Node| Scalar::Float(if *n == Node::Arg(0) { x } else { f64::NAN });
            f.eval(&none, leaf).as_float()
        })
    })
}
