//! Which form an application takes: of those that apply the one whose tile programs cost least at the typical lengths.
//!
//! Every form is written down in a trial that leaves no trace in the model. Costs come from walking the programs alone;
//! no form knows its own. What a form says of itself ([`ApplyForm`]) is all that is known of it here: the share of its
//! programs that a call visits, and which forms it leaves no room for. A form that is asked for by name is taken wherever
//! it applies.

use super::{APPLY_FORMS, Apply, ApplyForm, OF_ELEMENTS, emit};
use crate::lower::{Context, Failure, Lambda, Mix, Producer};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{Action, Phase, Step};

/// A form that was considered for an application.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The value that is computed.
    pub site: String,
    /// The form's name in the catalogue.
    pub form: &'static str,
    /// Reckoned seconds of a call at the typical lengths, the mean of one thread and all.
    pub seconds: f64,
    /// Bytes that its programs move.
    pub bytes: f64,
    /// Whether it is what runs.
    pub chosen: bool,
}

/// The application of an operator, by the form that is wanted or else the cheapest of those that apply.
pub fn apply(
    cx: &mut Context<'_>,
    mix: &Mix,
    x: &Lambda,
    channelwise: bool,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    let x = cx.stored_or_generated(x)?;
    let batch = shape[..shape.len() - 2].to_vec();
    let apply = Apply { mix: mix.clone(), x, channelwise, batch };
    let mut fits: Vec<&ApplyForm> = APPLY_FORMS.iter().copied().filter(|f| (f.applies)(cx, &apply)).collect();
    let asked = |f: &&ApplyForm| cx.settings.force_form.as_deref().is_some_and(|n| n == f.name || n == f.family());
    let wanted = fits.iter().any(asked);
    if wanted {
        fits.retain(asked);
    } else {
        let left_out: Vec<&str> = fits.iter().flat_map(|f| f.instead_of).copied().collect();
        fits.retain(|f| !left_out.contains(&f.name));
    }
    match fits.as_slice() {
        [] => {
            // Not a matrix of elements in a way that some form knows: make it one.
            let plain = crate::lower::materialise(cx, mix)?;
            let apply = Apply { mix: plain, ..apply };
            (OF_ELEMENTS.open)(cx, &apply, shape, dtype)
        }
        [one] => (one.open)(cx, &apply, shape, dtype),
        several => {
            let best = cheapest(cx, several, &apply, shape, dtype);
            (several[best].open)(cx, &apply, shape, dtype)
        }
    }
}

/// The number of the cheapest form; the earlier of equals. What was considered is recorded, the cheapest first.
fn cheapest(cx: &mut Context<'_>, forms: &[&ApplyForm], apply: &Apply, shape: &[Dim], dtype: DType) -> usize {
    let tried: Vec<Option<(f64, f64)>> = forms
        .iter()
        .map(|form| {
            cx.trial(|cx| {
                let producer = (form.open)(cx, apply, shape, dtype)?;
                emit(cx, producer)
            })
            .map(|steps| {
                let (seconds, bytes) = reckoned(cx, &steps);
                let share = (form.share)(cx, apply);
                (seconds * share, bytes * share)
            })
        })
        .collect();
    let mut order: Vec<usize> = (0..forms.len()).filter(|k| tried[*k].is_some()).collect();
    let seconds = |k: usize| tried[k].map_or(f64::INFINITY, |(seconds, _)| seconds);
    order.sort_by(|a, b| seconds(*a).total_cmp(&seconds(*b)));
    let best = order.first().copied().unwrap_or(0);
    for k in order {
        let (seconds, bytes) = tried[k].unwrap_or_default();
        cx.consider(Candidate { site: String::new(), form: forms[k].family(), seconds, bytes, chosen: k == best });
    }
    best
}

/// Seconds and bytes moved of a call's steps at the typical lengths.
pub fn reckoned(cx: &Context<'_>, steps: &[Step]) -> (f64, f64) {
    let machine = &cx.settings.machine;
    let mut sum = (0.0, 0.0);
    for step in steps.iter().filter(|s| s.phase == Phase::Run) {
        let Action::Run { program, .. } = &step.action else { continue };
        let cost = mixc_ir::tile::cost(program, &cx.settings.typical);
        let (seconds, bytes) = cost.map_or((f64::MAX, 0.0), |c| (c.typical_seconds(machine), c.moved()));
        sum = (sum.0 + seconds, sum.1 + bytes);
    }
    sum
}
