//! Convolutions and products of factors in their native forms against the reference.

mod agree;

use agree::{has, lowered, shape_of};
use mixc_ir::dim::DimValues;
use mixc_ir::expr::{Kind, Scalar};
use mixc_ir::program::Program;
use mixc_ir::tensor::Tensor;
use mixc_ir::tile::Rounding;
use mixc_ir::{lowered_interp, reference};

const FORMS: [&str; 3] = ["direct_conv", "fft_conv", "monarch_conv"];

fn tensor(shape: &[usize], state: &mut u64) -> Tensor {
    Tensor::from_fn(Kind::Float, shape, |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Scalar::Float((*state >> 33) as f64 / (1u64 << 30) as f64 - 1.0)
    })
}

/// The largest difference from the reference, as a share of the largest value; panics when another form was taken.
fn error(text: &str, sizes: &[(&str, i64)], form: &str, state: &mut u64) -> f64 {
    let program: Program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
    let mut values = DimValues::new();
    for d in &program.dims {
        let n = sizes.iter().find(|(name, _)| *name == &*d.name.to_string()).map_or(1, |(_, n)| *n);
        values.insert(d.name.clone(), n);
    }
    let inputs: Vec<Tensor> = program.params.iter().map(|v| tensor(&shape_of(&program, *v, &values), state)).collect();
    let want = reference::interpret(&program, &values, &inputs, &reference::Weights::new()).unwrap();
    let lowered = lowered(&program, &values, form);
    assert!(form.is_empty() || has(&lowered, form), "{form} was not taken\n{text}");
    let got = lowered_interp::interpret_lowered(&lowered, &values, &inputs, &Default::default(), Rounding::Tiles)
        .unwrap_or_else(|e| panic!("{e}\n{text} {sizes:?} {form}"));
    let mut worst: f64 = 0.0;
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.shape, want.shape);
        let largest = (0..want.len()).map(|k| want.at(k).abs()).fold(0.0, f64::max);
        let off = (0..want.len()).map(|k| (got.at(k) - want.at(k)).abs()).fold(0.0, f64::max);
        // What is 0 but for rounding has no size to be compared with.
        worst = worst.max(off / largest.max(1e-2));
    }
    worst
}

fn agrees(text: &str, sizes: &[(&str, i64)], state: &mut u64) {
    for form in FORMS {
        let e = error(text, sizes, form, state);
        assert!(e < 1e-5, "{form} is off by {e}, sizes {sizes:?}\n{text}");
    }
}

#[test]
fn filters_and_sequences_of_any_length() {
    let mut state = 3;
    for two_sided in [false, true] {
        let flag = if two_sided { "{two_sided}" } else { "" };
        for (t, k) in [(1, 1), (2, 7), (7, 2), (61, 61), (67, 5), (33, 129), (130, 40), (0, 3)] {
            let lags = if two_sided { 2 * k - 1 } else { k };
            let text = format!(
                "dim T = 0..300\nfunc @main(%x: f32[2, T, 3], %h: f32[3, {lags}]) -> f32[2, T, 3] {{\n  %y = long_conv \
                 %x, %h {flag}\n  return %y\n}}\n"
            );
            agrees(&text, &[("T", t)], &mut state);
            // The same with a length that is known; of no tokens there is nothing to convolve.
            if t == 0 {
                continue;
            }
            agrees(&text.replace("dim T = 0..300\n", "").replace('T', &t.to_string()), &[], &mut state);
        }
    }
}

#[test]
fn a_filter_as_long_as_the_sequence() {
    let mut state = 5;
    let text = "dim T = 0..4096\nfunc @main(%x: f32[T, 5], %h: f32[5, T]) -> f32[T, 5] {\n  %y = long_conv %x, %h\n  \
                return %y\n}\n";
    for t in [0, 1, 16, 17, 100, 257] {
        agrees(text, &[("T", t)], &mut state);
    }
}

/// What joins the end of a convolution reads tensors of its own: none of their rows past the last token.
#[test]
fn endings_read_no_row_past_the_end() {
    let mut state = 6;
    let text = "dim T = 0..4096\nfunc @main(%x: f32[T, 5], %h: f32[5, T], %z: f32[T, 5]) -> f32[T, 5] {\n  %c = \
                long_conv %x, %h\n  %y = add %c, %z\n  return %y\n}\n";
    for t in [0, 1, 7, 16, 17, 257] {
        agrees(text, &[("T", t)], &mut state);
    }
}

#[test]
fn what_depends_on_the_lag_alone_is_a_convolution() {
    let mut state = 7;
    let operators = [
        "%m = toeplitz %h : mix f32[T, T]",
        "%a = toeplitz %h {two_sided} : mix f32[T, T]\n  %m = mask %a {left = 5, right = 2}",
        "%a = toeplitz %h : mix f32[T, T]\n  %b = mask %a {causal}\n  %m = decay %b, %g",
        "%a = toeplitz %h {two_sided} : mix f32[T, T]\n  %b = scale_by %a {by = 0.5}\n  %m = map %b {fn = tanh}",
        "%a = toeplitz %h : mix f32[T, T]\n  %i = identity : mix f32[T, T]\n  %m = sum %a, %i",
        "%a = toeplitz %h : mix f32[T, T]\n  %m = transpose %a",
    ];
    for operator in operators {
        let text = format!(
            "dim T = 1..300\nfunc @main(%x: f32[T, 6], %h: f32[9], %g: f32[]) -> f32[T, 6] {{\n  {operator}\n  %y = apply \
             %m, %x\n  return %y\n}}\n"
        );
        for t in [1, 23, 64, 90] {
            agrees(&text, &[("T", t)], &mut state);
        }
    }
}

#[test]
fn a_filter_cut_past_its_end() {
    let mut state = 13;
    let text = "dim T = 1..300\nfunc @main(%x: f32[T, 6], %h: f32[T], %g: f32[]) -> f32[T, 6] {\n  %a = toeplitz %h\n  \
                %b = mask %a {causal, left = 60}\n  %m = decay %b, %g\n  %y = apply %m, %x\n  return %y\n}\n";
    for t in [1, 3, 59, 60, 61, 62, 90] {
        agrees(text, &[("T", t)], &mut state);
    }
}

#[test]
fn circulants_are_periodic_filters() {
    let mut state = 9;
    for t in [1, 12, 37] {
        let text = format!(
            "func @main(%x: f32[{t}, 4], %h: f32[{t}]) -> f32[{t}, 4] {{\n  %m = circulant %h\n  %y = apply %m, %x\n  \
             return %y\n}}\n"
        );
        agrees(&text, &[], &mut state);
    }
}

#[test]
fn batches_heads_and_element_types() {
    let mut state = 11;
    let text = "dim T = 1..99\nfunc @main(%x: f64[2, 4, T, 3], %h: f64[2, 8]) -> f64[2, 4, T, 3] {\n  %m = toeplitz %h : \
                mix f64[2, T, T]\n  %y = apply %m, %x\n  return %y\n}\n";
    for form in FORMS {
        assert!(error(text, &[("T", 41)], form, &mut state) < 1e-13, "{form}");
    }
    for (ty, tolerance) in [("f16", 4e-3), ("bf16", 2e-2)] {
        let text = format!(
            "dim T = 1..99\nfunc @main(%x: {ty}[T, 17], %h: f32[17, 40]) -> {ty}[T, 17] {{\n  %y = long_conv %x, %h\n  \
             return %y\n}}\n"
        );
        for form in FORMS {
            assert!(error(&text, &[("T", 77)], form, &mut state) < tolerance, "{form} {ty}");
        }
    }
}

#[test]
fn monarch_factors_of_every_shape() {
    let mut state = 17;
    // Right factor [k, q, p], left [g, s, m] with g m = k q.
    for (k, q, p, g, s, m) in [(1, 1, 1, 1, 1, 1), (8, 8, 8, 8, 8, 8), (3, 4, 5, 2, 7, 6), (4, 3, 2, 12, 1, 1)] {
        for (batch, own, d) in [("", "", 1), ("2, ", "", 5), ("2, 3, ", "3, ", 70)] {
            let text = format!(
                "func @main(%x: f32[{batch}{}, {d}], %l: f32[{own}{g}, {s}, {m}], %r: f32[{own}{k}, {q}, {p}]) -> \
                 f32[{batch}{}, {d}] {{\n  %m = monarch %l, %r\n  %y = apply %m, %x\n  return %y\n}}\n",
                k * p,
                g * s
            );
            let e = error(&text, &[], "monarch", &mut state);
            assert!(e < 1e-5, "{e}\n{text}");
        }
    }
}

#[test]
fn hadamard_transforms_of_every_length() {
    let mut state = 19;
    for n in [1, 2, 4, 16, 32, 128, 1024] {
        for (batch, d) in [("", 1), ("2, ", 70)] {
            for flag in ["", "{normalized} "] {
                let text = format!(
                    "func @main(%x: f32[{batch}{n}, {d}]) -> f32[{batch}{n}, {d}] {{\n  %m = walsh_hadamard {flag}: mix \
                     f32[{n}, {n}]\n  %y = apply %m, %x\n  %z = mul %y, %y\n  return %z\n}}\n"
                );
                let e = error(&text, &[], "walsh_hadamard", &mut state);
                assert!(e < 1e-5, "{e}\n{text}");
            }
        }
    }
}

#[test]
fn a_changed_operator_has_no_factors() {
    let mut state = 23;
    for change in ["scale_by %m {by = 3.0}", "transpose %m", "mask %m {causal}", "map %m {fn = exp}"] {
        let text = format!(
            "func @main(%x: f32[16, 3], %l: f32[4, 4, 4], %r: f32[4, 4, 4]) -> f32[16, 3] {{\n  %m = monarch %l, %r\n  %n = \
             {change}\n  %y = apply %n, %x\n  return %y\n}}\n"
        );
        assert!(error(&text, &[], "dense", &mut state) < 1e-5, "{text}");
    }
}

#[test]
fn fourier_transforms_of_any_length() {
    let mut state = 29;
    for (shape, axis) in
        [("N", "-1"), ("3, N", "-1"), ("N, 3", "0"), ("2, N, 5", "1"), ("2, 5, N", "-1"), ("N, 2, 3", "0")]
    {
        for (n, form) in [
            (1, "fourier"),
            (2, "fourier"),
            (12, "fourier"),
            (30, "fourier"),
            (64, "fourier"),
            (67, ""),
            (105, "fourier"),
        ] {
            let ty = format!("f32[{shape}]");
            let half = format!("f32[{}]", shape.replace('N', &(n / 2 + 1).to_string()));
            let text = format!(
                "func @main(%a: {ty}, %b: {ty}, %c: {half}, %d: {half}) -> ({ty}, {ty}, {ty}, {ty}, {half}, {half}, {ty}) {{\n  \
                 %p, %q = fft %a, %b {{axis = {axis}}}\n  %r, %s = ifft %a {{axis = {axis}}}\n  %t, %u = rfft %a {{axis = \
                 {axis}}}\n  %v = irfft %c, %d {{axis = {axis}, n = {n}}}\n  return %p, %q, %r, %s, %t, %u, %v\n}}\n"
            );
            let e = error(&text.replace('N', &n.to_string()), &[], form, &mut state);
            assert!(e < 1e-5, "{e} at {n}\n{text}");
        }
    }
}

#[test]
fn fourier_transforms_cut_and_padded_and_of_lengths_of_the_call() {
    let mut state = 31;
    let text = "dim T = 0..300\nfunc @main(%x: f32[2, T, 6], %y: f32[2, T, 6]) -> (f32[2, T, 6], f32[2, T, 6], f32[2, T, 6], \
                f32[2, 30, 6], f32[2, 9, 6]) {\n  %p, %q = fft %x, %y {axis = 1}\n  %r, %s = ifft %x, %y {axis = 1}\n  %t, %u \
                = fft %x {axis = 1, n = 30}\n  %v, %w = rfft %x {axis = 1, n = 17}\n  return %p, %q, %s, %u, %w\n}\n";
    for t in [0, 1, 2, 17, 30, 67, 100, 131] {
        let e = error(text, &[("T", t)], "", &mut state);
        assert!(e < 1e-5, "{e} at {t}");
    }
    let text = "dim T = 0..300\nfunc @main(%x: f32[T, 12], %y: f16[T, 7]) -> (f32[T, 12], f16[T, 7]) {\n  %p = fourier_mix \
                %x\n  %q = fourier_mix %y\n  return %p, %q\n}\n";
    for t in [0, 1, 16, 67] {
        let e = error(text, &[("T", t)], "", &mut state);
        assert!(e < 4e-3, "{e} at {t}");
    }
}
