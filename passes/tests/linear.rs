//! Inner products without a softmax, the sum over keys first, against the reference; and causal ones by chunks whose rows
//! are divided by their sums.

mod agree;

use agree::{Random, agrees, agrees_at, values};

#[test]
fn keys_come_first() {
    let mut random = Random(31);
    let changes = [
        ("", "%c = scale_by %m {by = 1.0}"),
        ("", "%c = scale_by %m {by = -0.25}"),
        ("", "%c = row_normalize %m {eps = 0.5}"),
        ("", "%c = row_normalize %m"),
        (", %n: i64[2]", "%c = mask_lengths %m, %n"),
        (", %n: i64[2]", "%p = mask_lengths %m, %n\n  %c = row_normalize %p {eps = 0.1}"),
    ];
    for (n, (queries, keys)) in [(1, 1), (5, 67), (130, 3), (64, 128), (7, 0)].into_iter().enumerate() {
        for (k, (operand, change)) in changes.into_iter().enumerate() {
            // Heads that share keys, a depth that is no multiple of anything, columns past one block of them.
            let (dtype, columns) = (["f32", "bf16", "f16", "f64"][(n + k) % 4], [5, 70][k % 2]);
            let text = format!(
                "dim T = 0..200\ndim S = 0..200\nfunc @main(%q0: {dtype}[2, 3, T, 7], %k0: {dtype}[2, 1, S, 7], \
                 %v: {dtype}[2, 1, S, {columns}]{operand}) -> {dtype}[2, 3, T, {columns}] {{\n  %q = abs %q0\n  %k = abs %k0\n  \
                 %m = gram %q, %k\n  {change}\n  %y = apply %c, %v\n  return %y\n}}\n"
            );
            agrees_at(&text, values(queries, keys), "linear", &mut random);
        }
    }
}

#[test]
fn normalised_rows_of_a_scan() {
    let mut random = Random(32);
    for (n, tokens) in [0, 1, 31, 32, 33, 129].into_iter().enumerate() {
        for (k, decays) in ["[2, T]", "[2, T, 1]", "[2, T, 5]"].into_iter().enumerate() {
            for most in [64, 200].into_iter().filter(|most| tokens <= *most) {
                let dtype = ["f32", "bf16", "f64"][(n + k) % 3];
                let eps = ["", " {eps = 0.25}"][(n + k) % 2];
                let text = format!(
                    "dim T = 0..{most}\nfunc @main(%c0: {dtype}[2, T, 5], %b0: {dtype}[2, T, 5], %a: {dtype}{decays}, \
                     %v: {dtype}[3, 2, T, 70]) -> {dtype}[3, 2, T, 70] {{\n  %c = abs %c0\n  %b = abs %b0\n  \
                     %m = semiseparable %c, %b, %a\n  %w = row_normalize %m{eps}\n  %y = apply %w, %v\n  return %y\n}}\n"
                );
                agrees(&text, tokens, "chunked_scan", &mut random);
            }
        }
    }
}

#[test]
fn a_scan_without_decays() {
    let mut random = Random(33);
    for tokens in [1, 32, 63, 64, 65, 200] {
        for form in ["chunked_scan", "recurrent_scan", "parallel_scan"] {
            if form == "parallel_scan" && tokens < 200 {
                continue;
            }
            let most = if form == "parallel_scan" { 5000 } else { tokens.max(64) };
            let text = format!(
                "dim T = 0..{most}\nfunc @main(%c: f32[2, T, 5], %b: f32[1, T, 5], %v: f32[2, T, 9]) -> f32[2, T, 9] {{\n  \
                 const %a = splat 0.0 : f32[2, T]\n  %m = semiseparable %c, %b, %a\n  %y = apply %m, %v\n  return %y\n}}\n"
            );
            agrees(&text, tokens, form, &mut random);
        }
    }
}
