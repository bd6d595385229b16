//! Constants, checked against their types.

use super::dims::Wrong;
use super::findings::Findings;
use crate::diag::{Diagnostic, Span};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::program::Const;
use crate::text::ast::{Constant, Element, Number};
use crate::ty::Type;

/// The constant `written` of type `ty`, which stands at `at`.
pub fn resolve(written: &Constant, ty: &Type, at: Span, findings: &mut Findings) -> Result<Const, Wrong> {
    let Some(tensor) = ty.as_tensor() else {
        let found = Diagnostic::at("E0208", at, "a constant is a tensor, not a mixing operator");
        findings.push(found.help("make the operator of a constant tensor: `%m = dense %w`"));
        return Err(Wrong);
    };
    let fixed: Option<Vec<i64>> = tensor.shape.iter().map(Dim::as_constant).collect();
    match written {
        Constant::Splat(x) => Ok(Const::Splat(number(x, tensor.dtype, findings)?)),
        Constant::Weight(_) | Constant::Dense { .. } if fixed.is_none() => {
            let found = Diagnostic::at("E0208", at, format!("{ty} has no fixed shape, which stored numbers have"));
            findings.push(found.help("only `splat` constants can have symbolic lengths"));
            Err(Wrong)
        }
        Constant::Weight(name) => Ok(Const::Weight(name.text.clone())),
        Constant::Dense { shape, elements, at } => {
            let lengths: Vec<usize> =
                fixed.unwrap_or_default().into_iter().map(|n| usize::try_from(n).unwrap_or(0)).collect();
            // A literal cannot show the lengths behind one that is 0.
            let shown = lengths.iter().position(|n| *n == 0).map_or(lengths.len(), |k| k + 1);
            if *shape != lengths[..shown] {
                let message = format!("a literal of shape {shape:?} for a constant of type {ty}");
                findings.at("E0209", at.0, message);
                return Err(Wrong);
            }
            let values: Vec<_> = elements.iter().map(|x| number(x, tensor.dtype, findings)).collect();
            Ok(Const::Dense(values.into_iter().collect::<Result<_, Wrong>>()?))
        }
    }
}

/// The number as a real, if `dtype` holds it.
fn number(x: &Element, dtype: DType, findings: &mut Findings) -> Result<f64, Wrong> {
    let (value, exact) = match x.number {
        // A real cannot tell integers apart beyond 2^53.
        Number::Int(n) => (n as f64, dtype.is_float() || n.unsigned_abs() <= 1 << 53),
        Number::Float(x) => (x.0, true),
        Number::Bool(b) => (f64::from(b), dtype == DType::Bool),
    };
    let fits = exact
        && if dtype.is_float() {
            dtype.round(value).is_finite() || !value.is_finite()
        } else {
            // `round` saturates and truncates, so what it changes does not fit.
            dtype.round(value) == value
        };
    if fits {
        return Ok(value);
    }
    let found = match x.number {
        Number::Int(n) => n.to_string(),
        Number::Float(x) => format!("{:?}", x.0),
        Number::Bool(b) => b.to_string(),
    };
    findings.at("E0210", x.at.0, format!("{found} is not a number that {dtype} holds"));
    Err(Wrong)
}
