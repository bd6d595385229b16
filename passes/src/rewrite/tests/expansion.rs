//! Layers and their definitions.

use super::super::expand_layers;
use super::{program, text};

const SOURCE: &str = "\
dim T = 1..64
func @main(%q: f32[2, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> (f32[2, T, 8], f32[2, T, 8]) {
  %y = attention %q, %k, %v {causal}
  %z = retention %q, %k, %y, %g
  %w = norm_attention %q, %y, %v
  return %w, %z
}
";

fn source() -> String {
    SOURCE.replace("%v: f32[2, T, 8])", "%v: f32[2, T, 8], %g: f32[2])")
}

#[test]
fn nothing_with_a_definition_is_left() {
    let p = expand_layers(&program(&source()), &|_| false);
    for node in &p.nodes {
        if let mixc_ir::program::NodeKind::Op(op) = node.kind {
            assert!(op.expand.is_none(), "{}\n{}", op.name, text(&p));
        }
    }
    let mut names: Vec<&str> = p.values.iter().map(|v| v.name.as_str()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(all, names.len(), "{}", text(&p));
    let of = |k: usize| p.name_of(p.results[k]);
    assert_eq!((of(0), of(1)), ("w", "z"));
    assert!(text(&p).contains("%y = apply %y."), "{}", text(&p));
}

#[test]
fn kept_layers_stay_and_spans_are_those_of_the_layer() {
    let before = program(&source());
    let p = expand_layers(&before, &|op| op.name == "retention");
    assert!(p.nodes.iter().any(|n| n.op_name() == Some("retention")));
    assert!(p.nodes.iter().all(|n| n.op_name() != Some("attention")));
    let span = |p: &mixc_ir::program::Program, name: &str| {
        p.nodes.iter().find(|n| n.results.iter().any(|r| p.name_of(*r) == name)).unwrap().span
    };
    assert_eq!(span(&p, "y"), span(&before, "y"));
    assert_eq!(span(&p, "y.1"), span(&before, "y"));
    let kept = expand_layers(&before, &|_| true);
    assert_eq!(text(&kept), text(&before));
}

#[test]
fn every_layer_of_the_catalogue_expands_and_computes_the_same() {
    for op in mixc_ir::ops::all().filter(|op| op.expand.is_some()) {
        let p = program(op.example);
        let q = expand_layers(&p, &|_| false);
        assert!(q.nodes.iter().all(|n| n.op_name() != Some(op.name)), "{}\n{}", op.name, text(&q));
        assert_eq!(p.results.len(), q.results.len());
        for (a, b) in p.results.iter().zip(&q.results) {
            assert_eq!(p.ty(*a), q.ty(*b), "{}", op.name);
        }
    }
}
