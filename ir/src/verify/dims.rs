//! Dims and types as written, resolved against the `dim` items and held to the limits.

use super::findings::Findings;
use crate::diag::{Diagnostic, Span};
use crate::dim::{Atom, Dim, DimBounds, DimError};
use crate::dtype::DType;
use crate::op::nearest;
use crate::program::DimItem;
use crate::text::ast::{Binary, Expr, ExprKind, TypeExpr};
use crate::text::limits;
use crate::ty::{Align, MixType, Type};
use std::collections::BTreeSet;

/// The `dim` items of a file.
#[derive(Default)]
pub struct Symbols {
    /// Well-formed ones, in order.
    pub items: Vec<DimItem>,
    /// Where each of `items` is.
    pub places: Vec<Span>,
    /// Their bounds.
    pub bounds: DimBounds,
    /// Names of items with errors: uses of them are not reported again.
    pub broken: BTreeSet<String>,
}

/// Something is wrong; it is recorded.
pub struct Wrong;

impl Symbols {
    /// Adds the item `dim name = low..high`.
    pub fn declare(&mut self, name: &str, at: Span, low: &Expr, high: &Expr, findings: &mut Findings) {
        if self.bounds.contains_key(name) || self.broken.contains(name) {
            findings.at("E0503", at, format!("dim `{name}` is declared twice"));
            return;
        }
        let ends = self.bound(low, findings).and_then(|low| Ok((low, self.bound(high, findings)?)));
        let Ok((low_value, high_value)) = ends else {
            self.broken.insert(name.to_string());
            return;
        };
        if low_value > high_value {
            let span = low.at.0.to(high.at.0);
            findings.at("E0504", span, format!("dim `{name}` has no value: {low_value} is above {high_value}"));
            self.broken.insert(name.to_string());
            return;
        }
        self.items.push(DimItem { name: name.into(), low: low_value, high: high_value });
        self.places.push(at);
        self.bounds.insert(name.into(), (low_value, high_value));
    }

    /// A bound: a number from 0 to [`limits::MAX_BOUND`].
    fn bound(&self, e: &Expr, findings: &mut Findings) -> Result<i64, Wrong> {
        let mut symbols = Vec::new();
        names(e, &mut symbols);
        let value = if symbols.is_empty() { self.dim(e, findings)?.as_constant() } else { None };
        let Some(value) = value else {
            findings.at("E0504", e.at.0, "a bound of a dim is a number");
            return Err(Wrong);
        };
        if !(0..limits::MAX_BOUND).contains(&value) {
            findings.at("E0504", e.at.0, format!("{value} is no bound: bounds lie from 0 to 2^40 - 1"));
            return Err(Wrong);
        }
        Ok(value)
    }

    /// The dim that an expression means.
    pub fn dim(&self, e: &Expr, findings: &mut Findings) -> Result<Dim, Wrong> {
        let span = e.at.0;
        let result = match &e.kind {
            ExprKind::Int(n) => Ok(Dim::constant(*n)),
            ExprKind::Name(name) => return self.symbol(name, span, findings),
            ExprKind::Neg(x) => self.dim(x, findings)?.scale(-1),
            ExprKind::Binary(Binary::Div, x, n) => self.quotient(x, n, findings)?,
            ExprKind::Binary(binary, x, y) => {
                let (x, y) = (self.dim(x, findings), self.dim(y, findings));
                let (x, y) = (x?, y?);
                match binary {
                    Binary::Add => x.add(&y),
                    Binary::Sub => x.sub(&y),
                    _ if x.terms().count() * y.terms().count() > limits::MAX_PRODUCT_TERMS => {
                        findings.at("E0508", span, "this dim has too many terms");
                        return Err(Wrong);
                    }
                    _ => x.mul(&y),
                }
            }
            ExprKind::Ceil(x) => match &x.kind {
                ExprKind::Binary(Binary::Div, x, n) => {
                    let (x, n) = (self.dim(x, findings), self.divisor(n, findings));
                    x?.ceil_div(n?)
                }
                _ => {
                    findings.at("E0507", span, "`ceil` takes a quotient: `ceil(T/8)`");
                    return Err(Wrong);
                }
            },
            ExprKind::Float(_) | ExprKind::Text(_) | ExprKind::List(_) => {
                findings.at("E0507", span, "expected an integer or an expression of dims");
                return Err(Wrong);
            }
        };
        let dim = result.map_err(|error| arithmetic(span, error, findings))?;
        within_limits(&dim, span, findings)?;
        Ok(dim)
    }

    fn symbol(&self, name: &str, span: Span, findings: &mut Findings) -> Result<Dim, Wrong> {
        if self.bounds.contains_key(name) {
            return Ok(Dim::symbol(name));
        }
        if !self.broken.contains(name) && findings.is_new("E0502", span) {
            let help = findings
                .suggest("", name, self.bounds.keys().map(|s| &**s))
                .unwrap_or_else(|| format!("declare it: `dim {name} = 1..8192`"));
            findings.push(Diagnostic::at("E0502", span, format!("dim `{name}` is not declared")).help(help));
        }
        Err(Wrong)
    }

    fn quotient(&self, x: &Expr, n: &Expr, findings: &mut Findings) -> Result<Result<Dim, DimError>, Wrong> {
        let (x, n) = (self.dim(x, findings), self.divisor(n, findings));
        Ok(x?.div(n?))
    }

    fn divisor(&self, n: &Expr, findings: &mut Findings) -> Result<i64, Wrong> {
        self.dim(n, findings)?.as_constant().ok_or_else(|| {
            findings.at("E0501", n.at.0, "a dim can only be divided by a number");
            Wrong
        })
    }

    /// The type that is written.
    pub fn ty(&self, t: &TypeExpr, findings: &mut Findings) -> Result<Type, Wrong> {
        let dtype = DType::parse(&t.dtype.text).ok_or_else(|| {
            let known: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
            let help = match nearest(&t.dtype.text, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("element types are {}", known.join(", ")),
            };
            let message = format!("`{}` is not an element type", t.dtype.text);
            findings.push(Diagnostic::at("E0207", t.dtype.at.0, message).help(help));
            Wrong
        });
        let mut dims = Vec::new();
        let mut wrong = false;
        for e in &t.dims {
            match self.dim(e, findings) {
                Ok(d) => dims.push(d),
                Err(Wrong) => wrong = true,
            }
        }
        let dtype = dtype?;
        if wrong {
            return Err(Wrong);
        }
        if !t.mix {
            return self.sized(Type::tensor(dtype, dims), t.at.0, findings);
        }
        let mut dims = dims.into_iter();
        let (Some(cols), Some(rows)) = (dims.next_back(), dims.next_back()) else {
            findings.at("E0203", t.at.0, "an operator's type has rows and columns: `mix f32[T, S]`");
            return Err(Wrong);
        };
        if !matches!(dtype, DType::F32 | DType::F64) {
            findings.at("E0203", t.dtype.at.0, format!("an operator holds f32 or f64, not {dtype}"));
            return Err(Wrong);
        }
        self.sized(Type::Mix(MixType { dtype, batch: dims.collect(), rows, cols, align: Align::End }), t.at.0, findings)
    }

    /// `ty`, if its dims can have values and the whole fits the address space at their upper bounds.
    pub fn sized(&self, ty: Type, span: Span, findings: &mut Findings) -> Result<Type, Wrong> {
        let dims = ty.dims();
        if dims.len() > limits::MAX_RANK {
            findings.at("E0508", span, format!("{} axes; at most {} are allowed", dims.len(), limits::MAX_RANK));
            return Err(Wrong);
        }
        let mut products = 1usize;
        let mut sizes = Vec::new();
        for d in &dims {
            within_limits(d, span, findings)?;
            products = products.saturating_mul(d.terms().count().max(1));
            let (low, high) = d.bounds(&self.bounds).map_err(|error| match error {
                DimError::Overflow => {
                    findings.at("E0506", span, format!("the length `{d}` can leave the 64-bit range"));
                    Wrong
                }
                error => arithmetic(span, error, findings),
            })?;
            if high < 0 || low > high {
                findings.at("E0510", span, format!("the length `{d}` has no value of at least 0 within the bounds"));
                return Err(Wrong);
            }
            sizes.push(high);
        }
        if products > limits::MAX_PRODUCT_TERMS {
            findings.at("E0508", span, format!("the lengths of {ty} are too long together"));
            return Err(Wrong);
        }
        // An operator is never stored as a matrix: its rows and its columns each have to be addressable.
        let bytes = |sizes: &[i64]| {
            sizes
                .iter()
                .try_fold(ty.dtype().bytes() as i64, |n, &d| n.checked_mul(d).filter(|n| *n < limits::MAX_BYTES))
        };
        let fits = match &ty {
            // A zero among the lengths must not hide that the others are too many.
            Type::Tensor(_) => bytes(&sizes.iter().map(|n| (*n).max(1)).collect::<Vec<_>>()).is_some(),
            Type::Mix(m) => {
                let (batch, matrix) = sizes.split_at(m.batch.len());
                matrix.iter().all(|n| {
                    let one: Vec<i64> = batch.iter().chain([n]).map(|n| (*n).max(1)).collect();
                    bytes(&one).is_some()
                })
            }
        };
        if !fits {
            let message = format!("a value of type {ty} can have 2^62 bytes or more");
            findings.push(Diagnostic::at("E0506", span, message).help("lower the bounds of its dims"));
            return Err(Wrong);
        }
        Ok(ty)
    }
}

/// Whether a dim is simple enough to be computed with everywhere.
pub fn within_limits(d: &Dim, span: Span, findings: &mut Findings) -> Result<(), Wrong> {
    if simple(d, 0) {
        return Ok(());
    }
    findings.at("E0508", span, "this dim has too many terms, factors or divisions");
    Err(Wrong)
}

fn simple(d: &Dim, divisions: usize) -> bool {
    divisions <= limits::MAX_DIVISIONS
        && d.terms().count() <= limits::MAX_TERMS
        && d.terms().all(|(product, _)| {
            product.len() <= limits::MAX_DEGREE
                && product.iter().all(|atom| match atom {
                    Atom::Symbol(_) => true,
                    Atom::Exact(d, _) | Atom::Ceil(d, _) => simple(d, divisions + 1),
                })
        })
}

fn arithmetic(span: Span, error: DimError, findings: &mut Findings) -> Wrong {
    findings.at("E0501", span, error.to_string());
    Wrong
}

/// Every name in an expression; its depth is bounded by the parser.
fn names<'e>(e: &'e Expr, into: &mut Vec<&'e str>) {
    match &e.kind {
        ExprKind::Name(name) => into.push(name),
        ExprKind::Neg(x) | ExprKind::Ceil(x) => names(x, into),
        ExprKind::Binary(_, x, y) => {
            names(x, into);
            names(y, into);
        }
        ExprKind::List(items) => items.iter().for_each(|x| names(x, into)),
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Text(_) => {}
    }
}
