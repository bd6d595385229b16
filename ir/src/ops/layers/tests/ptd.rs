//! Perturb, then diagonalise: the transfer function, the order of the results, and what is known when compiling.

use super::Random;
use crate::dim::DimValues;
use crate::ops::layers::eigen::Complex;
use crate::reference::{Weights, interpret};
use crate::tensor::Tensor;
use crate::verify;

fn results(body: &str, results: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let program = verify::check(body).map_err(|e| format!("{e:?}"))?;
    assert_eq!(program.results.len(), results);
    interpret(&program, &DimValues::new(), inputs, &Weights::new())
}

/// A, B and C and the six results for `n` states of a HiPPO measure.
fn hippo(kind: &str, n: usize, eps: f64) -> Vec<Tensor> {
    let six = vec![format!("f64[{n}]"); 6].join(", ");
    let text = format!(
        "func @main(%C: f64[{n}]) -> (f64[{n}, {n}], f64[{n}], {six}) {{\n  \
         %A, %B = hippo {{kind = {kind}, n = {n}}} : f64[{n}, {n}], f64[{n}]\n  \
         %a, %b, %c, %d, %e, %f = ptd %A, %B, %C {{eps = {eps:?}, seed = 3}}\n  \
         return %A, %B, %a, %b, %c, %d, %e, %f\n}}\n"
    );
    let mut random = Random::new(n as u64);
    let c = Tensor::floats(&[n], (0..n).map(|_| random.unit() - 0.5).collect());
    let mut all = results(&text, 8, std::slice::from_ref(&c)).unwrap();
    all.insert(2, c);
    all
}

fn complex(re: &Tensor, im: &Tensor, k: usize) -> Complex {
    Complex { re: re.at(k), im: im.at(k) }
}

/// C (s - A)^-1 B.
fn transfer(a: &Tensor, b: &Tensor, c: &Tensor, s: Complex) -> Complex {
    let n = b.len();
    let shifted = crate::ops::layers::eigen::Square::shifted(n, &(0..n * n).map(|k| a.at(k)).collect::<Vec<_>>(), s);
    let b: Vec<Complex> = (0..n).map(|k| Complex::real(b.at(k))).collect();
    let x = crate::ops::layers::eigen::solve(&shifted, &b, 1).unwrap();
    x.iter().enumerate().fold(Complex::default(), |sum, (k, x)| sum + x.times(c.at(k)))
}

/// sum_n C'_n B'_n / (s - L_n).
fn diagonal_transfer(of: &[Tensor], s: Complex) -> Complex {
    (0..of[0].len()).fold(Complex::default(), |sum, k| {
        let weight = complex(&of[2], &of[3], k) * complex(&of[4], &of[5], k);
        sum + weight.over(s - complex(&of[0], &of[1], k))
    })
}

const PLACES: [Complex; 5] = [
    Complex { re: 0.25, im: 0.0 },
    Complex { re: 0.0, im: 1.0 },
    Complex { re: 0.0, im: -7.0 },
    Complex { re: 0.5, im: 30.0 },
    Complex { re: 2.0, im: 100.0 },
];

#[test]
fn the_transfer_function_moves_with_the_perturbation() {
    for (kind, n) in [("legs", 1), ("legs", 2), ("legs", 16), ("legs", 33), ("legt", 12), ("fout", 24)] {
        for eps in [1e-2, 1e-4, 1e-6] {
            let all = hippo(kind, n, eps);
            let size = PLACES.iter().map(|s| transfer(&all[0], &all[1], &all[2], *s).abs()).fold(1e-3, f64::max);
            for s in PLACES {
                let (own, found) = (transfer(&all[0], &all[1], &all[2], s), diagonal_transfer(&all[3..], s));
                let far = (own - found).abs() / size;
                // The resolvent of these matrices grows with their size; 100 holds for what is tried here.
                assert!(far <= 100.0 * eps, "{kind} {n}, eps {eps}, at {s:?}: {far:e}");
            }
        }
    }
}

#[test]
fn it_is_exact_for_the_perturbed_matrix() {
    for (kind, n) in [("legs", 24), ("legt", 9), ("fout", 40)] {
        let all = hippo(kind, n, 0.05);
        let a: Vec<f64> = (0..n * n).map(|k| all[0].at(k)).collect();
        let moved = Tensor::floats(&[n, n], crate::ops::layers::ptd::perturbed(&a, 0.05, 3));
        for s in PLACES {
            let (own, found) = (transfer(&moved, &all[1], &all[2], s), diagonal_transfer(&all[3..], s));
            let far = (own - found).abs() / own.abs().max(1.0);
            assert!(far <= 1e-10, "{kind} {n} at {s:?}: {far:e}");
        }
    }
}

#[test]
fn eigenvalues_ascend_and_come_in_pairs() {
    let all = hippo("legs", 31, 0.1);
    let (re, im) = (&all[3], &all[4]);
    for k in 1..31 {
        assert!((im.at(k - 1), re.at(k - 1)) <= (im.at(k), re.at(k)), "{k}");
    }
    let sum: f64 = (0..31).map(|k| im.at(k)).sum();
    let trace: f64 = (0..31).map(|k| re.at(k)).sum();
    let moved = crate::ops::layers::ptd::perturbed(&(0..31 * 31).map(|k| all[0].at(k)).collect::<Vec<_>>(), 0.1, 3);
    let expected: f64 = (0..31).map(|k| moved[k * 32]).sum();
    assert!(sum.abs() < 1e-10 && (trace - expected).abs() < 1e-9, "{sum:e} {trace} {expected}");
}

#[test]
fn what_is_computed_from_constants_is_known_and_expands_to_constants() {
    let text = "func @main(%x: f32[3]) -> (f32[4], f32[4], f32[4, 2], f32[4, 2], f32[3, 4], f32[3, 4]) {\n  \
                %A, %b = hippo {kind = legs, n = 4}\n  const %half = splat 0.5 : f32[]\n  %A2 = mul %A, %half\n  \
                const %B = dense [[1.0, 2.0], [0.5, 1.0], [0.0, 1.0], [2.0, 0.25]] : f32[4, 2]\n  \
                const %C = splat 1.0 : f32[3, 4]\n  \
                %l, %m, %n, %o, %p, %q = ptd %A2, %B, %C\n  return %l, %m, %n, %o, %p, %q\n}\n";
    let program = verify::check(text).unwrap();
    let own = interpret(&program, &DimValues::new(), &[Tensor::floats(&[3], vec![0.0; 3])], &Weights::new()).unwrap();
    let node = program.nodes.iter().find(|n| n.op_name() == Some("ptd")).unwrap();
    let types: Vec<_> = node.operands.iter().map(|o| o.map(|v| program.ty(v).clone())).collect();
    let bounds = program.bounds();
    let mut b = crate::program::Builder::resume(program.clone());
    let call = crate::op::Call {
        op: &super::super::ptd::OP,
        types: types.iter().map(Option::as_ref).collect(),
        structures: vec![None; 3],
        values: node.operands.clone(),
        attrs: &node.attrs,
        written: &[],
        bounds: &bounds,
    };
    let expand = super::super::ptd::OP.expand.unwrap();
    let results = expand(&mut b, &call).unwrap();
    let again = b.finish(results);
    let inputs = [Tensor::floats(&[3], vec![0.0; 3])];
    let expanded = interpret(&again, &DimValues::new(), &inputs, &Weights::new()).unwrap();
    for (a, b) in own.iter().zip(&expanded) {
        assert!(super::distance(a, b) < 1e-6);
    }
    // A parameter is not known.
    let mut b = crate::program::Builder::new("main", Vec::new());
    let params: Vec<_> = types.iter().map(|t| Some(b.param("p", t.clone().unwrap()))).collect();
    let call = crate::op::Call { values: params, ..call };
    assert!(expand(&mut b, &call).unwrap_err()[0].message.contains("parameter"));
}

#[test]
fn a_matrix_without_eigenvectors_is_refused() {
    let text = "func @main(%A: f64[2, 2], %b: f64[2]) -> f64[2] {\n  \
                %l, %m, %n, %o, %p, %q = ptd %A, %b, %b {eps = 0.0}\n  return %l\n}\n";
    let (jordan, b) = (Tensor::floats(&[2, 2], vec![0.0, 1.0, 0.0, 0.0]), Tensor::floats(&[2], vec![1.0, 1.0]));
    match results(text, 1, &[jordan, b.clone()]) {
        // Rounding may separate what is equal; what comes out is then finite.
        Ok(found) => assert!(found[0].at(0).is_finite()),
        Err(e) => assert!(e.contains("eigenvectors"), "{e}"),
    }
    let nan = Tensor::floats(&[2, 2], vec![f64::NAN; 4]);
    assert!(results(text, 1, &[nan, b]).is_err());
}
