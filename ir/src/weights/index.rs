//! The index of a model whose weights lie in several files: `{"weight_map": {tensor: file, ...}}`.

use super::Weights;
use crate::diag::Diagnostic;
use crate::text::{quote, shorten};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an index.
const MAX_INDEX: usize = 100_000_000;
/// Diagnostics of one index; the rest is cut.
const MAX_FOUND: usize = 100;

/// Which file holds which tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Name of the index itself.
    pub name: String,
    /// File by tensor; files lie beside the index.
    pub map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Written {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads the index named `name`. `exists`: whether the directory of the index has a file of that name.
    ///
    /// Files are plain names: an index never leads out of its directory.
    pub fn read(name: &str, bytes: &[u8], exists: &dyn Fn(&str) -> bool) -> Result<Index, Vec<Diagnostic>> {
        let wrong = |message: String| Diagnostic::global("E0402", format!("{}: {message}", quote(name)));
        if bytes.len() > MAX_INDEX {
            return Err(vec![wrong(format!("an index of {} bytes; at most {MAX_INDEX} are read", bytes.len()))]);
        }
        let Written { weight_map: map } =
            serde_json::from_slice(bytes).map_err(|e| vec![wrong(format!("it does not parse: {e}"))])?;
        let index = Index { name: name.to_string(), map };
        let mut found = Vec::new();
        for file in index.files() {
            let plain = !file.is_empty() && !file.contains(['/', '\\', ':', '\0']) && !matches!(file, "." | "..");
            if !plain {
                found.push(wrong(format!("{} is not the name of a file beside it", quote(&shorten(file)))));
            } else if !exists(file) {
                found.push(wrong(format!("the file {} is missing", quote(&shorten(file)))));
            }
        }
        found.truncate(MAX_FOUND);
        if found.is_empty() { Ok(index) } else { Err(found) }
    }

    /// The files, each once, by name.
    pub fn files(&self) -> Vec<&str> {
        self.map.values().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Tensors that the index promises and `weights` has not.
    pub fn check(&self, weights: &Weights<'_>) -> Vec<Diagnostic> {
        let missing = self.map.iter().filter(|(tensor, _)| weights.find(tensor).is_none()).take(MAX_FOUND);
        missing
            .map(|(tensor, file)| {
                let (tensor, file) = (quote(&shorten(tensor)), quote(&shorten(file)));
                Diagnostic::global("E0402", format!("{}: {file} has no tensor {tensor}", quote(&self.name)))
            })
            .collect()
    }
}
