//! From a source text to a program in which everything is known to fit: names, types, shapes, attributes, bounds.
//!
//! [`check`] finds all errors of a file at once, in the order of the text. It promises that a program it returns can be
//! compiled or interpreted without a further check of its structure; what depends on the values of dims, on data or on
//! weight files is checked where those are known. It has no opinion on speed and changes nothing but calls, which it
//! inlines.

mod attributes;
mod budget;
pub mod codes;
mod constants;
mod determine;
mod dims;
mod findings;
mod inline;
mod recursion;
#[cfg(test)]
mod tests;

pub use determine::{DimSource, bind_dims, dim_sources};

use crate::diag::Diagnostic;
use crate::program::Program;
use crate::text::ast::{File, Func, ItemKind};
use crate::text::{limits, parse};
use budget::Budget;
use dims::{Symbols, Wrong};
use findings::Findings;
use inline::{Inliner, Module, Signature};
use std::collections::{BTreeMap, BTreeSet};

/// The versions of the format that are read.
const VERSIONS: [i64; 1] = [1];

/// The verified program of a source text, or everything that is wrong with it, by position.
pub fn check(source: &str) -> Result<Program, Vec<Diagnostic>> {
    let (file, diagnostics) = parse(source);
    let mut findings = Findings::default();
    let broken = !diagnostics.is_empty();
    diagnostics.into_iter().for_each(|d| findings.push(d));
    let program = check_file(&file, broken, &mut findings);
    let diagnostics = findings.sorted();
    match program {
        Some(program) if diagnostics.is_empty() => Ok(program),
        _ => Err(diagnostics),
    }
}

/// The verified program of bytes, which need not be a text.
pub fn check_bytes(source: &[u8]) -> Result<Program, Vec<Diagnostic>> {
    check(crate::text::source(source).map_err(|d| vec![d])?)
}

fn check_file(file: &File, broken: bool, findings: &mut Findings) -> Option<Program> {
    let mut symbols = Symbols::default();
    let mut weights = Vec::new();
    let mut funcs: Vec<&Func> = Vec::new();
    let mut by_name = BTreeMap::new();
    for (k, item) in file.items.iter().enumerate() {
        match &item.kind {
            ItemKind::Version(n) => version(*n, k, item.at.0, findings),
            ItemKind::Weights(paths) => weights.extend(paths.iter().map(|p| p.text.clone())),
            ItemKind::Dim { name, low, high } => {
                if symbols.items.len() >= limits::MAX_DIMS {
                    findings.at("E0508", item.at.0, format!("more than {} dims", limits::MAX_DIMS));
                    symbols.broken.insert(name.text.clone());
                    continue;
                }
                symbols.declare(&name.text, name.at.0, low, high, findings);
            }
            ItemKind::Func(f) => {
                if by_name.contains_key(f.name.text.as_str()) {
                    findings.at("E0109", f.name.at.0, format!("function `@{}` is defined twice", f.name.text));
                } else {
                    by_name.insert(f.name.text.as_str(), funcs.len());
                    funcs.push(f);
                }
            }
            ItemKind::Broken => {}
        }
    }
    let entry = entry(&funcs, &by_name, broken, findings);
    let signatures: Vec<Signature> = funcs.iter().map(|f| signature(f, &symbols, findings)).collect();
    let groups = recursion::groups(&funcs, &by_name, findings);
    let module = Module { funcs, signatures, by_name, groups, symbols };
    if let Some(entry) = entry {
        check_entry(entry, &module, findings);
    }
    let mut checked = BTreeSet::new();
    let mut budget = Budget::new();
    let mut program = entry
        .and_then(|k| Inliner::new(&module, &module.funcs[k].name.text, findings, &mut checked, &mut budget).run(k));
    // Functions that the entry does not reach are part of the file all the same.
    let mut budget = Budget::new();
    for k in 0..module.funcs.len() {
        if !checked.contains(&k) {
            Inliner::new(&module, &module.funcs[k].name.text, findings, &mut checked, &mut budget).run(k);
        }
    }
    if let Some(program) = &mut program {
        program.weights = weights;
    }
    program
}

fn version(n: i64, position: usize, span: crate::diag::Span, findings: &mut Findings) {
    if !VERSIONS.contains(&n) {
        let known: Vec<String> = VERSIONS.iter().map(i64::to_string).collect();
        let found = Diagnostic::at("E0010", span, format!("version {n} of the format is not known"));
        findings.push(found.help(format!("known: {}", known.join(", "))));
    }
    if position > 0 {
        findings.at("E0011", span, "`ir` is the first item of a file, once");
    }
}

/// `@main`, or the only function.
fn entry(funcs: &[&Func], by_name: &BTreeMap<&str, usize>, broken: bool, findings: &mut Findings) -> Option<usize> {
    let found = by_name.get("main").copied().or((funcs.len() == 1).then_some(0));
    // An item that did not parse may have been it.
    if found.is_none() && !broken {
        let (message, help) = match funcs.len() {
            0 => ("the file has no function", "write one: `func @main(%x: f32[8]) -> f32[8] { ... }`"),
            _ => ("none of the functions is `@main`", "the entry is `@main`, or the only function"),
        };
        findings.push(Diagnostic::global("E0106", message).help(help));
    }
    found
}

fn signature(f: &Func, symbols: &Symbols, findings: &mut Findings) -> Signature {
    let params = f.params.iter().map(|p| p.ty.as_ref().and_then(|t| symbols.ty(t, findings).ok())).collect();
    let results = f.results.as_ref().map(|types| types.iter().map(|t| symbols.ty(t, findings).ok()).collect());
    Signature { params, results }
}

/// What holds of the entry alone: tensors go in and out, and its parameters determine every dim.
fn check_entry(entry: usize, module: &Module<'_>, findings: &mut Findings) {
    let (func, signature) = (module.funcs[entry], &module.signatures[entry]);
    let params = func.params.iter().map(|p| p.ty.as_ref()).zip(&signature.params);
    let results = func.results.iter().flatten().map(Some).zip(signature.results.iter().flatten());
    for (written, ty) in params.chain(results) {
        if let (Some(written), Some(ty)) = (written, ty)
            && ty.as_mix().is_some()
        {
            let message = "the entry takes and returns tensors, not mixing operators";
            findings.at("E0206", written.at.0, message);
        }
    }
    let known: Result<Vec<_>, Wrong> = signature.params.iter().map(|t| t.as_ref().ok_or(Wrong)).collect();
    let Ok(known) = known else { return };
    let sources = determine::sources(&known, &module.symbols.items);
    for (item, span) in module.symbols.items.iter().zip(&module.symbols.places) {
        if !sources.iter().any(|s| s.symbol == item.name) {
            let message = format!("the parameters of `@{}` do not determine `{}`", func.name.text, item.name);
            let help = format!("let `{}` stand alone in the type of a parameter, or remove it", item.name);
            findings.push(Diagnostic::at("E0505", *span, message).help(help));
        }
    }
}
