//! Runs the conformance cases on the reference interpreter: `NAME.ir` beside `NAME.safetensors` with the inputs under
//! the parameters' names and the expected results as `expect.out0`, ..., at the tolerance of the program's first line.
//!
//! The cases are looked for in `shared/conformance` beside the workspace, or in the folder that the environment
//! variable MIXC_CONFORMANCE names; without them the test passes and says so.

use mixc_ir::dtype::DType;
use mixc_ir::reference::{Weights, interpret};
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::verify::{bind_dims, check};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    match std::env::var_os("MIXC_CONFORMANCE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    }
}

fn tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I32 => DType::I32,
            Dtype::I64 => DType::I64,
            Dtype::BOOL => DType::Bool,
            other => return Err(format!("`{name}` has element type {other:?}")),
        };
        let blob = Blob { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        found.insert(name, blob.to_tensor());
    }
    Ok(found)
}

/// The number after `<=` in `// tolerance: max|y-ref| <= 1e-05 * max|ref|`.
fn tolerance(source: &str) -> Result<f64, String> {
    let line = source.lines().next().unwrap_or_default();
    let number = line.split("<=").nth(1).and_then(|s| s.split_whitespace().next());
    number.and_then(|s| s.parse().ok()).ok_or_else(|| format!("no tolerance in {line:?}"))
}

fn run(path: &Path) -> Result<(), String> {
    let source = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let tolerance = tolerance(&source)?;
    let program =
        check(&source).map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let data = tensors(&path.with_extension("safetensors"))?;
    let input = |v: &mixc_ir::program::ValueId| {
        let name = program.name_of(*v);
        data.get(name).cloned().ok_or_else(|| format!("no input `{name}`"))
    };
    let inputs: Vec<Tensor> = program.params.iter().map(input).collect::<Result<_, _>>()?;
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape.as_slice()).collect();
    let dims = bind_dims(&program, &shapes).map_err(|e| e.join("; "))?;
    let results = interpret(&program, &dims, &inputs, &Weights::new())?;
    for (k, found) in results.iter().enumerate() {
        let expected = data.get(&format!("expect.out{k}")).ok_or_else(|| format!("no `expect.out{k}`"))?;
        if found.shape != expected.shape {
            return Err(format!("result {k} has shape {:?}, expected {:?}", found.shape, expected.shape));
        }
        let (mut error, mut largest) = (0.0f64, 0.0f64);
        for n in 0..found.len() {
            let (y, reference) = (found.at(n), expected.at(n));
            // A NaN is an error of any size unless it is expected.
            let gap = if y.is_nan() && reference.is_nan() { 0.0 } else { (y - reference).abs() };
            error = if gap.is_nan() { f64::INFINITY } else { error.max(gap) };
            largest = largest.max(reference.abs());
        }
        if error > tolerance * largest {
            return Err(format!("result {k} is off by {error:e}, largest {largest:e}, allowed {tolerance:e} of it"));
        }
    }
    Ok(())
}

#[test]
fn conformance_cases_pass_on_the_reference() {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: there are no conformance cases in {}", folder.display());
        return;
    };
    let mut cases: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "ir"));
    cases.sort();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|p| run(p).err().map(|e| format!("{}: {e}", p.file_stem().unwrap_or_default().to_string_lossy())))
        .collect();
    println!("{} of {} cases pass", cases.len() - failures.len(), cases.len());
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
