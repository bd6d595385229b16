//! Causal products without a softmax as semiseparable operators, which scan. Only where they are applied: under a
//! softmax the same operator has to be made anyway.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule::equal("causal-gram-scans", "(apply (mask (gram ?q ?k) {causal}) ?v)", "(apply (semiseparable ?q ?k ?a) ?v)",
        "?a = zero_decays(?q)"),
    Rule::equal("normalised-causal-gram-scans", "(apply (row_normalize (mask (gram ?q ?k) {causal}) {..?e}) ?v)", "(apply (row_normalize (semiseparable ?q ?k ?a) {..?e}) ?v)",
        "?a = zero_decays(?q)"),
    Rule::equal("scaled-causal-gram-scans", "(apply (mask (gram ?q ?k {scale = ?s}) {causal}) ?v)", "(apply (semiseparable (mul ?q ?c) ?k ?a) ?v)",
        "?a = zero_decays(?q); ?c = number_like(?s, ?q)"),
    Rule::equal("constant-decay-scans", "(apply (decay (mask (gram ?q ?k) {causal}) ?g) ?v)", "(apply (semiseparable ?q ?k ?a) ?v)",
        "?a = log_decays(?g, ?q)"),
    Rule::equal("positive-decay-scans", "(apply (decay (mask (gram ?q ?k) {causal}) ?g) ?v)", "(apply (semiseparable ?q ?k (broadcast (reshape (log ?g) {shape = ?s}) {shape = ?t})) ?v)",
        "positive(?g); ?s = decay_column_shape(?g, ?q); ?t = decay_shape(?g, ?q)"),
    Rule::equal("scaled-constant-decay-scans", "(apply (decay (mask (gram ?q ?k {scale = ?s}) {causal}) ?g) ?v)", "(apply (semiseparable (mul ?q ?c) ?k ?a) ?v)",
        "?a = log_decays(?g, ?q); ?c = number_like(?s, ?q)"),
    Rule::equal("scaled-positive-decay-scans", "(apply (decay (mask (gram ?q ?k {scale = ?s}) {causal}) ?g) ?v)", "(apply (semiseparable (mul ?q ?c) ?k (broadcast (reshape (log ?g) {shape = ?d}) {shape = ?t})) ?v)",
        "positive(?g); ?c = number_like(?s, ?q); ?d = decay_column_shape(?g, ?q); ?t = decay_shape(?g, ?q)"),
    // A decay of any sign: |g| decays, and the sign of every other distance is that of two tokens' parities. Of g = 0 the
    // logarithm is minus infinity, whose exponential is the 0 that it should be.
    Rule::equal("signed-decay-scans", "(apply (decay (mask (gram ?q ?k) {causal}) ?g) ?v)", "(apply (semiseparable (mul ?q (sub ?one (mul (reshape (cast (relu (neg (sign ?g))) {to = ?h}) {shape = ?m}) (mul (cast (mod (iota {axis = 0} : ?w) ?pair) {to = ?h}) ?two)))) (mul ?k (sub ?one (mul (reshape (cast (relu (neg (sign ?g))) {to = ?h}) {shape = ?m}) (mul (cast (mod (iota {axis = 0} : ?w) ?pair) {to = ?h}) ?two)))) (broadcast (reshape (log (abs ?g)) {shape = ?d}) {shape = ?t})) ?v)",
        "not_positive(?g); ?one = number_like(1, ?q); ?two = number_like(2, ?q); ?m = matrix_shape(?g); ?w = token_column(?q); ?pair = wide_number(2, ?q); ?h = element_type(?q); ?d = decay_column_shape(?g, ?q); ?t = decay_shape(?g, ?q)"),
    Rule::equal("scaled-signed-decay-scans", "(apply (decay (mask (gram ?q ?k {scale = ?s}) {causal}) ?g) ?v)", "(apply (semiseparable (mul (mul ?q ?c) (sub ?one (mul (reshape (cast (relu (neg (sign ?g))) {to = ?h}) {shape = ?m}) (mul (cast (mod (iota {axis = 0} : ?w) ?pair) {to = ?h}) ?two)))) (mul ?k (sub ?one (mul (reshape (cast (relu (neg (sign ?g))) {to = ?h}) {shape = ?m}) (mul (cast (mod (iota {axis = 0} : ?w) ?pair) {to = ?h}) ?two)))) (broadcast (reshape (log (abs ?g)) {shape = ?d}) {shape = ?t})) ?v)",
        "not_positive(?g); ?c = number_like(?s, ?q); ?one = number_like(1, ?q); ?two = number_like(2, ?q); ?m = matrix_shape(?g); ?w = token_column(?q); ?pair = wide_number(2, ?q); ?h = element_type(?q); ?d = decay_column_shape(?g, ?q); ?t = decay_shape(?g, ?q)"),
    Rule::equal("decayed-scan", "(decay (semiseparable ?c ?b ?a) ?g)", "(semiseparable ?c ?b (add ?a ?l))",
        "?l = log_like(?g, ?a)"),
    // Strictly causal: the state that a token reads is the one before it, so keys and values come a token later.
    Rule::equal("strictly-causal-gram", "(apply (mask (gram ?q ?k {scale = ?s}) {right = ?r}) ?v)", "(apply (mask (gram ?q (token_shift ?k {by = ?n}) {scale = ?s}) {causal}) (token_shift ?v {by = ?n}))",
        "negative_int(?r); ?n = negated_int(?r)"),
    Rule::equal("strictly-causal-scan", "(apply (mask (semiseparable ?c ?b ?a) {right = -1}) ?x)", "(apply (semiseparable ?c (mul (token_shift ?b) (exp ?a)) ?a) (token_shift ?x))",
        "same_rank(?c, ?a)"),
    // Its inverse is the delta rule. A strictly causal Gram operator has no softmax, so it may scan wherever it stands.
    Rule::equal("strict-gram-scans", "(mask (gram ?q ?k) {right = -1})", "(mask (semiseparable ?q ?k ?a) {right = -1})",
        "?a = zero_decays(?q)"),
    Rule::equal("scaled-strict-gram-scans", "(mask (gram ?q ?k {scale = ?s}) {right = -1})", "(mask (semiseparable (mul ?q ?c) ?k ?a) {right = -1})",
        "?a = zero_decays(?q); ?c = number_like(?s, ?q)"),
    // reverse . scan . reverse reads the state from the other end.
    Rule::equal("reversed-scan", "(reverse (apply (semiseparable (reverse ?c {axis = -2}) (reverse ?b {axis = -2}) (reverse ?a {axis = -2})) (reverse ?x {axis = -2})) {axis = -2})", "(apply (transpose (semiseparable ?b ?c (token_shift ?a))) ?x)",
        "same_rank(?c, ?a); same_rank(?b, ?a)"),
];
