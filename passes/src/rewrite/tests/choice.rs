//! What is chosen by cost, and what is told about it.

use super::super::{
    AppliedRule, Exactness, RewriteSettings, Rewritten, Rule, Rules, expand_layers, rewrite, rewrite_with,
};
use super::random::Rng;
use super::{program, text};
use mixc_ir::attr::Attrs;
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::program::{Program, ValueId};
use mixc_ir::reference::{Weights, interpret};
use mixc_ir::tensor::Tensor;
use mixc_ir::ty::Type;
use std::collections::BTreeMap;

/// Multiplications of a program in which every operation stands for one plain algorithm, at some T.
fn products(program: &Program, tokens: i64) -> Option<f64> {
    let dims: DimValues = program.dims.iter().map(|d| (d.name.clone(), tokens)).collect();
    let size = |ty: &Type| ty.dims().iter().map(|d| d.eval(&dims).map(|n| n as f64)).product::<Result<f64, _>>().ok();
    let mut total = 0.0;
    for node in &program.nodes {
        let operand = |k: usize| node.operands.get(k).copied().flatten().map(|v: ValueId| program.ty(v));
        let last = |k: usize| Some(operand(k)?.dims().last()?.eval(&dims).ok()? as f64);
        let out = size(program.ty(node.results[0]))?;
        total += match node.op_name().unwrap_or("const") {
            "const" => 0.0,
            "matmul" if node.attrs.flag("transpose_a") => out * size(operand(0)?)? / last(0)?,
            "matmul" | "linear" => out * last(0)?,
            "gram" => out * last(0)?,
            // A scan works on its states only.
            "semiseparable" => 8.0 * size(operand(0)?)?,
            "apply" => match program.nodes.iter().find(|n| n.results.first() == node.operands[0].as_ref()) {
                Some(m) if m.op_name() == Some("semiseparable") => out * 8.0,
                _ => size(operand(0)?)? * last(1)?,
            },
            _ => out,
        };
    }
    Some(total)
}

fn run(source: &str, tokens: i64) -> Rewritten {
    let p = expand_layers(&program(source), &|_| false);
    let r = rewrite(&p, &RewriteSettings::default(), &|p| products(p, tokens));
    for c in &r.candidates {
        agree(&p, &c.program);
    }
    r
}

/// Both programs give the same on random data.
fn agree(a: &Program, b: &Program) {
    let mut rng = Rng::new(7);
    for tokens in [1, 3, 5] {
        let dims: DimValues = a.dims.iter().map(|d| (d.name.clone(), tokens.max(d.low))).collect();
        let Some(inputs) = a.params.iter().map(|v| data(a.ty(*v), &dims, &mut rng)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let run = |p: &Program| interpret(p, &dims, &inputs, &Weights::new());
        // An example need not fit every length; the rewritten one then does not fit either.
        let Ok(expected) = run(a) else { continue };
        let found = run(b).unwrap_or_else(|e| panic!("{e}\n{}\n{}", text(a), text(b)));
        for (x, y) in expected.iter().zip(found) {
            assert_eq!(x.shape, y.shape);
            for k in 0..x.len() {
                let (p, q) = (x.at(k), y.at(k));
                let close = (p - q).abs() <= 1e-6 * p.abs().max(1.0) || p.is_nan() && q.is_nan() || p == q;
                assert!(close, "{p} {q}\n{}\n{}", text(a), text(b));
            }
        }
    }
}

/// Random elements of a type; `None` where it has no length at these dims.
fn data(ty: &Type, dims: &DimValues, rng: &mut Rng) -> Option<Tensor> {
    let shape = ty.dims().iter().map(|d| usize::try_from(d.eval(dims).ok()?).ok()).collect::<Option<Vec<_>>>()?;
    let n = shape.iter().product();
    Some(match ty.dtype() {
        DType::Bool => Tensor::bools(&shape, (0..n).map(|_| rng.chance(60)).collect()),
        d if d.is_int() => Tensor::ints(&shape, (0..n).map(|_| rng.below(3) as i64).collect()),
        d => Tensor::floats(&shape, (0..n).map(|_| d.round(rng.real())).collect()),
    })
}

fn ops(p: &Program) -> Vec<&'static str> {
    p.nodes.iter().filter_map(|n| n.op_name()).collect()
}

fn names(rules: &[AppliedRule]) -> Vec<&str> {
    rules.iter().map(|r| r.rule.as_str()).collect()
}

const PLAIN: &str = "\
dim T = 1..8192
func @main(%q: f32[T, 64], %k: f32[T, 64], %v: f32[T, 64]) -> f32[T, 64] {
  %m = gram %q, %k {scale = 0.5}
  %y = apply %m, %v
  return %y
}
";

#[test]
fn products_without_a_softmax_take_the_cheaper_order() {
    let long = run(PLAIN, 4096);
    assert_eq!(ops(&long.program), ["matmul", "mul", "matmul"], "{}", text(&long.program));
    assert_eq!(names(&long.rules), ["scaled-gram-to-the-right"]);
    assert_eq!((long.rules[0].site.as_str(), &long.rules[0].exactness), ("y", &Exactness::Exact));
    let short = run(PLAIN, 16);
    assert_eq!(ops(&short.program), ["gram", "apply"], "{}", text(&short.program));
    assert!(short.rules.is_empty() && short.saturated);
    // The other order is still there to be measured, and the result keeps its name.
    assert!(short.candidates.iter().any(|c| ops(&c.program) == ["matmul", "mul", "matmul"]));
    assert_eq!(long.program.name_of(long.program.results[0]), "y");
    assert!(long.candidates.windows(2).all(|c| c[0].cost <= c[1].cost));
}

#[test]
fn written_products_find_the_same() {
    let source = "\
dim T = 1..8192
func @main(%q: f32[T, 64], %k: f32[T, 64], %v: f32[T, 64]) -> f32[T, 64] {
  %s = matmul %q, %k {transpose_b}
  %y = matmul %s, %v
  return %y
}
";
    let long = run(source, 4096);
    assert_eq!(ops(&long.program), ["matmul", "matmul"], "{}", text(&long.program));
    assert!(long.program.nodes[0].attrs.flag("transpose_a"));
    assert_eq!(names(&long.rules), ["scores-product-is-gram", "gram-to-the-right"]);
}

#[test]
fn causal_linear_attention_scans() {
    let source = "\
dim T = 1..8192
func @main(%q: f32[2, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> f32[2, T, 8] {
  %y = linear_attention %q, %k, %v {causal, feature = elu1}
  return %y
}
";
    let long = run(source, 4096);
    assert!(ops(&long.program).contains(&"semiseparable"), "{}", text(&long.program));
    assert!(names(&long.rules).contains(&"causal-gram-scans"), "{:?}", long.rules);
}

#[test]
fn decays_scan_whatever_their_sign() {
    let source = |g: &str| {
        format!(
            "\
dim T = 1..8192
func @main(%q: f32[2, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8], %x: f32[2]) -> f32[2, T, 8] {{
  {g}
  %m = gram %q, %k
  %c = mask %m {{causal}}
  %d = decay %c, %g
  %y = apply %d, %v
  return %y
}}
"
        )
    };
    for (g, positive) in
        [("%g = sigmoid %x", true), ("const %g = splat 0.9 : f32[2]", true), ("%g = mul %x, %x", false)]
    {
        let long = run(&source(g), 4096);
        let found = ops(&long.program);
        let scans = found.contains(&"semiseparable") && !found.contains(&"decay");
        assert!(scans, "{g}\n{}", text(&long.program));
        // Only a decay that may be negative needs its sign apart.
        assert_eq!(found.contains(&"sign"), !positive, "{g}\n{}", text(&long.program));
    }
}

#[test]
fn a_composition_with_structure_is_applied_in_two_steps() {
    let source = "\
dim T = 1..64
func @main(%w: f32[T, T], %h: f32[T], %x: f32[T, 4]) -> f32[T, 4] {
  %a = dense %w
  %b = toeplitz %h
  %i = identity : mix f32[T, T]
  %s = sum %i, %b
  %c = compose %a, %s
  %y = apply %c, %x
  return %y
}
";
    let r = run(source, 16);
    assert!(names(&r.rules).contains(&"apply-composition"), "{:?}", r.rules);
    assert!(!ops(&r.program).contains(&"compose"), "{}", text(&r.program));
}

#[test]
fn what_is_linear_is_factored() {
    let source = "\
dim T = 1..64
func @main(%q: f32[T, 8], %k: f32[T, 8], %v: f32[T, 8], %w: f32[T, 8]) -> f32[T, 8] {
  %m = gram %q, %k
  %p = softmax %m
  %a = apply %p, %v
  %b = apply %p, %w
  %y = add %a, %b
  return %y
}
";
    let r = run(source, 64);
    assert_eq!(ops(&r.program), ["gram", "softmax", "add", "apply"], "{}", text(&r.program));
    assert_eq!(names(&r.rules), ["apply-of-add-in-x"]);
}

fn encoder(layers: usize) -> String {
    let mut body = String::new();
    let mut x = "x".to_string();
    for l in 0..layers {
        let lines = [
            format!("%q{l} = linear %{x}, %wq{l}, %b{l}"),
            format!("%k{l} = linear %{x}, %wk{l}, %b{l}"),
            format!("%v{l} = linear %{x}, %wv{l}, %b{l}"),
            format!("%qh{l} = split_heads %q{l} {{heads = 12}}"),
            format!("%kh{l} = split_heads %k{l} {{heads = 12}}"),
            format!("%vh{l} = split_heads %v{l} {{heads = 12}}"),
            format!("%a{l} = attention %qh{l}, %kh{l}, %vh{l} {{causal}}"),
            format!("%m{l} = merge_heads %a{l}"),
            format!("%o{l} = linear %m{l}, %wo{l}, %b{l}"),
            format!("%r{l} = add %{x}, %o{l}"),
            format!("%n{l} = layer_norm %r{l}"),
            format!("%f{l} = linear %n{l}, %wf{l}"),
            format!("%g{l} = gelu %f{l}"),
            format!("%h{l} = linear %g{l}, %wg{l}"),
            format!("%s{l} = add %n{l}, %h{l}"),
            format!("%x{l} = layer_norm %s{l}"),
        ];
        body.extend(lines.iter().map(|line| format!("  {line}\n")));
        x = format!("x{l}");
    }
    let square = |n: &str, l: usize| format!(", %{n}{l}: f32[384, 384]");
    let params: String = (0..layers)
        .map(|l| {
            ["wq", "wk", "wv", "wo"].iter().map(|n| square(n, l)).collect::<String>()
                + &format!(", %wf{l}: f32[1536, 384], %wg{l}: f32[384, 1536], %b{l}: f32[384]")
        })
        .collect();
    format!("dim T = 1..512\nfunc @main(%x: f32[T, 384]{params}) -> f32[T, 384] {{\n{body}  return %{x}\n}}\n")
}

#[test]
fn equal_layers_are_solved_once_and_keep_their_names() {
    let p = expand_layers(&program(&encoder(6)), &|_| false);
    let asked = std::cell::Cell::new(0);
    let cost = |p: &Program| {
        asked.set(asked.get() + 1);
        products(p, 128)
    };
    let r = rewrite(&p, &RewriteSettings::default(), &cost);
    assert_eq!(r.regions, (6, 1));
    assert!(r.saturated && r.nodes < 500, "{} nodes", r.nodes);
    assert!(asked.get() <= 4, "{} programs were costed", asked.get());
    for l in 0..6 {
        for name in ["a", "m", "o", "r", "x"] {
            let name = format!("{name}{l}");
            assert_eq!(r.program.values.iter().filter(|v| v.name == name).count(), 1, "{name}\n{}", text(&r.program));
        }
    }
    assert_eq!(ops(&r.program).iter().filter(|n| **n == "softmax").count(), 6);
    // No operation is done twice, and none is lost.
    assert_eq!(r.program.nodes.len(), p.nodes.len(), "{}", text(&r.program));
}

#[test]
fn equal_inputs_give_equal_outputs() {
    for source in [PLAIN, &encoder(2)] {
        let (a, b) = (run_once(source), run_once(source));
        assert_eq!(a, b);
    }
}

fn run_once(source: &str) -> Vec<(String, Option<f64>, Vec<AppliedRule>)> {
    let p = expand_layers(&program(source), &|_| false);
    let r = rewrite(&p, &RewriteSettings::default(), &|p| products(p, 256));
    r.candidates.into_iter().map(|c| (text(&c.program), c.cost, c.rules)).collect()
}

#[test]
fn approximations_are_used_only_when_allowed_and_say_so() {
    let rule = Rule::approximate("halved", "softmax-skipped", "(softmax ?m)", "?m", "?k = allowed(halved, k)");
    let rules = Rules::new(&[rule]).unwrap();
    let source = "\
func @main(%q: f32[5, 4], %k: f32[5, 4], %v: f32[5, 3]) -> f32[5, 3] {
  %m = gram %q, %k
  %p = softmax %m
  %y = apply %p, %v
  return %y
}
";
    let p = program(source);
    let cost = |p: &Program| Some(p.nodes.len() as f64);
    let kept = rewrite_with(&rules, &p, &RewriteSettings::default(), &cost);
    assert_eq!(ops(&kept.program), ["gram", "softmax", "apply"]);
    assert_eq!(kept.candidates.len(), 1);
    let approximations = BTreeMap::from([("halved".to_string(), Attrs::new().with_int("k", 1))]);
    let settings = RewriteSettings { approximations, ..RewriteSettings::default() };
    let changed = rewrite_with(&rules, &p, &settings, &cost);
    assert_eq!(ops(&changed.program), ["gram", "apply"]);
    let [applied] = changed.rules.as_slice() else { panic!("{:?}", changed.rules) };
    assert_eq!((applied.rule.as_str(), applied.site.as_str()), ("softmax-skipped", "y"));
    assert_eq!(applied.exactness, Exactness::Approximate("halved".into()));
}

#[test]
fn hip_is_used_for_causal_attention_when_it_is_allowed() {
    let source = "\
dim T = 1..8192
func @main(%q: f32[2, T, 16], %k: f32[2, T, 16], %v: f32[2, T, 16]) -> f32[2, T, 16] {
  %y = attention %q, %k, %v {causal}
  return %y
}
";
    let p = expand_layers(&program(source), &|_| false);
    // A search is cheaper than all scores.
    let cost = |p: &Program| Some(if ops(p).contains(&"top_k_tree") { 1.0 } else { 2.0 });
    assert!(!ops(&rewrite(&p, &RewriteSettings::default(), &cost).program).contains(&"top_k_tree"));
    let approximations = BTreeMap::from([("hip".to_string(), Attrs::new().with_int("k", 512))]);
    let settings = RewriteSettings { approximations, ..RewriteSettings::default() };
    let found = rewrite(&p, &settings, &cost);
    let tree = found.program.nodes.iter().find(|n| n.op_name() == Some("top_k_tree")).unwrap();
    assert_eq!(tree.attrs.int("k"), Some(512));
    assert!(found.rules.iter().any(|r| r.exactness == Exactness::Approximate("hip".into())));
    // The exact program stays among the candidates, and needs no approximation.
    assert!(found.candidates.iter().any(|c| c.rules.iter().all(|r| r.exactness == Exactness::Exact)));
}

#[test]
fn rules_that_grow_without_end_stop_at_the_limits() {
    let grow = Rule::equal("grow", "(neg ?x)", "(neg (sub (add ?x ?x) ?x))", "");
    let swap = Rule::canonical("swap", "(add ?x ?y)", "(add ?y ?x)", "");
    let rules = Rules::new(&[grow, swap]).unwrap();
    let source = "\
func @main(%x: f32[5, 4], %w: f32[5, 5]) -> f32[5, 4] {
  %n = neg %x
  %m = dense %w
  %a = apply %m, %n
  %y = add %a, %x
  return %y
}
";
    let settings = RewriteSettings { node_limit: 200, ..RewriteSettings::default() };
    let r = rewrite_with(&rules, &program(source), &settings, &|p| Some(p.nodes.len() as f64));
    assert!(!r.saturated && r.nodes <= 220, "{}", r.nodes);
    agree(&program(source), &r.program);
}

#[test]
fn programs_that_cannot_be_lowered_are_left_as_written() {
    let p = program(PLAIN);
    let r = rewrite(&p, &RewriteSettings::default(), &|_| None);
    assert_eq!(text(&r.program), text(&p));
    assert_eq!(r.candidates[0].cost, None);
}

#[test]
fn every_way_to_compute_every_example_gives_the_same() {
    // Costs by a hash of the program prefer something else every time, so that all rules get their turn.
    for op in mixc_ir::ops::all() {
        let p = expand_layers(&program(op.example), &|_| false);
        for salt in 0..3u64 {
            let cost = |p: &Program| {
                let hash = text(p).bytes().fold(salt, |h, b| Rng::new(h ^ u64::from(b)).next());
                Some((hash % 1000) as f64)
            };
            let r = rewrite(&p, &RewriteSettings::default(), &cost);
            for c in &r.candidates {
                agree(&p, &c.program);
            }
        }
    }
}
