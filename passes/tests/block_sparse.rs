//! Attention over listed key blocks against the reference.

mod agree;

use agree::{Random, agrees_with};
use mixc_ir::dim::{DimValues, Symbol};
use mixc_ir::expr::{Kind, Scalar};
use mixc_ir::tensor::Tensor;

fn values(queries: usize, keys: usize) -> DimValues {
    [("T", queries), ("S", keys)].map(|(n, v)| (Symbol::from(n), v as i64)).into_iter().collect()
}

#[test]
fn masks_of_blocks_are_listed() {
    let mut random = Random(21);
    // Blocks narrower and wider than tiles of queries and keys; lengths that leave a part of a block.
    let blocks = [(16, 16), (5, 3), (128, 300), (1, 64), (64, 1)];
    let sizes = [(1, 1), (40, 70), (131, 129), (7, 610), (64, 64), (0, 3), (3, 0)];
    let masks = ["", "causal", "causal, window = 20, sink = 2", "left = 9"];
    for (n, (queries, keys)) in sizes.into_iter().enumerate() {
        for (k, (block_q, block_k)) in blocks.into_iter().enumerate() {
            let dtype = ["f32", "bf16", "f16", "f64"][(n + k) % 4];
            let mask = masks[(n + 3 * k) % 4];
            // Marks of every head, of one head for all, and the same for all rows.
            let marks = match (n + k) % 3 {
                0 => format!("2, 4, ceil(T/{block_q}), ceil(S/{block_k})"),
                1 => format!("ceil(T/{block_q}), ceil(S/{block_k})"),
                _ => format!("2, 1, ceil(T/{block_q}), ceil(S/{block_k})"),
            };
            let masked = if mask.is_empty() { String::new() } else { format!("  %c = mask %b {{{mask}}}\n") };
            let last = if mask.is_empty() { "b" } else { "c" };
            let softmax =
                if k == 1 && dtype != "f64" { format!("softmax %{last}, %e") } else { format!("softmax %{last}") };
            let text = format!(
                "dim T = 0..200\ndim S = 0..700\nfunc @main(%q: {dtype}[2, 4, T, 6], %k: {dtype}[2, 2, S, 6], \
                 %v: {dtype}[2, 2, S, 5], %m: bool[{marks}], %e: f32[4]) -> {dtype}[2, 4, T, 5] {{\n  %g = gram %q, %k\n  \
                 %b = mask_blocks %g, %m {{block_q = {block_q}, block_k = {block_k}}}\n{masked}  %p = {softmax}\n  \
                 %y = apply %p, %v\n  return %y\n}}\n"
            );
            // A third of the blocks, sometimes none of a whole row.
            let third = |shape: &[usize], random: &mut Random| {
                Tensor::from_fn(Kind::Bool, shape, |_| Scalar::Bool(random.next().is_multiple_of(3)))
            };
            agrees_with(&text, values(queries, keys), "block_sparse", &mut random, &third);
        }
    }
}
