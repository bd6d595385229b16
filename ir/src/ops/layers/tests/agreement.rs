//! The expansion is the layer.

use super::{cases, d, distance, has_both};
use crate::dim::Dim;
use std::collections::BTreeSet;

/// Of the greatest value of a result.
const TOLERANCE: f64 = 1e-12;

#[test]
fn every_expansion_agrees_with_the_layers_own_loop() {
    let mut seen = BTreeSet::new();
    for tokens in [0usize, 1, 2, 7, 13] {
        for t in [Dim::symbol("T"), d(tokens as i64)] {
            for (n, case) in cases(&t).into_iter().enumerate().filter(|(_, c)| has_both(c.op)) {
                seen.insert(case.op.name);
                let inputs = case.inputs(tokens, n as u64 + 1000 * tokens as u64);
                let (own, expanded) = (case.run(false, tokens, &inputs), case.run(true, tokens, &inputs));
                assert_eq!(own.len(), expanded.len());
                for (k, (a, b)) in expanded.iter().zip(&own).enumerate() {
                    let far = distance(a, b);
                    assert!(far <= TOLERANCE, "{} at T = {tokens}, result {k}: {far:e}", case.describe());
                }
            }
        }
    }
    let unseen: Vec<&str> =
        super::super::ALL.iter().filter(|op| has_both(op) && !seen.contains(op.name)).map(|op| op.name).collect();
    assert!(unseen.is_empty(), "layers without a case: {unseen:?}");
}

#[test]
fn a_wrong_expansion_is_seen() {
    let t = Dim::symbol("T");
    let case = cases(&t).into_iter().find(|c| c.op.name == "ssd").expect("a case of the layer");
    let inputs = case.inputs(5, 1);
    let own = case.run(false, 5, &inputs);
    let mut other = inputs.clone();
    let crate::tensor::Data::Float(a) = &mut other[1].data else { panic!("decays are reals") };
    a[3] += 1e-6;
    assert!(distance(&case.run(true, 5, &other)[0], &own[0]) > TOLERANCE);
}
