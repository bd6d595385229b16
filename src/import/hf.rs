//! A Hugging Face model directory: `config.json` names the architecture, a template writes the IR, and every weight that
//! the template names is looked up in the stored files. All that is unsupported or missing is reported at once.

use super::bert;
use crate::Error;
use mixc_ir::diag::Diagnostic;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The architectures that have a template: `model_type`, and what writes the text.
const TEMPLATES: &[(&str, fn(&mut Config) -> String)] = &[("bert", bert::text)];

/// A configuration under reading: fields as they are asked for, and everything that is wrong with them.
pub struct Config {
    fields: Map<String, Value>,
    stored: BTreeMap<String, Vec<usize>>,
    /// What is wrong so far.
    pub problems: Vec<Diagnostic>,
}

impl Config {
    fn problem(&mut self, message: String, help: &str) {
        let d = Diagnostic::global("E0701", message);
        self.problems.push(if help.is_empty() { d } else { d.help(help) });
    }

    /// The positive integer of that name.
    pub fn int(&mut self, name: &str) -> u64 {
        match self.fields.get(name).and_then(Value::as_u64).filter(|n| (1..1 << 31).contains(n)) {
            Some(n) => n,
            None => {
                self.problem(format!("config.json: `{name}` must be a positive integer"), "");
                1
            }
        }
    }

    /// The real number of that name, or the default when it is absent.
    pub fn real(&mut self, name: &str, default: f64) -> f64 {
        match self.fields.get(name) {
            None | Some(Value::Null) => default,
            Some(v) => v.as_f64().unwrap_or_else(|| {
                self.problem(format!("config.json: `{name}` must be a number"), "");
                default
            }),
        }
    }

    /// The word of that name, which must be one of `known`; the first when it is absent.
    pub fn word(&mut self, name: &str, known: &[&str]) -> String {
        match self.fields.get(name) {
            None | Some(Value::Null) => known[0].to_string(),
            Some(Value::String(s)) if known.contains(&s.as_str()) => s.clone(),
            Some(v) => {
                self.problem(
                    format!("config.json: {name} = {v} is not supported"),
                    &format!("supported: {}", known.join(", ")),
                );
                known[0].to_string()
            }
        }
    }

    /// A flag that must be false or absent.
    pub fn must_be_off(&mut self, name: &str) {
        if matches!(self.fields.get(name), Some(Value::Bool(true))) {
            self.problem(format!("config.json: {name} = true is not supported"), "");
        }
    }

    /// The first of the prefixes under which a weight of that name is stored; the empty one when there is none.
    pub fn prefix(&self, candidates: &[&str], name: &str) -> String {
        candidates.iter().find(|p| self.stored.contains_key(&format!("{p}{name}"))).unwrap_or(&"").to_string()
    }

    /// A weight's declaration, `const %value = weight "name" : f32[..]`; a problem when it is missing or has another shape.
    pub fn weight(&mut self, value: &str, name: &str, shape: &[u64]) -> String {
        let wanted: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        match self.stored.get(name) {
            Some(found) if *found == wanted => {}
            Some(found) => {
                let message = format!("weight `{name}` has shape {found:?}, the configuration says {wanted:?}");
                self.problem(message, "");
            }
            None => self.problem(format!("weight `{name}` is not in the directory's files"), ""),
        }
        let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
        format!("  const %{value} = weight \"{name}\" : f32[{}]\n", dims.join(", "))
    }
}

/// The IR text of the model in `dir`, to be kept in a file in `home`: weight paths are relative to it where they can be.
pub fn hf(dir: &Path, home: &Path) -> Result<String, Error> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
    let reject = |problems| Err(Error::rejected(&path, problems));
    let fields = match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return reject(vec![Diagnostic::global("E0701", "config.json is not an object")]),
        Err(e) => return reject(vec![Diagnostic::global("E0701", format!("config.json is not JSON: {e}"))]),
    };
    let kind = fields.get("model_type").and_then(Value::as_str).unwrap_or("").to_string();
    let Some((_, template)) = TEMPLATES.iter().find(|(name, _)| *name == kind) else {
        let known: Vec<&str> = TEMPLATES.iter().map(|(n, _)| *n).collect();
        let d = Diagnostic::global("E0702", format!("model_type {kind:?} has no importer"));
        return reject(vec![d.help(format!("supported: {}", known.join(", ")))]);
    };
    let files = crate::weights::WeightFiles::open_directory(dir)?;
    let mut config = Config { fields, stored: files.shapes(), problems: Vec::new() };
    let body = template(&mut config);
    if !config.problems.is_empty() {
        return reject(config.problems);
    }
    let names: Vec<String> =
        files.paths().iter().map(|p| format!("{:?}", relative(p, home).display().to_string())).collect();
    Ok(format!("ir 1\n// {kind}: imported from a Hugging Face directory\nweights {}\n{body}", names.join(", ")))
}

/// `path` as seen from `home` when it lies below it, else as it is (absolute).
fn relative(path: &Path, home: &Path) -> std::path::PathBuf {
    let (path, home) = (
        path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
        home.canonicalize().unwrap_or_else(|_| home.to_path_buf()),
    );
    path.strip_prefix(&home).map(Path::to_path_buf).unwrap_or(path)
}
