//! What is written in one way or in another runs in one form: operands transposed, factors folded in or written beside,
//! masks in one operation or in several, the named layer or its definition.

use mixc::explain::SMALL_WORK;
use mixc::{Model, Request, Runner, ShapeArg, Target, inputs};
use std::path::Path;

/// Spellings of one computation.
struct Group {
    /// The forms that all of them run in, in order, each once; elementwise work is not counted.
    forms: &'static [&'static str],
    /// Bodies over q, k, v `[2, T, 16]`, a decay a head `g` in 0.5 to 1, log decays `a` and strengths `b` `[2, T]`,
    /// filters `h` `[16, 4096]`, and `%c`, the number 0.25.
    bodies: &'static [&'static str],
}

/// At 4096 tokens, where the forms for long sequences are the cheapest.
const GROUPS: &[Group] = &[
    // Softmax attention over a causal window.
    Group {
        forms: &["window"],
        bodies: &[
            "%y = attention %q, %k, %v {causal, window = 9, scale = 0.25}",
            "%s = gram %q, %k {scale = 0.25}\n%m = mask %s {causal, window = 9}\n%p = softmax %m\n%y = apply %p, %v",
            "%s = gram %q, %k {scale = 0.25}\n%m = mask %s {left = 8}\n%n = mask %m {right = 0}\n%p = softmax %n\n\
             %y = apply %p, %v",
            "%s = gram %q, %k {scale = 0.25}\n%m = mask %s {window = 9}\n%n = mask %m {causal}\n%p = softmax %n\n\
             %y = apply %p, %v",
            "%u = mul %q, %c\n%s = gram %u, %k\n%m = mask %s {causal, window = 9}\n%p = softmax %m\n%y = apply %p, %v",
            "%u = mul %k, %c\n%s = gram %q, %u\n%m = mask %s {causal, window = 9}\n%p = softmax %m\n%y = apply %p, %v",
            "%s = gram %q, %k\n%m = mask %s {causal, window = 9}\n%u = scale_by %m {by = 0.25}\n%p = softmax %u\n\
             %y = apply %p, %v",
            "%s = gram %k, %q {scale = 0.25}\n%u = transpose %s\n%m = mask %u {causal, window = 9}\n%p = softmax %m\n\
             %y = apply %p, %v",
            "%s = gram %k, %q {scale = 0.25}\n%m = mask %s {left = 0, right = 8}\n%u = transpose %m\n%p = softmax %u\n\
             %y = apply %p, %v",
            "%kt = transpose %k {perm = [0, 2, 1]}\n%kk = transpose %kt {perm = [0, 2, 1]}\n\
             %s = gram %q, %kk {scale = 0.25}\n%m = mask %s {causal, window = 9}\n%p = softmax %m\n%y = apply %p, %v",
        ],
    },
    // The same without a mask, as a framework of tensors says it.
    Group {
        forms: &["flash"],
        bodies: &[
            "%y = attention %q, %k, %v {scale = 0.25}",
            "%s = matmul %q, %k {transpose_b}\n%t = mul %s, %c\n%p = softmax_axis %t {axis = -1}\n%y = matmul %p, %v",
            "%kt = transpose %k {perm = [0, 2, 1]}\n%s = matmul %q, %kt\n%t = mul %s, %c\n\
             %p = softmax_axis %t {axis = -1}\n%y = matmul %p, %v",
            "%u = mul %q, %c\n%kt = transpose %k {perm = [0, 2, 1]}\n%s = matmul %u, %kt\n\
             %p = softmax_axis %s {axis = -1}\n%y = matmul %p, %v",
            "%s = matmul %q, %k {transpose_b}\n%t = mul %s, %c\n%m = reduce %t {op = max, axis = -1, keep}\n\
             %d = sub %t, %m\n%e = exp %d\n%l = reduce %e {axis = -1, keep}\n%p = div %e, %l\n%y = matmul %p, %v",
            "%s = matmul %k, %q {transpose_b}\n%t = mul %s, %c\n%p = softmax_axis %t {axis = 1}\n\
             %y = matmul %p, %v {transpose_a}",
            "%s = gram %q, %k {scale = 0.25}\n%e = map %s {fn = exp}\n%p = row_normalize %e\n%y = apply %p, %v",
        ],
    },
    // Causal linear attention.
    Group {
        forms: &["chunked_scan"],
        bodies: &[
            "%y = linear_attention %q, %k, %v {causal}",
            "%s = gram %q, %k\n%m = mask %s {causal}\n%y = apply %m, %v",
            "%s = gram %k, %q\n%u = transpose %s\n%m = mask %u {right = 0}\n%y = apply %m, %v",
            "%s = gram %k, %q\n%m = mask %s {left = 0}\n%u = transpose %m\n%y = apply %u, %v",
            "%z = splat 0.0 : f32[2, T]\n%s = semiseparable %q, %k, %z\n%y = apply %s, %v",
            "%i = iota {axis = 0} : i64[T, T]\n%j = iota {axis = 1} : i64[T, T]\n%b1 = le %j, %i\n\
             %w = cast %b1 {to = f32}\n%s = matmul %q, %k {transpose_b}\n%t = mul %s, %w\n%y = matmul %t, %v",
        ],
    },
    Group {
        forms: &["chunked_scan"],
        bodies: &[
            "%u = mul %q, %c\n%y = linear_attention %u, %k, %v {causal}",
            "%s = gram %q, %k {scale = 0.25}\n%m = mask %s {causal}\n%y = apply %m, %v",
            "%s = gram %q, %k\n%m = mask %s {causal}\n%u = scale_by %m {by = 0.25}\n%y = apply %u, %v",
            "%s = gram %q, %k\n%m = mask %s {causal}\n%z = apply %m, %v\n%y = mul %z, %c",
            "%s = gram %q, %k\n%m = mask %s {causal}\n%u = mul %v, %c\n%y = apply %m, %u",
        ],
    },
    // Without a mask the keys come first.
    Group {
        forms: &["linear"],
        bodies: &[
            "%y = linear_attention %q, %k, %v",
            "%s = gram %q, %k\n%y = apply %s, %v",
            "%s = gram %k, %q\n%u = transpose %s\n%y = apply %u, %v",
            "%s = matmul %q, %k {transpose_b}\n%y = matmul %s, %v",
            "%kt = transpose %k {perm = [0, 2, 1]}\n%s = matmul %q, %kt\n%y = matmul %s, %v",
            "%kt = transpose %k {perm = [0, 2, 1]}\n%s = matmul %kt, %v\n%y = matmul %q, %s",
        ],
    },
    // Pairs of keys without a softmax: products of sums, whichever comes first and however it is cut.
    Group {
        forms: &["gemm"],
        bodies: &[
            "%a1 = reshape %k {shape = [2, T, 1, 16]}\n%a2 = reshape %q {shape = [2, 1, T, 16]}\n%a3 = mul %a1, %a2\n\
             %kk = reshape %a3 {shape = [2, T*T, 16]}\n%b1 = reshape %v {shape = [2, T, 1, 16]}\n\
             %b2 = reshape %k {shape = [2, 1, T, 16]}\n%b3 = mul %b1, %b2\n%vv = reshape %b3 {shape = [2, T*T, 16]}\n\
             %s = gram %q, %kk\n%y = apply %s, %vv",
            "%a1 = reshape %k {shape = [2, T, 1, 16]}\n%a2 = reshape %q {shape = [2, 1, T, 16]}\n%a3 = mul %a2, %a1\n\
             %kk = reshape %a3 {shape = [2, -1, 16]}\n%b1 = reshape %v {shape = [2, T, 1, 16]}\n\
             %b2 = reshape %k {shape = [2, 1, T, 16]}\n%b3 = mul %b1, %b2\n%vv = reshape %b3 {shape = [2, -1, 16]}\n\
             %s = matmul %q, %kk {transpose_b}\n%y = matmul %s, %vv",
            "%a1 = reshape %k {shape = [2, -1, 1, 16]}\n%a2 = reshape %q {shape = [2, 1, -1, 16]}\n%a3 = mul %a1, %a2\n\
             %kk = reshape %a3 {shape = [2, -1, 16]}\n%b1 = reshape %v {shape = [2, T, 1, 16]}\n\
             %b2 = reshape %k {shape = [2, 1, T, 16]}\n%b3 = mul %b2, %b1\n%vv = reshape %b3 {shape = [2, T*T, 16]}\n\
             %t = transpose %kk {perm = [0, 2, 1]}\n%s = matmul %t, %vv\n%y = matmul %q, %s",
        ],
    },
    // Retention.
    Group {
        forms: &["chunked_scan"],
        bodies: &[
            "%y = retention %q, %k, %v, %g",
            "%s = gram %q, %k\n%m = mask %s {causal}\n%w = decay %m, %g\n%y = apply %w, %v",
            "%i = iota {axis = 0} : f32[T, 1]\n%j = iota {axis = 1} : f32[1, T]\n%d = sub %i, %j\n\
             %r = reshape %g {shape = [2, 1, 1]}\n%n = pow %r, %d\n%o = dense %n\n%s = gram %q, %k\n\
             %t = times %s, %o\n%m = mask %t {causal}\n%y = apply %m, %v",
            "%s = gram %q, %k {scale = 0.25}\n%m = mask %s {causal}\n%w = decay %m, %g\n%y = apply %w, %v",
            "%s = gram %q, %k\n%u = scale_by %s {by = 0.25}\n%m = mask %u {causal}\n%w = decay %m, %g\n%y = apply %w, %v",
        ],
    },
    // A state space with a decay a token.
    Group {
        forms: &["chunked_scan"],
        bodies: &[
            "%y = ssd %v, %a, %k, %q",
            "%s = semiseparable %q, %k, %a\n%y = apply %s, %v",
            "%s = semiseparable %q, %k, %a\n%m = mask %s {causal}\n%y = apply %m, %v",
            "%u = reshape %a {shape = [2, T, 1]}\n%s = semiseparable %q, %k, %u\n%y = apply %s, %v",
            "%s = cumsum %a {axis = 1}\n%n = neg %s\n%d = outer_sum %s, %n\n%e = map %d {fn = exp}\n\
             %r = gram %q, %k\n%t = times %r, %e\n%m = mask %t {causal}\n%y = apply %m, %v",
        ],
    },
    // The delta rule.
    Group {
        forms: &["triangular_inverse", "chunked_scan"],
        bodies: &[
            "%y = delta_rule %q, %k, %v, %b",
            "%d = diagonal %b\n%s = gram %k, %k\n%m = mask %s {right = -1}\n%w = compose %d, %m\n\
             %e = identity : mix f32[T, T]\n%l = sum %e, %w\n%i = inverse %l\n%x = apply %d, %v\n%u = apply %i, %x\n\
             %r = gram %q, %k\n%z = mask %r {causal}\n%y = apply %z, %u",
        ],
    },
    // A long convolution.
    Group {
        forms: &["fft_conv"],
        bodies: &[
            "%y = long_conv %v, %h",
            "%m = toeplitz %h : mix f32[16, T, T]\n%y = apply %m, %v {channelwise}",
            "%m = toeplitz %h : mix f32[16, T, T]\n%n = mask %m {causal}\n%y = apply %n, %v {channelwise}",
            "%u = mul %h, %c\n%m = toeplitz %u : mix f32[16, T, T]\n%y = apply %m, %v {channelwise}",
            "%m = toeplitz %h : mix f32[16, T, T]\n%s = scale_by %m {by = 0.25}\n%y = apply %s, %v {channelwise}",
        ],
    },
];

fn model(body: &str) -> Result<Model, String> {
    let body = body.replace("%z = splat", "const %z = splat");
    let text = format!(
        "dim T = 1..8192\n\nfunc @main(%q: f32[2, T, 16], %k: f32[2, T, 16], %v: f32[2, T, 16], %g_in: f32[2], %b: f32[2, T], \
         %a_in: f32[2, T], %h: f32[16, 4096]) -> f32[2, T, 16] {{\n  const %c = splat 0.25 : f32[]\n  \
         const %one = splat 1.0 : f32[]\n  const %half = splat 0.5 : f32[]\n  %g0 = sigmoid %g_in\n  %g1 = mul %g0, %half\n  \
         %g = sub %one, %g1\n  %a0 = softplus %a_in\n  %a = neg %a0\n  {}\n  return %y\n}}\n",
        body.replace('\n', "\n  ")
    );
    Model::from_text(&text, "spelling", Path::new("."), &[]).map_err(|e| format!("{e}\n{text}"))
}

fn forms(model: &Model, tokens: i64) -> Result<Vec<String>, String> {
    let shapes = vec![ShapeArg { name: "T".into(), low: 1, high: 8192, typical: tokens }];
    let request = Request { shapes, ..Request::default() };
    let machine = Target::parse("znver4").map_err(|e| e.to_string())?;
    let stages = model.stages(&machine, &request).map_err(|e| e.to_string())?;
    let mut forms: Vec<String> = Vec::new();
    for kernel in mixc::explain::explain(&stages, &request, "cpu").kernels {
        if !SMALL_WORK.contains(&kernel.form.as_str()) && !forms.contains(&kernel.form) {
            forms.push(kernel.form);
        }
    }
    Ok(forms)
}

/// The code for 4096 tokens gives what the reference gives, for a few.
fn agrees(model: &Model) -> Result<(), String> {
    let shapes = vec![ShapeArg { name: "T".into(), low: 1, high: 8192, typical: 4096 }];
    let target = Target::native().map_err(|e| e.to_string())?;
    let request = Request { shapes, ..Request::default() };
    let runner: Runner = model.compile(&target, &request).map_err(|e| e.to_string())?;
    let few = [ShapeArg { name: "T".into(), low: 37, high: 37, typical: 37 }];
    let dims = mixc::random_run_dims(&model.program, &few).map_err(|e| e.to_string())?;
    let inputs = inputs::random(&model.program, &dims, 1);
    let results = runner.run(&inputs, 1).map_err(|e| e.to_string())?;
    runner.check(model, &inputs, &results).map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn every_spelling_runs_in_the_same_form() {
    let mut failures = Vec::new();
    for group in GROUPS {
        for body in group.bodies {
            let outcome = model(body).and_then(|m| {
                let found = forms(&m, 4096)?;
                if found != group.forms { Err(format!("runs as {found:?}")) } else { agrees(&m) }
            });
            if let Err(e) = outcome {
                failures.push(format!("{body}\n  {e}, meant to run as {:?}", group.forms));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn what_differs_runs_in_another_form() {
    // A softmax under which nothing scans, and a matrix where there are few tokens.
    let scan = model("%s = gram %q, %k\n%m = mask %s {causal}\n%y = apply %m, %v").unwrap();
    let softmax = model("%s = gram %q, %k\n%m = mask %s {causal}\n%p = softmax %m\n%y = apply %p, %v").unwrap();
    assert_ne!(forms(&scan, 4096), forms(&softmax, 4096));
    assert_ne!(forms(&scan, 4096), forms(&scan, 8));
}
