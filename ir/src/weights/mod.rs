//! Weight files: the tensors of safetensors files over bytes that the caller holds (a memory map, usually), and whether
//! they are what a program's `weight` constants say.
//!
//! The reader trusts nothing: lengths, offsets, shapes and names are checked against the bytes that are there. It opens
//! no files, copies no tensors, and writes nothing.

mod header;
mod index;
#[cfg(test)]
mod tests;

pub use index::Index;

use crate::diag::{Diagnostic, Span};
use crate::dtype::DType;
use crate::op::nearest;
use crate::program::{Const, NodeKind, Program};
use crate::reference;
use crate::tensor::Blob;
use crate::text::{quote, shorten};
use crate::ty::TensorType;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Missing weights that get suggestions, and names that each is compared with: a wrong file has thousands of both.
const MAX_SUGGESTIONS: usize = 20;
const MAX_CANDIDATES: usize = 4096;

/// An element type of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// One that programs have too.
    Known(DType),
    /// Another one, by name and bits an element.
    Other(&'static str, u64),
}

/// Element types of the format that programs do not have. Tensors of them can lie in a file; none can be a weight.
const OTHER_TYPES: [StoredType; 15] = [
    StoredType::Other("U8", 8),
    StoredType::Other("I8", 8),
    StoredType::Other("U16", 16),
    StoredType::Other("I16", 16),
    StoredType::Other("U32", 32),
    StoredType::Other("U64", 64),
    StoredType::Other("F4", 4),
    StoredType::Other("F6_E2M3", 6),
    StoredType::Other("F6_E3M2", 6),
    StoredType::Other("F8_E5M2", 8),
    StoredType::Other("F8_E4M3", 8),
    StoredType::Other("F8_E8M0", 8),
    StoredType::Other("F8_E4M3FNUZ", 8),
    StoredType::Other("F8_E5M2FNUZ", 8),
    StoredType::Other("C64", 64),
];

impl StoredType {
    /// The type of that name in a header.
    pub fn parse(name: &str) -> Option<StoredType> {
        let known = DType::ALL.into_iter().map(StoredType::Known);
        known.chain(OTHER_TYPES).find(|t| t.name() == name)
    }

    /// The name in a header.
    pub fn name(self) -> &'static str {
        match self {
            StoredType::Known(DType::F32) => "F32",
            StoredType::Known(DType::F16) => "F16",
            StoredType::Known(DType::BF16) => "BF16",
            StoredType::Known(DType::F64) => "F64",
            StoredType::Known(DType::I32) => "I32",
            StoredType::Known(DType::I64) => "I64",
            StoredType::Known(DType::Bool) => "BOOL",
            StoredType::Other(name, _) => name,
        }
    }

    /// Bits of an element.
    fn bits(self) -> u64 {
        match self {
            StoredType::Known(d) => d.bytes() as u64 * 8,
            StoredType::Other(_, bits) => bits,
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoredType::Known(d) => d.fmt(f),
            StoredType::Other(name, _) => f.write_str(name),
        }
    }
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<'a> {
    /// Element type.
    pub dtype: StoredType,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Elements, row-major, little-endian; not necessarily aligned.
    pub bytes: &'a [u8],
}

impl Stored<'_> {
    /// A copy as a host tensor; `None` when programs have no such element type.
    pub fn to_blob(&self) -> Option<Blob> {
        match self.dtype {
            StoredType::Known(dtype) => Some(Blob { dtype, shape: self.shape.clone(), bytes: self.bytes.to_vec() }),
            StoredType::Other(..) => None,
        }
    }
}

/// The tensors of one or several files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights<'a> {
    tensors: BTreeMap<String, Stored<'a>>,
}

impl<'a> Weights<'a> {
    /// The tensors of files (name for messages, bytes), or everything that is wrong with any of them.
    pub fn read(files: &[(&str, &'a [u8])]) -> Result<Weights<'a>, Vec<Diagnostic>> {
        let mut weights = Weights::default();
        let mut found = Vec::new();
        for (file, bytes) in files {
            match header::read(file, bytes) {
                Err(diagnostics) => found.extend(diagnostics),
                Ok(tensors) => {
                    for (name, tensor) in tensors {
                        match weights.tensors.entry(name) {
                            Entry::Vacant(place) => {
                                place.insert(tensor);
                            }
                            Entry::Occupied(place) => {
                                let (file, name) = (quote(file), quote(&shorten(place.key())));
                                let message = format!("{file}: tensor {name} is in another file too");
                                found.push(Diagnostic::global("E0406", message));
                            }
                        }
                    }
                }
            }
        }
        if found.is_empty() { Ok(weights) } else { Err(found) }
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&Stored<'a>> {
        self.tensors.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Stored<'a>)> {
        self.tensors.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// The `weight` constants of a program, in order: name, type, place. A weight used twice is there twice.
pub fn constants(program: &Program) -> impl Iterator<Item = (&str, &TensorType, Span)> {
    program.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Const(Const::Weight(name)) => {
            let ty = program.ty(*node.results.first()?).as_tensor()?;
            Some((name.as_str(), ty, node.span))
        }
        _ => None,
    })
}

/// Whether a stored element type can be read as a declared one: the same, or a half type where f32 is declared.
pub fn readable(stored: StoredType, declared: DType) -> bool {
    match stored {
        StoredType::Known(d) => d == declared || (d.is_half() && declared == DType::F32),
        StoredType::Other(..) => false,
    }
}

/// Everything in which `weights` is not what `program` says.
pub fn check(program: &Program, weights: &Weights<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut suggestions = 0;
    for (name, ty, span) in constants(program) {
        // A function called twice names its weights twice.
        if !seen.insert((span, name)) {
            continue;
        }
        let quoted = quote(&shorten(name));
        let Some(stored) = weights.find(name) else {
            suggestions += 1;
            let help = if suggestions <= MAX_SUGGESTIONS { nearest_names(name, weights) } else { None };
            let message = format!("the weight files have no tensor {quoted}");
            found.push(Diagnostic { help, ..Diagnostic::at("E0403", span, message) });
            continue;
        };
        let shape: Option<Vec<usize>> =
            ty.shape.iter().map(|d| d.as_constant().and_then(|n| usize::try_from(n).ok())).collect();
        if shape.as_ref() != Some(&stored.shape) {
            let message = format!("tensor {quoted} has shape {:?}, the program says {ty}", stored.shape);
            found.push(Diagnostic::at("E0404", span, message));
        }
        if !readable(stored.dtype, ty.dtype) {
            let message = format!("tensor {quoted} holds {}, the program says {}", stored.dtype, ty.dtype);
            let diagnostic = Diagnostic::at("E0405", span, message);
            found.push(diagnostic.help("the types must be the same; only f16 and bf16 are read as f32"));
        }
    }
    found.sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
    found
}

/// Stored names that `name` may have meant: those that differ by a prefix (`model.`), else the nearest in spelling.
fn nearest_names(name: &str, weights: &Weights<'_>) -> Option<String> {
    let names = || weights.tensors.keys().map(String::as_str);
    if weights.is_empty() {
        return Some("the files hold no tensors".into());
    }
    let inner = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|prefix| prefix.ends_with('.'));
    let mut near: Vec<&str> = names().filter(|n| inner(n, name) || inner(name, n)).take(3).collect();
    if near.is_empty() {
        let candidates: Vec<&str> =
            names().filter(|n| n.len().abs_diff(name.len()) <= 4).take(MAX_CANDIDATES).collect();
        near.extend(nearest(name, &candidates));
    }
    match near.as_slice() {
        [] => Some(format!("there are {} tensors, the first is {}", weights.len(), quote(names().next()?))),
        near => Some(format!("did you mean {}?", near.iter().map(|n| quote(n)).collect::<Vec<_>>().join(" or "))),
    }
}

/// The weights that `program` names, widened for the reference interpreter, or everything that does not fit.
pub fn to_reference(program: &Program, weights: &Weights<'_>) -> Result<reference::Weights, Vec<Diagnostic>> {
    let found = check(program, weights);
    if !found.is_empty() {
        return Err(found);
    }
    let tensor = |name: &str| Some(weights.find(name)?.to_blob()?.to_tensor());
    Ok(constants(program).filter_map(|(name, _, _)| Some((name.to_string(), tensor(name)?))).collect())
}
