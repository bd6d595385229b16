//! Functions of one number that layers name by attribute: the same list as the operator `map` takes.

use super::steps::{Step, plain, scalar};
use crate::attr::Attrs;
use crate::expr::erf;
use crate::program::{Builder, ValueId};

/// The names.
pub const NAMES: &[&str] =
    &["exp", "relu", "square", "silu", "sigmoid", "tanh", "elu", "elu1", "gelu", "gelu_tanh", "identity", "abs"];

/// The function's value; an unknown name is the identity.
pub fn evaluate(name: &str, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match name {
        "exp" => x.exp(),
        "relu" => x.max(0.0),
        "square" => x * x,
        "silu" => x * sigmoid(x),
        "sigmoid" => sigmoid(x),
        "tanh" => x.tanh(),
        "elu" => {
            if x > 0.0 {
                x
            } else {
                x.exp_m1()
            }
        }
        "elu1" => {
            if x > 0.0 {
                x + 1.0
            } else {
                x.exp()
            }
        }
        "gelu" => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        // The cubic of the tanh form, as published with GELU.
        "gelu_tanh" => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        "abs" => x.abs(),
        _ => x,
    }
}

/// The function of every element of a tensor.
pub fn expand(b: &mut Builder, name: &str, v: ValueId) -> Step {
    match name {
        "identity" => Ok(v),
        "square" => plain(b, "mul", &[v, v]),
        // Not elu + 1: far below 0 that sum keeps nothing of exp(x) in a short type.
        "elu1" => {
            let dtype = b.ty(v).dtype();
            let (zero, one) = (scalar(b, 0.0, dtype), scalar(b, 1.0, dtype));
            let above = plain(b, "gt", &[v, zero])?;
            let line = plain(b, "add", &[v, one])?;
            let curve = plain(b, "exp", &[v])?;
            plain(b, "select", &[above, line, curve])
        }
        "gelu_tanh" => b.op("gelu", &[v], Attrs::new().with_flag("tanh", true)),
        _ => plain(b, name, &[v]),
    }
}
