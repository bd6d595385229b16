//! `mixc bench`.

use super::{Common, Compiling, Format, output};
use clap::Args;
use mixc::explain::explain;
use mixc::kernels::{Kernel, kernels};
use mixc::lines::Lines;
use mixc::measure::{Effort, Timing, measure};
use mixc::variants::{Variant, variants};
use mixc::{Error, Pool, Runner, Target};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Time the model in every form that applies to it too
    #[arg(long)]
    all_forms: bool,
    #[command(flatten)]
    compiling: Compiling,
}

/// Times a model on random inputs, and each of its kernels alone.
pub fn run(c: &Bench, common: Common) -> Result<(), Error> {
    let target = Target::parse(&c.compiling.target)?;
    let model = c.compiling.load(&c.file)?;
    let dims = mixc::random_run_dims(&model.program, &c.compiling.shapes)?;
    let inputs = mixc::inputs::random(&model.program, &dims, 1);
    // A single length is where to measure, not what to compile for; it is where costs are reckoned.
    let mut request = c.compiling.request();
    for s in request.shapes.iter_mut().filter(|s| s.low == s.high) {
        if let Some(d) = model.program.dims.iter().find(|d| *d.name == s.name) {
            (s.low, s.high) = (d.low, d.high);
        }
    }
    let (runner, compile_ms) = mixc::measure::once(|| model.compile(&target, &request));
    let runner = runner?;
    let Some(stages) = runner.compilation() else {
        return Err(Error::Usage("--target ref is not timed".into()));
    };
    let dims = runner.dims(&inputs)?;
    let inputs: Vec<Lines> = inputs.iter().map(|b| Lines::of(&b.bytes)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Lines::bytes).collect();
    let mut results = results_of(&runner, &dims);
    let pool = mixc::pool(c.threads);
    let effort = Effort { runs: c.runs, ..Effort::default() };
    let mut results: Vec<&mut [u8]> = results.iter_mut().map(Lines::bytes_mut).collect();
    let mut once = || runner.run_bytes(&dims, &inputs, &mut results, pool.as_ref());
    let whole = measure(&mut [&mut once], effort)?[0];
    let short = Effort { at_least: Duration::from_millis(100), ..effort };
    let mut timed: Vec<(Kernel, Timing)> = Vec::new();
    // One by one they are timed on the CPU alone.
    let alone = if matches!(target, Target::Cpu(_)) { kernels(stages, &target, &dims)? } else { Vec::new() };
    for mut k in alone {
        let mut once = || k.run(&dims, pool.as_ref());
        let timing = measure(&mut [&mut once], short)?[0];
        timed.push((k, timing));
    }
    let threads = pool.as_ref().map_or(1, |p| p.threads());
    let compared = match c.all_forms {
        true => all_forms(variants(&model, &target, &request, stages, &dims, threads)?, &inputs, &dims, &pool, effort)?,
        false => Vec::new(),
    };
    let e = explain(stages, &request, &c.compiling.target);
    let flops: f64 = e.kernels.iter().map(|k| k.flops).sum();
    let bytes: f64 = e.kernels.iter().map(|k| k.bytes_bound).sum();
    let (gflops, gbs) = (flops / whole.median / 1e6, bytes / whole.median / 1e6);
    let peak = stages.machine.fma / 1e9 * threads as f64;
    let share = |k: &Kernel, t: &Timing| k.bound_ms / threads as f64 / t.median.max(1e-9);
    if c.compiling.format == Format::Json {
        let shape: serde_json::Map<String, serde_json::Value> =
            dims.iter().map(|(n, v)| (n.to_string(), (*v).into())).collect();
        let kernels: Vec<_> = timed
            .iter()
            .map(|(k, t)| {
                serde_json::json!({
                    "name": k.name, "form": k.form, "site": k.site, "times": k.times, "median_ms": t.median,
                    "share_of_bound": share(k, t),
                })
            })
            .collect();
        let mut value = serde_json::json!({
            "model": e.model, "target": e.target, "shape": shape, "threads": threads, "runs": whole.runs,
            "median_ms": whole.median, "min_ms": whole.min, "mad_ms": whole.spread, "gflops": gflops,
            "peak_gflops": peak, "gbs": gbs, "compile_ms": compile_ms, "kernels": kernels,
        });
        if c.all_forms {
            value["forms"] = compared.iter().map(|(v, t)| form_json(v, t)).collect();
        }
        println!("{value}");
        return Ok(());
    }
    let show = |rows: &[Vec<String>]| match c.compiling.format {
        Format::Markdown => print!("{}", output::markdown(rows)),
        _ => print!("{}", output::table(rows)),
    };
    let heading = ["model", "shape", "threads", "median ms", "spread ms", "min ms", "GFLOP/s", "of peak", "GB/s"];
    let shape: Vec<String> = dims.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let row = vec![
        e.model.clone(),
        shape.join(" "),
        threads.to_string(),
        format!("{:.3}", whole.median),
        format!("{:.3}", whole.spread),
        format!("{:.3}", whole.min),
        format!("{gflops:.1}"),
        format!("{:.0} %", 100.0 * gflops / peak),
        format!("{gbs:.1}"),
    ];
    show(&[heading.map(String::from).to_vec(), row]);
    println!();
    let mut rows = vec![["kernel", "site", "times", "median ms", "together ms", "of bound"].map(String::from).to_vec()];
    for (k, t) in &timed {
        rows.push(vec![
            k.form.clone(),
            k.site.clone(),
            k.times.to_string(),
            format!("{:.4}", t.median),
            format!("{:.4}", t.median * k.times as f64),
            format!("{:.0} %", 100.0 * share(k, t)),
        ]);
    }
    show(&rows);
    if c.all_forms {
        println!();
        show(&form_rows(&compared));
    }
    if !common.quiet {
        eprintln!("compiled in {compile_ms:.1} ms; {} runs", whole.runs);
    }
    Ok(())
}

/// Memory for the results of a run.
fn results_of(runner: &Runner, dims: &mixc::ir::dim::DimValues) -> Vec<Lines> {
    runner.result_blobs(dims).iter().map(|b| Lines::zeros(b.bytes.len())).collect()
}

/// Times the variants in turn on the same inputs.
fn all_forms(
    variants: Vec<Variant>,
    inputs: &[&[u8]],
    dims: &mixc::ir::dim::DimValues,
    pool: &Option<Pool>,
    effort: Effort,
) -> Result<Vec<(Variant, Timing)>, Error> {
    let mut results: Vec<Vec<Lines>> = variants.iter().map(|v| results_of(&v.runner, dims)).collect();
    let mut results: Vec<Vec<&mut [u8]>> =
        results.iter_mut().map(|r| r.iter_mut().map(Lines::bytes_mut).collect()).collect();
    let mut runs: Vec<_> = variants
        .iter()
        .zip(&mut results)
        .map(|(v, results)| move || v.runner.run_bytes(dims, inputs, results, pool.as_ref()))
        .collect();
    let mut candidates: Vec<&mut dyn FnMut() -> Result<(), Error>> = Vec::new();
    for run in &mut runs {
        candidates.push(run);
    }
    let timings = measure(&mut candidates, effort)?;
    drop(runs);
    let mut all: Vec<(Variant, Timing)> = variants.into_iter().zip(timings).collect();
    all.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    Ok(all)
}

fn form_json(v: &Variant, t: &Timing) -> serde_json::Value {
    serde_json::json!({
        "form": v.form, "forms": v.forms, "median_ms": t.median, "min_ms": t.min, "cost_us": v.predicted_ms * 1e3,
        "bytes": v.bytes, "chosen": v.chosen,
    })
}

/// The fastest first.
fn form_rows(compared: &[(Variant, Timing)]) -> Vec<Vec<String>> {
    let heading = ["form", "", "median ms", "min ms", "reckoned ms", "of fastest", "KiB moved"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    let fastest = compared.first().map_or(0.0, |(_, t)| t.median);
    for (v, t) in compared {
        rows.push(vec![
            if v.forms.is_empty() { "elementwise".into() } else { v.forms.join(" + ") },
            if v.chosen { "chosen" } else { "" }.into(),
            format!("{:.4}", t.median),
            format!("{:.4}", t.min),
            format!("{:.4}", v.predicted_ms),
            format!("{:.2}", t.median / fastest.max(1e-9)),
            format!("{:.0}", v.bytes / 1024.0),
        ]);
    }
    rows
}
