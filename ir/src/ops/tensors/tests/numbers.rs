//! What is computed, on cases worked by hand.

use super::*;

#[test]
fn products_have_values() {
    let (a, b) = (floats(&[2, 2], &[1., 2., 3., 4.]), floats(&[2, 2], &[5., 6., 7., 8.]));
    let product = |flags: [bool; 2]| {
        let attrs = attrs().with_flag("transpose_a", flags[0]).with_flag("transpose_b", flags[1]);
        run("matmul", &[a.clone(), b.clone()], attrs).remove(0)
    };
    assert_eq!(product([false, false]), floats(&[2, 2], &[19., 22., 43., 50.]));
    assert_eq!(product([true, false]), floats(&[2, 2], &[26., 30., 38., 44.]));
    assert_eq!(product([false, true]), floats(&[2, 2], &[17., 23., 39., 53.]));
    assert_eq!(product([true, true]), floats(&[2, 2], &[23., 31., 34., 46.]));
    let bias = floats(&[2], &[100., 200.]);
    assert_eq!(run("linear", &[a, b, bias], attrs())[0], floats(&[2, 2], &[117., 223., 139., 253.]));
}

#[test]
fn products_share_groups_and_sum_over_nothing() {
    let a = floats(&[4, 1, 1], &[1., 2., 3., 4.]);
    let b = floats(&[2, 1, 1], &[10., 100.]);
    assert_eq!(run("matmul", &[a, b], attrs())[0], floats(&[4, 1, 1], &[10., 20., 300., 400.]));
    let empty = run("matmul", &[floats(&[2, 0], &[]), floats(&[0, 3], &[])], attrs());
    assert_eq!(empty[0], floats(&[2, 3], &[0.0; 6]));
    let (x, w) = (f32s(vec![t(), Dim::constant(4)]), f32s(dims(&[4, 3])));
    assert!(message("linear", &[x.clone(), w.clone()], attrs()).contains("[outputs, 4]"));
    assert_eq!(message("matmul", &[x, f32s(dims(&[3, 4]))], attrs()), "a has 4 columns, b has 3 rows");
}

#[test]
fn reductions_over_nothing_and_of_integers() {
    let reduce =
        |x: &Tensor, op: &str| run("reduce", std::slice::from_ref(x), attrs().with_name("op", op).with_int("axis", -1));
    let none = floats(&[1, 0], &[]);
    for (op, expected) in [("sum", 0.0), ("prod", 1.0), ("max", f64::NEG_INFINITY), ("min", f64::INFINITY)] {
        assert_eq!(reduce(&none, op)[0], floats(&[1], &[expected]), "{op}");
    }
    assert!(reduce(&none, "mean")[0].at(0).is_nan());
    assert!(reduce(&floats(&[2], &[f64::NAN, 1.0]), "max")[0].at(0).is_nan());
    let ints = Tensor::ints(&[2, 3], vec![1, -2, 3, 4, 5, -6]);
    assert_eq!(reduce(&ints, "prod")[0], Tensor::ints(&[2], vec![-6, -120]));
    let kept = run(
        "reduce",
        std::slice::from_ref(&ints),
        attrs().with_name("op", "max").with_int("axis", 0).with_flag("keep", true),
    );
    assert_eq!(kept[0], Tensor::ints(&[1, 3], vec![4, 5, 3]));
    assert!(
        message("reduce", &[type_of(&ints)], attrs().with_name("op", "mean").with_int("axis", 0)).contains("reals")
    );
    assert!(message("reduce", &[type_of(&ints)], attrs().with_int("axis", 2)).contains("no axis 2"));
}

#[test]
fn scans_run_both_ways_and_do_not_overflow() {
    let x = floats(&[3, 2], &[1., 10., 2., 20., 3., 30.]);
    let sums =
        |reverse| run("cumsum", std::slice::from_ref(&x), attrs().with_int("axis", 0).with_flag("reverse", reverse));
    assert_eq!(sums(false)[0], floats(&[3, 2], &[1., 10., 3., 30., 6., 60.]));
    assert_eq!(sums(true)[0], floats(&[3, 2], &[6., 60., 5., 50., 3., 30.]));
    let logs = floats(&[4], &[f64::NEG_INFINITY, 1000.0, 1000.0, -1e9]);
    let y = run("cumlogsumexp", &[logs], attrs().with_int("axis", 0)).remove(0);
    let ln2 = std::f64::consts::LN_2;
    assert_eq!(y, floats(&[4], &[f64::NEG_INFINITY, 1000.0, 1000.0 + ln2, 1000.0 + ln2]));
}

#[test]
fn softmax_of_large_and_absent_logits() {
    let inf = f64::NEG_INFINITY;
    let x = floats(&[3, 2], &[1e4, 1e4, inf, 3.0, inf, inf]);
    assert_eq!(run("softmax_axis", &[x], attrs())[0], floats(&[3, 2], &[0.5, 0.5, 0.0, 1.0, 0.0, 0.0]));
}

#[test]
fn norms_have_values() {
    let x = floats(&[1, 2], &[3.0, 5.0]);
    let g = floats(&[2], &[2.0, 3.0]);
    let eps = |eps: f64| attrs().with_float("eps", eps);
    let y = run_written("layer_norm", &[Some(x.clone()), None, Some(g.clone())], eps(0.0), &[]);
    assert_eq!(y[0], floats(&[1, 2], &[1.0, 4.0]));
    let y = run("rms_norm", &[floats(&[1, 2], &[1.0, 7.0]), g], eps(11.0)).remove(0);
    assert!(difference(&[y], &[floats(&[1, 2], &[2.0 / 6.0, 21.0 / 6.0])]) < 1e-15);
    let y = run("l2_normalize", &[x], attrs().with_int("axis", 0).with_float("eps", 0.0)).remove(0);
    assert_eq!(y, floats(&[1, 2], &[1.0, 1.0]));
}

#[test]
fn rotations_and_tables_of_angles() {
    let x = floats(&[2, 4], &[9., 9., 9., 9., 1., 2., 3., 4.]);
    let (s, c) = 1f64.sin_cos();
    let (s2, c2) = 0.01f64.sin_cos();
    let halves = [c - 3.0 * s, 2.0 * c2 - 4.0 * s2, 3.0 * c + s, 4.0 * c2 + 2.0 * s2];
    let turned = run("rope", std::slice::from_ref(&x), attrs());
    assert_eq!(turned[0], floats(&[2, 4], &[&[9.0; 4], &halves[..]].concat()));
    let pairs = [c - 2.0 * s, 2.0 * c + s, 3.0 * c2 - 4.0 * s2, 4.0 * c2 + 3.0 * s2];
    let turned = run("rope", std::slice::from_ref(&x), attrs().with_flag("interleaved", true));
    assert_eq!(turned[0], floats(&[2, 4], &[&[9.0; 4], &pairs[..]].concat()));
    let part = run("rope", &[x, Tensor::ints(&[2], vec![0, 1])], attrs().with_int("dims", 2));
    assert_eq!(part[0], floats(&[2, 4], &[9., 9., 9., 9., c - 2.0 * s, 2.0 * c + s, 3., 4.]));
    let table = run("sinusoid", &[], attrs().with_int("len", 2).with_int("dim", 4));
    assert_eq!(table[0], floats(&[2, 4], &[0., 1., 0., 1., s, c, s2, c2]));
    assert!(message("rope", &[f32s(dims(&[2, 3]))], attrs()).contains("even"));
    assert!(infer("sinusoid", &[], attrs().with_int("len", 2).with_int("dim", 1 << 40)).is_err());
}

#[test]
fn taps_along_tokens() {
    let x = floats(&[4, 1], &[1., 2., 3., 4.]);
    let shift = |by: i64| run("token_shift", std::slice::from_ref(&x), attrs().with_int("by", by)).remove(0);
    assert_eq!(shift(1), floats(&[4, 1], &[0., 1., 2., 3.]));
    assert_eq!(shift(-2), floats(&[4, 1], &[3., 4., 0., 0.]));
    assert_eq!(shift(9), floats(&[4, 1], &[0.; 4]));
    let w = floats(&[1, 3], &[100., 10., 1.]);
    let conv = |a: Attrs| run("short_conv", &[x.clone(), w.clone()], a).remove(0);
    assert_eq!(conv(attrs().with_flag("causal", true)), floats(&[4, 1], &[1., 12., 123., 234.]));
    assert_eq!(conv(attrs()), floats(&[4, 1], &[12., 123., 234., 340.]));
    let wide = attrs().with_flag("causal", true).with_int("dilation", 2);
    assert_eq!(conv(wide), floats(&[4, 1], &[1., 2., 13., 24.]));
    let (flags, before) = (attrs().with_flag("causal", true).with_flag("state", true), floats(&[2, 1], &[8., 9.]));
    let streamed = run_written("short_conv", &[Some(x.clone()), Some(w.clone()), None, Some(before)], flags, &[]);
    assert_eq!(streamed, [floats(&[4, 1], &[891., 912., 123., 234.]), floats(&[2, 1], &[3., 4.])]);
    assert!(message("short_conv", &[type_of(&x), type_of(&w)], attrs().with_flag("state", true)).contains("causal"));
}

#[test]
fn convolutions_of_channels() {
    let x = floats(&[3, 2], &[1., 10., 2., 20., 3., 30.]);
    let w = floats(&[1, 2, 2], &[1., 2., 3., 4.]);
    let y = run("conv1d", &[x.clone(), w], attrs().with_int("before", 1).with_int("stride", 2));
    assert_eq!(y[0], floats(&[2, 1], &[42., 188.0]));
    let w = floats(&[2, 1, 1], &[1., -1.]);
    let y = run("conv1d", &[x, w, floats(&[2], &[0.5, 0.0])], attrs().with_int("groups", 2));
    assert_eq!(y[0], floats(&[3, 2], &[1.5, -10., 2.5, -20., 3.5, -30.]));
    let (x, w) = (f32s(vec![t(), Dim::constant(2)]), f32s(dims(&[4, 2, 3])));
    let ty = infer("conv1d", &[x.clone(), w.clone()], attrs().with_int("stride", 2).with_int("before", 2));
    assert_eq!(ty.unwrap()[0].to_string(), "f32[ceil(T/2), 4]");
    assert!(infer("conv1d", &[x, w.clone()], attrs().with_int("groups", 2)).is_err());
    assert!(infer("conv1d", &[f32s(dims(&[1, 2])), w], attrs()).is_err());
}

#[test]
fn transforms_have_values_and_inverses() {
    let x = floats(&[4], &[1., 2., 3., 4.]);
    let y = run("fft", std::slice::from_ref(&x), attrs());
    assert!(difference(&y, &[floats(&[4], &[10., -2., -2., -2.]), floats(&[4], &[0., 2., 0., -2.])]) < 1e-12);
    let mut r = Random(3);
    for n in [1usize, 2, 5, 8, 9] {
        let x = r.reals(&[2, n]);
        let half = run("rfft", std::slice::from_ref(&x), attrs());
        assert_eq!(half[0].shape, [2, n / 2 + 1]);
        let back = run("irfft", &half, attrs().with_int("n", n as i64));
        assert!(difference(&back, std::slice::from_ref(&x)) < 1e-12, "{n}");
        let back = run("ifft", &run("fft", &[x.clone(), r.reals(&[2, n])], attrs()), attrs());
        assert!(difference(&back[..1], &[x]) < 1e-12, "{n}");
    }
    let ty = infer("rfft", &[f32s(vec![t()])], attrs()).unwrap();
    assert_eq!(ty[0].to_string(), "f32[ceil((T+1)/2)]");
    assert!(infer("irfft", &[f32s(dims(&[1])), f32s(dims(&[1]))], attrs()).is_err());
}
