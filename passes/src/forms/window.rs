//! Softmax attention over windows of keys: [`super::flash`], whose loop goes over the blocks of keys that a block of rows can
//! meet, where these do not grow in number with the rows: windows on one side or both, with or without first keys that
//! all rows see, and blocks along the diagonal.

use super::{ApplyForm, all_visited, flash};
use crate::lower::{Context, Mix};
use mixc_ir::dim::Dim;
use mixc_ir::support::{Condition, Position};

/// The form.
pub static FORM: ApplyForm = ApplyForm {
    name: "window",
    // Channelwise applications go over all keys.
    applies: |cx, a| (flash::FORM.applies)(cx, a) && !a.channelwise && is_windowed(cx, &a.mix),
    open: |cx, apply, shape, dtype| flash::named(FORM.name, cx, apply, shape, dtype),
    instead_of: &[flash::FORM.name],
    share: all_visited,
};

/// Whether every region of the support bounds a row's keys to a range of a length of its own, and one of these ranges
/// starts later for later rows. Causality and lengths alone leave out keys too, but no more of them for later rows.
fn is_windowed(cx: &Context<'_>, m: &Mix) -> bool {
    let starts = |c: &Condition| starts_later(cx, m, c);
    let ends = |c: &Condition| {
        matches!(c, Condition::AtMost { .. } | Condition::SameBlock { .. } | Condition::Diagonal { .. })
    };
    let regions = &m.structure.support.regions;
    let bounded = |region: &Vec<Condition>| {
        region.iter().any(|c| matches!(c, Condition::FirstColumns(_)))
            || region.iter().any(starts) && region.iter().any(ends)
    };
    regions.iter().all(bounded) && regions.iter().flatten().any(starts)
}

/// Whether a condition leaves out first columns for some row, at some length.
fn starts_later(cx: &Context<'_>, m: &Mix, c: &Condition) -> bool {
    let one = Dim::constant(1);
    match c {
        Condition::AtLeast { by, at } => {
            let positions = if *at == Position::Row { &m.ty.rows } else { &m.ty.cols };
            let back = by.scale(-1).and_then(|back| back.add(&one));
            !back.is_ok_and(|width| cx.reaches(&width, positions))
        }
        Condition::SameBlock { size, .. } => !cx.reaches(&Dim::constant(*size), &m.ty.cols),
        Condition::Diagonal { cols, .. } => !cx.reaches(cols, &m.ty.cols),
        _ => false,
    }
}
