//! The value of an expression: what every function means, on reals in f64.

use super::{Binary, Compare, Expr, Kind, Node, Unary};
use crate::dim::DimValues;

/// A value of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Real.
    Float(f64),
    /// 64-bit integer.
    Int(i64),
    /// Boolean.
    Bool(bool),
}

impl Scalar {
    /// As a real number.
    pub fn as_float(self) -> f64 {
        match self {
            Scalar::Float(x) => x,
            Scalar::Int(n) => n as f64,
            Scalar::Bool(b) => f64::from(b),
        }
    }

    /// As an integer: reals truncate and saturate.
    pub fn as_int(self) -> i64 {
        match self {
            Scalar::Float(x) => x as i64,
            Scalar::Int(n) => n,
            Scalar::Bool(b) => i64::from(b),
        }
    }

    /// As a boolean: not 0.
    pub fn as_bool(self) -> bool {
        match self {
            Scalar::Float(x) => x != 0.0,
            Scalar::Int(n) => n != 0,
            Scalar::Bool(b) => b,
        }
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            Scalar::Float(_) => Kind::Float,
            Scalar::Int(_) => Kind::Int,
            Scalar::Bool(_) => Kind::Bool,
        }
    }
}

impl Expr {
    /// The value, where `leaf` answers for operands, variables, tensor and tile elements.
    pub fn eval(&self, dims: &DimValues, leaf: &mut dyn FnMut(&Node) -> Scalar) -> Scalar {
        match self.node() {
            Node::Float(x) => Scalar::Float(*x),
            Node::Int(n) => Scalar::Int(*n),
            Node::Bool(b) => Scalar::Bool(*b),
            // A dim without a value cannot be met after verification; 0 is then as wrong as anything.
            Node::Dim(d) => Scalar::Int(d.eval(dims).unwrap_or(0)),
            Node::Unary(op, a) => eval_unary(*op, a.eval(dims, leaf)),
            Node::Binary(op, a, b) => {
                let (a, b) = (a.eval(dims, leaf), b.eval(dims, leaf));
                eval_binary(*op, a, b)
            }
            Node::Compare(op, a, b) => {
                let (a, b) = (a.eval(dims, leaf), b.eval(dims, leaf));
                Scalar::Bool(eval_compare(*op, a, b))
            }
            Node::Select(c, a, b) => {
                if c.eval(dims, leaf).as_bool() {
                    a.eval(dims, leaf)
                } else {
                    b.eval(dims, leaf)
                }
            }
            Node::ToFloat(a) => Scalar::Float(a.eval(dims, leaf).as_float()),
            Node::ToInt(a) => Scalar::Int(a.eval(dims, leaf).as_int()),
            Node::ToBool(a) => Scalar::Bool(a.eval(dims, leaf).as_bool()),
            Node::Round(d, a) => match a.eval(dims, leaf) {
                Scalar::Float(x) => Scalar::Float(d.round(x)),
                Scalar::Int(n) if *d == crate::dtype::DType::I32 => Scalar::Int(n as i32 as i64),
                other => other,
            },
            n @ (Node::Arg(_) | Node::Var(_) | Node::Load(_) | Node::Tile(..)) => leaf(n),
        }
    }
}

/// The value of `op` at `a`.
pub fn eval_unary(op: Unary, a: Scalar) -> Scalar {
    if let Scalar::Int(n) = a {
        match op {
            Unary::Neg => return Scalar::Int(n.wrapping_neg()),
            Unary::Abs => return Scalar::Int(n.wrapping_abs()),
            Unary::Sign => return Scalar::Int(n.signum()),
            _ => {}
        }
    }
    let x = a.as_float();
    Scalar::Float(match op {
        Unary::Not => return Scalar::Bool(!a.as_bool()),
        Unary::IsNan => return Scalar::Bool(x.is_nan()),
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Exp => x.exp(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Recip => 1.0 / x,
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Erf => erf(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Sign if x.is_nan() || x == 0.0 => x,
        Unary::Sign => x.signum(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Trunc => x.trunc(),
        Unary::RoundEven => x.round_ties_even(),
    })
}

/// The value of `op` at `a` and `b`, in the kind of `a`.
pub fn eval_binary(op: Binary, a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (Scalar::Int(x), _) => {
            let y = b.as_int();
            Scalar::Int(match op {
                Binary::Add => x.wrapping_add(y),
                Binary::Sub => x.wrapping_sub(y),
                Binary::Mul => x.wrapping_mul(y),
                Binary::Div if y == 0 => 0,
                Binary::Div => x.wrapping_div(y) - i64::from(x.wrapping_rem(y) != 0 && (x < 0) != (y < 0)),
                Binary::Mod if y == 0 => 0,
                Binary::Mod => {
                    let r = x.wrapping_rem(y);
                    if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
                }
                Binary::Max => x.max(y),
                Binary::Min => x.min(y),
                Binary::Pow => match u32::try_from(y) {
                    Ok(n) => x.wrapping_pow(n),
                    Err(_) if y > 0 => 0,
                    Err(_) => match x {
                        1 => 1,
                        -1 => 1 - 2 * (y & 1),
                        _ => 0,
                    },
                },
                Binary::And => x & y,
                Binary::Or => x | y,
            })
        }
        (Scalar::Bool(x), _) => {
            let y = b.as_bool();
            Scalar::Bool(match op {
                Binary::And | Binary::Min | Binary::Mul => x && y,
                Binary::Or | Binary::Max | Binary::Add => x || y,
                Binary::Sub | Binary::Mod => x != y,
                Binary::Div | Binary::Pow => x,
            })
        }
        (Scalar::Float(x), _) => {
            let y = b.as_float();
            Scalar::Float(match op {
                Binary::Add => x + y,
                Binary::Sub => x - y,
                Binary::Mul => x * y,
                Binary::Div => x / y,
                Binary::Mod => {
                    let r = x % y;
                    if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                }
                Binary::Max if x.is_nan() || y.is_nan() => f64::NAN,
                Binary::Max => x.max(y),
                Binary::Min if x.is_nan() || y.is_nan() => f64::NAN,
                Binary::Min => x.min(y),
                Binary::Pow => x.powf(y),
                Binary::And => f64::from(x != 0.0 && y != 0.0),
                Binary::Or => f64::from(x != 0.0 || y != 0.0),
            })
        }
    }
}

/// The truth of `a op b`.
pub fn eval_compare(op: Compare, a: Scalar, b: Scalar) -> bool {
    let ordering = match (a, b) {
        (Scalar::Int(x), Scalar::Int(y)) => Some(x.cmp(&y)),
        (Scalar::Bool(x), Scalar::Bool(y)) => Some(x.cmp(&y)),
        _ => a.as_float().partial_cmp(&b.as_float()),
    };
    match (op, ordering) {
        (Compare::Ne, None) => true,
        (_, None) => false,
        (Compare::Eq, Some(o)) => o.is_eq(),
        (Compare::Ne, Some(o)) => o.is_ne(),
        (Compare::Lt, Some(o)) => o.is_lt(),
        (Compare::Le, Some(o)) => o.is_le(),
        (Compare::Gt, Some(o)) => o.is_gt(),
        (Compare::Ge, Some(o)) => o.is_ge(),
    }
}

/// The error function to about 1e-16: its Taylor series near 0 and the continued fraction of erfc beyond
/// (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let value = if a < 2.5 {
        // erf x = 2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1*3*...*(2n+1)): all terms positive, no cancellation.
        let mut term = a;
        let mut sum = a;
        let mut n = 0.0;
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else if a > 6.0 {
        1.0
    } else {
        // erfc x = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))), evaluated from the inside.
        let mut tail = a;
        for k in (1..=60).rev() {
            tail = a + f64::from(k) / 2.0 / tail;
        }
        1.0 - std::f64::consts::FRAC_2_SQRT_PI / 2.0 * (-a * a).exp() / tail
    };
    value.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_known_values() {
        for (x, y) in [
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (2.4, 0.9993114861033549),
            (2.6, 0.9997639655834707),
            (4.0, 0.9999999845827421),
        ] {
            assert!((erf(x) - y).abs() < 2e-16 * 4.0, "erf {x}: {} {y}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }

    #[test]
    fn integer_division_rounds_down_and_never_traps() {
        let div = |a, b| eval_binary(Binary::Div, Scalar::Int(a), Scalar::Int(b)).as_int();
        let rem = |a, b| eval_binary(Binary::Mod, Scalar::Int(a), Scalar::Int(b)).as_int();
        assert_eq!((div(-7, 2), rem(-7, 2)), (-4, 1));
        assert_eq!((div(7, -2), rem(7, -2)), (-4, -1));
        assert_eq!((div(7, 0), rem(7, 0)), (0, 0));
        assert_eq!((div(i64::MIN, -1), rem(i64::MIN, -1)), (i64::MIN, 0));
    }
}
