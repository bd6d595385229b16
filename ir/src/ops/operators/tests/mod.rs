//! Random operators of every kind, chained at random, against whole matrices: values, supports, support expressions,
//! and every claim about structure.

mod bench;
mod dense;
mod faults;

use bench::Bench;
use std::collections::BTreeMap;

#[test]
fn rows_supports_and_structure_agree_with_whole_matrices() {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..6000 {
        let mut bench = Bench::new(seed);
        bench.chain(5, &mut counts);
    }
    for op in super::ALL {
        let n = counts.get(op.name).copied().unwrap_or(0);
        assert!(n >= 30, "`{}` was tried {n} times: {counts:?}", op.name);
    }
}

#[test]
fn softmax_of_extremes() {
    use crate::dim::DimValues;
    use crate::reference::{Weights, interpret};
    use crate::tensor::Tensor;
    let program = crate::verify::check(
        "func @main(%w: f32[4, 3], %x: f32[3, 1]) -> f32[4, 1] {
           %m = dense %w
           %p = softmax %m
           %y = apply %p, %x
           return %y
         }",
    )
    .unwrap();
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let w = vec![1e308, -1e308, 0.0, -inf, -inf, -inf, nan, -inf, -inf, -inf, 5.0, 5.0];
    let inputs = [Tensor::floats(&[4, 3], w), Tensor::floats(&[3, 1], vec![1.0, 2.0, 4.0])];
    let y = interpret(&program, &DimValues::new(), &inputs, &Weights::new()).unwrap().remove(0);
    assert_eq!((y.at(0), y.at(1), y.at(3)), (1.0, 0.0, 3.0));
    assert!(y.at(2).is_nan());
}
