//! `mixc run`.

use super::{Common, Compiling, Format};
use clap::Args;
use mixc::{Blob, Error, Target};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Args, Debug)]
pub struct Run {
    /// The model (`-` is standard input)
    file: PathBuf,
    /// Inputs by the parameters' names, safetensors (`-` is standard input)
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Where results go, as out0, out1, ... (safetensors; `-` is standard output)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Random inputs from this seed
    #[arg(long, value_name = "SEED", conflicts_with = "inputs")]
    random: Option<u64>,
    /// Threads (0 is all)
    #[arg(long, env = "MIXC_THREADS", default_value_t = 0)]
    threads: usize,
    /// Compare with the f64 reference; exit 3 when they disagree. Of more than 2048 rows a sample is compared. With
    /// approximations in use, say how far they are off instead
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    compiling: Compiling,
}

/// Compiles, runs, and prints or stores the results.
pub fn run(c: &Run, common: Common) -> Result<(), Error> {
    let target = Target::parse(&c.compiling.target)?;
    let model = c.compiling.load(&c.file)?;
    let inputs = match (&c.inputs, c.random) {
        (Some(path), _) => mixc::inputs::read(&model.program, path)?,
        (None, seed) => {
            if seed.is_none() && !model.program.params.is_empty() {
                return Err(Error::Usage("give inputs with --inputs FILE, or --random SEED".into()));
            }
            let dims = mixc::random_run_dims(&model.program, &c.compiling.shapes)?;
            mixc::inputs::random(&model.program, &dims, seed.unwrap_or(0))
        }
    };
    let mut request = c.compiling.request();
    // A size given for this run alone does not narrow what is compiled.
    request.shapes.retain(|s| s.low != s.high);
    let (runner, compile_ms) = mixc::measure::once(|| model.compile(&target, &request));
    let runner = runner?;
    let (results, run_ms) = mixc::measure::once(|| runner.run(&inputs, c.threads));
    let results = results?;
    let json = c.compiling.format == Format::Json;
    if let Some(path) = &c.output {
        mixc::inputs::write(&results, path)?;
    } else if !json {
        for (k, r) in results.iter().enumerate() {
            println!("out{k}: {}{:?} {}", r.dtype, r.shape, head(r));
        }
    }
    let checked = c.check.then(|| runner.check(&model, &inputs, &results));
    if json && c.output.as_deref() != Some(Path::new("-")) {
        let outputs: Vec<_> = results
            .iter()
            .enumerate()
            .map(|(k, r)| json!({ "name": format!("out{k}"), "dtype": r.dtype.name(), "shape": r.shape, "head": first(r) }))
            .collect();
        let difference = checked.as_ref().and_then(|worst| worst.as_ref().ok());
        let value = json!({
            "model": model.program.name, "target": c.compiling.target, "outputs": outputs,
            "compile_ms": compile_ms, "run_ms": run_ms, "difference": difference,
        });
        println!("{value}");
    } else if !common.quiet {
        eprintln!("compiled in {compile_ms:.1} ms, ran in {run_ms:.3} ms");
    }
    if let Some(worst) = checked {
        let worst = worst?;
        if !common.quiet && !json {
            match runner.approximations().as_slice() {
                [] => eprintln!("agrees with the reference: largest difference {worst:.1e} of the largest value"),
                names => eprintln!(
                    "approximate by {}: differs from the reference by {worst:.1e} of the largest value at most",
                    names.join(", ")
                ),
            }
        }
    }
    Ok(())
}

/// Numbers of a result that are shown.
const SHOWN: usize = 6;

/// The first numbers of a tensor.
fn first(b: &Blob) -> Vec<f64> {
    b.to_f64().into_iter().take(SHOWN).collect()
}

/// As [`first`], as text.
fn head(b: &Blob) -> String {
    let mut shown: Vec<String> = first(b).iter().map(|x| format!("{x:.6}")).collect();
    if b.shape.iter().product::<usize>() > SHOWN {
        shown.push("...".into());
    }
    format!("[{}]", shown.join(", "))
}
