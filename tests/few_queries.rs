//! Few queries against many keys, a token against a cache above all: a model that is compiled once for all lengths has
//! code of its own for them, which must agree with the reference as the rest does.

use mixc::ir::dim::DimValues;
use mixc::ir::reference::{Weights, interpret};
use mixc::ir::tensor::{Blob, Tensor};
use mixc::{Model, Request, Runner, Target, inputs};
use std::path::Path;

/// Heads of queries and of keys, features, and what is computed of q, k, v and the lengths n.
const MODELS: &[([usize; 3], &str)] = &[
    ([2, 2, 64], "%y = attention %q, %k, %v"),
    ([2, 2, 5], "%y = attention %q, %k, %v {causal}"),
    ([4, 1, 16], "%y = attention %q, %k, %v {causal, window = 300, sink = 3}"),
    (
        [6, 3, 33],
        "%m = gram %q, %k {scale = 0.3}\n  %c = mask_lengths %m, %n {align}\n  %d = mask %c {causal}\n  \
         %a = softmax %d\n  %y = apply %a, %v",
    ),
    ([2, 2, 17], "%m = gram %q, %k\n  %c = mask_lengths %m, %n\n  %y = apply %c, %v"),
];

/// Around one query, half a vector of them and a block of them; keys around the blocks of keys.
const LENGTHS: &[(i64, i64)] =
    &[(1, 1), (1, 7), (1, 530), (2, 257), (3, 300), (5, 64), (8, 511), (9, 300), (17, 40), (65, 65), (1, 1300)];

fn agrees(text: &str, runner: &Runner, program: &mixc::ir::program::Program, (q, s): (i64, i64)) -> Result<(), String> {
    let dims: DimValues = [("Q", q), ("S", s)].iter().map(|(name, n)| ((*name).into(), *n)).collect();
    let mut all = inputs::random(program, &dims, 5);
    let lengths = [s, (s + 1) / 2];
    all[3].bytes = lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
    let wide: Vec<Tensor> = all.iter().map(Blob::to_tensor).collect();
    let want = interpret(program, &dims, &wide, &Weights::new()).map_err(|e| format!("{e:?}\n{text}"))?;
    let got = runner.run(&all, 1).map_err(|e| format!("{e}\n{text}"))?;
    let tolerance = match got[0].dtype.bytes() {
        2 => 1.6e-2,
        _ => 2e-5,
    };
    let (got, want) = (got[0].to_tensor(), &want[0]);
    let most = (0..want.len()).map(|n| want.at(n).abs()).fold(1e-3, f64::max);
    match (0..want.len())
        .find(|n| (got.at(*n) - want.at(*n)).abs().partial_cmp(&(tolerance * most)).is_none_or(|o| o.is_gt()))
    {
        Some(n) => Err(format!("{n}: {} for {}, Q={q} S={s}\n{text}", got.at(n), want.at(n))),
        None => Ok(()),
    }
}

fn check(target: &Target, forms: &[&str], dtypes: &[&str], lengths: &[(i64, i64)]) {
    let mut failures = Vec::new();
    for ([heads, key_heads, width], body) in MODELS {
        for dtype in dtypes {
            let text = format!(
                "dim Q = 1..4096\ndim S = 1..65536\nfunc @main(%q: {dtype}[2, {heads}, Q, {width}], \
                 %k: {dtype}[2, {key_heads}, S, {width}], %v: {dtype}[2, {key_heads}, S, {width}], %n: i64[2]) -> \
                 {dtype}[2, {heads}, Q, {width}] {{\n  {body}\n  return %y\n}}\n"
            );
            // Grouped heads are a layer's; operators of them are written with the axis of groups.
            let text = match body.starts_with("%y") || heads == key_heads {
                true => text,
                false => text
                    .replace(&format!("[2, {heads}, "), &format!("[2, {key_heads}, {}, ", heads / key_heads))
                    .replace(&format!("[2, {key_heads}, S"), &format!("[2, {key_heads}, 1, S")),
            };
            let model = Model::from_text(&text, "few", Path::new("."), &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
            for form in forms {
                let request = Request { force_form: Some((*form).to_string()), ..Request::default() };
                let runner = Runner::new(&model, target, &request).unwrap_or_else(|e| panic!("{e}\n{text}"));
                for at in lengths {
                    failures.extend(agrees(&text, &runner, &model.program, *at).err().map(|e| format!("{form} {e}")));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail, among them:\n{}",
        failures.len(),
        failures[..failures.len().min(4)].join("\n")
    );
}

#[test]
fn few_queries_agree_with_the_reference() {
    let forms = ["flash", "split_keys", "blocked"];
    check(&Target::native().unwrap(), &forms, &["f32", "bf16"], LENGTHS);
    check(&Target::native().unwrap(), &["flash"], &["f16"], LENGTHS);
}

#[test]
fn few_queries_agree_on_narrower_vectors() {
    check(&Target::parse("x86-64-v3").unwrap(), &["flash"], &["f32", "f16"], LENGTHS);
    check(&Target::parse("x86-64").unwrap(), &["flash"], &["f32"], LENGTHS);
}

#[test]
fn few_queries_agree_in_the_emulator() {
    check(&Target::parse("cuda:emu").unwrap(), &["flash"], &["f32", "bf16"], &[(1, 300), (5, 40)]);
}
