//! The stages of the compiler as text. No stage knows of files or expectations.

use mixc::explain::{Explanation, explain};
use mixc::{Compilation, Error, Model, Request, Target};
use std::path::Path;

/// A stage that a test names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// As written, calls inlined.
    Parse,
    /// What the verifier finds.
    Verify,
    /// Layers expanded.
    Expand,
    /// After the e-graph, and the rules that led there.
    Rewrite,
    /// Tile programs.
    Lower,
    /// Temporaries in slots.
    Plan,
    /// Nothing printed: results are compared.
    Run,
}

impl Stage {
    const ALL: [(&'static str, Stage); 7] = [
        ("parse", Stage::Parse),
        ("verify", Stage::Verify),
        ("expand", Stage::Expand),
        ("rewrite", Stage::Rewrite),
        ("lower", Stage::Lower),
        ("plan", Stage::Plan),
        ("run", Stage::Run),
    ];

    /// By its name.
    pub fn parse(name: &str) -> Result<Stage, String> {
        let known: Vec<&str> = Stage::ALL.iter().map(|(n, _)| *n).collect();
        let found = Stage::ALL.iter().find(|(n, _)| *n == name);
        found.map(|(_, s)| *s).ok_or_else(|| format!("no stage `{name}`: there are {}", known.join(", ")))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Stage::ALL.iter().find(|(_, s)| *s == self).map_or("", |(n, _)| n)
    }
}

/// A program in all stages.
pub struct Staged {
    /// The model.
    pub model: Model,
    /// Its stages.
    pub stages: Compilation,
    /// The derivation.
    pub derivation: Explanation,
}

/// A program taken through the compiler.
pub fn compile(text: &str, request: &Request) -> Result<Staged, Error> {
    let model = Model::from_text(text, "test.ir", Path::new("."), &[])?;
    // Forms are those of the machine whose costs were measured, wherever the tests run.
    let stages = model.stages(&Target::parse("znver4")?, request)?;
    let derivation = explain(&stages, request, "cpu");
    Ok(Staged { model, stages, derivation })
}

/// The lines that a stage prints.
pub fn print(s: &Staged, stage: Stage) -> String {
    let printed = |stage| mixc::print_stage(&s.stages, stage);
    match stage {
        Stage::Parse => printed(mixc::Stage::Parse),
        Stage::Expand => printed(mixc::Stage::Expand),
        Stage::Rewrite => {
            let by = |r: &mixc::explain::AppliedRule| {
                format!("by {} at %{}{}\n", r.name, r.site, if r.exact { "" } else { " (approximate)" })
            };
            printed(mixc::Stage::Rewrite) + &s.derivation.rules.iter().map(by).collect::<String>()
        }
        Stage::Lower => printed(mixc::Stage::Lower),
        Stage::Plan => printed(mixc::Stage::Plan),
        Stage::Verify => "no errors\n".to_string(),
        Stage::Run => String::new(),
    }
}
