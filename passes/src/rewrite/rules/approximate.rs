//! Approximations, each under the name of its error; none is used unless the user allows that name.

use crate::rewrite::rule::{Exactness, Rule};

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // HiP: only the keys that a tree search finds. `--approx hip(k = 512)`.
    Rule::approximate("hip", "softmax-of-found-keys", "(apply (softmax ?m ?s) ?v)", "(apply (softmax (top_k_tree ?m {k = ?k, block_q = ?q, block_k = ?b}) ?s) ?v)",
        "?k = allowed(hip, k); ?q = allowed_or(hip, block_q, 32); ?b = allowed_or(hip, block_k, 2); searchable(?m, ?k)"),
    Rule::approximate("hip", "found-keys", "(top_k ?m {k = ?n})", "(top_k_tree ?m {k = ?n, block_q = ?q, block_k = ?b})",
        "?k = allowed(hip, k); ?q = allowed_or(hip, block_q, 32); ?b = allowed_or(hip, block_k, 2); searchable(?m, ?n)"),
];

/// An error that a user may allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approximation {
    /// Its name.
    pub name: String,
    /// Parameters that must be given.
    pub required: Vec<String>,
    /// Parameters that have a default.
    pub optional: Vec<String>,
}

/// The errors that rules make, with their parameters, as the tables name them.
pub fn approximations() -> Vec<Approximation> {
    let mut all: Vec<Approximation> = Vec::new();
    for rule in super::all() {
        let Exactness::Approximate(name) = &rule.exactness else { continue };
        if all.iter().all(|a| a.name != *name) {
            all.push(Approximation { name: name.to_string(), required: Vec::new(), optional: Vec::new() });
        }
        let Some(found) = all.iter_mut().find(|a| a.name == *name) else { continue };
        for clause in rule.given.split(';').filter_map(|c| Some(c.split_once('=')?.1.trim())) {
            let parameter = |function: &str| {
                let inside = clause.strip_prefix(function)?.strip_prefix('(')?;
                Some(inside.split([',', ')']).nth(1)?.trim().to_string())
            };
            let (required, optional) = (parameter("allowed"), parameter("allowed_or"));
            for (known, new) in [(&mut found.required, required), (&mut found.optional, optional)] {
                known.extend(new.filter(|p| !known.contains(p)));
            }
        }
    }
    all
}
