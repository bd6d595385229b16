//! A model in every form that applies to it, to be measured side by side.

use crate::explain::SMALL_WORK;
use crate::{Compilation, Error, Model, Request, Runner, Target};
use mixc_ir::dim::DimValues;
use mixc_ir::lowered::{Action, Phase};
use mixc_passes::forms;

/// A model with one form preferred.
pub struct Variant {
    /// The form that was asked for.
    pub form: String,
    /// The forms of its tile programs in order, each once, without elementwise work.
    pub forms: Vec<String>,
    /// Reckoned milliseconds on the given threads.
    pub predicted_ms: f64,
    /// Bytes that its programs move.
    pub bytes: f64,
    /// Whether it is what runs when nothing is asked for.
    pub chosen: bool,
    /// The compiled model.
    pub runner: Runner,
}

/// Every different program that asking for a form leads to, what is chosen by cost first. `chosen` is the model compiled
/// with no form asked for.
pub fn variants(
    model: &Model,
    target: &Target,
    request: &Request,
    chosen: &Compilation,
    dims: &DimValues,
    threads: usize,
) -> Result<Vec<Variant>, Error> {
    let mut seen = vec![text(chosen)];
    let own = forms_of(chosen);
    let mut all = vec![(own.first().cloned().unwrap_or_default(), true)];
    let names = forms::askable().into_iter().filter(|name| !SMALL_WORK.contains(name));
    all.extend(names.map(|name| (name.to_string(), false)));
    let mut found = Vec::new();
    for (form, is_chosen) in all {
        let force_form = (!is_chosen).then(|| form.clone());
        let asked = Request { force_form, ..request.clone() };
        if !is_chosen {
            let stages = model.stages(target, &asked)?;
            let program = text(&stages);
            if !forms_of(&stages).iter().any(|f| f == forms::family(&form)) || seen.contains(&program) {
                continue;
            }
            seen.push(program);
        }
        let runner = model.compile(target, &asked)?;
        let Some(stages) = runner.compilation() else {
            return Err(Error::Usage("--target ref has no forms".into()));
        };
        let (predicted_ms, bytes) = reckoned(stages, dims, threads)?;
        let form = forms::family(&form).to_string();
        found.push(Variant { form, forms: forms_of(stages), predicted_ms, bytes, chosen: is_chosen, runner });
    }
    Ok(found)
}

/// The forms of the tile programs that run, in order, each once, without elementwise work.
fn forms_of(c: &Compilation) -> Vec<String> {
    let mut forms: Vec<String> = Vec::new();
    for step in c.lowered.phase(Phase::Run) {
        if let Action::Run { form, .. } = &step.action
            && !SMALL_WORK.contains(&form.as_str())
            && !forms.contains(form)
        {
            forms.push(form.clone());
        }
    }
    forms
}

/// What tells tile programs apart, whatever form they are reported as.
fn text(c: &Compilation) -> String {
    let programs = c.lowered.steps.iter().filter_map(|step| match &step.action {
        Action::Run { program, buffers, .. } => Some(format!("{:?} {buffers:?} {program}\n", step.phase)),
        Action::CheckIds { .. } => None,
    });
    programs.collect()
}

/// Milliseconds and bytes moved of a call.
fn reckoned(c: &Compilation, dims: &DimValues, threads: usize) -> Result<(f64, f64), Error> {
    let mut sum = (0.0, 0.0);
    for step in c.lowered.phase(Phase::Run) {
        let Action::Run { program, .. } = &step.action else { continue };
        let cost = mixc_ir::tile::cost(program, dims).map_err(|e| Error::Usage(e.to_string()))?;
        sum = (sum.0 + cost.seconds(&c.machine, threads) * 1e3, sum.1 + cost.moved());
    }
    Ok(sum)
}
