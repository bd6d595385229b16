//! Smaller programs that fail alike.

use crate::check::{Outcome, check};
use crate::source::{Param, Role, Source, mentions};
use mixc::ir::dim::Dim;

fn still_fails(source: &Source, kind: &str) -> bool {
    matches!(check(source), Outcome::Fails { kind: k, .. } if k == kind)
}

/// Drops what nothing needs.
fn cleaned(mut s: Source) -> Source {
    for k in (0..s.statements.len()).rev() {
        let needed = s.statements[k]
            .results
            .iter()
            .any(|(n, _)| s.results.iter().any(|(r, _)| r == n) || s.statements.iter().any(|t| mentions(&t.text, n)));
        if !needed {
            s.statements.remove(k);
        }
    }
    let used = |p: &Param| {
        s.results.iter().any(|(r, _)| *r == p.name) || s.statements.iter().any(|t| mentions(&t.text, &p.name))
    };
    s.params = s.params.iter().filter(|p| used(p)).cloned().collect();
    s
}

/// Fewer results, statements made parameters, shorter lengths, as long as the program fails in that way.
pub fn shrink(source: &Source, kind: &str) -> Source {
    let mut best = source.clone();
    // Compilations are slow: this many attempts at most.
    let mut budget = 150;
    loop {
        let mut found = None;
        for candidate in candidates(&best) {
            if budget == 0 {
                return best;
            }
            budget -= 1;
            if still_fails(&candidate, kind) {
                found = Some(candidate);
                break;
            }
        }
        match found {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

fn candidates(s: &Source) -> Vec<Source> {
    let mut all = Vec::new();
    if s.results.len() > 1 {
        for k in 0..s.results.len() {
            all.push(cleaned(Source { results: vec![s.results[k].clone()], ..s.clone() }));
        }
    }
    // A statement's tensors as parameters.
    for k in (0..s.statements.len()).rev() {
        let mut smaller = s.clone();
        let gone = smaller.statements.remove(k);
        let tensors: Vec<Param> = gone
            .results
            .iter()
            .filter_map(|(name, ty)| Some(Param { name: name.clone(), ty: ty.as_tensor()?.clone(), role: Role::Data }))
            .collect();
        if tensors.len() == gone.results.len() {
            smaller.params.extend(tensors);
            all.push(cleaned(smaller));
        } else if let Some(source) = skipped(s, k) {
            all.push(source);
        }
    }
    // A value that a statement in the middle makes as the only result.
    for t in s.statements.iter().rev().skip(1) {
        for (name, ty) in &t.results {
            if let Some(t) = ty.as_tensor()
                && !s.results.iter().any(|(n, _)| n == name)
            {
                all.push(cleaned(Source { results: vec![(name.clone(), t.clone())], ..s.clone() }));
            }
        }
    }
    for name in ["T", "S", "B"] {
        let symbol = Dim::symbol(name).as_symbol().expect("a symbol").clone();
        let n = s.lengths.get(&symbol).copied().unwrap_or(0);
        for smaller in [1, 2, n / 2, n - 1] {
            if smaller < n && smaller > 0 {
                let mut lengths = s.lengths.clone();
                lengths.insert(symbol.clone(), smaller);
                all.push(Source { lengths, ..s.clone() });
            }
        }
    }
    all
}

/// The program without statement k, an operator made from another: its users take that one.
fn skipped(s: &Source, k: usize) -> Option<Source> {
    let (name, _) = s.statements[k].results.first()?;
    let other = s.statements[..k]
        .iter()
        .rev()
        .flat_map(|t| &t.results)
        .find(|(n, ty)| ty.as_mix().is_some() && mentions(&s.statements[k].text, n))?;
    let mut smaller = s.clone();
    smaller.statements.remove(k);
    for t in &mut smaller.statements {
        if mentions(&t.text, name) {
            // Names are followed by a comma, a blank or the end.
            let words: Vec<String> = t
                .text
                .split(' ')
                .map(|w| match w.strip_suffix(',') {
                    Some(bare) if bare == format!("%{name}") => format!("%{},", other.0),
                    None if w == format!("%{name}") => format!("%{}", other.0),
                    _ => w.to_string(),
                })
                .collect();
            t.text = words.join(" ");
        }
    }
    Some(cleaned(smaller))
}
