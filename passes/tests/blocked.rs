//! Attention with the features in blocks against the reference.

mod agree;

use agree::{Random, agrees_at, values};

#[test]
fn blocks_of_features_are_summed() {
    let mut random = Random(5);
    let masks = [
        ("", ""),
        ("", "causal"),
        ("", "causal, window = 9"),
        ("", "causal, window = 40, sink = 3"),
        (", %n: i64[2]", "lengths"),
        (", %s: f32[3]", "sink of softmax"),
        ("", "window = 5, align = start"),
    ];
    // One token, rows that see nothing, no keys, odd lengths over several blocks; widths below, at and above a block.
    let sizes = [(1, 1), (7, 270), (67, 300), (66, 3), (5, 0), (0, 4), (130, 130)];
    let widths = [(3, 5), (513, 7), (512, 1100), (6, 513)];
    for (n, (queries, keys)) in sizes.into_iter().enumerate() {
        for (k, (operand, mask)) in masks.into_iter().enumerate() {
            // A third of them all, each size and mask several times.
            if (n + 2 * k) % 3 != 0 {
                continue;
            }
            let (inner, outer) = widths[(n + k) % 4];
            let dtype = ["f32", "bf16", "f16", "f64", "f32"][(n + k) % 5];
            let (operand, softmax) = match operand {
                ", %s: f32[3]" if dtype == "f64" => (", %s: f64[3]", "softmax %c, %s"),
                ", %s: f32[3]" => (operand, "softmax %c, %s"),
                _ => (operand, "softmax %c"),
            };
            let masked = match mask {
                "lengths" => "mask_lengths %m, %n".to_string(),
                "" | "sink of softmax" => "scale_by %m {by = 0.5}".to_string(),
                conditions => format!("mask %m {{{conditions}}}"),
            };
            let text = format!(
                "dim T = 0..400\ndim S = 0..600\nfunc @main(%q: {dtype}[2, 3, T, {inner}], %k: {dtype}[2, 1, S, {inner}], \
                 %v: {dtype}[2, 1, S, {outer}]{operand}) -> {dtype}[2, 3, T, {outer}] {{\n  %m = gram %q, %k\n  \
                 %c = {masked}\n  %p = {softmax}\n  %y = apply %p, %v\n  return %y\n}}\n"
            );
            agrees_at(&text, values(queries, keys), "blocked", &mut random);
        }
    }
}

#[test]
fn products_of_several_widths_and_biases() {
    let mut random = Random(6);
    for (queries, keys) in [(33, 70), (1, 257)] {
        let text = "dim T = 1..100\ndim S = 1..300\nfunc @main(%q: f32[T, 600], %k: f32[S, 600], %c: f32[2, T, 3], \
                    %b: f32[2, S, 3], %t: f32[1, S], %v: f32[S, 520]) -> f32[2, T, 520] {\n  %m = gram %q, %k\n  \
                    %n = gram %c, %b {scale = 2.0}\n  %s = sum %m, %n\n  %d = add_bias %s, %t\n  %p = softmax %d\n  \
                    %y = apply %p, %v\n  return %y\n}\n";
        agrees_at(text, values(queries, keys), "blocked", &mut random);
    }
}
