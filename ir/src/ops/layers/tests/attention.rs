//! Attention, whose expansion is its definition, against sums over pairs written out here.

use super::{Random, at, d, data, none};
use crate::attr::Attrs;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::program::Builder;
use crate::reference::{Weights, interpret};
use crate::tensor::Tensor;
use crate::ty::Type;

/// Query heads, key heads, queries, keys, query features and value features.
const SIZES: [usize; 6] = [4, 2, 5, 7, 3, 2];

fn run(attrs: Attrs, mask: Option<(&Tensor, DType)>, inputs: &[Tensor]) -> Tensor {
    let shape = |t: &Tensor| -> Vec<Dim> { t.shape.iter().map(|n| Dim::from(*n)).collect() };
    let mut b = Builder::new("main", Vec::new());
    let mut operands: Vec<_> = inputs.iter().map(|t| Some(b.param("x", Type::tensor(DType::F64, shape(t))))).collect();
    let mut values = inputs.to_vec();
    if let Some((mask, dtype)) = mask {
        operands.push(Some(b.param("mask", Type::tensor(dtype, shape(mask)))));
        values.push(mask.clone());
    }
    let results = b.call(&super::super::attention::OP, &operands, attrs, &[], &[]).expect("a sound call");
    let mut results = interpret(&b.finish(results), &at(0), &values, &Weights::new()).expect("a running program");
    results.remove(0)
}

fn inputs() -> Vec<Tensor> {
    let [h, g, t, s, r, p] = SIZES.map(|n| d(n as i64));
    let operands = vec![data(&[h, t, r.clone()]), data(&[g.clone(), s.clone(), r]), data(&[g, s, p])];
    super::case("attention", operands, none()).inputs(0, 3)
}

/// Softmax over the keys where `bias` gives a number.
fn expected(inputs: &[Tensor], scale: f64, bias: impl Fn(usize, usize, usize) -> Option<f64>) -> Tensor {
    let [h, g, t, s, r, p] = SIZES;
    let mut y = Vec::new();
    for head in 0..h {
        let group = head / (h / g);
        for i in 0..t {
            let score = |j: usize| {
                let dot = |n: usize| inputs[0].at((head * t + i) * r + n) * inputs[1].at((group * s + j) * r + n);
                bias(head, i, j).map(|b| (j, (scale * (0..r).map(dot).sum::<f64>() + b).exp()))
            };
            let weights: Vec<(usize, f64)> = (0..s).filter_map(score).collect();
            let sum: f64 = weights.iter().map(|(_, w)| w).sum();
            y.extend(
                (0..p)
                    .map(|n| weights.iter().map(|(j, w)| w / sum * inputs[2].at((group * s + j) * p + n)).sum::<f64>()),
            );
        }
    }
    Tensor::floats(&[h, t, p], y)
}

fn near(a: &Tensor, b: &Tensor) {
    assert!(super::distance(a, b) <= 1e-12, "{a:?} {b:?}");
}

#[test]
fn positions_are_aligned_to_the_last_key_unless_said_otherwise() {
    let x = inputs();
    let [_, _, t, s, r, _] = SIZES;
    let scale = 1.0 / (r as f64).sqrt();
    let keep = |b: bool| b.then_some(0.0);
    let causal = none().with_flag("causal", true);
    near(&run(none(), None, &x), &expected(&x, scale, |_, _, _| Some(0.0)));
    near(&run(causal.clone(), None, &x), &expected(&x, scale, |_, i, j| keep(j + t <= i + s)));
    let from_start = causal.clone().with_name("align", "start");
    near(&run(from_start, None, &x), &expected(&x, scale, |_, i, j| keep(j <= i)));
    let window = causal.with_int("window", 2).with_int("sink", 1);
    near(&run(window, None, &x), &expected(&x, scale, |_, i, j| keep(j + t <= i + s && (j == 0 || j + t + 2 > i + s))));
}

#[test]
fn minus_infinity_counts_as_absent() {
    let x = inputs();
    let [h, _, t, s, _, _] = SIZES;
    let mut random = Random::new(9);
    // Row 2 has nothing left; the others lose some keys.
    let gone = |k: usize| k / s % t == 2 || k % 3 == 1;
    let bias = Tensor::floats(
        &[h, t, s],
        (0..h * t * s).map(|k| if gone(k) { f64::NEG_INFINITY } else { random.unit() }).collect(),
    );
    let attrs = none().with_float("scale", 0.7);
    let y = run(attrs.clone(), Some((&bias, DType::F64)), &x);
    let want = expected(&x, 0.7, |head, i, j| {
        let k = (head * t + i) * s + j;
        (!gone(k)).then(|| bias.at(k))
    });
    near(&y, &want);
    let p = SIZES[5];
    assert!((0..p).all(|n| y.at(2 * p + n) == 0.0));
    // The same as a support.
    let marks = Tensor::bools(&[h, t, s], (0..h * t * s).map(|k| !gone(k)).collect());
    let y = run(attrs, Some((&marks, DType::Bool)), &x);
    near(&y, &expected(&x, 0.7, |head, i, j| (!gone((head * t + i) * s + j)).then_some(0.0)));
}

#[test]
fn masks_broadcast_over_heads_queries_and_keys() {
    let x = inputs();
    let [h, _, t, s, _, _] = SIZES;
    let attrs = none().with_float("scale", 1.0);
    let marks: Vec<bool> = (0..s).map(|j| j != 2 && j != 5).collect();
    let want = expected(&x, 1.0, |_, _, j| marks[j].then_some(0.0));
    for shape in [vec![s], vec![1, s], vec![1, 1, s]] {
        let mask = Tensor::bools(&shape, marks.clone());
        near(&run(attrs.clone(), Some((&mask, DType::Bool)), &x), &want);
    }
    let rows: Vec<f64> = (0..h * t).map(|k| k as f64 * 0.1).collect();
    let bias = Tensor::floats(&[h, t, 1], rows);
    near(&run(attrs.clone(), Some((&bias, DType::F64)), &x), &expected(&x, 1.0, |_, _, _| Some(0.0)));
    let per_group = Tensor::floats(&[2, 1, s], (0..2 * s).map(|k| (k % 5) as f64 * 0.3).collect());
    let want = expected(&x, 1.0, |head, _, j| Some(per_group.at(head / 2 * s + j)));
    near(&run(attrs, Some((&per_group, DType::F64)), &x), &want);
}
