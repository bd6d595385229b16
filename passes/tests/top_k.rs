//! The native forms of the k greatest against the reference, with `k` from the lengths of the call.

mod agree;

use agree::{lowered, shape_of};
use mixc_ir::dim::DimValues;
use mixc_ir::expr::{Kind, Scalar};
use mixc_ir::tensor::Tensor;
use mixc_ir::tile::Rounding;
use mixc_ir::{lowered_interp, reference};

/// Small integers: exact in every precision, and with many ties.
fn tensor(shape: &[usize], state: &mut u64) -> Tensor {
    Tensor::from_fn(Kind::Float, shape, |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Scalar::Float(((*state >> 33) % 9) as f64 - 4.0)
    })
}

fn values(sizes: &[(&str, i64)]) -> DimValues {
    sizes.iter().map(|(name, n)| ((*name).into(), *n)).collect()
}

/// The results of the reference and of the lowered programs, or why either has none.
fn both(
    text: &str,
    sizes: &[(&str, i64)],
    state: &mut u64,
) -> (Result<Vec<Tensor>, String>, Result<Vec<Tensor>, String>) {
    let program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
    let values = values(sizes);
    let inputs: Vec<Tensor> = program.params.iter().map(|v| tensor(&shape_of(&program, *v, &values), state)).collect();
    let want =
        reference::interpret(&program, &values, &inputs, &reference::Weights::new()).map_err(|e| format!("{e:?}"));
    let lowered = lowered(&program, &values, "");
    let got = lowered_interp::interpret_lowered(&lowered, &values, &inputs, &Default::default(), Rounding::Tiles)
        .map_err(|e| e.to_string());
    (want, got)
}

fn agree(text: &str, sizes: &[(&str, i64)], state: &mut u64) {
    let (want, got) = both(text, sizes, state);
    let want = want.unwrap_or_else(|e| panic!("{e} {sizes:?}\n{text}"));
    let got = got.unwrap_or_else(|e| panic!("{e} {sizes:?}\n{text}"));
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.shape, want.shape);
        for k in 0..want.len() {
            let (g, w) = (got.at(k), want.at(k));
            assert!((g - w).abs() <= 1e-4 * w.abs().max(1.0), "{k}: {g} for {w}, {sizes:?}\n{text}");
        }
    }
}

fn operator(select: &str, mask: &str) -> String {
    let (masked, operand) = match mask {
        "" => (String::new(), "m"),
        _ => (format!("  %c = mask %m {{{mask}}}\n"), "c"),
    };
    format!(
        "dim T = 0..70\ndim S = 0..70\ndim K = 0..90\n\nfunc @main(%q: f32[2, T, 4], %k: f32[2, S, 4], %v: f32[2, S, 3], \
         %n: f32[K]) -> (f32[2, T, 3], f32[2, T, 3]) {{\n  %m = gram %q, %k\n{masked}  %t = {}\n  %p = softmax %t\n  \
         %y = apply %p, %v\n  %z = apply %t, %v\n  return %y, %z\n}}\n",
        select.replace('@', operand)
    )
}

#[test]
fn the_greatest_of_a_row_by_a_length() {
    let mut state = 5;
    for mask in ["", "causal", "window = 5"] {
        for k in ["K", "T", "S", "2*T", "ceil(S/4)", "T+1"] {
            let text = operator(&format!("top_k %@ {{k = {k}}}"), mask);
            for (t, s, n) in [(1, 1, 0), (1, 1, 1), (7, 13, 3), (13, 13, 0), (31, 31, 31), (5, 67, 68), (17, 3, 90)] {
                agree(&text, &[("T", t), ("S", s), ("K", n)], &mut state);
            }
        }
    }
}

#[test]
fn a_length_that_cannot_be_kept_is_an_error_of_both() {
    let mut state = 5;
    for (select, sizes) in [
        ("top_k %@ {k = T-3}", [("T", 2), ("S", 4), ("K", 1)]),
        ("top_k %@ {k = S/4}", [("T", 2), ("S", 5), ("K", 1)]),
        ("top_k_tree %@ {k = K, block_q = 2, block_k = 2}", [("T", 2), ("S", 5), ("K", 0)]),
    ] {
        let (want, got) = both(&operator(select, ""), &sizes, &mut state);
        assert!(want.is_err() && got.is_err(), "{select}: {} {}", want.is_err(), got.is_err());
    }
}

#[test]
fn the_greatest_along_an_axis_by_a_length() {
    let mut state = 9;
    for (axis, shape, kept) in [(-1, "3, T", "3, K"), (0, "T, 5", "K, 5"), (1, "2, T, 3", "2, K, 3")] {
        let text = format!(
            "dim T = 0..70\ndim K = 0..70\n\nfunc @main(%x: f32[{shape}], %n: f32[K]) -> (f32[{kept}], i64[{kept}]) {{\n  \
             %v, %i = top_k_axis %x {{axis = {axis}, k = K}}\n  return %v, %i\n}}\n"
        );
        for (t, n) in [(0, 0), (1, 0), (1, 1), (13, 5), (31, 31), (67, 2)] {
            agree(&text, &[("T", t), ("K", n)], &mut state);
        }
        let (want, got) = both(&text, &[("T", 4), ("K", 5)], &mut state);
        assert!(want.is_err() && got.is_err());
    }
}

#[test]
fn a_search_whose_keys_come_from_a_length() {
    let mut state = 3;
    for k in ["K", "ceil(S/4)", "T", "S"] {
        for blocks in ["block_q = 3, block_k = 2", "block_q = 1, block_k = 1, sink = 1, window = 2"] {
            let text = operator(&format!("top_k_tree %@ {{k = {k}, {blocks}}}"), "causal");
            for (t, s, n) in [(1, 1, 1), (7, 13, 3), (13, 13, 1), (31, 31, 31), (5, 67, 68), (9, 67, 7)] {
                agree(&text, &[("T", t), ("S", s), ("K", n)], &mut state);
            }
        }
    }
}
