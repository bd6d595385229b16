//! The list of what is wrong: without repetitions, bounded, in the order of the text.

use crate::diag::{Diagnostic, Fault, Span};
use crate::op::nearest;
use crate::text::limits;
use std::collections::BTreeSet;

/// Suggestions of a file. A file with more wrong names is not helped by more of them, and each costs a search.
const MAX_SUGGESTIONS: usize = 100;
/// Names that a suggestion is chosen from.
const MAX_CANDIDATES: usize = 1024;

/// Diagnostics so far.
#[derive(Default)]
pub struct Findings {
    list: Vec<Diagnostic>,
    seen: BTreeSet<(Option<Span>, &'static str, String)>,
    places: BTreeSet<(&'static str, Span)>,
    suggestions: usize,
}

impl Findings {
    /// Adds one, unless it is known (a function's body is read once for every call).
    pub fn push(&mut self, found: Diagnostic) {
        if self.list.len() < limits::MAX_DIAGNOSTICS
            && self.seen.insert((found.span, found.code, found.message.clone()))
        {
            self.places.extend(found.span.map(|span| (found.code, span)));
            self.list.push(found);
        }
    }

    /// Whether nothing with this code was found at this place yet; what a search for a remedy is worth.
    pub fn is_new(&self, code: &'static str, span: Span) -> bool {
        self.list.len() < limits::MAX_DIAGNOSTICS && !self.places.contains(&(code, span))
    }

    /// Adds one at a place.
    pub fn at(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::at(code, span, message));
    }

    /// Adds what an operation said, at a place.
    pub fn fault(&mut self, span: Span, fault: Fault) {
        self.push(Diagnostic { code: fault.code, message: fault.message, span: Some(span), help: fault.help });
    }

    /// The name of `known` that `word` may have meant, as a remedy.
    pub fn suggest<'a>(&mut self, sigil: &str, word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
        self.suggestions += 1;
        if self.suggestions > MAX_SUGGESTIONS {
            return None;
        }
        // Among names of one or two letters everything is near everything.
        let near = |k: &&str| {
            k.len().abs_diff(word.len()) <= 1 + k.len().max(word.len()) / 3
                && (word.len() > 2 || k.eq_ignore_ascii_case(word))
        };
        let candidates: Vec<&str> = known.filter(near).take(MAX_CANDIDATES).collect();
        nearest(word, &candidates).map(|name| format!("did you mean `{sigil}{name}`?"))
    }

    /// All, by position.
    pub fn sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            // What concerns the whole input goes first.
            (a.span.is_some(), a.span, a.code, &a.message).cmp(&(b.span.is_some(), b.span, b.code, &b.message))
        });
        self.list
    }
}
