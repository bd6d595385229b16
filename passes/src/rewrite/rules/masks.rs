//! Masks and what changes values only: the canonical order is constructor, values, decay around its mask, support.
//!
//! `restrict(values(constructor), support)`: everything that changes values moves inwards, every restriction outwards,
//! restrictions of one kind become one, and those of different kinds stand in one order. `decay` needs its mask inside.

use crate::rewrite::rule::Rule;

#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // One mask, one spelling.
    Rule::canonical("mask-spelling", "(mask ?m {..?a})", "(mask ?m {..?c})",
        "..?c = canonical_mask(?m, ..?a)"),
    Rule::canonical("mask-of-mask", "(mask (mask ?m {..?a}) {..?b})", "(mask ?m {..?c})",
        "..?c = both_masks(?m, ..?a, ..?b)"),
    Rule::canonical("mask-order", "(mask (mask ?m {..?a}) {..?b})", "(mask (mask ?m {..?b}) {..?a})",
        "masks_out_of_order(?m, ..?a, ..?b)"),
    Rule::canonical("mask-already-held", "(mask ?m {..?a})", "?m",
        "held(?m, ..?a)"),
    // Masks with data, from the inside: lengths (which may move the rows), positions, segments, blocks, elements.
    Rule::canonical("lengths-inside-mask", "(mask_lengths (mask ?m {..?a}) ?n)", "(mask (mask_lengths ?m ?n) {..?a})", ""),
    Rule::canonical("lengths-inside-segments", "(mask_lengths (mask_segments ?m ?s) ?n {..?a})", "(mask_segments (mask_lengths ?m ?n {..?a}) ?s)",
        "fits(?m, ?s, 1)"),
    Rule::canonical("lengths-inside-blocks", "(mask_lengths (mask_blocks ?m ?s {..?b}) ?n {..?a})", "(mask_blocks (mask_lengths ?m ?n {..?a}) ?s {..?b})",
        "fits(?m, ?s, 2)"),
    Rule::canonical("lengths-inside-elements", "(mask_lengths (mask_with ?m ?s) ?n {..?a})", "(mask_with (mask_lengths ?m ?n {..?a}) ?s)",
        "fits(?m, ?s, 2)"),
    Rule::canonical("mask-inside-segments", "(mask (mask_segments ?m ?s) {..?a})", "(mask_segments (mask ?m {..?a}) ?s)", ""),
    Rule::canonical("mask-inside-blocks", "(mask (mask_blocks ?m ?s {..?b}) {..?a})", "(mask_blocks (mask ?m {..?a}) ?s {..?b})", ""),
    Rule::canonical("mask-inside-elements", "(mask (mask_with ?m ?s) {..?a})", "(mask_with (mask ?m {..?a}) ?s)", ""),
    Rule::canonical("segments-inside-blocks", "(mask_segments (mask_blocks ?m ?x {..?b}) ?s)", "(mask_blocks (mask_segments ?m ?s) ?x {..?b})", ""),
    Rule::canonical("segments-inside-elements", "(mask_segments (mask_with ?m ?x) ?s)", "(mask_with (mask_segments ?m ?s) ?x)", ""),
    Rule::canonical("blocks-inside-elements", "(mask_blocks (mask_with ?m ?x) ?s {..?b})", "(mask_with (mask_blocks ?m ?s {..?b}) ?x)", ""),
    Rule::canonical("segments-order", "(mask_segments (mask_segments ?m ?x) ?y)", "(mask_segments (mask_segments ?m ?y) ?x)",
        "before(?y, ?x)"),
    Rule::canonical("elements-order", "(mask_with (mask_with ?m ?x) ?y)", "(mask_with (mask_with ?m ?y) ?x)",
        "before(?y, ?x)"),
    Rule::canonical("lengths-twice", "(mask_lengths (mask_lengths ?m ?x {..?a}) ?x {..?a})", "(mask_lengths ?m ?x {..?a})", ""),
    Rule::canonical("segments-twice", "(mask_segments (mask_segments ?m ?x) ?x)", "(mask_segments ?m ?x)", ""),
    Rule::canonical("blocks-twice", "(mask_blocks (mask_blocks ?m ?x {..?a}) ?x {..?a})", "(mask_blocks ?m ?x {..?a})", ""),
    Rule::canonical("elements-twice", "(mask_with (mask_with ?m ?x) ?x)", "(mask_with ?m ?x)", ""),
    // What changes values only leaves every mask outside. `alibi` reads the position that lengths may set.
    Rule::canonical("bias-inside", "(add_bias (MASK ?m) ?t)", "(MASK (add_bias ?m ?t))",
        "mask_lengths: fits(?m, ?t, 2)"),
    Rule::canonical("alibi-inside", "(alibi (MASK ?m) ?s)", "(MASK (alibi ?m ?s))",
        "mask_lengths: fits(?m, ?s, 0); mask_lengths: keeps_position(..?mask)"),
    Rule::canonical("factor-inside", "(scale_by (MASK ?m) {by = ?c})", "(MASK (scale_by ?m {by = ?c}))", ""),
    Rule::canonical("factors-inside", "(scale_by (MASK ?m) ?t)", "(MASK (scale_by ?m ?t))",
        "mask_lengths: fits(?m, ?t, 0)"),
    Rule::canonical("cap-inside", "(soft_cap (MASK ?m) {cap = ?c})", "(MASK (soft_cap ?m {cap = ?c}))", ""),
    Rule::canonical("map-inside", "(map (MASK ?m) {fn = ?f})", "(MASK (map ?m {fn = ?f}))", ""),
    // A decay needs j <= i' inside, so it takes every mask in.
    Rule::canonical("mask-inside-decay", "(MASK (decay ?m ?g))", "(decay (MASK ?m) ?g)",
        "mask_lengths: fits(?m, ?g, 0); mask_lengths: keeps_position(..?mask)"),
    Rule::canonical("decays-multiply", "(decay (decay ?m ?g) ?h)", "(decay ?m (mul ?g ?h))", ""),
    Rule::canonical("decay-of-one", "(decay ?m ?g)", "?m",
        "one(?g)"),
    // Values among themselves.
    Rule::canonical("alibi-before-bias", "(alibi (add_bias ?m ?t) ?s)", "(add_bias (alibi ?m ?s) ?t)", ""),
    Rule::canonical("bias-order", "(add_bias (add_bias ?m ?x) ?y)", "(add_bias (add_bias ?m ?y) ?x)",
        "before(?y, ?x)"),
    Rule::canonical("alibi-order", "(alibi (alibi ?m ?x) ?y)", "(alibi (alibi ?m ?y) ?x)",
        "before(?y, ?x)"),
    Rule::canonical("map-of-identity", "(map ?m {fn = identity})", "?m", ""),
    Rule::canonical("factor-of-factor", "(scale_by (scale_by ?m {by = ?a}) {by = ?b})", "(scale_by ?m {by = ?c})",
        "?c = product(?a, ?b)"),
];
