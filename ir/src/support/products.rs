//! Supports of products of operators, region by region.

use super::{Condition, Position, not_negative};
use crate::dim::{Dim, DimBounds, DimError};

/// The band of a region of a square matrix, its least and greatest j - i (`None`: unbounded), and whether the region is
/// nothing else.
struct Band {
    low: Option<Dim>,
    high: Option<Dim>,
    exact: bool,
}

fn band(region: &[Condition]) -> Band {
    let mut band = Band { low: None, high: None, exact: true };
    for c in region {
        match c {
            Condition::AtMost { by, at: Position::Row | Position::End } if band.high.is_none() => {
                band.high = Some(by.clone());
            }
            Condition::AtLeast { by, at: Position::Row | Position::End } if band.low.is_none() => {
                band.low = Some(by.clone());
            }
            _ => band.exact = false,
        }
    }
    band
}

/// The region that some k joins of a region of A (rows x inner) and one of B (inner x cols), if not empty.
pub(super) fn compose_regions(
    a: &[Condition],
    b: &[Condition],
    [rows, inner, cols]: [&Dim; 3],
    bounds: &DimBounds,
) -> Option<Vec<Condition>> {
    let unknown = || Some(vec![Condition::Data]);
    let is_diagonal = |x: &Band| x.exact && [&x.low, &x.high].iter().all(|d| d.as_ref().is_some_and(|d| d.is(0)));
    if rows == inner && is_diagonal(&band(a)) {
        return Some(b.to_vec());
    }
    if inner == cols && is_diagonal(&band(b)) {
        return Some(a.to_vec());
    }
    if a.is_empty() && b.is_empty() {
        let some = inner.sub(&Dim::constant(1)).is_ok_and(|d| not_negative(&d, bounds));
        return if some { Some(Vec::new()) } else { unknown() };
    }
    if rows != inner || inner != cols {
        return unknown();
    }
    let (a, b) = (band(a), band(b));
    let sum = |x: &Option<Dim>, y: &Option<Dim>| -> Result<Option<Dim>, DimError> {
        x.as_ref().zip(y.as_ref()).map(|(x, y)| x.add(y)).transpose()
    };
    let (Ok(low), Ok(high)) = (sum(&a.low, &b.low), sum(&a.high, &b.high)) else { return unknown() };
    // Some k exists iff the three intervals i + [a.low, a.high], j - [b.high, b.low] and the k there are meet two by
    // two. The first two meeting is the band below; the conditions here make the other two follow from it.
    let least = |d: &Option<Dim>| d.as_ref().is_some_and(|d| not_negative(d, bounds));
    let most = |d: &Option<Dim>| d.as_ref().is_some_and(|d| d.scale(-1).is_ok_and(|d| not_negative(&d, bounds)));
    let lower = |d: &Option<Dim>| d.is_none() || most(d);
    let upper = |d: &Option<Dim>| d.is_none() || least(d);
    let ends = (lower(&a.low) || least(&b.low))
        && (upper(&a.high) || most(&b.high))
        && (upper(&b.high) || most(&a.high))
        && (lower(&b.low) || least(&a.low));
    let ordered = |x: &Band| match (&x.low, &x.high) {
        (Some(l), Some(h)) => h.sub(l).is_ok_and(|d| not_negative(&d, bounds)),
        _ => true,
    };
    let exact = a.exact && b.exact && ends && ordered(&a) && ordered(&b);
    let at = Position::Row;
    let mut region: Vec<Condition> = high.map(|by| Condition::AtMost { by, at }).into_iter().collect();
    region.extend(low.map(|by| Condition::AtLeast { by, at }));
    if !exact {
        region.push(Condition::Data);
    }
    Some(region)
}
