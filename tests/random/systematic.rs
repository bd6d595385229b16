//! Every operation's example, natively.

use crate::check::must_agree;
use mixc::ir::dim::DimValues;
use mixc::ir::tensor::{Blob, Tensor};
use mixc::{Model, inputs};
use std::path::Path;

fn positive(b: &Blob) -> Blob {
    if !b.dtype.is_float() {
        return b.clone();
    }
    Tensor::floats(&b.shape, b.to_f64().iter().map(|x| x.abs()).collect()).to_blob(b.dtype)
}

#[test]
fn every_example_agrees_natively() {
    let mut failures = Vec::new();
    let mut without = Vec::new();
    for op in mixc::ir::ops::all() {
        let model = match Model::from_text(op.example, op.name, Path::new("."), &[]) {
            Ok(m) => m,
            Err(e) => {
                failures.push(format!("{}: {e}", op.name));
                continue;
            }
        };
        // Lengths that fit: odd ones, then ones that divide.
        let mut last = String::new();
        let fits = [7, 5, 9, 8, 12, 16].into_iter().any(|n: i64| {
            let dims: DimValues = model.program.dims.iter().map(|d| (d.name.clone(), n.clamp(d.low, d.high))).collect();
            let given = inputs::random(&model.program, &dims, 3);
            let mut found = must_agree(op.example, &given);
            if found.as_ref().is_err_and(|e| e.starts_with("skipped: not finite")) {
                // Roots and logarithms are of positive numbers.
                let positive: Vec<Blob> = given.iter().map(|b| positive(b)).collect();
                found = must_agree(op.example, &positive);
            }
            match found {
                Ok(native) => {
                    if !native {
                        without.push(op.name);
                    }
                    true
                }
                Err(e) => {
                    last = e;
                    false
                }
            }
        });
        if !fits {
            failures.push(format!("{}: {last}", op.name));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    if std::env::var("MIXC_REPORT").is_ok() {
        eprintln!("no native form: {}", without.join(" "));
    }
}
