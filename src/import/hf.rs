//! A Hugging Face model directory: `config.json` names the architecture, a template writes the IR, and every weight that
//! the template names is looked up in the stored files. All that is unsupported or missing is reported at once.

use super::bert;
use crate::Error;
use crate::weights::WeightFiles;
use mixc_ir::diag::Diagnostic;
use mixc_ir::dtype::DType;
use mixc_ir::text::quote;
use mixc_ir::weights::{Weights, readable};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The architectures that have a template: `model_type`, and what writes the text.
const TEMPLATES: &[(&str, fn(&mut Config<'_>) -> String)] = &[("bert", bert::text)];

/// Far above any configuration in use (a few kB); a larger file is something else.
const LARGEST_CONFIG_BYTES: u64 = 16 << 20;

/// A configuration under reading: fields as they are asked for, and everything that is wrong with them.
pub struct Config<'f> {
    fields: Map<String, Value>,
    /// The tensors in the files; `None` when the files are damaged, and weights are then not looked up.
    stored: Option<Weights<'f>>,
    /// What is wrong so far.
    pub problems: Vec<Diagnostic>,
}

impl Config<'_> {
    /// Reports what is wrong; `help` may be empty.
    pub fn problem(&mut self, message: String, help: &str) {
        let d = Diagnostic::global("E0701", message);
        self.problems.push(if help.is_empty() { d } else { d.help(help) });
    }

    /// The positive integer of that name.
    pub fn int(&mut self, name: &str) -> u64 {
        match self.fields.get(name).and_then(Value::as_u64).filter(|n| (1..1 << 31).contains(n)) {
            Some(n) => n,
            None => {
                self.problem(format!("`{name}` must be a positive integer"), "");
                1
            }
        }
    }

    /// The real number of that name, or the default when it is absent.
    pub fn real(&mut self, name: &str, default: f64) -> f64 {
        match self.fields.get(name) {
            None | Some(Value::Null) => default,
            Some(v) => v.as_f64().unwrap_or_else(|| {
                self.problem(format!("`{name}` must be a number"), "");
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
                self.problem(format!("{name} = {v} is not supported"), &format!("supported: {}", known.join(", ")));
                known[0].to_string()
            }
        }
    }

    /// A flag that must be false or absent.
    pub fn must_be_off(&mut self, name: &str) {
        if matches!(self.fields.get(name), Some(Value::Bool(true))) {
            self.problem(format!("{name} = true is not supported"), "");
        }
    }

    /// The first of the prefixes under which a weight of that name is stored; the empty one when there is none.
    pub fn prefix(&self, candidates: &[&str], name: &str) -> String {
        candidates.iter().find(|p| self.is_stored(&format!("{p}{name}"))).unwrap_or(&"").to_string()
    }

    /// Whether the files hold a tensor of that name.
    pub fn is_stored(&self, name: &str) -> bool {
        self.stored.as_ref().is_some_and(|s| s.find(name).is_some())
    }

    /// Whether the files can be read and hold no tensor whose name starts so.
    pub fn has_none_below(&self, prefix: &str) -> bool {
        self.stored.as_ref().is_some_and(|s| !s.iter().any(|(name, _)| name.starts_with(prefix)))
    }

    /// A weight's declaration, `const %value = weight "name" : f32[..]`; a problem when it is missing, has another shape,
    /// or elements that are not read as f32.
    pub fn weight(&mut self, value: &str, name: &str, shape: &[u64]) -> String {
        let wanted: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        let found = self.stored.as_ref().map(|s| s.find(name).map(|t| (t.shape.clone(), t.dtype)));
        match found {
            Some(None) => self.problem(format!("weight `{name}` is not in the directory's files"), ""),
            Some(Some((found, dtype))) => {
                if found != wanted {
                    let message = format!("weight `{name}` has shape {found:?}, the configuration says {wanted:?}");
                    self.problem(message, "");
                }
                if !readable(dtype, DType::F32) {
                    self.problem(format!("weight `{name}` holds {dtype}"), "f32, f16 and bf16 are supported");
                }
            }
            None => {}
        }
        let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
        format!("  const %{value} = weight \"{name}\" : f32[{}]\n", dims.join(", "))
    }
}

/// The IR text of the model in `dir`, to be kept in a file in `home`: weight paths are relative to it where they can be.
pub fn hf(dir: &Path, home: &Path) -> Result<String, Error> {
    let path = dir.join("config.json");
    let text = read_config(&path)?;
    let reject = |problems| Err(Error::rejected(&path, problems));
    let fields = match serde_json::from_slice(&text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return reject(vec![Diagnostic::global("E0701", "not a JSON object")]),
        Err(e) => return reject(vec![Diagnostic::global("E0701", format!("not JSON: {e}"))]),
    };
    let kind = fields.get("model_type").and_then(Value::as_str).unwrap_or("").to_string();
    let Some((_, template)) = TEMPLATES.iter().find(|(name, _)| *name == kind) else {
        let known: Vec<&str> = TEMPLATES.iter().map(|(n, _)| *n).collect();
        let shown: String = kind.chars().take(60).collect();
        let d = Diagnostic::global("E0702", format!("model_type {} has no importer", quote(&shown)));
        return reject(vec![d.help(format!("supported: {}", known.join(", ")))]);
    };
    let (files, damage) = match WeightFiles::open_directory(dir) {
        Ok(files) => (files, Vec::new()),
        Err(Error::Rejected { diagnostics, .. }) => (WeightFiles::default(), diagnostics),
        Err(error) => return Err(error),
    };
    let stored = if damage.is_empty() { Some(files.view().map_err(|d| Error::rejected(&path, d))?) } else { None };
    let mut config = Config { fields, stored, problems: damage };
    let body = template(&mut config);
    let mut names = Vec::new();
    for file in files.paths() {
        match relative(file, home).to_str() {
            Some(name) => names.push(quote(name)),
            None => config.problem(format!("the path {} is not Unicode", file.display()), ""),
        }
    }
    if !config.problems.is_empty() {
        return reject(config.problems);
    }
    Ok(format!("ir 1\n// {kind}: imported from a Hugging Face directory\nweights {}\n{body}", names.join(", ")))
}

/// The bytes of the configuration.
fn read_config(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::io(path, error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One byte past the limit tells a file at the limit from one above it.
    file.take(LARGEST_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_CONFIG_BYTES {
        let message = format!("more than {} MiB: no configuration", LARGEST_CONFIG_BYTES >> 20);
        return Err(Error::rejected(path, vec![Diagnostic::global("E0701", message)]));
    }
    Ok(bytes)
}

/// `path` as seen from `home` when it lies below it, else as it is (absolute).
fn relative(path: &Path, home: &Path) -> PathBuf {
    let (path, home) = (
        path.canonicalize().unwrap_or_else(|_| path.to_path_buf()),
        home.canonicalize().unwrap_or_else(|_| home.to_path_buf()),
    );
    path.strip_prefix(&home).map(Path::to_path_buf).unwrap_or(path)
}
