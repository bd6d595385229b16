//! How long rewriting takes a distinct layer, costs of candidates included: `cargo bench -p mixc-passes` for two stacks of
//! layers, every paper's block and every case of conformance, `cargo bench -p mixc-passes -- FILE` for a file. Fails where
//! a distinct region takes longer than it may.

#[path = "../tests/models/mod.rs"]
mod models;

use mixc_ir::dim::DimValues;
use mixc_ir::machine::Machine;
use mixc_ir::program::Program;
use mixc_passes::rewrite::{RewriteSettings, rewrite};
use mixc_passes::{forms, lower};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time that this thread has had on a processor, where the system says so, else time that went by: others on the machine
/// are not to be counted.
fn busy(since: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let told = told.and_then(|s| s.split(' ').next()?.parse().ok()).map(Duration::from_nanos);
    told.unwrap_or_else(|| since.elapsed())
}

/// Runs whose mean is shown.
const RUNS: u32 = 10;

/// What a distinct region may take at most, costs of candidates left out, on a processor of its own.
const MOST: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    println!(
        "program                   regions  distinct  nodes  iterations  costed  rewriting ms  costing ms  ms a region"
    );
    let mut within = show("encoder, 12 layers", &models::encoder(12));
    within &= show("hybrid, 12 layers", &models::hybrid(12));
    // `cargo bench` adds flags of its own.
    let mut files: Vec<PathBuf> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    if files.is_empty() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["../examples/papers", "../../shared/conformance"] {
            let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
            files.extend(
                entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "ir")),
            );
        }
        files.sort();
    }
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the file is read");
        if mixc_ir::verify::check(&text).is_ok() {
            let name = file.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
            within &= show(&name, &models::expanded(&text));
        }
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether it takes no longer than it may.
fn show(name: &str, program: &Program) -> bool {
    let typical: DimValues = program.dims.iter().map(|d| (d.name.clone(), d.high.min(1024))).collect();
    let settings = lower::Settings { typical: typical.clone(), machine: Machine::zen4(), force_form: None };
    let began = Instant::now();
    let (mut whole, mut costing_all) = (Duration::ZERO, Duration::ZERO);
    let mut last = None;
    for _ in 0..RUNS {
        let costing = RefCell::new((0, Duration::ZERO));
        let cost = |p: &Program| {
            let start = busy(began);
            let cost = lower::lower(p, &settings).ok().map(|l| forms::cost(&l, &settings));
            let mut c = costing.borrow_mut();
            *c = (c.0 + 1, c.1 + busy(began).saturating_sub(start));
            cost
        };
        let start = busy(began);
        let r = rewrite(program, &RewriteSettings::default(), &cost);
        whole += busy(began).saturating_sub(start);
        let (costed, costing) = costing.into_inner();
        costing_all += costing;
        last = Some((r, costed));
    }
    let (r, costed) = last.expect("there are runs");
    let mean = |d: Duration| d.as_secs_f64() * 1e3 / f64::from(RUNS);
    let (ms, costing) = (mean(whole), mean(costing_all));
    println!(
        "{name:<25} {:>7}  {:>8}  {:>5}  {:>10}  {costed:>6}  {:>12.1}  {costing:>10.1}  {:>11.1}",
        r.regions.0,
        r.regions.1,
        r.nodes,
        r.iterations,
        ms - costing,
        ms / r.regions.1.max(1) as f64
    );
    ms - costing <= MOST.as_secs_f64() * 1e3 * r.regions.1.max(1) as f64
}
