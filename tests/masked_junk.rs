//! What a mask of lengths or padding leaves out may hold anything: a cache past its length is uninitialised memory.

use mixc::ir::dim::DimValues;
use mixc::ir::reference::{Weights, interpret};
use mixc::ir::tensor::{Blob, Tensor};
use mixc::{Model, Request, Runner, Target, inputs};
use std::path::Path;

/// Operator and application over q, k, v `[2, 3, T|S, n]`, lengths n `[2]`, padding p `[2, 1, 1, S]`, elements w
/// `[2, 3, 5, T, S]` and log decays g `[2, 3, T]`.
const PROGRAMS: &[&str] = &[
    "%m = gram %q, %k {scale = 0.3}\n  %c = mask_lengths %m, %n\n  %a = softmax %c\n  %y = apply %a, %v",
    "%m = gram %q, %k {scale = 0.3}\n  %c = mask_lengths %m, %n {align}\n  %d = mask %c {causal}\n  %a = softmax %d\n  \
     %y = apply %a, %v",
    "%m = gram %q, %k {scale = 0.3}\n  %c = mask_lengths %m, %n {align}\n  %d = mask %c {causal, sink = 2, window = 9}\n  \
     %a = softmax %d\n  %y = apply %a, %v",
    "%m = gram %q, %k {scale = 0.3}\n  %b = alibi %m, %h\n  %c = mask_lengths %b, %n\n  %a = softmax %c\n  \
     %y = apply %a, %v",
    "%y = attention %q, %k, %v, %p",
    "%y = attention %q, %k, %v, %p {causal, align = start}",
    "%m = gram %q, %k\n  %c = mask_with %m, %p\n  %y = apply %c, %v",
    "%m = gram %q, %k\n  %c = mask_lengths %m, %n\n  %y = apply %c, %v",
    "%m = gram %q, %k\n  %e = map %m {fn = relu}\n  %c = mask_lengths %e, %n\n  %a = row_normalize %c {eps = 0.5}\n  \
     %y = apply %a, %v",
    "%m = gram %q, %k\n  %c = mask_lengths %m, %n {align}\n  %d = mask %c {causal}\n  %e = decay %d, %h\n  \
     %y = apply %e, %v",
    "%m = gram %q, %k\n  %c = mask_lengths %m, %n\n  %t = top_k %c {k = 5}\n  %a = softmax %t\n  %y = apply %a, %v",
    "%m = gram %q, %k\n  %c = mask_lengths %m, %n\n  %s = softmax %c\n  %i = compose %s, %u\n  %y = apply %i, %v",
    "%m = dense %w\n  %c = mask_lengths %m, %n\n  %a = softmax %c\n  %y = apply %a, %v {channelwise}",
    "%m = dense %w\n  %c = mask_lengths %m, %n\n  %y = apply %c, %v {channelwise}",
];

/// The same where there are as many keys as queries.
const SQUARE: &[&str] = &[
    "%m = semiseparable %q, %k, %g\n  %c = mask_lengths %m, %n\n  %y = apply %c, %v",
    "%m = semiseparable %q, %k, %g\n  %c = mask_lengths %m, %n\n  %s = softmax %c\n  %y = apply %s, %v",
];

/// Rows of k and v (and of `u`) that no query may see become NaN, infinity or huge.
fn spoil(blob: &mut Blob, hidden: impl Fn(usize, usize) -> bool, state: &mut u64) {
    let (batch, rows, width) = (blob.shape[0], blob.shape[blob.shape.len() - 2], blob.shape[blob.shape.len() - 1]);
    let heads = blob.bytes.len() / 4 / (batch * rows * width).max(1);
    for (n, bytes) in blob.bytes.chunks_exact_mut(4).enumerate() {
        let (b, j) = (n / width / rows / heads.max(1), n / width % rows);
        if hidden(b, j) {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let junk = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38][(*state >> 40) as usize % 4];
            bytes.copy_from_slice(&junk.to_le_bytes());
        }
    }
}

fn runs(body: &str, t: i64, s: i64, lengths: [i64; 2]) -> Result<(), String> {
    let square = SQUARE.contains(&body);
    let text = format!(
        "dim T = 0..400\ndim S = 0..400\n\nfunc @main(%q: f32[2, 3, T, 8], %k: f32[2, 3, S, 8], %v: f32[2, 3, S, 5], \
         %n: i64[2], %p: bool[2, 1, 1, S], %h: f32[3], %w: f32[2, 3, 5, T, S], %g: f32[2, 3, T]) -> f32[2, 3, T, 5] {{\n  %u = identity : mix f32[S, S]\n  \
         {body}\n  return %y\n}}\n"
    );
    let text = if body.contains("%u") { text } else { text.replace("  %u = identity : mix f32[S, S]\n", "") };
    let text =
        if square { text.replace("dim S = 0..400\n", "").replace("S]", "T]").replace("S, ", "T, ") } else { text };
    let model = Model::from_text(&text, "junk", Path::new("."), &[]).map_err(|e| format!("{e}\n{text}"))?;
    let dims: DimValues = [("T", t), ("S", s)].iter().map(|(name, n)| ((*name).into(), *n)).collect();
    let mut all = inputs::random(&model.program, &dims, 3);
    for (at, n) in lengths.iter().enumerate() {
        all[3].bytes[8 * at..8 * at + 8].copy_from_slice(&n.to_le_bytes());
        for j in 0..s {
            all[4].bytes[at * s as usize + j as usize] = u8::from(j < *n);
        }
    }
    for bytes in all[7].bytes.chunks_exact_mut(4) {
        // Log decays: at most 0.
        bytes[3] |= 0x80;
    }
    let mut state = 1;
    for k in [1, 2] {
        spoil(&mut all[k], |b, j| j as i64 >= lengths[b], &mut state);
    }
    let wide: Vec<Tensor> = all.iter().map(Blob::to_tensor).collect();
    let want = interpret(&model.program, &dims, &wide, &Weights::new()).map_err(|e| format!("{e:?}\n{text}"))?;
    let target = Target::native().map_err(|e| e.to_string())?;
    let runner = Runner::new(&model, &target, &Request::default()).map_err(|e| format!("{e}\n{text}"))?;
    let got = runner.run(&all, 1).map_err(|e| format!("{e}\n{text}"))?;
    for (got, want) in got.iter().map(Blob::to_tensor).zip(&want) {
        let most = (0..want.len()).map(|n| want.at(n).abs()).fold(0.0, f64::max);
        for n in 0..want.len() {
            let (g, w) = (got.at(n), want.at(n));
            let close = (g - w).abs() <= 2e-5 * most.max(1e-3);
            if !w.is_finite() || !close {
                return Err(format!("{n}: {g} for {w}, T={t} S={s} n={lengths:?}\n{text}"));
            }
        }
    }
    Ok(())
}

#[test]
fn what_lengths_and_padding_leave_out_is_never_read() {
    let mut failures = Vec::new();
    for body in PROGRAMS {
        for (t, s, lengths) in [
            (1, 1, [0, 1]),
            (1, 37, [5, 37]),
            (37, 37, [31, 1]),
            (3, 300, [257, 299]),
            (67, 301, [0, 256]),
            (131, 131, [130, 65]),
        ] {
            failures.extend(runs(body, t, s, lengths).err());
        }
    }
    for body in SQUARE {
        for (t, lengths) in [(1, [0, 1]), (37, [31, 1]), (131, [130, 65])] {
            failures.extend(runs(body, t, t, lengths).err());
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail, among them:\n{}",
        failures.len(),
        failures[..failures.len().min(8)].join("\n")
    );
}
