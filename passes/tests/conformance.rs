//! The conformance cases through lowering, run on the interpreter of tile programs: everything of the compiler but the
//! machine code.

use mixc_ir::dim::DimValues;
use mixc_ir::lowered_interp;
use mixc_ir::machine::Machine;
use mixc_ir::program::Program;
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::tile::Rounding;
use mixc_passes::{forms, lower, rewrite};
use std::path::PathBuf;

fn blob(view: &safetensors::tensor::TensorView<'_>) -> Blob {
    let name = format!("{:?}", view.dtype()).to_lowercase();
    let dtype = mixc_ir::dtype::DType::parse(&name).unwrap_or_else(|| panic!("dtype {name}"));
    Blob { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() }
}

fn dims(program: &Program, inputs: &[Tensor]) -> DimValues {
    let mut values = DimValues::new();
    for (v, t) in program.params.iter().zip(inputs) {
        for (d, n) in program.ty(*v).dims().iter().zip(&t.shape) {
            if let Some(s) = d.as_symbol() {
                values.insert(s.clone(), *n as i64);
            }
        }
    }
    values
}

fn difference(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.shape, want.shape);
    let scale = (0..want.len()).map(|k| want.at(k).abs()).fold(1e-30, f64::max);
    (0..want.len()).map(|k| (got.at(k) - want.at(k)).abs()).fold(0.0, f64::max) / scale
}

fn run(text: &str, tensors: &safetensors::SafeTensors<'_>) -> Result<(), String> {
    let tolerance: f64 = text
        .lines()
        .next()
        .and_then(|l| l.split("<= ").nth(1))
        .and_then(|l| l.split(' ').next())
        .and_then(|t| t.parse().ok())
        .ok_or("no tolerance")?;
    let program = mixc_ir::verify::check(text).map_err(|d| format!("{d:?}"))?;
    let inputs: Vec<Tensor> = program
        .params
        .iter()
        .map(|v| tensors.tensor(program.name_of(*v)).map(|t| blob(&t).to_tensor()).map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let expanded = rewrite::expand_layers(&program, &|op| forms::lowers_whole(op.name));
    let values = dims(&program, &inputs);
    let settings = lower::Settings { typical: values.clone(), machine: Machine::zen4(), force_form: None };
    let lowered = lower::lower(&expanded, &settings).map_err(|d| format!("{d:?}"))?;
    for step in &lowered.steps {
        if let mixc_ir::lowered::Action::Run { program, .. } = &step.action {
            let problems = mixc_ir::tile::verify(program);
            if !problems.is_empty() {
                return Err(format!("{problems:?}\n{program}"));
            }
        }
    }
    let got = lowered_interp::interpret_lowered(&lowered, &values, &inputs, &Default::default(), Rounding::Tiles)
        .map_err(|e| format!("{e}\n{lowered}"))?;
    for (k, got) in got.iter().enumerate() {
        let want = blob(&tensors.tensor(&format!("expect.out{k}")).map_err(|e| e.to_string())?).to_tensor();
        let d = difference(got, &want);
        if d.is_nan() || d > tolerance {
            return Err(format!("out{k} differs by {d:.2e}, allowed {tolerance:.0e}"));
        }
    }
    Ok(())
}

#[test]
fn every_case_lowers_and_agrees() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let Ok(entries) = std::fs::read_dir(&root) else {
        println!("skipped: no conformance cases beside the project");
        return;
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "ir")).collect();
    files.sort();
    let only = std::env::var("CASE").ok();
    let mut failures = Vec::new();
    let total = files.len();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().to_string();
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let bytes = std::fs::read(file.with_extension("safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&text, &tensors)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(e)) => failures.push(format!("{name}: {e}")),
            Err(_) => failures.push(format!("{name}: panicked")),
        }
    }
    for f in &failures {
        println!("{f}");
    }
    assert!(failures.is_empty(), "{} of {total} cases fail", failures.len());
}
