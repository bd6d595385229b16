//! Integers that lie in a range whatever the data: ids made of positions, which need no check and no memory.

use super::lambda::{Lambda, axis_var};
use mixc_ir::dim::{Dim, DimBounds};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, Node, Unary};

/// Inclusive ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The least value.
    pub low: Dim,
    /// The greatest value.
    pub high: Dim,
}

/// Whether `a <= b` for all lengths.
fn at_most(a: &Dim, b: &Dim, bounds: &DimBounds) -> bool {
    b.sub(a).and_then(|d| d.bounds(bounds)).is_ok_and(|(low, _)| low >= 0)
}

impl Range {
    /// Whether all values are at least `low` and at most `high`.
    pub fn within(&self, low: &Dim, high: &Dim, bounds: &DimBounds) -> bool {
        at_most(low, &self.low, bounds) && at_most(&self.high, high, bounds)
    }

    fn least(a: &Dim, b: &Dim, bounds: &DimBounds) -> Option<Dim> {
        let first = at_most(a, b, bounds);
        (first || at_most(b, a, bounds)).then(|| if first { a.clone() } else { b.clone() })
    }

    fn greatest(a: &Dim, b: &Dim, bounds: &DimBounds) -> Option<Dim> {
        let first = at_most(b, a, bounds);
        (first || at_most(a, b, bounds)).then(|| if first { a.clone() } else { b.clone() })
    }

    fn negated(&self) -> Option<Range> {
        Some(Range { low: self.high.scale(-1).ok()?, high: self.low.scale(-1).ok()? })
    }
}

/// Where the values of an integer function of the index lie, when that follows from its axes alone.
pub fn range(l: &Lambda, bounds: &DimBounds) -> Option<Range> {
    of(&l.body, &l.shape, bounds)
}

fn of(e: &Expr, shape: &[Dim], bounds: &DimBounds) -> Option<Range> {
    let one = Dim::constant(1);
    let of = |e: &Expr| of(e, shape, bounds);
    match e.node() {
        Node::Int(n) => Some(Range { low: Dim::constant(*n), high: Dim::constant(*n) }),
        Node::Dim(d) => Some(Range { low: d.clone(), high: d.clone() }),
        Node::Var(v) => {
            let k = (0..shape.len()).find(|k| axis_var(*k) == *v)?;
            Some(Range { low: Dim::constant(0), high: shape[k].sub(&one).ok()? })
        }
        Node::Unary(Unary::Neg, a) => of(a)?.negated(),
        Node::Unary(Unary::Abs, a) => {
            let a = of(a)?;
            let (other, zero) = (a.negated()?, Dim::constant(0));
            let low = Range::greatest(&Range::greatest(&a.low, &other.low, bounds)?, &zero, bounds)?;
            Some(Range { low, high: Range::greatest(&a.high, &other.high, bounds)? })
        }
        // Integers are wrapped; those that fit stay what they are.
        Node::Round(DType::I32, a) => {
            let ends = [i32::MIN, i32::MAX].map(|n| Dim::constant(n.into()));
            of(a).filter(|a| a.within(&ends[0], &ends[1], bounds))
        }
        Node::Select(_, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            Some(Range { low: Range::least(&a.low, &b.low, bounds)?, high: Range::greatest(&a.high, &b.high, bounds)? })
        }
        Node::Binary(Binary::Mul, a, b) => {
            let (a, by) = match (a.as_int(), b.as_int()) {
                (_, Some(n)) => (of(a)?, n),
                (Some(n), _) => (of(b)?, n),
                _ => return None,
            };
            let a = if by < 0 { a.negated()? } else { a };
            let by = by.checked_abs()?;
            Some(Range { low: a.low.scale(by).ok()?, high: a.high.scale(by).ok()? })
        }
        Node::Binary(op, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            match op {
                Binary::Add => Some(Range { low: a.low.add(&b.low).ok()?, high: a.high.add(&b.high).ok()? }),
                Binary::Sub => Some(Range { low: a.low.sub(&b.high).ok()?, high: a.high.sub(&b.low).ok()? }),
                Binary::Min => Some(Range {
                    low: Range::least(&a.low, &b.low, bounds)?,
                    high: Range::least(&a.high, &b.high, bounds)?,
                }),
                Binary::Max => Some(Range {
                    low: Range::greatest(&a.low, &b.low, bounds)?,
                    high: Range::greatest(&a.high, &b.high, bounds)?,
                }),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::axis;

    #[test]
    fn ranges_follow_from_axes() {
        let t = Dim::symbol("T");
        let bounds: DimBounds = [("T".into(), (1, 64))].into_iter().collect();
        let at = |body: Expr| Lambda { dtype: DType::I64, shape: vec![t.clone(), t.clone()], body };
        let lag = || axis(0) - axis(1);
        let ends = |e: Expr| range(&at(e), &bounds).map(|r| (r.low.to_string(), r.high.to_string()));
        let pair = |a: &str, b: &str| Some((a.to_string(), b.to_string()));
        assert_eq!(ends(lag()), pair("-T+1", "T-1"));
        assert_eq!(ends(lag().max(0)), pair("0", "T-1"));
        assert_eq!(ends(lag() * Expr::int(-2)), pair("-2*T+2", "2*T-2"));
        assert_eq!(ends(lag().min(3)), None, "which is the less depends on the length");
        let inside = |e: Expr, n: i64| {
            range(&at(e), &bounds).expect("known").within(&Dim::constant(0), &Dim::constant(n), &bounds)
        };
        assert!(inside(lag() + Expr::from(&t), 127) && !inside(lag() + Expr::from(&t), 126) && !inside(lag(), 127));
    }

    #[test]
    fn ranges_hold_all_values() {
        // Every pair of positions, of expressions over both.
        let bounds = DimBounds::new();
        let (n, m) = (5i64, 7i64);
        let exprs = [
            axis(0) - axis(1),
            (axis(0) - axis(1)).max(axis(1) - axis(0)),
            (axis(1) * Expr::int(-3) + axis(0)).min(2),
            Expr::select(axis(0).lt(axis(1)), axis(0), axis(1) + Expr::int(4)),
            (axis(0) - axis(1)).apply(Unary::Abs),
        ];
        for body in exprs {
            let l = Lambda { dtype: DType::I64, shape: vec![Dim::constant(n), Dim::constant(m)], body };
            let range = range(&l, &bounds).expect("constants compare");
            let ends = [&range.low, &range.high].map(|d| d.as_constant().expect("constants"));
            for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))) {
                let value = l.at(&[Expr::int(i), Expr::int(j)]).as_int().expect("folded");
                assert!((ends[0]..=ends[1]).contains(&value), "{value} outside of {ends:?}");
            }
        }
    }
}
