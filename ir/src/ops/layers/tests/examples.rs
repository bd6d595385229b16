//! Every layer's example is a program that says what it shows and runs.

use super::Random;
use crate::dim::DimValues;
use crate::reference::{Weights, interpret};
use crate::tensor::Tensor;
use crate::verify;

#[test]
fn every_example_verifies_and_runs() {
    for op in super::super::ALL {
        let program = verify::check(op.example).unwrap_or_else(|e| panic!("example of {}: {e:?}", op.name));
        assert!(program.nodes.iter().any(|n| n.op_name() == Some(op.name)), "{} is not in its example", op.name);
        let dims: DimValues = program.dims.iter().map(|d| (d.name.clone(), d.high.min(6))).collect();
        let mut random = Random::new(1);
        let mut input = |v: &crate::program::ValueId| {
            let dims = program.ty(*v).dims().iter().map(|d| d.eval(&dims).expect("a bound dim") as usize).collect();
            let shape: Vec<usize> = dims;
            Tensor::floats(&shape, (0..shape.iter().product()).map(|_| random.unit() - 0.5).collect())
        };
        let inputs: Vec<Tensor> = program.params.iter().map(&mut input).collect();
        let results = interpret(&program, &dims, &inputs, &Weights::new())
            .unwrap_or_else(|e| panic!("example of {}: {e}", op.name));
        for y in &results {
            assert!(!y.is_empty() && (0..y.len()).all(|k| y.at(k).is_finite()), "example of {}", op.name);
        }
    }
}
