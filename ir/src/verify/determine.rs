//! How the values of dims follow from the shapes of the parameters.

use crate::dim::{Atom, Dim, DimValues, Symbol};
use crate::program::{DimItem, Program};
use crate::ty::Type;
use std::collections::BTreeSet;

/// Where a dim's value is read off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimSource {
    /// The dim.
    pub symbol: Symbol,
    /// Position of the parameter.
    pub param: usize,
    /// Axis of the parameter whose length determines the dim, given those before it.
    pub axis: usize,
}

/// The dims that the parameters of `program` determine, in an order in which each can be computed.
pub fn dim_sources(program: &Program) -> Vec<DimSource> {
    let types: Vec<&Type> = program.params.iter().map(|p| program.ty(*p)).collect();
    sources(&types, &program.dims)
}

/// As [`dim_sources`], of parameters of these types.
pub fn sources(params: &[&Type], items: &[DimItem]) -> Vec<DimSource> {
    let mut seen = BTreeSet::new();
    let axes: Vec<(usize, usize, Dim)> = params
        .iter()
        .enumerate()
        .flat_map(|(param, ty)| ty.dims().into_iter().enumerate().map(move |(axis, d)| (param, axis, d)))
        .filter(|(_, _, d)| d.as_constant().is_none() && seen.insert(d.clone()))
        .collect();
    let mut known: BTreeSet<Symbol> = BTreeSet::new();
    let mut found = Vec::new();
    // A dim that stands alone is read off directly; others follow by solving for the one that is not known yet.
    for alone in [true, false] {
        loop {
            let before = found.len();
            for (param, axis, d) in &axes {
                let symbol = if alone { d.as_symbol().cloned() } else { unknown(d, &known) };
                if let Some(symbol) = symbol.filter(|s| !known.contains(s) && items.iter().any(|i| i.name == *s)) {
                    known.insert(symbol.clone());
                    found.push(DimSource { symbol, param: *param, axis: *axis });
                }
            }
            if alone || found.len() == before {
                break;
            }
        }
    }
    found
}

/// The one symbol that `d` can be solved for.
fn unknown(d: &Dim, known: &BTreeSet<Symbol>) -> Option<Symbol> {
    let mut symbols = Vec::new();
    d.symbols(&mut symbols);
    symbols.retain(|s| !known.contains(s));
    let [symbol] = symbols.as_slice() else { return None };
    term(d, symbol).is_some().then(|| symbol.clone())
}

/// The term of `d` that holds `symbol`, when it is the only one and a plain multiple of the symbol or of an exact
/// division of something solvable.
fn term<'d>(d: &'d Dim, symbol: &Symbol) -> Option<(&'d Atom, i64)> {
    let mut terms = d.terms().filter(|(product, _)| product.iter().any(|a| holds(a, symbol)));
    let ([atom], coefficient) = terms.next()? else { return None };
    let solvable = match atom {
        Atom::Symbol(_) => true,
        Atom::Exact(inner, _) => term(inner, symbol).is_some(),
        Atom::Ceil(..) => false,
    };
    (solvable && terms.next().is_none()).then_some((atom, coefficient))
}

fn holds(atom: &Atom, symbol: &Symbol) -> bool {
    match atom {
        Atom::Symbol(s) => s == symbol,
        Atom::Exact(d, _) | Atom::Ceil(d, _) => {
            let mut symbols = Vec::new();
            d.symbols(&mut symbols);
            symbols.contains(symbol)
        }
    }
}

/// The value of `symbol` for which `d` is `length`, under `values` of the others.
fn solve(d: &Dim, symbol: &Symbol, length: i64, values: &DimValues) -> Option<i64> {
    let (atom, coefficient) = term(d, symbol)?;
    let own = match atom {
        Atom::Symbol(s) => Dim::symbol(s),
        Atom::Exact(inner, divisor) => inner.div(*divisor).ok()?,
        Atom::Ceil(..) => return None,
    };
    let rest = d.sub(&own.scale(coefficient).ok()?).ok()?;
    let difference = length.checked_sub(rest.eval(values).ok()?)?;
    if difference % coefficient != 0 {
        return None;
    }
    let quotient = difference / coefficient;
    match atom {
        Atom::Exact(inner, divisor) => solve(inner, symbol, quotient.checked_mul(*divisor)?, values),
        _ => Some(quotient),
    }
}

/// The values of the dims of `program` when its parameters have these shapes, or what does not fit: one sentence a
/// parameter or dim.
pub fn bind_dims(program: &Program, shapes: &[&[usize]]) -> Result<DimValues, Vec<String>> {
    let types: Vec<&Type> = program.params.iter().map(|p| program.ty(*p)).collect();
    let mut wrong = Vec::new();
    if shapes.len() != types.len() {
        return Err(vec![format!("{} inputs for {} parameters", shapes.len(), types.len())]);
    }
    for ((p, ty), shape) in program.params.iter().zip(&types).zip(shapes) {
        if ty.dims().len() != shape.len() {
            wrong.push(format!("`%{}` is {ty}, the input has shape {shape:?}", program.name_of(*p)));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut values = DimValues::new();
    for source in dim_sources(program) {
        let d = &types[source.param].dims()[source.axis];
        let length = i64::try_from(shapes[source.param][source.axis]).unwrap_or(i64::MAX);
        match solve(d, &source.symbol, length, &values) {
            Some(value) => {
                values.insert(source.symbol, value);
            }
            None => {
                let param = program.name_of(program.params[source.param]);
                wrong.push(format!("axis {} of `%{param}` is `{d}`, which cannot be {length}", source.axis));
                return Err(wrong);
            }
        }
    }
    for item in &program.dims {
        match values.get(&item.name) {
            Some(n) if !(item.low..=item.high).contains(n) => {
                wrong.push(format!("`{}` is {n}, outside its bounds {}..{}", item.name, item.low, item.high));
            }
            Some(_) => {}
            None => wrong.push(format!("the parameters do not determine `{}`", item.name)),
        }
    }
    for ((p, ty), shape) in program.params.iter().zip(&types).zip(shapes) {
        for (axis, (d, length)) in ty.dims().iter().zip(*shape).enumerate() {
            let fits = match d.eval(&values) {
                Ok(n) => usize::try_from(n) == Ok(*length),
                Err(_) => false,
            };
            if !fits && wrong.is_empty() {
                let value = d.eval(&values).map_or_else(|e| e.to_string(), |n| format!("{n} here"));
                let name = program.name_of(*p);
                wrong.push(format!("axis {axis} of `%{name}` is {length}, expected `{d}` ({value})"));
            }
        }
    }
    if wrong.is_empty() { Ok(values) } else { Err(wrong) }
}
