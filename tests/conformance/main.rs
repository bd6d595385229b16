//! The conformance cases through the library, on the reference and in machine code: `NAME.ir` beside `NAME.safetensors`
//! with the inputs under the parameters' names and the expected results as `expect.out0`, ..., at the tolerance of the
//! program's first line.
//!
//! They are looked for in `../shared/conformance` beside the workspace, or in the folder that the environment variable
//! MIXC_CONFORMANCE names; without them the tests pass and say so.

mod forms;

use mixc::weights::WeightFiles;
use mixc::{Blob, Model, Request, Runner, Target};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    match std::env::var_os("MIXC_CONFORMANCE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"),
    }
}

struct Case {
    name: String,
    model: Model,
    inputs: Vec<Blob>,
    expected: Vec<Blob>,
    tolerance: f64,
}

/// The number after `<=` in `// tolerance: max|y-ref| <= 1e-05 * max|ref|`.
fn tolerance(source: &str) -> Option<f64> {
    source.lines().next()?.split_once("<=")?.1.split_whitespace().next()?.parse().ok()
}

fn load(path: &Path) -> Result<Case, String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().to_string();
    let model = Model::load(path).map_err(|e| e.to_string())?;
    let data = path.with_extension("safetensors");
    let inputs = mixc::inputs::read(&model.program, &data).map_err(|e| e.to_string())?;
    let file = WeightFiles::open(&[data]).map_err(|e| e.to_string())?;
    let one = |k: usize| file.get(&format!("expect.out{k}")).ok_or_else(|| format!("no `expect.out{k}`"));
    let expected = (0..model.program.results.len()).map(one).collect::<Result<_, _>>()?;
    let tolerance = tolerance(&model.source).ok_or("the first line states no tolerance")?;
    Ok(Case { name, model, inputs, expected, tolerance })
}

/// Every case; none when the folder is missing, which is said.
fn paths() -> Vec<PathBuf> {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: there are no conformance cases in {}", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "ir"));
    paths.sort();
    paths
}

/// Every case that `wanted` names goes through `run`; all failures are told at once.
fn every_case(wanted: &dyn Fn(&str) -> bool, run: &dyn Fn(&Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut count = 0;
    for path in paths() {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().to_string();
        if !wanted(&name) {
            continue;
        }
        count += 1;
        if let Err(e) = load(&path).and_then(|case| run(&case)) {
            failures.push(format!("{name}: {e}"));
        }
    }
    println!("{} of {count} cases pass", count - failures.len());
    assert!(failures.is_empty(), "{} of {count} cases fail:\n{}", failures.len(), failures.join("\n"));
}

fn compile(case: &Case, target: &str) -> Result<Runner, String> {
    let target = Target::parse(target).map_err(|e| e.to_string())?;
    case.model.compile(&target, &Request::default()).map_err(|e| e.to_string())
}

fn compare(case: &Case, results: &[Blob]) -> Result<(), String> {
    for (k, (got, want)) in results.iter().zip(&case.expected).enumerate() {
        if got.shape != want.shape {
            return Err(format!("out{k} has shape {:?}, expected {:?}", got.shape, want.shape));
        }
        let (got, want) = (got.to_f64(), want.to_f64());
        let largest = want.iter().map(|x| x.abs()).fold(0.0, f64::max);
        for (n, (y, r)) in got.iter().zip(&want).enumerate() {
            let gap = if y.is_nan() && r.is_nan() { 0.0 } else { (y - r).abs() };
            // A NaN that is not expected is an error of any size.
            if gap.is_nan() || gap > case.tolerance * largest {
                let allowed = case.tolerance;
                return Err(format!("out{k}[{n}] is {y}, expected {r}, largest {largest}, allowed {allowed:e} of it"));
            }
        }
    }
    Ok(())
}

#[test]
fn the_reference_gives_the_expected_results() {
    every_case(&|_| true, &|case| {
        let results = compile(case, "ref")?.run(&case.inputs, 1).map_err(|e| e.to_string())?;
        compare(case, &results)
    });
}

#[test]
fn machine_code_gives_the_expected_results_and_the_same_bits_on_two_threads() {
    every_case(&|_| true, &|case| {
        let runner = compile(case, "cpu")?;
        let once = runner.run(&case.inputs, 1).map_err(|e| e.to_string())?;
        compare(case, &once)?;
        let twice = runner.run(&case.inputs, 2).map_err(|e| e.to_string())?;
        if once.iter().zip(&twice).any(|(a, b)| a.bytes != b.bytes) {
            return Err("two threads give other bits than one".into());
        }
        Ok(())
    });
}

/// One case of each kind of code: blocks of keys, half types, scans, inverses, convolutions, Fourier, thresholds.
const ON_EVERY_TARGET: [&str; 12] = [
    "attention_causal",
    "attention_bf16",
    "attention_f16",
    "attention_top_k",
    "attention_big_logits",
    "delta_rule_gated",
    "fourier_mix",
    "long_conv",
    "mlp_block",
    "ssd",
    "selective_scan",
    "two_block_decoder",
];

#[test]
fn every_cpu_target_that_runs_here_gives_the_expected_results() {
    for target in mixc::target_names() {
        if let Err(reason) = mixc::runs_here(target) {
            println!("skipped: {target}: {reason}");
            continue;
        }
        println!("{target}");
        every_case(&|name| ON_EVERY_TARGET.contains(&name), &|case| {
            let results = compile(case, target).and_then(|r| r.run(&case.inputs, 1).map_err(|e| e.to_string()));
            results.and_then(|r| compare(case, &r)).map_err(|e| format!("{target}: {e}"))
        });
    }
}

#[test]
fn a_wrong_result_is_seen() {
    for path in paths().iter().filter(|p| p.ends_with("mlp_block.ir") || p.ends_with("ssd.ir")) {
        let case = load(path).expect("the case loads");
        let mut results = case.expected.clone();
        assert_eq!(compare(&case, &results), Ok(()), "{}", case.name);
        let last = results[0].bytes.len() - 1;
        results[0].bytes[last] ^= 0x40;
        assert!(compare(&case, &results).is_err(), "{}", case.name);
    }
}

#[test]
fn the_cuda_emulator_gives_the_expected_results() {
    let ready = mixc::runs_here("cuda:emu");
    if let Err(why) = ready {
        println!("skipped: {why}");
        return;
    }
    every_case(&|_| true, &|case| {
        let results = compile(case, "cuda:emu")?.run(&case.inputs, 1).map_err(|e| e.to_string())?;
        compare(case, &results)
    });
}

/// Bytes of registers that a thread may write to memory: what the calls of the 64-bit division save around them.
const SAVED_AROUND_CALLS: u32 = 64;

#[test]
fn emitted_cuda_assembles_where_nvrtc_is() {
    use mixc_backends::cuda::{nvrtc, source};
    if let Err(why) = nvrtc::find() {
        println!("skipped: {why}");
        return;
    }
    every_case(&|_| true, &|case| {
        for architecture in ["sm_80", "sm_90a"] {
            let target = Target::parse(&format!("cuda:{architecture}")).map_err(|e| e.to_string())?;
            let stages = case.model.stages(&target, &Request::default()).map_err(|e| e.to_string())?;
            let source = source(&stages.lowered);
            let compiled = nvrtc::compile(&source.text, architecture).map_err(|e| e.to_string())?;
            for kernel in &source.kernels {
                let name = &kernel.kernel.name;
                let usage = compiled.usage.get(name).ok_or_else(|| format!("the log does not tell of {name}"))?;
                if usage.spill_bytes > SAVED_AROUND_CALLS {
                    return Err(format!("{name} spills {} bytes for {architecture}", usage.spill_bytes));
                }
            }
        }
        Ok(())
    });
}
