//! The rewriter's work is bounded by counts, not by time: what it grows to, that equal layers are solved once, and that
//! nothing but its input decides what it gives.

mod models;

use mixc_ir::dim::DimValues;
use mixc_ir::machine::Machine;
use mixc_ir::program::Program;
use mixc_passes::rewrite::{RewriteSettings, Rewritten, rewrite};
use mixc_passes::{forms, lower};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Nodes that the last rule before the limit may add beyond it: the right side of the largest rule.
const LAST_RULE: usize = 64;

/// What is found does not depend on costs, so these are cheap.
fn saturate(program: &Program) -> Rewritten {
    let settings = RewriteSettings { costed: 2, ..RewriteSettings::default() };
    rewrite(program, &settings, &|p| Some(p.nodes.len() as f64))
}

/// Saturated, or stopped at a limit; says which.
fn bounded(name: &str, r: &Rewritten) -> bool {
    let limits = RewriteSettings::default();
    assert!(r.iterations <= limits.iteration_limit, "{name}: {} iterations", r.iterations);
    let (_, different) = r.regions;
    assert!(r.nodes <= different * (limits.node_limit + LAST_RULE), "{name}: {} nodes", r.nodes);
    r.saturated
}

#[test]
fn twelve_equal_layers_are_solved_as_one() {
    let (one, twelve) = (saturate(&models::encoder(1)), saturate(&models::encoder(12)));
    assert!(bounded("one layer", &one) && bounded("twelve layers", &twelve));
    assert_eq!(twelve.regions.0, 12 * one.regions.0);
    assert_eq!(twelve.regions.1, one.regions.1);
    assert_eq!((twelve.nodes, twelve.iterations), (one.nodes, one.iterations));
    assert!(one.nodes < 500, "{} nodes", one.nodes);
}

#[test]
fn twelve_layers_of_three_kinds_are_solved_as_three() {
    let (three, twelve) = (saturate(&models::hybrid(3)), saturate(&models::hybrid(12)));
    assert!(bounded("three layers", &three) && bounded("twelve layers", &twelve));
    assert_eq!(twelve.regions.0, 4 * three.regions.0);
    assert_eq!(twelve.regions.1, three.regions.1);
    assert_eq!((twelve.nodes, twelve.iterations), (three.nodes, three.iterations));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "ir")).collect();
    files.sort();
    files
}

/// Powers by squaring: 2^n as n products, each of which would associate with all others.
#[test]
fn powers_by_squaring_do_not_grow() {
    let squared = |times: usize, tail: (usize, &str)| {
        let squarings: String = (0..times).map(|k| format!("  %a{} = matmul %a{k}, %a{k}\n", k + 1)).collect();
        format!("func @main(%a0: f32[64, 64], %v: f32[64, 2]) -> f32[64, {}] {{\n{squarings}{}}}\n", tail.0, tail.1)
    };
    for (times, tail) in [(13, (64, "  return %a13\n")), (8, (2, "  %y = matmul %a8, %v\n  return %y\n"))] {
        let r = saturate(&models::expanded(&squared(times, tail)));
        assert!(bounded("powers", &r) && r.nodes <= 2 * times + 4, "{} nodes", r.nodes);
    }
}

#[test]
fn everything_there_is_saturates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut programs: Vec<(String, String)> =
        mixc_ir::ops::all().map(|op| (op.name.to_string(), op.example.to_string())).collect();
    for folder in
        ["../examples", "../examples/papers", "../examples/speed", "../tests/filetests/run", "../../shared/conformance"]
    {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("the file is read");
            programs.push((file.display().to_string(), text));
        }
    }
    let mut stopped = Vec::new();
    for (name, text) in programs {
        if mixc_ir::verify::check(&text).is_ok() && !bounded(&name, &saturate(&models::expanded(&text))) {
            stopped.push(name);
        }
    }
    assert!(stopped.is_empty(), "not saturated: {stopped:?}");
}

/// Everything that rewriting with real costs gives, in text.
fn outcome(program: &Program) -> String {
    let typical: DimValues = program.dims.iter().map(|d| (d.name.clone(), d.high.min(512))).collect();
    let settings = lower::Settings { typical: typical.clone(), machine: Machine::zen4(), force_form: None };
    let cost = |p: &Program| lower::lower(p, &settings).ok().map(|l| forms::cost(&l, &settings));
    let r = rewrite(program, &RewriteSettings::default(), &cost);
    format!("{r:?}")
}

#[test]
fn a_busy_machine_changes_nothing() {
    let programs = [models::encoder(2), models::hybrid(3)];
    let alone: Vec<String> = programs.iter().map(outcome).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| programs.iter().map(outcome).collect::<Vec<_>>())).collect();
        let crowded: Vec<_> = runs.into_iter().map(|r| r.join()).collect();
        done.store(true, Ordering::Relaxed);
        for found in crowded {
            assert!(found.expect("no run panics") == alone, "a run among others differs");
        }
    });
}
