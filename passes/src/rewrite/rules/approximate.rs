//! Approximations, each under the name of its error; none is used unless the user allows that name.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // HiP: only the keys that a tree search finds. `--approx hip(k = 512)`.
    Rule::approximate("hip", "softmax-of-found-keys", "(apply (softmax ?m ?s) ?v)", "(apply (softmax (top_k_tree ?m {k = ?k, block_q = ?q, block_k = ?b}) ?s) ?v)",
        "?k = allowed(hip, k); ?q = allowed_or(hip, block_q, 32); ?b = allowed_or(hip, block_k, 2); searchable(?m, ?k)"),
    Rule::approximate("hip", "found-keys", "(top_k ?m {k = ?n})", "(top_k_tree ?m {k = ?n, block_q = ?q, block_k = ?b})",
        "?k = allowed(hip, k); ?q = allowed_or(hip, block_q, 32); ?b = allowed_or(hip, block_k, 2); searchable(?m, ?n)"),
];
