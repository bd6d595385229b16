//! The expansion is the layer.

use super::{at, cases, d, distance, has_both};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::OperandKind;
use crate::reference::{Weights, interpret};
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

#[test]
fn expansions_fit_half_data_with_wide_parameters_beside_it() {
    for data in [DType::BF16, DType::F16, DType::F32] {
        for beside in [data, DType::F32] {
            for (n, case) in cases(&Dim::symbol("T")).into_iter().enumerate().filter(|(_, c)| has_both(c.op)) {
                // B and C are data unless they are constant.
                let is_data = |k: usize| {
                    let input = case.op.name == "selective_scan" && (3..5).contains(&k);
                    case.op.operands[k].kind == OperandKind::Data || input
                };
                let dtype = |k: usize| if is_data(k) { data } else { beside };
                let present = (0..case.operands.len()).filter(|k| case.operands[*k].is_some());
                let inputs: Vec<_> = present.zip(case.inputs(5, n as u64)).map(|(k, t)| t.rounded(dtype(k))).collect();
                let run = |expanded: bool| {
                    interpret(&case.program_in(expanded, dtype), &at(5), &inputs, &Weights::new())
                        .unwrap_or_else(|e| panic!("{} in {data} and {beside}: {e}", case.describe()))
                };
                let (own, expanded) = (run(false), run(true));
                for (a, b) in expanded.iter().zip(&own) {
                    // Half features are rounded once, results once; f32 tables and casts once.
                    let tolerance = if data == DType::F32 { 1e-5 } else { 2e-2 };
                    let far = distance(a, b);
                    assert!(far <= tolerance, "{} in {data} and {beside}: {far:e}", case.describe());
                }
            }
        }
    }
}
