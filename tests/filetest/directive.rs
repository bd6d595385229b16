//! What the comments of a test program say.
//!
//! | comment | meaning |
//! |---|---|
//! | `// test: STAGE ...` | stages to print: parse, verify, expand, rewrite, lower, plan; `run` prints nothing |
//! | `// bind: T=4096 B=2` | lengths; every `bind` line is one set, stages are printed for the first, runs go through all |
//! | `// approx: NAME(k=8)` | an approximation that is allowed |
//! | `// force: FORM` | the form wanted where it applies |
//! | `// targets: ref cpu` | where runs take place |
//! | `// check: LINE` | the printed stages, line for line; `MIXC_BLESS=1` writes these |
//! | `// has: TEXT` | in the printed stages, one after the other |
//! | `// not: TEXT` | nowhere in the printed stages |
//! | `// rule: NAME`, `// form: NAME` | what the derivation names |
//! | `... // error[CODE]: TEXT` | a finding on this line; every finding must be expected |
//! | `// run: seed=1 tol=1e-5` | results equal the reference interpreter's on inputs from that seed |
//!
//! A comment line that begins with another word and a colon is an error: a slip must not turn a test off.

use crate::stage::Stage;
use mixc::ShapeArg;

/// A finding that is expected.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// `E` and four digits.
    pub code: String,
    /// A part of the message.
    pub text: String,
}

/// Results that are expected to equal the reference's.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// Of the random inputs.
    pub seed: u64,
    /// Allowed share of the largest value.
    pub tolerance: f64,
}

/// What a test program asks for.
#[derive(Debug, Default)]
pub struct Directives {
    /// Stages to print.
    pub stages: Vec<Stage>,
    /// Sets of lengths.
    pub binds: Vec<Vec<(String, i64)>>,
    /// Approximations.
    pub approx: Vec<String>,
    /// The form that is wanted.
    pub force: Option<String>,
    /// Targets of runs.
    pub targets: Vec<String>,
    /// The printed stages, when any `check` line stands there.
    pub check: Option<Vec<String>>,
    /// Parts of the printed stages, in order.
    pub has: Vec<String>,
    /// What is in none.
    pub not: Vec<String>,
    /// Rules of the derivation.
    pub rules: Vec<String>,
    /// Forms of the derivation.
    pub forms: Vec<String>,
    /// Findings.
    pub findings: Vec<Finding>,
    /// Runs.
    pub runs: Vec<Run>,
}

impl Directives {
    /// Reads the comments of a program.
    pub fn read(text: &str) -> Result<Directives, String> {
        let mut d = Directives::default();
        for (k, line) in text.lines().enumerate() {
            let at = |e: String| format!("line {}: {e}", k + 1);
            match line.trim_start().strip_prefix("//") {
                Some(comment) => d.comment(comment, k + 1).map_err(at)?,
                None => {
                    if let Some((_, found)) = line.split_once("// error[") {
                        d.findings.push(finding(found, k + 1).map_err(at)?);
                    }
                }
            }
        }
        d.complete()
    }

    fn comment(&mut self, comment: &str, line: usize) -> Result<(), String> {
        if let Some(found) = comment.trim_start().strip_prefix("error[") {
            self.findings.push(finding(found, line)?);
            return Ok(());
        }
        let Some((word, value)) = comment.split_once(':') else { return Ok(()) };
        let word = word.strip_prefix(' ').unwrap_or(word);
        if word.is_empty() || word.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            return Ok(());
        }
        // A line of a printed stage may begin with blanks of its own.
        let whole = value.strip_prefix(' ').unwrap_or(value);
        let value = value.trim();
        match word {
            "check" => self.check.get_or_insert_default().push(whole.to_string()),
            _ if value.is_empty() => return Err(format!("`{word}:` says nothing")),
            "test" => {
                for name in value.split_whitespace() {
                    self.stages.push(Stage::parse(name)?);
                }
            }
            "bind" => {
                let one = |pair: &str| match pair.parse::<ShapeArg>() {
                    Ok(a) if a.low == a.high => Ok((a.name, a.typical)),
                    _ => Err(format!("`{pair}`: expected NAME=N")),
                };
                self.binds.push(value.split_whitespace().map(one).collect::<Result<_, _>>()?);
            }
            "approx" => self.approx.push(value.to_string()),
            "force" => self.force = Some(value.to_string()),
            "targets" => self.targets.extend(value.split_whitespace().map(str::to_string)),
            "has" => self.has.push(value.to_string()),
            "not" => self.not.push(value.to_string()),
            "rule" => self.rules.push(value.to_string()),
            "form" => self.forms.push(value.to_string()),
            "run" => self.runs.push(run(value)?),
            _ => return Err(format!("`{word}:` is no directive")),
        }
        Ok(())
    }

    /// Whether the parts make sense together.
    fn complete(self) -> Result<Directives, String> {
        if self.stages.is_empty() {
            return Err("there is no `test:` line".into());
        }
        let printed = self.check.is_some() || !self.has.is_empty() || !self.not.is_empty();
        let prints = self.stages.iter().any(|s| *s != Stage::Run);
        let derived = !self.rules.is_empty() || !self.forms.is_empty();
        if printed && !prints {
            return Err("nothing is printed by `test: run`".into());
        }
        if prints && !printed && !derived && self.findings.is_empty() {
            return Err(
                "the test expects nothing: add `check:`, `has:`, `not:`, `rule:`, `form:` or `error[...]:`".into()
            );
        }
        if self.stages.contains(&Stage::Run) == self.runs.is_empty() {
            return Err("`test: run` and `run: seed=... tol=...` belong together".into());
        }
        if self.runs.is_empty() != self.targets.is_empty() {
            return Err("`run:` and `targets:` belong together".into());
        }
        Ok(self)
    }
}

/// `E0203]: text`.
fn finding(text: &str, line: usize) -> Result<Finding, String> {
    let form = || "expected `error[CODE]: TEXT`".to_string();
    let (code, text) = text.split_once("]:").ok_or_else(form)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(form());
    }
    Ok(Finding { line, code: code.to_string(), text: text.to_string() })
}

/// `seed=1 tol=1e-5`.
fn run(text: &str) -> Result<Run, String> {
    let (mut seed, mut tolerance) = (None, None);
    for pair in text.split_whitespace() {
        match pair.split_once('=') {
            Some(("seed", n)) => seed = n.parse().ok(),
            Some(("tol", n)) => tolerance = n.parse().ok().filter(|t| (0.0..=0.1).contains(t)),
            _ => return Err(format!("`{pair}`: expected seed=N tol=X")),
        }
    }
    match (seed, tolerance) {
        (Some(seed), Some(tolerance)) => Ok(Run { seed, tolerance }),
        _ => Err("expected seed=N tol=X, X at most 0.1".into()),
    }
}
