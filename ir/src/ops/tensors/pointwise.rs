//! Elementwise operations: one table of scalar expressions, a row an operation.
//!
//! Operands broadcast as NumPy does (axes matched from the last; each equal or 1; missing leading ones count as 1).
//! Integers wrap; `div` and `mod` of integers round towards minus infinity and give 0 for a divisor of 0. An operation
//! named here is its own definition: none has an expansion.

use crate::attr::{AttrKind, AttrSpec, Attrs};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Binary, Compare, Expr, Unary};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind, OperandSpec};
use crate::ops::{attr, operand, required};
use crate::ty::Type;

/// The NumPy broadcast of shapes, or which operand does not fit.
pub fn broadcast(call: &Call<'_>) -> Result<Vec<Dim>, Vec<Fault>> {
    let mut out: Vec<Dim> = Vec::new();
    for k in 0..call.types.len() {
        let t = call.tensor(k)?;
        while out.len() < t.rank() {
            out.insert(0, Dim::constant(1));
        }
        let lead = out.len() - t.rank();
        for (axis, d) in t.shape.iter().enumerate() {
            let o = &mut out[lead + axis];
            if o.is(1) {
                *o = d.clone();
            } else if d != o && !d.is(1) {
                return Err(vec![
                    Fault::operand(k, format!("axis of length {d} does not broadcast with {o}"))
                        .help("axes are matched from the last; each must be equal or 1"),
                ]);
            }
        }
    }
    Ok(out)
}

/// The one element type of operands `from..`.
fn common_dtype(call: &Call<'_>, from: usize) -> Result<DType, Vec<Fault>> {
    let first = call.tensor(from)?.dtype;
    for k in from + 1..call.types.len() {
        let t = call.tensor(k)?;
        if t.dtype != first {
            return Err(vec![
                Fault::operand(k, format!("element types differ: {first} and {}", t.dtype))
                    .help(format!("convert one with `cast %x {{to = {first}}}`")),
            ]);
        }
    }
    Ok(first)
}

fn same_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    Ok(vec![Type::tensor(common_dtype(call, 0)?, broadcast(call)?)])
}

fn number_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    if common_dtype(call, 0)? == DType::Bool {
        return Err(vec![
            Fault::operand(0, format!("`{}` takes numbers, found booleans", call.op.name))
                .help("convert with `cast %x {to = f32}`, or use `and`, `or`, `not`"),
        ]);
    }
    same_type(call)
}

fn truth_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    common_dtype(call, 0)?;
    Ok(vec![Type::tensor(DType::Bool, broadcast(call)?)])
}

fn select_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    Ok(vec![Type::tensor(common_dtype(call, 1)?, broadcast(call)?)])
}

fn cast_type(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    Ok(vec![Type::tensor(target(call.attrs), call.tensor(0)?.shape.clone())])
}

/// The type that `cast` converts to; f32 when the attribute, which the verifier demands, is missing.
fn target(attrs: &Attrs) -> DType {
    attrs.name("to").and_then(DType::parse).unwrap_or(DType::F32)
}

fn cast(attrs: &Attrs, x: &[Expr]) -> Expr {
    let x = x[0].clone();
    match target(attrs) {
        DType::Bool => x.to_bool(),
        DType::I64 => x.to_int(),
        DType::I32 => x.to_int().round_to(DType::I32),
        // The reference keeps reals wide between operations, so f32 is no rounding; halves are asked for by name.
        half if half.is_half() => x.to_float().round_to(half),
        _ => x.to_float(),
    }
}

fn gelu(attrs: &Attrs, x: &[Expr]) -> Expr {
    let x = x[0].clone();
    let inner = if attrs.flag("tanh") {
        let cubic = Expr::float(0.044715) * x.clone() * x.clone() * x.clone();
        (Expr::float((2.0 / std::f64::consts::PI).sqrt()) * (x.clone() + cubic)).apply(Unary::Tanh)
    } else {
        (x.clone() * Expr::float(std::f64::consts::FRAC_1_SQRT_2)).apply(Unary::Erf)
    };
    Expr::float(0.5) * x * (Expr::float(1.0) + inner)
}

const DATA_1: &[OperandSpec] = &[operand("x", OperandKind::Data)];
const ANY_1: &[OperandSpec] = &[operand("x", OperandKind::Tensor)];
const ANY_2: &[OperandSpec] = &[operand("a", OperandKind::Tensor), operand("b", OperandKind::Tensor)];
const BOOL_1: &[OperandSpec] = &[operand("x", OperandKind::Bool)];
const BOOL_2: &[OperandSpec] = &[operand("a", OperandKind::Bool), operand("b", OperandKind::Bool)];
const SELECT: &[OperandSpec] =
    &[operand("cond", OperandKind::Bool), operand("a", OperandKind::Tensor), operand("b", OperandKind::Tensor)];

/// Operands, attributes, type rule and example of a family of rows.
macro_rules! form {
    (@op $name:literal, $doc:expr, $operands:expr, $attrs:expr, $infer:expr, $example:expr, $laws:expr, $meaning:expr) => {
        Op {
            name: $name,
            group: Group::Tensor,
            doc: $doc,
            example: $example,
            operands: $operands,
            variadic: false,
            attrs: $attrs,
            infer: $infer,
            structure: None,
            meaning: Meaning::Pointwise($meaning),
            expand: None,
            laws: $laws,
        }
    };
    (@example1 $name:literal, $from:literal, $to:literal) => {
        concat!(
            "func @main(%x: ", $from, "[2, 3]) -> ", $to, "[2, 3] {\n  %y = ", $name, " %x\n  return %y\n}\n"
        )
    };
    (@example2 $name:literal, $from:literal, $to:literal) => {
        concat!(
            "func @main(%a: ", $from, "[2, 3], %b: ", $from, "[3]) -> ", $to, "[2, 3] {\n  %y = ", $name,
            " %a, %b\n  return %y\n}\n"
        )
    };
    // Reals to reals.
    (real1 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, DATA_1, &[], same_type, form!(@example1 $name, "f32", "f32"), $laws, $meaning)
    };
    // Reals or integers to the same.
    (number1 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, ANY_1, &[], number_type, form!(@example1 $name, "f32", "f32"), $laws, $meaning)
    };
    (number2 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, ANY_2, &[], number_type, form!(@example2 $name, "f32", "f32"), $laws, $meaning)
    };
    // A property of a real.
    (test1 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, DATA_1, &[], truth_type, form!(@example1 $name, "f32", "bool"), $laws, $meaning)
    };
    // A comparison of values of any one type.
    (test2 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, ANY_2, &[], truth_type, form!(@example2 $name, "f32", "bool"), $laws, $meaning)
    };
    // Booleans to booleans.
    (logic1 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, BOOL_1, &[], same_type, form!(@example1 $name, "bool", "bool"), $laws, $meaning)
    };
    (logic2 $name:literal, $doc:expr, $laws:expr, $meaning:expr) => {
        form!(@op $name, $doc, BOOL_2, &[], same_type, form!(@example2 $name, "bool", "bool"), $laws, $meaning)
    };
}

/// The table. A row: static, family and name, (operands) = meaning, laws, doc.
macro_rules! table {
    ($($id:ident: $form:ident $name:literal ($($arg:ident),+) = $body:expr, $laws:expr, $doc:expr;)+) => {
        $(static $id: Op = form!($form $name, $doc, $laws, |_, args| {
            let mut args = args.iter().cloned();
            $(let $arg = args.next().expect("the verifier counted the operands");)+
            $body
        });)+

        /// The operations whose meaning is a scalar expression.
        pub const ALL: &[&Op] = &[$(&$id,)+ &GELU, &CAST, &SELECT_OP];
    };
}

const ADDITIVE: &[Law] = &[Law::LinearIn(0)];
const BILINEAR: &[Law] = &[Law::LinearIn(0), Law::LinearIn(1)];

table! {
    ADD: number2 "add" (a, b) = a + b, &[], "a + b, elementwise.";
    SUB: number2 "sub" (a, b) = a - b, &[], "a - b, elementwise.";
    MUL: number2 "mul" (a, b) = a * b, BILINEAR, "a * b, elementwise.";
    DIV: number2 "div" (a, b) = a / b, &[], "a / b, elementwise; of integers rounded down, 0 when b is 0.";
    MAX: number2 "max" (a, b) = a.max(b), &[], "The greater of a and b, elementwise; NaN when either is.";
    MIN: number2 "min" (a, b) = a.min(b), &[], "The lesser of a and b, elementwise; NaN when either is.";
    POW: number2 "pow" (a, b) = Expr::binary(Binary::Pow, a, b), &[],
        "a to the power b, elementwise; of reals NaN where a < 0 and b is not whole; integers wrap.";
    MOD: number2 "mod" (a, b) = a.modulo(b), &[],
        "a - b floor(a / b), elementwise: the remainder with b's sign, as NumPy's; of integers 0 when b is 0.";
    NEG: number1 "neg" (x) = -x, ADDITIVE, "-x, elementwise.";
    ABS: number1 "abs" (x) = x.apply(Unary::Abs), &[], "|x|, elementwise.";
    SIGN: number1 "sign" (x) = x.apply(Unary::Sign), &[], "-1, 0 or 1 by the sign of x, elementwise; NaN stays.";
    EXP: real1 "exp" (x) = x.apply(Unary::Exp), &[], "e^x, elementwise.";
    LOG: real1 "log" (x) = x.apply(Unary::Log), &[], "The natural logarithm, elementwise.";
    SQRT: real1 "sqrt" (x) = x.apply(Unary::Sqrt), &[], "The square root, elementwise.";
    RSQRT: real1 "rsqrt" (x) = x.apply(Unary::Rsqrt), &[], "1 / sqrt(x), elementwise.";
    RECIP: real1 "recip" (x) = x.apply(Unary::Recip), &[], "1 / x, elementwise.";
    TANH: real1 "tanh" (x) = x.apply(Unary::Tanh), &[], "The hyperbolic tangent, elementwise.";
    SIGMOID: real1 "sigmoid" (x) = x.apply(Unary::Sigmoid), &[], "1 / (1 + e^-x), elementwise.";
    SILU: real1 "silu" (x) = x.clone() * x.apply(Unary::Sigmoid), &[], "x sigmoid(x), elementwise.";
    RELU: real1 "relu" (x) = x.max(Expr::float(0.0)), &[], "max(x, 0), elementwise.";
    SOFTPLUS: real1 "softplus" (x) = softplus(x), &[],
        "log(1 + e^x), elementwise, as max(x, 0) + log(1 + e^-|x|), which no x makes overflow.";
    ELU: real1 "elu" (x) = Expr::select(x.clone().ge(Expr::float(0.0)), x.clone(), x.apply(Unary::Expm1)), &[],
        "x where x >= 0, else e^x - 1, elementwise.";
    ERF: real1 "erf" (x) = x.apply(Unary::Erf), &[], "The error function, elementwise.";
    SIN: real1 "sin" (x) = x.apply(Unary::Sin), &[], "The sine of x in radians, elementwise.";
    COS: real1 "cos" (x) = x.apply(Unary::Cos), &[], "The cosine of x in radians, elementwise.";
    FLOOR: real1 "floor" (x) = x.apply(Unary::Floor), &[], "The greatest whole number up to x, elementwise.";
    ROUND: real1 "round" (x) = x.apply(Unary::RoundEven), &[],
        "The nearest whole number, ties to the even one, elementwise.";
    IS_NAN: test1 "is_nan" (x) = x.apply(Unary::IsNan), &[], "Whether x is NaN, elementwise.";
    EQ: test2 "eq" (a, b) = Expr::compare(Compare::Eq, a, b), &[], "a == b, elementwise; false where either is NaN.";
    NE: test2 "ne" (a, b) = Expr::compare(Compare::Ne, a, b), &[], "a != b, elementwise; true where either is NaN.";
    LT: test2 "lt" (a, b) = Expr::compare(Compare::Lt, a, b), &[], "a < b, elementwise; false where either is NaN.";
    LE: test2 "le" (a, b) = Expr::compare(Compare::Le, a, b), &[], "a <= b, elementwise; false where either is NaN.";
    GT: test2 "gt" (a, b) = Expr::compare(Compare::Gt, a, b), &[], "a > b, elementwise; false where either is NaN.";
    GE: test2 "ge" (a, b) = Expr::compare(Compare::Ge, a, b), &[], "a >= b, elementwise; false where either is NaN.";
    AND: logic2 "and" (a, b) = a.and(b), &[], "Both, elementwise.";
    OR: logic2 "or" (a, b) = a.or(b), &[], "Either, elementwise.";
    NOT: logic1 "not" (x) = !x, &[], "The opposite, elementwise.";
}

fn softplus(x: Expr) -> Expr {
    let tail = (-x.clone().apply(Unary::Abs)).apply(Unary::Exp).apply(Unary::Log1p);
    x.max(Expr::float(0.0)) + tail
}

static SELECT_OP: Op = form!(@op "select",
    "a where cond holds, else b, elementwise; a and b have one type, cond is boolean, all three broadcast.",
    SELECT, &[], select_type,
    "func @main(%c: bool[2, 3], %a: f32[2, 3], %b: f32[]) -> f32[2, 3] {\n  %y = select %c, %a, %b\n  return %y\n}\n",
    &[], |_, x| Expr::select(x[0].clone(), x[1].clone(), x[2].clone()));

const GELU_ATTRS: &[AttrSpec] = &[attr("tanh", AttrKind::Bool, "the tanh approximation, default the erf form")];

static GELU: Op = form!(@op "gelu",
    "x/2 (1 + erf(x / sqrt 2)), elementwise; with {tanh} x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).",
    DATA_1, GELU_ATTRS, same_type, form!(@example1 "gelu", "f32", "f32"), &[], gelu);

const CAST_ATTRS: &[AttrSpec] = &[required("to", AttrKind::DType, "the element type of the result")];

static CAST: Op = form!(@op "cast",
    "x in another element type, elementwise: reals to the nearest (ties to even), reals to integers towards zero \
     (saturating at 64 bits, NaN to 0), i64 to i32 wrapping, anything to bool as x != 0, bool to 0 or 1.",
    ANY_1, CAST_ATTRS, cast_type,
    "func @main(%x: f32[2, 3]) -> bf16[2, 3] {\n  %y = cast %x {to = bf16}\n  return %y\n}\n",
    &[], cast);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::DimValues;
    use crate::expr::{Node, Scalar};
    use crate::ops::find;

    fn value(name: &str, attrs: Attrs, operands: &[Scalar]) -> Scalar {
        let Meaning::Pointwise(f) = find(name).unwrap().meaning else { panic!("{name} is elementwise") };
        let args: Vec<Expr> = (0..operands.len()).map(Expr::arg).collect();
        f(&attrs, &args).eval(&DimValues::new(), &mut |leaf| match leaf {
            Node::Arg(k) => operands[*k],
            other => panic!("{other:?}"),
        })
    }

    fn real(name: &str, operands: &[f64]) -> f64 {
        let operands: Vec<Scalar> = operands.iter().map(|&x| Scalar::Float(x)).collect();
        value(name, Attrs::new(), &operands).as_float()
    }

    #[test]
    fn values_of_the_table() {
        for (name, operands, expected) in [
            ("softplus", &[1000.0][..], 1000.0),
            ("softplus", &[-1000.0], 0.0),
            ("softplus", &[0.0], std::f64::consts::LN_2),
            ("elu", &[-1.0], (-1.0f64).exp_m1()),
            ("elu", &[2.0], 2.0),
            ("silu", &[1.0], 0.7310585786300049),
            ("gelu", &[1.0], 0.8413447460685429),
            ("mod", &[-7.5, 2.0], 0.5),
            ("mod", &[7.5, -2.0], -0.5),
            ("round", &[2.5], 2.0),
            ("round", &[-3.5], -4.0),
            ("pow", &[2.0, -2.0], 0.25),
            ("sign", &[-0.3], -1.0),
            ("relu", &[-3.0], 0.0),
        ] {
            assert!((real(name, operands) - expected).abs() <= 1e-15 * expected.abs(), "{name} {operands:?}");
        }
        assert!(real("max", &[f64::NAN, 1.0]).is_nan() && real("relu", &[f64::NAN]).is_nan());
        assert!(real("sign", &[f64::NAN]).is_nan());
        let tanh = value("gelu", Attrs::new().with_flag("tanh", true), &[Scalar::Float(1.0)]).as_float();
        assert!((tanh - 0.8411919906082768).abs() < 1e-15);
    }

    #[test]
    fn integers_and_conversions() {
        let int = |name: &str, a: i64, b: i64| value(name, Attrs::new(), &[Scalar::Int(a), Scalar::Int(b)]).as_int();
        assert_eq!((int("div", -7, 2), int("mod", -7, 2), int("div", 7, 0)), (-4, 1, 0));
        assert_eq!((int("pow", 3, 4), int("max", -2, 5)), (81, 5));
        let cast = |x: Scalar, to: &str| value("cast", Attrs::new().with_name("to", to), &[x]);
        assert_eq!(cast(Scalar::Float(1.0 + 1.0 / 512.0), "bf16"), Scalar::Float(1.0));
        assert_eq!(cast(Scalar::Float(-2.7), "i64"), Scalar::Int(-2));
        assert_eq!(cast(Scalar::Int(1 << 32 | 5), "i32"), Scalar::Int(5));
        assert_eq!(cast(Scalar::Float(0.5), "bool"), Scalar::Bool(true));
        assert_eq!(cast(Scalar::Bool(true), "f32"), Scalar::Float(1.0));
    }
}
