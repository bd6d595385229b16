//! Shift-invariant operators: elements that depend on the lag i - j alone, found by looking at the elements themselves.
//!
//! A Toeplitz matrix stays one under masks by distance, decays, slopes, scales, sums and maps, and a circulant is one with
//! a periodic generator: none of these is asked for by name. What is given up when it is not seen is speed, never a
//! value.

use super::lambda::{axis, axis_var};
use super::mixing::Mix;
use super::tensors::guard_loads;
use mixc_ir::dim::Dim;
use mixc_ir::expr::{Expr, Node, Var};
use mixc_ir::support::{Condition, Position};

/// The elements of a shift-invariant operator by their lag.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The element over the axes `[batch.., lag]`; 0 where it is absent, and its loads are made for lags from `low` to
    /// `high` alone.
    pub element: Expr,
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

/// The generator of an operator whose elements depend on the lag alone. Of several bounds of the lags that it knows it
/// gives the closest at typical lengths.
pub fn generator(m: &Mix, typical: &dyn Fn(&Dim) -> i64) -> Option<Generator> {
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
    if let [region] = m.structure.support.regions.as_slice() {
        for c in region {
            let (l, h) = bounds(m, c);
            low = l.filter(|l| typical(l) > typical(&low)).unwrap_or(low);
            high = h.filter(|h| typical(h) < typical(&high)).unwrap_or(high);
        }
    }
    // Every bound holds, whichever is the closer at the call: supports say nothing of what lies outside the operator.
    let within = |low: &Dim, high: &Dim| lag.clone().ge(Expr::from(low)).and(lag.clone().le(Expr::from(high)));
    let present = within(&least, &most).and(within(&low, &high)).and(support);
    let element = Expr::select(present.clone(), guard_loads(&value, &present), Expr::float(0.0));
    Some(Generator { element, low, high })
}
