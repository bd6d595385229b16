//! Transposes and reversals: involutions, and where they can be taken in.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule::canonical("transpose-twice", "(transpose (transpose ?m))", "?m", ""),
    Rule::canonical("permutations-compose", "(transpose (transpose ?x {perm = ?p}) {perm = ?q})", "(transpose ?x {perm = ?r})",
        "?r = composed_perm(?p, ?q)"),
    Rule::canonical("permutation-of-nothing", "(transpose ?x {perm = ?p})", "?x",
        "identity_perm(?p)"),
    Rule::canonical("reverse-axis", "(reverse ?x {axis = ?a})", "(reverse ?x {axis = ?b})",
        "?b = axis_from_end(?x, ?a)"),
    Rule::canonical("reverse-twice", "(reverse (reverse ?x {axis = ?a}) {axis = ?a})", "?x", ""),
    Rule::canonical("transposed-gram", "(transpose (gram ?q ?k {scale = ?s}))", "(gram ?k ?q {scale = ?s})", ""),
    Rule::canonical("transposed-composition", "(transpose (compose ?a ?b))", "(compose (transpose ?b) (transpose ?a))", ""),
    Rule::canonical("transposed-sum", "(transpose (sum ?a ?b))", "(sum (transpose ?a) (transpose ?b))", ""),
    Rule::canonical("transposed-product", "(transpose (times ?a ?b))", "(times (transpose ?a) (transpose ?b))", ""),
    Rule::canonical("transposed-factor", "(transpose (scale_by ?m ?t {..?a}))", "(scale_by (transpose ?m) ?t {..?a})", ""),
    Rule::canonical("transposed-map", "(transpose (map ?m {fn = ?f}))", "(map (transpose ?m) {fn = ?f})", ""),
    Rule::canonical("transposed-cap", "(transpose (soft_cap ?m {cap = ?c}))", "(soft_cap (transpose ?m) {cap = ?c})", ""),
    Rule::canonical("transposed-identity", "(transpose (identity : ?w))", "(identity : ?w)", ""),
    Rule::canonical("transposed-shift", "(transpose (shift {by = ?k} : ?w))", "(shift {by = ?n} : ?w)",
        "?n = negated_int(?k)"),
    Rule::canonical("transposed-diagonal", "(transpose (diagonal ?d))", "(diagonal ?d)", ""),
    Rule::canonical("transposed-outer-sum", "(transpose (outer_sum ?u ?v))", "(outer_sum ?v ?u)", ""),
    Rule::canonical("transposed-segments", "(transpose (mask_segments ?m ?s))", "(mask_segments (transpose ?m) ?s)", ""),
    Rule::canonical("transposed-mask", "(transpose (mask ?m {..?a}))", "(mask (transpose ?m) {..?b})",
        "..?b = transposed_mask(?m, ..?a)"),
    Rule::canonical("transposed-two-sided-filter", "(transpose (toeplitz ?h {two_sided}))", "(toeplitz (reverse ?h {axis = -1}) {two_sided})", ""),
    Rule::canonical("transposed-left", "(matmul (transpose ?a {perm = ?p}) ?b {..?f})", "(matmul ?a ?b {..?g})",
        "swaps_matrix(?p); ..?g = toggled_a(..?f)"),
    Rule::canonical("transposed-right", "(matmul ?a (transpose ?b {perm = ?p}) {..?f})", "(matmul ?a ?b {..?g})",
        "swaps_matrix(?p); ..?g = toggled_b(..?f)"),
];
