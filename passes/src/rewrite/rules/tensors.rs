//! Mixing that is written with tensor operations: softmax attention as two products, and chains of products.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule::canonical("softmax-product", "(matmul (softmax_axis ?s {axis = ?a}) ?v)", "(apply (softmax (dense ?s)) ?v)",
        "last_axis(?s, ?a)"),
    Rule::canonical("scores-are-gram", "(dense (matmul ?q ?k {transpose_b}))", "(gram ?q ?k)", ""),
    Rule::canonical("scaled-scores", "(dense (mul ?s ?c))", "(scale_by (dense ?s) {by = ?b})",
        "?b = attr_number(?c)"),
    Rule::canonical("divided-scores", "(dense (div ?s ?c))", "(scale_by (dense ?s) {by = ?b})",
        "?b = quotient(1, ?c)"),
    Rule::canonical("biased-scores", "(softmax (dense (add ?s ?t)))", "(softmax (add_bias (dense ?s) ?t))", ""),
    // Powers by squaring would associate in as many ways as their exponents are sums.
    Rule::equal("products-to-the-right", "(matmul (matmul ?a ?b) ?c)", "(matmul ?a (matmul ?b ?c))",
        "association_pays(?a, ?b, ?c)"),
    Rule::equal("products-to-the-left", "(matmul ?a (matmul ?b ?c))", "(matmul (matmul ?a ?b) ?c)",
        "association_pays(?a, ?b, ?c)"),
    // The products of all pairs of rows, the Khatri-Rao product, of matrices u, w: (u o w)^T (x o z) = (u^T x) * (w^T z).
    Rule::canonical("pairs-in-order", "(mul (reshape ?w {shape = ?b}) (reshape ?u {shape = ?a}))", "(mul (reshape ?u {shape = ?a}) (reshape ?w {shape = ?b}))",
        "pair_reversed(?w, ?b, ?u, ?a)"),
    Rule::equal("product-of-pairs", "(matmul (reshape (mul (reshape ?u {shape = ?a}) (reshape ?w {shape = ?b})) {shape = ?c}) (reshape (mul (reshape ?x {shape = ?d}) (reshape ?z {shape = ?e})) {shape = ?f}) {transpose_a})", "(mul (matmul ?u ?x {transpose_a}) (matmul ?w ?z {transpose_a}))",
        "pairs(?u, ?a, ?w, ?b, ?c); pairs(?x, ?d, ?z, ?e, ?f)"),
    Rule::equal("sums-of-pairs", "(matmul (reshape (mul (reshape ?u {shape = ?a}) (reshape ?w {shape = ?b})) {shape = ?c}) ?o {transpose_a})", "(mul (matmul ?u ?n {transpose_a}) (matmul ?w ?i {transpose_a}))",
        "pairs(?u, ?a, ?w, ?b, ?c); ?n = rows_of_number(?o, ?u, ?o); ?i = rows_of_number(1, ?w, ?o)"),
    Rule::equal("linear-after-linear", "(linear (linear ?x ?v) ?w ?b)", "(linear ?x (matmul ?w ?v) ?b)", ""),
    Rule::equal("linear-of-product", "(linear ?x (matmul ?w ?v) ?b)", "(linear (linear ?x ?v) ?w ?b)", ""),
    Rule::equal("low-rank-apart", "(lora ?x ?w ?a ?b {alpha = ?s})", "(add (linear ?x ?w) (mul (linear (linear ?x ?a) ?b) ?c))",
        "?c = lora_factor(?s, ?a)"),
    Rule::equal("low-rank-merged", "(lora ?x ?w ?a ?b {alpha = ?s})", "(linear ?x (add ?w (mul (matmul ?b ?a) ?c)))",
        "?c = lora_factor(?s, ?a)"),
    Rule::equal("linear-sum-merged", "(add (linear ?x ?w) (mul (linear (linear ?x ?a) ?b) ?c))", "(linear ?x (add ?w (mul (matmul ?b ?a) ?c)))",
        "number(?c)"),
];
