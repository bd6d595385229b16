//! The stages of the compiler in order, and their results.

use crate::shapes::{self, ShapeArg};
use crate::{Error, Model};
use mixc_ir::attr::Attrs;
use mixc_ir::lowered::{Action, Lowered};
use mixc_ir::machine::Machine;
use mixc_ir::program::Program;
use mixc_passes::{forms, lower, memory, rewrite};
use std::collections::BTreeMap;

/// What is asked of a compilation.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Bounds and typical values of dims.
    pub shapes: Vec<ShapeArg>,
    /// Approximate rules that are allowed.
    pub approx: Vec<String>,
    /// Form wanted wherever it applies, whatever it costs; for tests.
    pub force_form: Option<String>,
}

impl Request {
    /// The allowed errors with their parameters: `hip:k=512`, `hip(k=512)`. Names and parameters are those of the rules.
    fn approximations(&self) -> Result<BTreeMap<String, Attrs>, Error> {
        let mut all = BTreeMap::new();
        for text in &self.approx {
            let form = || Error::Usage(format!("--approx {text}: expected NAME or NAME:KEY=N,..."));
            let text = text.replace('(', ":").replace(')', "");
            let (name, rest) = text.split_once(':').unwrap_or((&text, ""));
            let mut attrs = Attrs::new();
            for pair in rest.split(',').filter(|p| !p.trim().is_empty()) {
                let (key, value) = pair.split_once('=').ok_or_else(form)?;
                attrs = attrs.with_int(key.trim(), value.trim().parse().map_err(|_| form())?);
            }
            known_approximation(name.trim(), &attrs)?;
            all.insert(name.trim().to_string(), attrs);
        }
        Ok(all)
    }
}

/// That rules make an error of that name, and that its parameters are given and no others.
fn known_approximation(name: &str, attrs: &Attrs) -> Result<(), Error> {
    let all = rewrite::approximations();
    let Some(found) = all.iter().find(|a| a.name == name) else {
        let known: Vec<&str> = all.iter().map(|a| a.name.as_str()).collect();
        return Err(Error::Usage(format!("--approx {name}: no rule makes this error; there is {}", known.join(", "))));
    };
    if let Some(missing) = found.required.iter().find(|p| !attrs.has(p)) {
        return Err(Error::Usage(format!("--approx {name}: give its parameter `{missing}`: {name}:{missing}=N")));
    }
    let known = |p: &str| found.required.iter().chain(&found.optional).any(|k| k == p);
    match attrs.iter().find(|(p, _)| !known(p)) {
        Some((unknown, _)) => {
            let all: Vec<&str> = found.required.iter().chain(&found.optional).map(String::as_str).collect();
            Err(Error::Usage(format!("--approx {name}: no parameter `{unknown}`; it has {}", all.join(", "))))
        }
        None => Ok(()),
    }
}

/// What each stage made.
#[derive(Debug)]
pub struct Compilation {
    /// As written, calls inlined, dims narrowed.
    pub program: Program,
    /// Layers expanded.
    pub expanded: Program,
    /// After the e-graph, with the rules that led there.
    pub rewritten: rewrite::Rewritten,
    /// Tile programs with the memory plan.
    pub lowered: Lowered,
    /// Forms that were considered wherever several apply, the cheapest first.
    pub choices: Vec<forms::Candidate>,
    /// The machine that costs were reckoned for.
    pub machine: Machine,
}

/// A stage that can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// As written, calls inlined.
    Parse,
    /// Layers expanded.
    Expand,
    /// After the e-graph.
    Rewrite,
    /// Tile programs (fused as they are made, tile sizes chosen).
    Lower,
    /// The memory plan.
    Plan,
}

/// All stages before machine code, with costs reckoned for `machine`.
pub fn compile(model: &Model, request: &Request, machine: &Machine) -> Result<Compilation, Error> {
    if let Some(name) = request.force_form.as_ref().filter(|name| !forms::known(name)) {
        return Err(Error::Usage(format!("--force-form {name}: no such form; `mixc forms` lists them")));
    }
    let mut program = model.program.clone();
    shapes::narrow(&mut program, &request.shapes)?;
    let typical = shapes::typical(&program, &request.shapes);
    let expanded = rewrite::expand_layers(&program, &|op| forms::lowers_whole(op.name) || rewrite::is_seen_whole(op));
    let settings =
        lower::Settings { typical: typical.clone(), machine: machine.clone(), force_form: request.force_form.clone() };
    let cost = |candidate: &Program| lower::lower(candidate, &settings).ok().map(|l| forms::cost(&l, &settings));
    let limits = rewrite::RewriteSettings { approximations: request.approximations()?, ..Default::default() };
    let mut rewritten = rewrite::rewrite(&expanded, &limits, &cost);
    if let Some(form) = &request.force_form {
        prefer(&mut rewritten, &|candidate| uses(candidate, &settings, form));
    }
    let (mut lowered, choices) =
        lower::lower_with_candidates(&rewritten.program, &settings).map_err(|d| model.rejected(d))?;
    lowered.plan = memory::plan(&lowered, &typical)
        .map_err(|problems| Error::Bug(format!("the memory plan breaks its rules: {problems:?}")))?;
    Ok(Compilation { program, expanded, rewritten, lowered, choices, machine: settings.machine })
}

/// How many tile programs of a form the lowered program runs.
fn uses(program: &Program, settings: &lower::Settings, form: &str) -> usize {
    let Ok(lowered) = lower::lower(program, settings) else { return 0 };
    let of_form = |action: &Action| matches!(action, Action::Run { form: f, .. } if f == forms::family(form));
    lowered.steps.iter().filter(|s| of_form(&s.action)).count()
}

/// Puts the candidate with the greatest number first, the cheapest of equals: a form can be wanted that the cheapest
/// program, a matrix where another has a recurrence, has no use for.
fn prefer(rewritten: &mut rewrite::Rewritten, number: &dyn Fn(&Program) -> usize) {
    let numbers: Vec<usize> = rewritten.candidates.iter().map(|c| number(&c.program)).collect();
    let Some(most) = numbers.iter().copied().max() else { return };
    let Some(best) = numbers.iter().position(|n| *n == most) else { return };
    let chosen = rewritten.candidates.remove(best);
    rewritten.program = chosen.program.clone();
    rewritten.rules = chosen.rules.clone();
    rewritten.candidates.insert(0, chosen);
}

/// A stage's result as text.
pub fn print_stage(c: &Compilation, stage: Stage) -> String {
    match stage {
        Stage::Parse => mixc_ir::text::print_program(&c.program),
        Stage::Expand => mixc_ir::text::print_program(&c.expanded),
        Stage::Rewrite => mixc_ir::text::print_program(&c.rewritten.program),
        Stage::Lower => {
            let mut out = String::new();
            for step in &c.lowered.steps {
                out.push_str(&format!("{:?} ", step.phase).to_lowercase());
                match &step.action {
                    Action::Run { program, buffers, form, site } => {
                        let names: Vec<&str> = buffers.iter().map(|b| c.lowered.buffer(*b).name.as_str()).collect();
                        out.push_str(&format!("{form} for %{site} on {}\n", names.join(", ")));
                        out.push_str(&program.to_string());
                    }
                    Action::CheckIds { ids, below } => {
                        out.push_str(&format!("check {} below {below}\n", c.lowered.buffer(*ids).name));
                    }
                }
                out.push('\n');
            }
            out
        }
        Stage::Plan => {
            let mut out = String::new();
            for (phase, slots) in [("bind", &c.lowered.plan.bind), ("run", &c.lowered.plan.run)] {
                for (k, slot) in slots.iter().enumerate() {
                    let names: Vec<String> = slot
                        .iter()
                        .map(|b| {
                            let b = c.lowered.buffer(*b);
                            let dims: Vec<String> = b.shape.iter().map(ToString::to_string).collect();
                            format!("{} {}[{}]", b.name, b.dtype, dims.join(", "))
                        })
                        .collect();
                    out.push_str(&format!("{phase} slot {k}: {}\n", names.join("; ")));
                }
            }
            out
        }
    }
}
