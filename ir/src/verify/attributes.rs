//! Attributes of a statement, checked against what the operation accepts, each at its own place.

use super::dims::{Symbols, Wrong};
use super::findings::Findings;
use crate::attr::{AttrKind, AttrValue, Attrs, Real};
use crate::diag::{Diagnostic, Span};
use crate::op::Op;
use crate::text::ast::{Attr, Expr, ExprKind};
use crate::text::{limits, shorten};

/// The attributes of a call of `op`, whose name stands at `head`. All errors are recorded.
pub fn resolve(
    op: &Op,
    head: Span,
    written: &[Attr],
    symbols: &Symbols,
    findings: &mut Findings,
) -> Result<Attrs, Wrong> {
    let mut wrong = false;
    let mut attrs = Attrs::new();
    for attr in written {
        let (name, span) = (attr.name.text.as_str(), attr.name.at.0);
        let Some(spec) = op.attrs.iter().find(|s| s.name == name) else {
            unknown(op, name, span, findings);
            wrong = true;
            continue;
        };
        if written.iter().take_while(|a| !std::ptr::eq(*a, attr)).any(|a| a.name.text == name) {
            findings.at("E0305", span, format!("attribute `{name}` is given twice"));
            wrong = true;
            continue;
        }
        let (value, span) = match &attr.value {
            None => (Ok(AttrValue::Bool(true)), span),
            Some(e) => (value(e, spec.kind, symbols, findings), e.at.0),
        };
        let Ok(value) = value else {
            wrong = true;
            continue;
        };
        match spec.kind.mismatch(&value) {
            None => attrs = attrs.with(name, value),
            Some(expected) => {
                let message = format!("attribute `{name}` must be {expected}, found `{}`", shorten(&value.to_string()));
                findings.push(Diagnostic::at("E0302", span, message).help(spec.doc));
                wrong = true;
            }
        }
    }
    for spec in op.attrs.iter().filter(|s| s.required && !written.iter().any(|a| a.name.text == s.name)) {
        let message = format!("`{}` needs attribute `{}`", op.name, spec.name);
        findings.push(Diagnostic::at("E0304", head, message).help(spec.doc));
        wrong = true;
    }
    if wrong { Err(Wrong) } else { Ok(attrs) }
}

fn unknown(op: &Op, name: &str, span: Span, findings: &mut Findings) {
    if !findings.is_new("E0301", span) {
        return;
    }
    let known = || op.attrs.iter().map(|s| s.name);
    let help = findings.suggest("", name, known()).unwrap_or_else(|| match op.attrs.is_empty() {
        true => format!("`{}` takes no attributes", op.name),
        false => format!("it takes {}", known().collect::<Vec<_>>().join(", ")),
    });
    findings.push(Diagnostic::at("E0301", span, format!("`{}` has no attribute `{name}`", op.name)).help(help));
}

/// The value of an expression where `kind` is expected; one of another kind is given as what it is, so that the caller
/// can say what was found.
fn value(e: &Expr, kind: AttrKind, symbols: &Symbols, findings: &mut Findings) -> Result<AttrValue, Wrong> {
    let wants_dims = matches!(kind, AttrKind::Int | AttrKind::Dim | AttrKind::Ints | AttrKind::Dims);
    let wants_word = matches!(kind, AttrKind::Name(_) | AttrKind::DType);
    Ok(match &e.kind {
        ExprKind::Name(name) if wants_word => AttrValue::Name(name.clone()),
        ExprKind::Name(name) if !wants_dims && (name == "true" || name == "false") => AttrValue::Bool(name == "true"),
        ExprKind::Name(name) if kind == AttrKind::Float && infinite(name).is_some() => {
            AttrValue::Float(Real(infinite(name).unwrap_or_default()))
        }
        ExprKind::Name(name) if wants_dims || symbols.bounds.contains_key(name.as_str()) => {
            AttrValue::Dim(symbols.dim(e, findings)?)
        }
        ExprKind::Name(name) => AttrValue::Name(name.clone()),
        ExprKind::Neg(x)
            if kind == AttrKind::Float && matches!(&x.kind, ExprKind::Name(n) if infinite(n).is_some()) =>
        {
            AttrValue::Float(Real(f64::NEG_INFINITY))
        }
        ExprKind::Float(x) => AttrValue::Float(*x),
        ExprKind::Text(text) => AttrValue::Text(text.clone()),
        ExprKind::List(items) => {
            // An error in one entry does not hide those of the others.
            let values: Vec<_> = items.iter().map(|x| value(x, kind, symbols, findings)).collect();
            let values: Vec<AttrValue> = values.into_iter().collect::<Result<_, Wrong>>()?;
            let terms = values.iter().fold(1usize, |n, v| match v {
                AttrValue::Dim(d) => n.saturating_mul(d.terms().count().max(1)),
                _ => n,
            });
            if terms > limits::MAX_PRODUCT_TERMS {
                findings.at("E0508", e.at.0, "the dims of this list are too long together");
                return Err(Wrong);
            }
            AttrValue::List(values)
        }
        ExprKind::Int(_) | ExprKind::Neg(_) | ExprKind::Binary(..) | ExprKind::Ceil(_) => {
            AttrValue::Dim(symbols.dim(e, findings)?)
        }
    })
}

fn infinite(name: &str) -> Option<f64> {
    match name {
        "inf" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}
