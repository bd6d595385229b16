//! Whether a test program gives what it expects.

use crate::bless::{self, Wish};
use crate::directive::{Directives, Finding, Run};
use crate::stage::{self, Stage, Staged};
use mixc::ir::dim::{DimValues, Symbol};
use mixc::ir::program::Program;
use mixc::ir::reference::{Weights, interpret};
use mixc::ir::tensor::{Blob, Tensor};
use mixc::ir::text::report;
use mixc::{Error, Request, ShapeArg, Target};

/// How a test ended.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// A target that it needs is not here.
    Ignored(String),
    /// The text with new `check:` lines.
    Blessed(String),
}

/// Judges a test program.
pub fn judge(text: &str, wish: &Wish) -> Result<Verdict, String> {
    let d = Directives::read(text)?;
    let request = request(text, &d)?;
    let verifies = d.stages == [Stage::Verify];
    let compiled =
        if verifies { mixc::check(text, "test.ir").map(|_| None) } else { stage::compile(text, &request).map(Some) };
    let (printed, staged) = match compiled {
        Err(Error::Rejected { diagnostics, .. }) => {
            findings(text, &d.findings, &diagnostics)?;
            (report::render("test.ir", text, &diagnostics, false), None)
        }
        Err(e) => return Err(e.to_string()),
        Ok(staged) => {
            findings(text, &d.findings, &[])?;
            (print(&d, staged.as_ref()), staged)
        }
    };
    has(&d, &printed)?;
    if let Some(s) = &staged {
        derivation(&d, s)?;
    }
    let printed: Vec<String> = printed.lines().map(|l| l.trim_end().to_string()).collect();
    let differs = d.check.as_ref().is_some_and(|c| *c != printed);
    if differs && *wish == Wish::Compare {
        return Err(bless::difference(&d.check.unwrap_or_default(), &printed));
    }
    let mut missing = None;
    if let Some(s) = &staged {
        for run in &d.runs {
            missing = missing.or(runs(&d, s, run, &request)?);
        }
    }
    match (differs, missing) {
        (true, _) => Ok(Verdict::Blessed(bless::rewrite(text, &printed))),
        (false, Some(reason)) => Ok(Verdict::Ignored(reason)),
        (false, None) => Ok(Verdict::Passed),
    }
}

/// The stages of a test one after the other, each under its name when there are several.
fn print(d: &Directives, s: Option<&Staged>) -> String {
    let Some(s) = s else { return "no errors\n".into() };
    let stages: Vec<Stage> = d.stages.iter().copied().filter(|s| *s != Stage::Run).collect();
    let heading = |t: Stage| if stages.len() > 1 { format!("== {} ==\n", t.name()) } else { String::new() };
    stages.iter().map(|t| heading(*t) + &stage::print(s, *t)).collect()
}

/// The request for the first set of lengths: a length is what costs are reckoned at, the declared bounds stay.
fn request(text: &str, d: &Directives) -> Result<Request, String> {
    let mut shapes = Vec::new();
    if let Some(first) = d.binds.first() {
        let program = mixc::check(text, "test.ir").map_err(|e| e.to_string())?;
        for (name, n) in first {
            let found = program.dims.iter().find(|d| *d.name == **name);
            let bounds = found.ok_or_else(|| format!("bind: the program has no dim `{name}`"))?;
            shapes.push(ShapeArg { name: name.clone(), low: bounds.low, high: bounds.high, typical: *n });
        }
    }
    Ok(Request { shapes, approx: d.approx.clone(), force_form: d.force.clone() })
}

/// Every finding is expected and every expected one is there.
fn findings(text: &str, expected: &[Finding], found: &[mixc::ir::diag::Diagnostic]) -> Result<(), String> {
    let lines = report::Lines::new(text);
    let line = |d: &mixc::ir::diag::Diagnostic| d.span.map(|s| lines.position(s.start as usize).line);
    let mut left: Vec<&Finding> = expected.iter().collect();
    let mut problems = Vec::new();
    for f in found {
        // A finding about the whole input may be expected on any line.
        let fits =
            |e: &&Finding| e.code == f.code && f.message.contains(&e.text) && line(f).is_none_or(|l| l == e.line);
        match left.iter().position(fits) {
            Some(k) => drop(left.remove(k)),
            None => problems.push(format!(
                "not expected: line {}: error[{}]: {}",
                line(f).map_or("-".into(), |l| l.to_string()),
                f.code,
                f.message
            )),
        }
    }
    problems.extend(left.iter().map(|e| format!("not found: line {}: error[{}]: {}", e.line, e.code, e.text)));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn has(d: &Directives, printed: &str) -> Result<(), String> {
    let mut rest = printed;
    for text in &d.has {
        let Some(at) = rest.find(text.as_str()) else {
            let where_ = if rest.len() == printed.len() { "" } else { " after the ones before it" };
            return Err(format!("`{text}` is not printed{where_}:\n{printed}"));
        };
        rest = &rest[at + text.len()..];
    }
    match d.not.iter().find(|t| printed.contains(t.as_str())) {
        Some(text) => Err(format!("`{text}` is printed:\n{printed}")),
        None => Ok(()),
    }
}

/// The rules and forms that `mixc explain --format json` names.
fn derivation(d: &Directives, s: &Staged) -> Result<(), String> {
    let json = s.derivation.json();
    for (key, field, wanted) in [("rules", "name", &d.rules), ("kernels", "form", &d.forms)] {
        let list = json[key].as_array().ok_or_else(|| format!("the derivation has no `{key}`"))?;
        let named: Vec<&str> = list.iter().filter_map(|v| v[field].as_str()).collect();
        if let Some(name) = wanted.iter().find(|n| !named.contains(&n.as_str())) {
            return Err(format!("no `{name}` among the {key}: {}", named.join(", ")));
        }
    }
    Ok(())
}

/// The share of the largest value by which rewriting may change results in f64: expansions hold the numbers of attributes
/// as f32 constants.
const REWRITTEN: f64 = 1e-7;

/// Runs on every target at every set of lengths; the first target that is not here, with the reason.
fn runs(d: &Directives, s: &Staged, run: &Run, request: &Request) -> Result<Option<String>, String> {
    let mut missing = None;
    let given: Vec<Request> = match d.binds.as_slice() {
        [] => vec![request.clone()],
        binds => binds.iter().map(|b| with_lengths(request, b)).collect(),
    };
    for target in &d.targets {
        let target_here = match Target::parse(target) {
            Ok(t) => t,
            Err(Error::Unavailable(reason)) => {
                missing = missing.or(Some(reason));
                continue;
            }
            Err(e) => return Err(e.to_string()),
        };
        let compiled = match target_here {
            Target::Reference => None,
            Target::Cpu(_) | Target::Cuda(_) => match s.model.compile(&target_here, request) {
                Ok(runner) => Some(runner),
                Err(Error::Unavailable(reason)) => {
                    missing = missing.or(Some(reason));
                    continue;
                }
                Err(e) => return Err(e.to_string()),
            },
        };
        for request in &given {
            let dims = mixc::typical_dims(&s.model.program, &request.shapes);
            let inputs = mixc::inputs::random(&s.model.program, &dims, run.seed);
            let wanted = evaluate(&s.model.program, &dims, &inputs)?;
            let label = format!("{target} at {}", lengths(&dims));
            match &compiled {
                // The reference is compared with itself on what expansion and rewriting made.
                None => {
                    let exact = s.derivation.approx.is_empty();
                    compare(
                        &format!("expanded, {label}"),
                        &evaluate(&s.stages.expanded, &dims, &inputs)?,
                        &wanted,
                        REWRITTEN,
                    )?;
                    let allowed = if exact { REWRITTEN } else { run.tolerance };
                    let rewritten = evaluate(&s.stages.rewritten.program, &dims, &inputs)?;
                    compare(&format!("rewritten, {label}"), &rewritten, &wanted, allowed)?;
                }
                Some(runner) => {
                    let once = runner.run(&inputs, 1).map_err(|e| format!("{label}: {e}"))?;
                    let twice = runner.run(&inputs, 2).map_err(|e| format!("{label}: {e}"))?;
                    if once.iter().zip(&twice).any(|(a, b)| a.bytes != b.bytes) {
                        return Err(format!("{label}: two threads give other bits than one"));
                    }
                    let results: Vec<Tensor> = once.iter().map(Blob::to_tensor).collect();
                    compare(&label, &results, &wanted, run.tolerance)?;
                }
            }
        }
    }
    Ok(missing)
}

fn with_lengths(request: &Request, bind: &[(String, i64)]) -> Request {
    let mut request = request.clone();
    request.shapes =
        bind.iter().map(|(name, n)| ShapeArg { name: name.clone(), low: *n, high: *n, typical: *n }).collect();
    request
}

fn lengths(dims: &DimValues) -> String {
    let one = |(name, n): (&Symbol, &i64)| format!("{name}={n}");
    dims.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn evaluate(program: &Program, dims: &DimValues, inputs: &[Blob]) -> Result<Vec<Tensor>, String> {
    let inputs: Vec<Tensor> = inputs.iter().map(Blob::to_tensor).collect();
    interpret(program, dims, &inputs, &Weights::new())
}

/// Results differ by no more than that share of the largest value.
fn compare(label: &str, got: &[Tensor], want: &[Tensor], allowed: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{label}: {} results, expected {}", got.len(), want.len()));
    }
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        if got.shape != want.shape {
            return Err(format!("{label}: out{k} has shape {:?}, expected {:?}", got.shape, want.shape));
        }
        let scale = (0..want.len()).map(|n| want.at(n).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
        for n in 0..want.len() {
            let (y, r) = (got.at(n), want.at(n));
            let equal = y == r || (y.is_nan() && r.is_nan());
            let gap = (y - r).abs();
            if !equal && (gap.is_nan() || gap > allowed * scale) {
                return Err(format!(
                    "{label}: out{k}[{n}] is {y}, expected {r}, largest {scale}, allowed {allowed:e} of it"
                ));
            }
        }
    }
    Ok(())
}
