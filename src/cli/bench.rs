//! `mixc bench`.

use super::{Common, Compiling, Format, output};
use clap::Args;
use mixc::explain::explain;
use mixc::{Error, Target};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments.
#[derive(Args, Debug)]
pub struct Bench {
    /// The model (`-` is standard input)
    file: PathBuf,
    /// Threads (0 is all)
    #[arg(long, env = "MIXC_THREADS", default_value_t = 1)]
    threads: usize,
    /// Runs at least
    #[arg(long, default_value_t = 9)]
    runs: usize,
    #[command(flatten)]
    compiling: Compiling,
}

/// Times a model on random inputs: medians over runs after a warm-up.
pub fn run(c: &Bench, common: Common) -> Result<(), Error> {
    /// Long enough that a scheduler's pause is seen as an outlier and not as the median.
    const AT_LEAST: Duration = Duration::from_secs(1);
    const AT_MOST: usize = 1000;
    let target = Target::parse(&c.compiling.target)?;
    let model = c.compiling.load(&c.file)?;
    let dims = mixc::typical_dims(&model.program, &c.compiling.shapes);
    let inputs = mixc::inputs::random(&model.program, &dims, 1);
    let mut request = c.compiling.request();
    request.shapes.retain(|s| s.low != s.high);
    let started = Instant::now();
    let runner = model.compile(&target, &request)?;
    let compiled = started.elapsed();
    let dims = runner.dims(&inputs)?;
    let mut results = runner.result_blobs(&dims);
    let pool = mixc::pool(c.threads);
    let mut once = || -> Result<f64, Error> {
        let started = Instant::now();
        runner.run_into(&dims, &inputs, &mut results, pool.as_ref())?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..2 {
        once()?;
    }
    let started = Instant::now();
    let mut times = Vec::new();
    while times.len() < c.runs || (started.elapsed() < AT_LEAST && times.len() < AT_MOST) {
        times.push(once()?);
    }
    let median = median(&mut times);
    let mut spread: Vec<f64> = times.iter().map(|t| (t - median).abs()).collect();
    let spread = self::median(&mut spread);
    let min = times.iter().copied().fold(f64::MAX, f64::min);
    let stages = runner.compilation().ok_or_else(|| Error::Usage("--target ref is not timed".into()))?;
    let mut shaped = c.compiling.request();
    for (name, n) in &dims {
        shaped.shapes.retain(|s| s.name != **name);
        let d = stages.program.dims.iter().find(|d| d.name == *name);
        let (low, high) = d.map_or((*n, *n), |d| (d.low, d.high));
        shaped.shapes.push(mixc::ShapeArg { name: name.to_string(), low, high, typical: *n });
    }
    let e = explain(stages, &shaped, &c.compiling.target);
    let flops: f64 = e.kernels.iter().map(|k| k.flops).sum();
    let bytes: f64 = e.kernels.iter().map(|k| k.bytes_bound).sum();
    let (gflops, gbs) = (flops / median / 1e6, bytes / median / 1e6);
    let peak = mixc::machine().fma / 1e9 * c.threads.max(1) as f64;
    let shape: serde_json::Map<String, serde_json::Value> =
        dims.iter().map(|(n, v)| (n.to_string(), (*v).into())).collect();
    let kernels: Vec<_> = e
        .kernels
        .iter()
        .map(|k| serde_json::json!({ "name": k.name, "form": k.form, "site": k.site, "cost_us": k.cost_us }))
        .collect();
    match c.compiling.format {
        Format::Json => {
            let value = serde_json::json!({
                "model": e.model, "target": e.target, "shape": shape, "threads": c.threads, "runs": times.len(),
                "median_ms": median, "min_ms": min, "mad_ms": spread, "gflops": gflops, "peak_gflops": peak, "gbs": gbs,
                "compile_ms": compiled.as_secs_f64() * 1e3, "kernels": kernels,
            });
            println!("{value}");
        }
        format => {
            let heading =
                ["model", "shape", "threads", "median ms", "spread ms", "min ms", "GFLOP/s", "of peak", "GB/s"];
            let shape: Vec<String> = dims.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let row = vec![
                e.model.clone(),
                shape.join(" "),
                c.threads.to_string(),
                format!("{median:.3}"),
                format!("{spread:.3}"),
                format!("{min:.3}"),
                format!("{gflops:.1}"),
                format!("{:.0} %", 100.0 * gflops / peak),
                format!("{gbs:.1}"),
            ];
            let rows = [heading.map(String::from).to_vec(), row];
            print!("{}", if format == Format::Markdown { output::markdown(&rows) } else { output::table(&rows) });
            if !common.quiet {
                eprintln!("compiled in {:.1} ms; {} runs", compiled.as_secs_f64() * 1e3, times.len());
            }
        }
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
