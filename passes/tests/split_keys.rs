//! Attention by parts of the keys against the reference.

mod agree;

use agree::{Random, agrees_at, values};

#[test]
fn parts_of_the_keys_are_merged() {
    let mut random = Random(12);
    let masks = [
        ("", ""),
        ("", "causal"),
        ("", "causal, window = 700"),
        ("", "causal, window = 64, sink = 3"),
        (", %n: i64[2]", "lengths"),
        (", %s: f32[3]", "sink of softmax"),
    ];
    // Whole parts, one token into the next, one part alone, rows that see nothing.
    for (n, (queries, keys)) in [(1, 2048), (3, 1025), (7, 1), (2, 3000), (66, 1100), (5, 0)].into_iter().enumerate() {
        for (k, (operand, mask)) in masks.into_iter().enumerate() {
            let dtype = ["f32", "bf16", "f64"][(n + k) % 3];
            let (operand, softmax) = match operand {
                ", %s: f32[3]" if dtype == "f64" => (", %s: f64[3]", "softmax %c, %s"),
                ", %s: f32[3]" => (operand, "softmax %c, %s"),
                _ => (operand, "softmax %c"),
            };
            let masked = match mask {
                "lengths" => "mask_lengths %m, %n".to_string(),
                "" | "sink of softmax" => "scale_by %m {by = 1.5}".to_string(),
                conditions => format!("mask %m {{{conditions}}}"),
            };
            let text = format!(
                "dim T = 0..100\ndim S = 0..5000\nfunc @main(%q: {dtype}[2, 3, T, 4], %k: {dtype}[2, 1, S, 4], \
                 %v: {dtype}[2, 1, S, 5]{operand}) -> {dtype}[2, 3, T, 5] {{\n  %m = gram %q, %k\n  %c = {masked}\n  \
                 %p = {softmax}\n  %y = apply %p, %v\n  return %y\n}}\n"
            );
            agrees_at(&text, values(queries, keys), "split_keys", &mut random);
        }
    }
}
