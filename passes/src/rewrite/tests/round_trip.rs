//! Programs that no rule changes come back as they were.

use super::super::{RewriteSettings, Rules, rewrite_with};
use super::{program, text};

const PROGRAMS: [&str; 4] = [
    "\
dim T = 1..64
func @main(%q: f32[4, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> f32[4, T, 8] {
  %m = gram %q, %k {scale = 0.5}
  %c = mask %m {causal}
  %p = softmax %c
  %y = apply %p, %v
  return %y
}
",
    // A barrier between two regions, an operator that both use, a constant, and two results.
    "\
dim T = 1..64
func @main(%q: f32[T, 8], %k: f32[T, 8], %v: f32[T, 8], %w: f32[8, 8]) -> (f32[T, 8], f32[T, 8]) {
  const %c = splat 0.25 : f32[]
  %m = gram %q, %k
  %s = soft_cap %m {cap = 3.0}
  %p = softmax %s
  %y = apply %p, %v
  %g = gelu %y
  %h = linear %g, %w
  %u = apply %p, %h
  %z = mul %u, %c
  return %z, %y
}
",
    // Several results of one node, written types, attributes that are dims.
    "\
dim T = 1..64
func @main(%x: f32[T, 8]) -> f32[T, 4] {
  %a, %b = split %x {axis = -1, sizes = [4, 4]}
  %i = identity : mix f32[T, T]
  %m = gram %a, %b
  %w = mask %m {right = T, left = 3}
  %s = sum %i, %w
  %y = apply %s, %a
  return %y
}
",
    // Nothing to rewrite.
    "\
func @main(%x: f32[3, 8]) -> f32[3, 8] {
  %y = relu %x
  return %y
}
",
];

#[test]
fn programs_without_rules_come_back_unchanged() {
    let none = Rules::new(&[]).unwrap();
    for source in PROGRAMS {
        let p = program(source);
        let r = rewrite_with(&none, &p, &RewriteSettings::default(), &|_| Some(1.0));
        let (before, after) = (text(&p), text(&r.program));
        assert_eq!(before, after);
        assert!(r.rules.is_empty() && r.saturated);
        for v in &r.program.values {
            let old = p.values.iter().find(|o| o.name == v.name).unwrap();
            assert_eq!((&old.structure, old.ty.dims()), (&v.structure, v.ty.dims()), "{}", v.name);
        }
    }
}

#[test]
fn spans_are_kept() {
    let p = program(PROGRAMS[1]);
    let none = Rules::new(&[]).unwrap();
    let r = rewrite_with(&none, &p, &RewriteSettings::default(), &|_| Some(1.0));
    for node in &r.program.nodes {
        let name = r.program.name_of(node.results[0]);
        let old = p.nodes.iter().find(|n| p.name_of(n.results[0]) == name).unwrap();
        assert_eq!(old.span, node.span, "{name}");
    }
}
