//! Lengths as source text of other languages.

use mixc_ir::dim::{Atom, Dim};

/// A dim as an expression of 64-bit integers, `field` naming a symbol. Divisions come out (the code checks) or are
/// rounded up.
pub fn expression(d: &Dim, field: &dyn Fn(&str) -> String) -> String {
    let mut terms = Vec::new();
    for (product, c) in d.terms() {
        let mut factors: Vec<String> = Vec::new();
        if c != 1 || product.is_empty() {
            factors.push(c.to_string());
        }
        for atom in product {
            factors.push(match atom {
                Atom::Symbol(s) => field(s),
                Atom::Exact(d, n) => format!("(({}) / {n})", expression(d, field)),
                Atom::Ceil(d, n) => format!("(({} + {}) / {n})", expression(d, field), n - 1),
            });
        }
        terms.push(factors.join(" * "));
    }
    if terms.is_empty() { "0".into() } else { terms.join(" + ") }
}

/// The number of elements of a shape, each length in brackets.
pub fn elements(shape: &[Dim], field: &dyn Fn(&str) -> String) -> String {
    if shape.is_empty() {
        return "1".into();
    }
    shape.iter().map(|d| format!("({})", expression(d, field))).collect::<Vec<_>>().join(" * ")
}
