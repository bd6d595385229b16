//! Shift-invariant operators: elements that depend on the lag i - j alone, found by looking at the elements themselves.
//!
//! A Toeplitz matrix stays one under masks by distance, decays, slopes, scales, sums and maps, and a circulant is one with
//! a periodic generator: none of these is asked for by name. What is given up when it is not seen is speed, never a
//! value.

use super::guard_loads;
use super::lambda::{axis, axis_var};
use super::mix::Mix;
use mixc_ir::dim::{Dim, DimBounds};
use mixc_ir::expr::{Binary, Expr, Node, Var};
use mixc_ir::support::{Condition, Position};

/// The elements of a shift-invariant operator by their lag.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The element over the axes `[batch.., lag]`; 0 where it is absent, and its loads are made for lags from `low` to
    /// `high` alone.
    pub element: Expr,
    /// Where presence is a matter of bounds: the element without guards, and the condition for the lag.
    pub bounded: Option<(Expr, Expr)>,
    /// The least lag that may be present.
    pub low: Dim,
    /// The greatest lag that may be present.
    pub high: Dim,
}

/// `e` with what depends on i and j written in terms of their difference; `None` when it depends on them otherwise.
fn by_lag(e: &Expr, i: Var, j: Var, lag: &Expr) -> Option<Expr> {
    let mut whole = true;
    let written = e.rewrite(&mut |e| {
        if !e.mentions(i) && !e.mentions(j) {
            return Some(e.clone());
        }
        let difference = |e: &Expr| {
            let (ci, rest) = e.linear_in(i)?;
            let (cj, rest) = rest.linear_in(j)?;
            (ci.checked_add(cj) == Some(0)).then(|| lag.clone() * Expr::int(ci) + rest)
        };
        match e.node() {
            Node::Compare(op, a, b) => {
                // Of reals it is looked at by its two sides.
                difference(&(a.clone() - b.clone())).map(|d| Expr::compare(*op, d, Expr::int(0)))
            }
            Node::Var(_) => {
                whole = false;
                Some(e.clone())
            }
            _ => difference(e),
        }
    });
    (whole && !written.mentions(i) && !written.mentions(j)).then_some(written)
}

/// The lags that a condition leaves: bounds, where it gives any.
fn bounds(m: &Mix, c: &Condition) -> (Option<Dim>, Option<Dim>) {
    // With p the row's position, j <= p + by is a lag of at least (i - p) - by.
    let lag = |by: &Dim, at: &Position| match at {
        Position::Row => by.scale(-1).ok(),
        Position::End => m.ty.rows.sub(&m.ty.cols).and_then(|d| d.sub(by)).ok(),
        Position::Lengths(_) => None,
    };
    match c {
        Condition::AtMost { by, at } => (lag(by, at), None),
        Condition::AtLeast { by, at } => (None, lag(by, at)),
        _ => (None, None),
    }
}

/// The lesser of two dims when their difference is a number, else the first.
pub fn lesser(a: Dim, b: &Dim) -> Dim {
    match a.sub(b).ok().and_then(|d| d.as_constant()) {
        Some(n) if n > 0 => b.clone(),
        _ => a,
    }
}

/// The conditions that a condition is all of.
fn conjuncts(e: &Expr) -> Vec<Expr> {
    match e.node() {
        Node::Binary(Binary::And, a, b) => [conjuncts(a), conjuncts(b)].concat(),
        _ => vec![e.clone()],
    }
}

/// `e` with what is known left out of the guards of its loads.
fn unguarded(e: &Expr, known: &[Expr]) -> Expr {
    e.rewrite(&mut |e| match e.node() {
        Node::Load(l) => {
            let index = l.index.iter().map(|i| unguarded(i, known)).collect();
            let left = l.guard.iter().flat_map(conjuncts).filter(|c| !known.contains(c));
            Some(Expr::load_if(l.tensor, index, left.fold(Expr::bool(true), Expr::and), l.fill))
        }
        _ => None,
    })
}

/// The generator of an operator whose elements depend on the lag alone. Of several bounds of the lags that it knows it
/// gives the closest at typical lengths.
pub fn generator(m: &Mix, typical: &dyn Fn(&Dim) -> i64, range: &DimBounds) -> Option<Generator> {
    if m.special.is_some() || !m.products.is_empty() {
        return None;
    }
    let nb = m.rank();
    let lag = axis(nb);
    // Under another name first: axis(nb) is the row's.
    let name = Var(axis_var(nb + 1).0 + 1);
    let (i, j) = (axis_var(nb), axis_var(nb + 1));
    let write = |e: &Expr| Some(by_lag(e, i, j, &Expr::from(name))?.with_var(name, &lag));
    let (value, support) = (write(&m.value)?, write(&m.support)?);
    let last = |d: &Dim| d.sub(&Dim::constant(1)).ok();
    let (least, most) = (last(&m.ty.cols)?.scale(-1).ok()?, last(&m.ty.rows)?);
    let (mut low, mut high) = (least.clone(), most.clone());
    // Bounds may be all that the support says.
    let mut bounded = m.structure.support.regions.len() == 1;
    let (mut lower, mut upper) = (vec![least], vec![most]);
    if let [region] = m.structure.support.regions.as_slice() {
        for c in region {
            let (l, h) = bounds(m, c);
            bounded &= l.is_some() || h.is_some();
            low = l.clone().filter(|l| typical(l) > typical(&low)).unwrap_or(low);
            high = h.clone().filter(|h| typical(h) < typical(&high)).unwrap_or(high);
            lower.extend(l);
            upper.extend(h);
        }
    }
    // Every bound holds, whichever is the closest at the call; those that others imply are left out.
    let implies = |a: &Dim, b: &Dim| a.sub(b).and_then(|d| d.bounds(range)).is_ok_and(|(least, _)| least >= 0);
    let mut present = Expr::bool(true);
    for (k, d) in lower.iter().enumerate() {
        let implied = lower.iter().enumerate().any(|(n, o)| n != k && implies(o, d) && (n < k || !implies(d, o)));
        present = if implied { present } else { present.and(lag.clone().ge(Expr::from(d))) };
    }
    for (k, d) in upper.iter().enumerate() {
        let implied = upper.iter().enumerate().any(|(n, o)| n != k && implies(d, o) && (n < k || !implies(o, d)));
        present = if implied { present } else { present.and(lag.clone().le(Expr::from(d))) };
    }
    let known = conjuncts(&support);
    let value = unguarded(&value, &known);
    let present = if bounded { present } else { present.and(support) };
    let loads = guard_loads(&value, &present);
    let within = bounded.then(|| (value.clone(), present.clone()));
    let alone = matches!(value.node(), Node::Load(l) if l.fill == 0.0);
    let element = if alone { loads } else { Expr::select(present, loads, Expr::float(0.0)) };
    Some(Generator { element, bounded: within, low, high })
}
