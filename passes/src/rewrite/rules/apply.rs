//! What `apply` does with the algebra of operators: association, shortcuts, and the products that a Gram operator is.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule::canonical("apply-composition", "(apply (compose ?a ?b) ?x {..?f})", "(apply ?a (apply ?b ?x {..?f}) {..?f})", ""),
    Rule::canonical("apply-identity", "(apply (identity : ?w) ?x)", "?x", ""),
    Rule::canonical("identity-left", "(compose (identity : ?w) ?m)", "?m", ""),
    Rule::canonical("identity-right", "(compose ?m (identity : ?w))", "?m", ""),
    Rule::canonical("apply-diagonal", "(apply (diagonal ?d) ?x)", "(mul ?x (reshape ?d {shape = ?s}))",
        "?s = column_shape(?d)"),
    Rule::canonical("rows-of-gram-scaled", "(compose (diagonal ?d) (gram ?q ?k {scale = ?s}))", "(gram (mul ?q (reshape ?d {shape = ?c})) ?k {scale = ?s})",
        "?c = column_shape(?d)"),
    Rule::canonical("columns-of-gram-scaled", "(compose (gram ?q ?k {scale = ?s}) (diagonal ?d))", "(gram ?q (mul ?k (reshape ?d {shape = ?c})) {scale = ?s})",
        "?c = column_shape(?d)"),
    Rule::canonical("rows-scaled-inside", "(compose (diagonal ?d) (MASK ?m))", "(MASK (compose (diagonal ?d) ?m))",
        "mask_lengths: fits(?m, ?d, 1)"),
    Rule::equal("apply-sum", "(apply (sum ?a ?b) ?x {..?f})", "(add (apply ?a ?x {..?f}) (apply ?b ?x {..?f}))", ""),
    Rule::equal("sum-of-applied", "(add (apply ?a ?x {..?f}) (apply ?b ?x {..?f}))", "(apply (sum ?a ?b) ?x {..?f})", ""),
    Rule::equal("apply-factor", "(apply (scale_by ?m {by = ?c}) ?x {..?f})", "(mul (apply ?m ?x {..?f}) ?d)",
        "?d = number_like(?c, ?x)"),
    Rule::equal("apply-factors", "(apply (scale_by ?m ?t) ?x)", "(mul (apply ?m ?x) (reshape ?t {shape = ?s}))",
        "?s = matrix_shape(?t)"),
    Rule::equal("apply-dense", "(apply (dense ?w) ?x)", "(matmul ?w ?x)", ""),
    // A strided permutation is the transposition of a view.
    Rule::canonical("apply-permutation", "(apply (permutation {stride = ?m} : ?w) ?x {..?f})", "(reshape (transpose (reshape ?x {shape = ?s}) {perm = ?p}) {shape = ?t})",
        "?s = strided_view(?x, ?m); ?p = tokens_exchanged(?x); ?t = shape_of(?x)"),
    Rule::canonical("apply-transposed-permutation", "(apply (transpose (permutation {stride = ?m} : ?w)) ?x {..?f})", "(reshape (transpose (reshape ?x {shape = ?s}) {perm = ?p}) {shape = ?t})",
        "?s = view_of_runs(?x, ?m); ?p = tokens_exchanged(?x); ?t = shape_of(?x)"),
    Rule::canonical("blocks-of-one-element", "(block_diagonal ?b)", "(diagonal (reshape ?b {shape = ?s}))",
        "?s = shape_of_single_elements(?b)"),
    Rule::equal("apply-shift", "(apply (shift {by = ?k} : ?w) ?x)", "(token_shift ?x {by = ?k})", ""),
    // Without a softmax the scores need not be made: Q (K^T V).
    Rule::equal("gram-to-the-right", "(apply (gram ?q ?k) ?v)", "(matmul ?q (matmul ?k ?v {transpose_a}))", ""),
    Rule::equal("scaled-gram-to-the-right", "(apply (gram ?q ?k {scale = ?s}) ?v)", "(matmul ?q (mul (matmul ?k ?v {transpose_a}) ?c))",
        "?c = number_like(?s, ?v)"),
    Rule::equal("product-is-gram", "(matmul ?q (matmul ?k ?v {transpose_a}))", "(apply (gram ?q ?k) ?v)", ""),
    Rule::equal("scores-product-is-gram", "(matmul (matmul ?q ?k {transpose_b}) ?v)", "(apply (gram ?q ?k) ?v)", ""),
    Rule::equal("scaled-product-is-gram", "(matmul ?q (mul (matmul ?k ?v {transpose_a}) ?c))", "(apply (gram ?q ?k {scale = ?s}) ?v)",
        "?s = product(1, ?c)"),
    Rule::equal("factor-of-applied-gram", "(mul (apply (gram ?q ?k {scale = ?s}) ?v) ?c)", "(apply (gram ?q ?k {scale = ?t}) ?v)",
        "?t = product(?s, ?c)"),
    // The denominator of a normalised operator is the operator applied to ones.
    Rule::equal("denominator-apart", "(apply (row_normalize ?m) ?v)", "(div (apply ?m ?v) (apply ?m ?o))",
        "nonempty_rows(?m); ?o = ones_column(?m, ?v)"),
    Rule::equal("regularised-denominator-apart", "(apply (row_normalize ?m {eps = ?e}) ?v)", "(div (apply ?m ?v) (add (apply ?m ?o) ?c))",
        "no_zero_sums(?m, ?e); ?o = ones_column(?m, ?v); ?c = number_like(?e, ?v)"),
];
