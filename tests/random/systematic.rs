//! Systematic programs: every operation's example, every layer at many lengths, every operator under every change, and
//! the corners that users meet: empty caches, rows without keys, large logits, ids out of range.

use crate::check::must_agree;
use mixc::ir::dim::{Dim, DimValues};
use mixc::ir::tensor::{Blob, Tensor};
use mixc::{Model, inputs};
use std::path::Path;

fn positive(b: &Blob) -> Blob {
    if !b.dtype.is_float() {
        return b.clone();
    }
    Tensor::floats(&b.shape, b.to_f64().iter().map(|x| x.abs()).collect()).to_blob(b.dtype)
}

#[test]
fn every_example_agrees_natively() {
    let mut failures = Vec::new();
    let mut without = Vec::new();
    for op in mixc::ir::ops::all() {
        let model = match Model::from_text(op.example, op.name, Path::new("."), &[]) {
            Ok(m) => m,
            Err(e) => {
                failures.push(format!("{}: {e}", op.name));
                continue;
            }
        };
        // Lengths that fit: odd ones, then ones that divide.
        let mut last = String::new();
        let fits = [7, 5, 9, 8, 12, 16].into_iter().any(|n: i64| {
            let dims: DimValues = model.program.dims.iter().map(|d| (d.name.clone(), n.clamp(d.low, d.high))).collect();
            let given = inputs::random(&model.program, &dims, 3);
            let mut found = must_agree(op.example, &given);
            if found.as_ref().is_err_and(|e| e.starts_with("skipped: not finite")) {
                // Roots and logarithms are of positive numbers.
                let positive: Vec<Blob> = given.iter().map(positive).collect();
                found = must_agree(op.example, &positive);
            }
            match found {
                Ok(native) => {
                    if !native {
                        without.push(op.name);
                    }
                    true
                }
                Err(e) => {
                    last = e;
                    false
                }
            }
        });
        if !fits {
            failures.push(format!("{}: {last}", op.name));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    if std::env::var("MIXC_REPORT").is_ok() {
        eprintln!("no native form: {}", without.join(" "));
    }
}

/// Programs run one after the other; all failures are told.
fn all_agree(programs: impl IntoIterator<Item = (String, DimValues)>) {
    let mut failures = Vec::new();
    for (k, (text, dims)) in programs.into_iter().enumerate() {
        if k % 100 == 99 && std::env::var("MIXC_REPORT").is_ok() {
            eprintln!("{} programs", k + 1);
        }
        let model = match Model::from_text(&text, "systematic", Path::new("."), &[]) {
            Ok(m) => m,
            Err(e) => {
                failures.push(format!("{e}\n{text}"));
                continue;
            }
        };
        if let Err(e) = must_agree(&text, &inputs::random(&model.program, &dims, 5)) {
            let text = format!("{dims:?}: {e}");
            if std::env::var("MIXC_REPORT").is_ok() {
                eprintln!("{text}");
            }
            failures.push(text);
        }
    }
    let few: Vec<&str> = failures.iter().take(12).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} fail, among them:\n{}", failures.len(), few.join("\n"));
}

/// Whether everything is wanted, not the quick tier.
fn long() -> bool {
    std::env::var("MIXC_RANDOM").is_ok()
}

fn at(values: &[(&str, i64)]) -> DimValues {
    values.iter().map(|(n, v)| (Dim::symbol(n).as_symbol().expect("a symbol").clone(), *v)).collect()
}

/// Layers over `F[H.., T, n]`: parameters as `name shape`, results as shapes, the call. `H` stands for the heads of
/// queries and values, `G` for those of keys.
const LAYERS: &[(&str, &str, &str)] = &[
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "attention %q, %k, %v"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "attention %q, %k, %v {causal}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "attention %q, %k, %v {causal, window = 40}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "attention %q, %k, %v {causal, sink = 3, window = 70}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "attention %q, %k, %v {block = 48}"),
    ("q H,T,8; k G,7,8; v G,7,5", "H,T,5", "attention %q, %k, %v {causal}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "linear_attention %q, %k, %v {feature = elu1}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "linear_attention %q, %k, %v {feature = elu1, causal}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "linear_attention %q, %k, %v {feature = elu1, causal, normalize}"),
    ("q H,T,8; k G,T,8; v G,T,5; s H,8,5", "H,T,5 + H,8,5", "linear_attention %q, %k, %v, %s {causal, state}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "norm_attention %q, %k, %v {feature = elu1, causal}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "diag_attention %q, %k, %v {block = 16, causal}"),
    ("q H,T,8; k G,T,8; v G,T,5", "H,T,5", "diag_attention %q, %k, %v {block = 16, kernel = relu}"),
    ("q H,T,8; k G,T,8; v H,T,5; g H", "H,T,5 + H,8,5", "retention %q, %k, %v, %g {state}"),
    ("q H,T,8; k G,T,8; v H,T,5; a H,T,8", "H,T,5 + H,8,5", "gated_linear_attention %q, %k, %v, %a {state}"),
    ("q H,T,8; k G,T,8; v H,T,5; a H,T", "H,T,5", "gated_linear_attention %q, %k, %v, %a"),
    ("x H,T,5; a H,T; b G,T,8; c G,T,8; s H,8,5", "H,T,5 + H,8,5", "ssd %x, %a, %b, %c, %s {state}"),
    ("u H,T,6; d H,T,6; a 6,4; b H,T,4; c H,T,4; e 6", "H,T,6", "selective_scan %u, %d, %a, %b, %c, %e {softplus}"),
    (
        "u H,T,6; d H,T,6; a 6,4; b 6,4; c H,T,4",
        "H,T,6 + H,6,4",
        "selective_scan %u, %d, %a, %b, %c {constant_b, state}",
    ),
    ("x H,T,6; h 6,33", "H,T,6", "long_conv %x, %h"),
    ("x H,T,6; h 6,9", "H,T,6", "long_conv %x, %h {two_sided}"),
    ("x H,T,6", "H,T,6", "fourier_mix %x"),
    ("q H,T,8; k G,4,8; l G,3,8; v G,4,5; w G,3,5", "H,T,5", "tensor_attention %q, %k, %l, %v, %w"),
    ("x H,T,2; h 4,2,3; g 4,6; c 4,6; b 4", "H,T,4", "pgn %x, %h, %g, %c, %b {width = 3}"),
    ("x H,T,4", "H,T,4", "ot_route %x {k = 9, iters = 3, gamma = 0.05}"),
    ("x H,T,6; w 6,4; b 6", "H,T,6", "short_conv %x, %w, %b {causal}"),
    ("x H,T,6; w 6,3", "H,T,6", "short_conv %x, %w {dilation = 2}"),
    ("x H,T,6; w 4,3,4", "H,T-1,4", "conv1d %x, %w {before = 1, after = 1, groups = 2}"),
    ("x H,T,8", "H,T,8", "rope %x"),
    ("x H,T,6; w 6,T", "H,T,6", "long_conv %x, %w"),
];

fn layer(params: &str, results: &str, call: &str, float: &str, heads: &str, groups: &str) -> String {
    let shape = |s: &str| {
        let s = s.replace("H,", heads).replace("G,", groups);
        let s = if s == "H" { heads.trim_end_matches(',').to_string() } else { s };
        format!("{float}[{}]", s.replace(',', ", "))
    };
    let params: Vec<String> = params
        .split("; ")
        .filter_map(|p| p.split_once(' '))
        .map(|(name, s)| format!("%{name}: {}", shape(s)))
        .collect();
    let types: Vec<String> = results.split(" + ").map(shape).collect();
    let names: Vec<String> = (0..types.len()).map(|k| format!("%y{k}")).collect();
    let (types, names) = (types.join(", "), names.join(", "));
    format!(
        "dim T = 0..600\nfunc @main({}) -> ({types}) {{\n  {names} = {call}\n  return {names}\n}}\n",
        params.join(", ")
    )
}

#[test]
fn every_layer_agrees_at_every_length() {
    let (lengths, floats, heads): (&[i64], &[&str], &[(&str, &str)]) = if long() {
        (
            &[0, 1, 2, 3, 17, 37, 64, 65, 127, 300, 515],
            &["f32", "bf16", "f16"],
            &[("", ""), ("4,", "2,"), ("3,4,", "3,1,"), ("2,4,", "4,")],
        )
    } else {
        (&[0, 65], &["f32"], &[("4,", "2,")])
    };
    let mut all = Vec::new();
    for (params, results, call) in LAYERS {
        for (h, g) in heads {
            for float in floats {
                let text = layer(params, results, call, float, h, g);
                // Windows longer than the tokens are an error at the call.
                let least = if call.starts_with("conv1d") { 1 } else { 0 };
                let fits = lengths.iter().filter(|n| **n >= least);
                all.extend(fits.map(|n| (text.clone(), at(&[("T", *n)]))));
            }
        }
    }
    all_agree(all);
}

/// Square operators of 37 tokens.
const OPERATORS: &[(&str, &str)] = &[
    ("%q: f32[2, 37, 4], %k: f32[37, 4]", "gram %q, %k {scale = 0.5}"),
    ("%left: f32[2, 37, 3], %right: f32[2, 37, 3], %a: f32[2, 37]", "semiseparable %left, %right, %a"),
    ("%u: f32[2, 37], %v: f32[37]", "outer_sum %u, %v"),
    ("%h: f32[2, 9]", "toeplitz %h : mix f32[2, 37, 37]"),
    ("%h: f32[2, 9]", "toeplitz %h {two_sided} : mix f32[2, 37, 37]"),
    ("%h: f32[2, 37]", "circulant %h"),
    ("%w: f32[2, 37, 37]", "dense %w"),
    ("%left: f32[2, 37]", "diagonal %left"),
    ("", "identity : mix f32[2, 37, 37]"),
    ("", "shift {by = 5} : mix f32[2, 37, 37]"),
    ("%b: f32[2, 37, 1, 1]", "block_diagonal %b"),
    ("", "permutation {stride = 37} : mix f32[2, 37, 37]"),
    ("%left: f32[2, 1, 37, 1], %right: f32[2, 1, 1, 37]", "monarch %left, %right"),
];

/// Changes of the operator `%m`, `%o` a dense one beside it; the last statement makes `%n`.
const CHANGES: &[&str] = &[
    "%n = scale_by %m {by = 1.0}",
    "%n = mask %m {causal}",
    "%n = mask %m {window = 4, align = start}",
    "%n = softmax %m",
    "%c = mask %m {right = -1}\n  %n = softmax %c",
    "%e = map %m {fn = exp}\n  %n = row_normalize %e {eps = 0.5}",
    "%n = transpose %m",
    "%s = softmax %m\n  %n = transpose %s",
    "%n = times %m, %o",
    "%n = sum %m, %o",
    "%n = compose %m, %o",
    "%n = compose %o, %m",
    "%c = compose %m, %o\n  %n = softmax %c",
    "%n = add_diagonal %m, %t",
    "%n = top_k %m {k = 3}",
    "%c = mask_lengths %m, %l\n  %n = softmax %c",
    "%c = mask_lengths %m, %l {align}\n  %d = mask %c {causal}\n  %n = sum %d, %d",
    "%n = mask_segments %m, %g",
];

#[test]
fn every_operator_agrees_under_every_change() {
    let mut all = Vec::new();
    for (k, (params, made)) in OPERATORS.iter().enumerate() {
        for (c, change) in CHANGES.iter().enumerate() {
            // A third of them in the quick tier.
            if !long() && (k + c) % 3 != 0 {
                continue;
            }
            let first = if params.is_empty() { String::new() } else { format!("{params}, ") };
            let rest = "%p: f32[37, 37], %t: f32[37], %l: i64[2], %g: i64[37]";
            for (x, y, how) in
                [("2, 37, 5", "2, 37, 5", ""), ("37, 2", "37, 2", " {channelwise}"), ("3, 1, 37, 5", "3, 2, 37, 5", "")]
            {
                if !long() && (k + c + x.len()) % 2 != 0 {
                    continue;
                }
                let text = format!(
                    "func @main({first}{rest}, %x: f32[{x}]) -> f32[{y}] {{\n  %m = {made}\n  %o = dense %p\n  {change}\n  \
                     %y = apply %n, %x{how}\n  return %y\n}}\n"
                );
                all.push((text, at(&[])));
            }
        }
    }
    all_agree(all);
}

const CACHED: &str = "\
dim P = 0..300
dim T = 0..300
func @main(%q: f32[2, 4, T, 8], %k: f32[2, 2, T, 8], %v: f32[2, 2, T, 8], %pk: f32[2, 2, P, 8], %pv: f32[2, 2, P, 8],
           %n: i64[2], %far: f32[]) -> (f32[2, 4, T, 8], f32[2, 4, T, 8], f32[2, 4, T, 8], f32[2, 2, P+T, 8]) {
  %keys = concat %pk, %k {axis = 2}
  %values = concat %pv, %v {axis = 2}
  %y = attention %q, %keys, %values {causal}
  %large = mul %q, %far
  %s = gram %large, %keys
  %m = mask_lengths %s, %n
  %p = softmax %m
  %z = apply %p, %values
  %a = mask_lengths %s, %n {align}
  %c = mask %a {causal, window = 9}
  %r = softmax %c
  %w = apply %r, %values
  return %y, %z, %w, %keys
}
";

#[test]
fn caches_lengths_and_large_logits_agree() {
    let model = Model::from_text(CACHED, "cached", Path::new("."), &[]).expect("the program is right");
    let cases: &[(i64, i64)] = if long() {
        &[(0, 1), (0, 65), (37, 1), (300, 3), (129, 130), (5, 0), (0, 0), (256, 64)]
    } else {
        &[(0, 5), (37, 1), (129, 65)]
    };
    for (p, t) in cases {
        for lengths in [[0, 1], [p + t, p + t + 9], [-3, p / 2 + 1]] {
            let mut given = inputs::random(&model.program, &at(&[("P", *p), ("T", *t)]), 11);
            // Numbers so short that large logits come out without rounding.
            for short in &mut given[..5] {
                let rounded = short.to_f64().iter().map(|x| (x * 8.0).round() / 8.0).collect();
                *short = Tensor::floats(&short.shape, rounded).to_blob(short.dtype);
            }
            given[5] = Blob::from_i64(&[2], &lengths);
            given[6] = Blob::from_f32(&[], &[300.0]);
            if let Err(e) = must_agree(CACHED, &given) {
                panic!("P = {p}, T = {t}, n = {lengths:?}: {e}");
            }
        }
    }
}

#[test]
fn results_without_computation_agree() {
    let programs = [
        "func @main(%x: f32[3]) -> f32[3] {\n  return %x\n}\n",
        "func @main(%x: f32[3]) -> (f32[3], f32[3], f32[2, 2], f32[2, 2]) {\n  const %c = dense [[1.0, 2.0], [3.0, 4.0]] : \
         f32[2, 2]\n  return %x, %x, %c, %c\n}\n",
        "func @main(%x: f32[3]) -> (f32[6], f32[6], bf16[6]) {\n  %y = concat %x, %x {axis = 0}\n  %z = cast %y {to = \
         bf16}\n  return %y, %y, %z\n}\n",
        "func @main(%x: f32[0, 3]) -> (f32[0, 3], f32[3], f32[0, 64]) {\n  %s = reduce %x {op = sum, axis = 0}\n  const %w = \
         splat 1.0 : f32[64, 3]\n  %y = linear %x, %w\n  return %x, %s, %y\n}\n",
    ];
    all_agree(programs.map(|p| (p.to_string(), at(&[]))));
}

#[test]
fn ids_out_of_range_are_an_error() {
    let text = "func @main(%t: f32[7, 3], %i: i64[4]) -> f32[4, 3] {\n  %y = gather %t, %i\n  return %y\n}\n";
    let model = Model::from_text(text, "gather", Path::new("."), &[]).expect("the program is right");
    let runner = model.compile(&mixc::Target::native().expect("native"), &mixc::Request::default()).expect("compiles");
    let table = Blob::zeros(mixc::ir::dtype::DType::F32, &[7, 3]);
    for ids in [[0, 1, 7, 2], [0, -1, 1, 1], [i64::MAX, 0, 0, 0], [0, 0, 0, i64::MIN]] {
        assert!(runner.run(&[table.clone(), Blob::from_i64(&[4], &ids)], 1).is_err(), "{ids:?}");
    }
    assert!(runner.run(&[table, Blob::from_i64(&[4], &[0, 6, 3, 2])], 1).is_ok());
}
