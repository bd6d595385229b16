//! Different spellings of one computation reach one canonical program.

use super::super::Rules;
use super::{canonical, canonical_text, program};

const HEAD: &str = "\
dim T = 1..64
dim S = 1..64
func @main(%q: f32[4, T, 16], %k: f32[4, T, 16], %v: f32[4, T, 8], %x: f32[4, T, 16], %long: f32[4, S, 16], \
%longv: f32[4, S, 8], %slopes: f32[4], %bias: f32[4, T, T], %flat: f32[T, T], %m1: bool[T, T], %m2: bool[4, T, T], \
%n: i64[4], %s: i64[T], %d: f32[T], %g: f32[4], %sinks: f32[4]) -> f32[4, T, 8] {
";

fn spelled(body: &str) -> String {
    let lines: Vec<String> = body.split(';').map(|l| format!("  {}\n", l.trim())).collect();
    canonical_text(&canonical(&program(&format!("{HEAD}{}  return %y\n}}\n", lines.concat()))).program)
}

/// Groups of spellings of one computation, the first of which names it.
const SAME: &[&[&str]] = &[
    // The named layer and what it stands for.
    &[
        "%y = attention %q, %k, %v",
        "%m = gram %q, %k {scale = 0.25}; %p = softmax %m; %y = apply %p, %v",
        "%m = gram %q, %k; %w = scale_by %m {by = 0.25}; %p = softmax %w; %y = apply %p, %v",
        "const %c = splat 0.25 : f32[]; %t = mul %q, %c; %m = gram %t, %k; %p = softmax %m; %y = apply %p, %v",
        "const %c = splat 0.25 : f32[16]; %t = mul %c, %k; %m = gram %q, %t; %p = softmax %m; %y = apply %p, %v",
        "const %c = dense [4.0] : f32[1]; %t = div %q, %c; %m = gram %t, %k; %p = softmax %m; %y = apply %p, %v",
        "const %c = splat 0.5 : f32[]; %t = mul %q, %c; %u = mul %k, %c; %m = gram %t, %u; %p = softmax %m; %y = apply %p, %v",
        "%t = transpose %k {perm = [0, 2, 1]}; %u = transpose %t {perm = [0, 2, 1]}; %y = attention %q, %u, %v",
        "%m = gram %k, %q {scale = 0.25}; %t = transpose %m; %p = softmax %t; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %t = transpose %m; %u = transpose %t; %p = softmax %u; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 1}; const %c = splat 0.25 : f32[]; %w = scale_by %m, %c; %p = softmax %w; %y = apply %p, %v",
        "%t = neg %q; %m = gram %t, %k {scale = -0.25}; %p = softmax %m; %y = apply %p, %v",
        "%i = identity : mix f32[T, T]; %m = gram %q, %k {scale = 0.25}; %c = compose %i, %m; %p = softmax %c; %y = apply %p, %v",
        // With tensor operations alone.
        "%m = matmul %q, %k {transpose_b}; const %c = splat 0.25 : f32[]; %t = mul %m, %c; %p = softmax_axis %t {axis = -1}; %y = matmul %p, %v",
        "%t = transpose %k {perm = [0, 2, 1]}; %m = matmul %q, %t; const %c = splat 4.0 : f32[]; %d4 = div %m, %c; %p = softmax_axis %d4; %y = matmul %p, %v",
        "const %c = splat 0.25 : f32[]; %t = mul %q, %c; %m = matmul %t, %k {transpose_b}; %p = softmax_axis %m {axis = 2}; %y = matmul %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v {causal}",
        "%m = gram %q, %k {scale = 0.25}; %c = mask %m {causal}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k; %c = mask %m {right = 0}; %w = scale_by %c {by = 0.25}; %p = softmax %w; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {causal}; %c = mask %b {causal}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {causal}; %c = mask %b {right = 3}; %p = softmax %c; %y = apply %p, %v",
        "%y = attention %q, %k, %v {causal, align = start}",
    ],
    &[
        "%y = attention %q, %long, %longv {causal, align = start}",
        "%m = gram %q, %long {scale = 0.25}; %c = mask %m {align = start, right = 0}; %p = softmax %c; %y = apply %p, %longv",
    ],
    &[
        "%y = attention %q, %k, %v {window = 5}",
        "%y = attention %q, %k, %v {left = 4, right = 4}",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {left = 4}; %c = mask %b {right = 4}; %p = softmax %c; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v {causal, window = 5}",
        "%y = attention %q, %k, %v {left = 4, right = 0}",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {window = 5}; %c = mask %b {causal}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {causal, window = 9}; %c = mask %b {left = 4}; %p = softmax %c; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v {causal, window = 5, sink = 2}",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {window = 5, sink = 2}; %c = mask %b {causal}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {causal}; %c = mask %b {window = 5, sink = 2, causal}; %p = softmax %c; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v {causal, block = 4}",
        "%m = gram %q, %k {scale = 0.25}; %b = mask %m {block = 8}; %c = mask %b {causal}; %e = mask %c {block = 4}; %p = softmax %e; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k {scale = 0.25}; %c = mask %m {causal, dilation = 6}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %a = mask %m {dilation = 2}; %b = mask %a {causal}; %c = mask %b {dilation = 3}; %p = softmax %c; %y = apply %p, %v",
    ],
    // Masks with data.
    &[
        "%y = attention %q, %k, %v, %m1",
        "%m = gram %q, %k {scale = 0.25}; %c = mask_with %m, %m1; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k; %c = mask_with %m, %m1; %w = scale_by %c {by = 0.25}; %p = softmax %w; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v, %m1 {causal}",
        "%m = gram %q, %k {scale = 0.25}; %c = mask_with %m, %m1; %e = mask %c {causal}; %p = softmax %e; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %c = mask %m {causal}; %e = mask_with %c, %m1; %p = softmax %e; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %c = mask %m {causal}; %e = mask_with %c, %m1; %f = mask_with %e, %m1; %p = softmax %f; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v, %bias {causal}",
        "%m = gram %q, %k {scale = 0.25}; %c = add_bias %m, %bias; %e = mask %c {causal}; %p = softmax %e; %y = apply %p, %v",
        "%m = gram %q, %k {scale = 0.25}; %c = mask %m {causal}; %e = add_bias %c, %bias; %p = softmax %e; %y = apply %p, %v",
    ],
    &[
        "%y = attention %q, %k, %v, %flat",
        "%m = matmul %q, %k {transpose_b}; const %c = splat 0.25 : f32[]; %t = mul %m, %c; %b = add %t, %flat; %p = softmax_axis %b; %y = matmul %p, %v",
    ],
    &[
        "%m = gram %q, %k; %l = mask_lengths %m, %n; %c = mask %l {causal}; %g2 = mask_segments %c, %s; %w = mask_with %g2, %m2; %p = softmax %w; %y = apply %p, %v",
        "%m = gram %q, %k; %w = mask_with %m, %m2; %g2 = mask_segments %w, %s; %c = mask %g2 {causal}; %l = mask_lengths %c, %n; %p = softmax %l; %y = apply %p, %v",
        "%m = gram %q, %k; %g2 = mask_segments %m, %s; %c = mask %g2 {causal}; %w = mask_with %c, %m2; %l = mask_lengths %w, %n; %p = softmax %l; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k; %w = mask_with %m, %m1; %u = mask_with %w, %m2; %p = softmax %u; %y = apply %p, %v",
        "%m = gram %q, %k; %w = mask_with %m, %m2; %u = mask_with %w, %m1; %p = softmax %u; %y = apply %p, %v",
    ],
    // Masks before and after what changes values.
    &[
        "%m = gram %q, %k; %a = alibi %m, %slopes; %c = mask %a {causal}; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k; %c = mask %m {causal}; %a = alibi %c, %slopes; %p = softmax %a; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k; %a = soft_cap %m {cap = 5.0}; %c = mask %a {causal, window = 4}; %p = softmax %c, %sinks; %y = apply %p, %v",
        "%m = gram %q, %k; %c = mask %m {causal}; %a = soft_cap %c {cap = 5.0}; %e = mask %a {window = 4}; %p = softmax %e, %sinks; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k; %a = alibi %m, %slopes; %b = add_bias %a, %bias; %c = mask_lengths %b, %n; %p = softmax %c; %y = apply %p, %v",
        "%m = gram %q, %k; %c = mask_lengths %m, %n; %b = add_bias %c, %bias; %a = alibi %b, %slopes; %p = softmax %a; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k; %b = add_bias %m, %bias; %a = add_bias %b, %flat; %p = softmax %a; %y = apply %p, %v",
        "%m = gram %q, %k; %b = add_bias %m, %flat; %a = add_bias %b, %bias; %p = softmax %a; %y = apply %p, %v",
    ],
    // Rows scaled by a diagonal.
    &[
        "%e = diagonal %d; %m = gram %q, %k; %c = compose %e, %m; %a = mask %c {causal}; %p = softmax %a; %y = apply %p, %v",
        "%e = diagonal %d; %m = gram %q, %k; %a = mask %m {causal}; %c = compose %e, %a; %p = softmax %c; %y = apply %p, %v",
        "%r = reshape %d {shape = [T, 1]}; %t = mul %q, %r; %m = gram %t, %k; %a = mask %m {causal}; %p = softmax %a; %y = apply %p, %v",
    ],
    &[
        "%m = gram %q, %k; %n2 = gram %k, %q; %c = compose %m, %n2; %y = apply %c, %v",
        "%m = gram %q, %k; %n2 = gram %k, %q; %t = apply %n2, %v; %y = apply %m, %t",
    ],
    // Causal masks and decays.
    &[
        "%m = gram %q, %k; %c = mask %m {causal}; %e = decay %c, %g; %y = apply %e, %v",
        "%m = gram %q, %k; %c = mask %m {causal}; %e = decay %c, %g; %f = mask %e {causal}; %y = apply %f, %v",
        "const %one = splat 1.0 : f32[4]; %m = gram %q, %k; %c = mask %m {causal}; %e = decay %c, %g; %f = decay %e, %one; %y = apply %f, %v",
    ],
    &[
        "const %a = splat 0.0 : f32[1, T]; %m = semiseparable %q, %k, %a; %y = apply %m, %v",
        "const %a = splat 0.0 : f32[1, T]; %m = semiseparable %q, %k, %a; %c = mask %m {causal}; %y = apply %c, %v",
    ],
    &[
        "%y = add %v, %v",
        "%i = identity : mix f32[T, T]; %w = apply %i, %v; %y = add %w, %v",
        "%r = reverse %v {axis = 1}; %t = reverse %r {axis = -2}; %m = gram %q, %k; %u = apply %m, %t; %y = add %v, %t",
    ],
];

#[test]
fn every_spelling_reaches_the_canonical_one() {
    let mut wrong = Vec::new();
    for group in SAME {
        let first = spelled(group[0]);
        for other in &group[1..] {
            let found = spelled(other);
            if found != first {
                wrong.push(format!("{}\ngives\n{first}\nbut {other}\ngives\n{found}", group[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_canonical_chain_of_attention_is_gram_values_masks_softmax_apply() {
    let found = spelled(
        "%m = gram %q, %k; %w = mask_with %m, %m2; %c = mask %w {causal}; %a = alibi %c, %slopes; \
         %h = mask_lengths %a, %n; %e = scale_by %h {by = 2.0}; %p = softmax %e; %y = apply %p, %v",
    );
    let names: Vec<&str> = found.lines().filter_map(|l| l.split_once(" = ")?.1.split(' ').next()).collect();
    assert_eq!(
        names,
        ["gram", "alibi", "scale_by", "mask_lengths", "mask", "mask_with", "softmax", "apply"],
        "{found}"
    );
}

#[test]
fn masks_that_differ_stay_different() {
    let a = spelled("%y = attention %q, %long, %longv {causal, align = start}");
    let b = spelled("%y = attention %q, %long, %longv {causal}");
    assert_ne!(a, b);
    // Lengths that move the rows do not pass the mask that reads them.
    let a = spelled(
        "%m = gram %q, %k; %l = mask_lengths %m, %n {align}; %c = mask %l {causal}; %p = softmax %c; %y = apply %p, %v",
    );
    let b = spelled(
        "%m = gram %q, %k; %c = mask %m {causal}; %l = mask_lengths %c, %n {align}; %p = softmax %l; %y = apply %p, %v",
    );
    assert_ne!(a, b);
    // A mask on weights is not a mask on scores.
    let a = spelled("%m = gram %q, %k; %p = softmax %m; %c = mask %p {causal}; %y = apply %c, %v");
    let b = spelled("%m = gram %q, %k; %c = mask %m {causal}; %p = softmax %c; %y = apply %p, %v");
    assert_ne!(a, b);
}

#[test]
fn the_rules_compile_and_have_different_names() {
    let rules = Rules::standard().unwrap();
    let mut names: Vec<&str> = rules.compiled.iter().map(|r| r.name.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
