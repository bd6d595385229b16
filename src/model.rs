//! A verified model and its weights.

use crate::pipeline::{self, Compilation, Request};
use crate::weights::WeightFiles;
use crate::{Error, Runner, Target};
use mixc_ir::program::{Const, NodeKind, Program};
use std::path::{Path, PathBuf};

/// A model.
#[derive(Debug)]
pub struct Model {
    /// The entry function, calls inlined.
    pub program: Program,
    /// Where its stored weights are.
    pub weights: WeightFiles,
    /// The file, for messages.
    pub file: String,
    /// The text, for messages.
    pub source: String,
}

/// Bytes of the longest text that is read.
pub fn text_size_limit() -> u64 {
    mixc_ir::text::limits::MAX_FILE_BYTES as u64
}

/// Bytes as text, or why they are none.
pub fn decode_text(bytes: &[u8], file: &str) -> Result<String, Error> {
    let reject = |d| Error::Rejected { file: file.to_string(), source: String::new(), diagnostics: vec![d] };
    mixc_ir::text::source(bytes).map(str::to_string).map_err(reject)
}

/// The verified program of a text.
pub fn check(text: &str, file: &str) -> Result<Program, Error> {
    mixc_ir::verify::check(text).map_err(|diagnostics| Error::Rejected {
        file: file.to_string(),
        source: text.to_string(),
        diagnostics,
    })
}

/// The canonical form of a text.
pub fn format(text: &str, file: &str) -> Result<String, Error> {
    mixc_ir::text::format(text).map_err(|diagnostics| Error::Rejected {
        file: file.to_string(),
        source: text.to_string(),
        diagnostics,
    })
}

impl Model {
    /// Reads a model and opens its weight files, whose paths are relative to it.
    pub fn load(path: &Path) -> Result<Model, Error> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let name = path.display().to_string();
        let text = decode_text(&bytes, &name)?;
        Model::from_text(&text, &name, path.parent().unwrap_or(Path::new(".")), &[])
    }

    /// A model from its text; weight paths are relative to `home`, `weights` take their place when given, and are read
    /// whether the model has weights or not.
    pub fn from_text(text: &str, file: &str, home: &Path, weights: &[PathBuf]) -> Result<Model, Error> {
        let mut program = check(text, file)?;
        program.name = symbol_name(file, &program.name);
        let needs = program.nodes.iter().any(|n| matches!(n.kind, NodeKind::Const(Const::Weight(_))));
        let paths: Vec<PathBuf> =
            if weights.is_empty() { program.weights.iter().map(|w| home.join(w)).collect() } else { weights.to_vec() };
        let files = if needs || !weights.is_empty() { WeightFiles::open(&paths)? } else { WeightFiles::default() };
        let problems = files.check(&program);
        if !problems.is_empty() {
            return Err(Error::Rejected { file: file.to_string(), source: text.to_string(), diagnostics: problems });
        }
        Ok(Model { program, weights: files, file: file.to_string(), source: text.to_string() })
    }

    /// Compiles for a target, in memory.
    pub fn compile(&self, target: &Target, request: &Request) -> Result<Runner, Error> {
        Runner::new(self, target, request)
    }

    /// Every stage's result, with costs reckoned for the target's machine.
    pub fn stages(&self, target: &Target, request: &Request) -> Result<Compilation, Error> {
        pipeline::compile(self, request, &target.machine())
    }

    /// Findings about this model as an error.
    pub fn rejected(&self, diagnostics: Vec<mixc_ir::diag::Diagnostic>) -> Error {
        Error::Rejected { file: self.file.clone(), source: self.source.clone(), diagnostics }
    }
}

/// The prefix of a model's symbols: the file's stem, else the entry's name, as a C identifier.
fn symbol_name(file: &str, entry: &str) -> String {
    let stem = Path::new(file).file_stem().and_then(|s| s.to_str()).filter(|s| !s.starts_with('<')).unwrap_or(entry);
    let mut name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}
