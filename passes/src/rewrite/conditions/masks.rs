//! Conditions and computations over masks: one spelling for each, two in one, and what an operator holds already.

use super::{Argument, Outcome, attrs, holds, mix, value};
use crate::rewrite::facts::Surroundings;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::Dim;
use mixc_ir::op::Call;
use mixc_ir::support::{Condition, Position, Support};
use mixc_ir::ty::{Align, MixType};

/// The one spelling of a mask's attributes; `None` when they have it.
pub(super) fn canonical_mask(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, given) = (mix(a, 0)?, attrs(a, 1)?);
    let canonical = spelled(given, m);
    (canonical != *given).then_some(Outcome::Attrs(canonical))
}

/// Bounds instead of windows where there is no sink; `causal` for `right = 0`; nothing that says nothing.
fn spelled(given: &Attrs, m: &MixType) -> Attrs {
    let (mut left, mut right) = (given.dim("left").cloned(), given.dim("right").cloned());
    let causal = given.flag("causal");
    let mut window = given.dim("window").cloned();
    if let Some(reach) = window.as_ref().filter(|_| !given.has("sink")).and_then(|w| w.sub(&Dim::constant(1)).ok()) {
        // Symbolic bounds that cannot be compared stay beside the window.
        let (l, r) = (least(&left, &reach), if causal { right.clone() } else { least(&right, &reach) });
        if l.is_some() && (causal || r.is_some()) {
            (left, right, window) = (l, r, None);
        }
    }
    // With j <= i' it makes no difference whether a window, which reads the flag, also ends to the right.
    let (causal, right) = match right.as_ref().map(|r| (r, r.as_constant())) {
        None => (causal, None),
        Some((_, Some(0))) => (true, None),
        Some((_, Some(n))) if causal && n > 0 => (true, None),
        Some((r, Some(n))) => (causal && n > 0, Some(r.clone())),
        Some((r, None)) => (causal, Some(r.clone())),
    };
    let mut out = Attrs::new().with_flag("causal", causal);
    for (name, bound) in [("left", left), ("right", right), ("window", window.clone())] {
        if let Some(bound) = bound {
            out = out.with_dim(name, bound);
        }
    }
    if let (Some(sink), Some(_)) = (given.get("sink"), window) {
        out = out.with("sink", sink.clone());
    }
    if let Some(block) = given.get("block") {
        out = out.with("block", block.clone());
    }
    if let Some(step) = given.get("dilation").filter(|_| given.int("dilation") != Some(1)) {
        out = out.with("dilation", step.clone());
    }
    // With as many rows as columns both ends are the same, unless lengths move the rows.
    if given.name("align") == Some("start") && !out.is_empty() && (m.rows != m.cols || m.align != Align::End) {
        out = out.with_name("align", "start");
    }
    out
}

/// The lesser of a bound, if any, and another, where the dims tell.
fn least(a: &Option<Dim>, b: &Dim) -> Option<Dim> {
    let Some(a) = a else { return Some(b.clone()) };
    let difference = a.sub(b).ok()?.as_constant()?;
    Some(if difference <= 0 { a.clone() } else { b.clone() })
}

/// The attributes of the mask of the transpose of a square operator whose rows stand where its columns do: left and
/// right change places, blocks and distances stay. Windows are spelled as bounds by then, but for those with a sink,
/// which is a set of columns and would become one of rows.
pub(super) fn transposed_mask(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, given) = (mix(a, 0)?, attrs(a, 1)?);
    if m.rows != m.cols || m.align != Align::End || given.has("align") || given.has("window") {
        return None;
    }
    let none = Dim::constant(0);
    let (left, right) = (given.dim("left").cloned(), given.dim("right").cloned());
    let right = if given.flag("causal") { Some(least(&right, &none)?) } else { right };
    let mut out = Attrs::new();
    for (name, bound) in [("left", right), ("right", left)] {
        if let Some(bound) = bound {
            out = out.with_dim(name, bound);
        }
    }
    for name in ["block", "dilation"] {
        if let Some(value) = given.get(name) {
            out = out.with(name, value.clone());
        }
    }
    Some(Outcome::Attrs(out))
}

/// The attributes of one mask that says what two say.
pub(super) fn both_masks(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, x, y) = (mix(a, 0)?, attrs(a, 1)?, attrs(a, 2)?);
    if x.name("align").unwrap_or("end") != y.name("align").unwrap_or("end") {
        return None;
    }
    // Only one of them may have a window that a sink is joined to: two unions have no common spelling.
    let windowed = |m: &Attrs| m.has("window");
    if windowed(x) && windowed(y) {
        return None;
    }
    let mut out = Attrs::new().with_flag("causal", x.flag("causal") || y.flag("causal"));
    for name in ["left", "right"] {
        let bound = match (x.dim(name), y.dim(name)) {
            (Some(b), Some(c)) => Some(least(&Some(b.clone()), c)?),
            (b, c) => b.or(c).cloned(),
        };
        if let Some(bound) = bound {
            out = out.with_dim(name, bound);
        }
    }
    for name in ["window", "sink", "align"] {
        if let Some(value) = x.get(name).or(y.get(name)) {
            out = out.with(name, value.clone());
        }
    }
    let whole = |name: &str, join: fn(i64, i64) -> Option<i64>| match (x.int(name), y.int(name)) {
        (Some(b), Some(c)) => join(b, c).map(Some),
        (b, c) => Some(b.or(c)),
    };
    // Blocks inside of blocks are the smaller ones; multiples of two numbers are those of their least common multiple.
    let nested = |b: i64, c: i64| match (b.min(c), b.max(c)) {
        (small, large) if small > 0 && large % small == 0 => Some(small),
        _ => None,
    };
    if let Some(block) = whole("block", nested)? {
        out = out.with_int("block", block);
    }
    if let Some(step) = whole("dilation", common_multiple)? {
        out = out.with_int("dilation", step);
    }
    Some(Outcome::Attrs(spelled(&out, m)))
}

fn common_multiple(a: i64, b: i64) -> Option<i64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (x > 0).then(|| (a / x).checked_mul(b)).flatten()
}

/// Whether two masks that cannot be one stand in the wrong order, inner first.
pub(super) fn masks_out_of_order(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (x, y) = (attrs(a, 1)?, attrs(a, 2)?);
    holds(both_masks(around, a).is_none() && x > y)
}

/// Whether an operator's support is within what a mask leaves.
pub(super) fn held(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (v, given) = (value(a, 0)?, attrs(a, 1)?);
    let m = v.ty.as_mix()?;
    let op = mixc_ir::ops::find("mask")?;
    let call = Call {
        op,
        types: vec![Some(&v.ty)],
        structures: vec![None],
        values: vec![None],
        attrs: given,
        written: &[],
        bounds: &around.bounds,
    };
    let own = by_row((op.structure?)(&call).support, m);
    let support = by_row(v.structure.as_ref()?.support.clone(), m);
    holds(support.intersect(&own) == support)
}

/// The support with positions from the end as row numbers, where both are the same.
fn by_row(mut support: Support, m: &MixType) -> Support {
    if m.rows != m.cols {
        return support;
    }
    for condition in support.regions.iter_mut().flatten() {
        match condition {
            Condition::AtMost { at, .. }
            | Condition::AtLeast { at, .. }
            | Condition::SameBlock { at, .. }
            | Condition::Dilated { at, .. }
                if *at == Position::End =>
            {
                *at = Position::Row;
            }
            _ => {}
        }
    }
    // The union with nothing brings the conditions back into order.
    support.union(&Support { regions: Vec::new() })
}
