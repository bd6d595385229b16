//! `mixc info`.

use super::{Format, output};
use clap::Args;
use mixc::Error;

/// Arguments.
#[derive(Args, Debug)]
pub struct Info {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prints what this machine has.
pub fn run(c: &Info) -> Result<(), Error> {
    let machine = mixc::Target::native()?.machine();
    let names = mixc::target_names();
    let targets: Vec<(String, Option<String>)> = names
        .iter()
        .copied()
        .chain(["ref", "cuda", "cuda:emu"])
        .map(|n| (n.to_string(), mixc::runs_here(n).err().map(|e| e.to_string())))
        .collect();
    // Asked once, before the emulator takes the driver's place.
    let cuda = targets.iter().find(|(n, _)| n == "cuda").and_then(|(_, why)| why.clone());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if c.format == Format::Json {
        let targets: Vec<_> = targets
            .iter()
            .map(|(n, why)| serde_json::json!({ "name": n, "runs_here": why.is_none(), "reason": why }))
            .collect();
        let caches: Vec<_> = machine
            .levels
            .iter()
            .map(|l| serde_json::json!({ "name": l.name, "bytes": l.bytes, "gbs": l.bandwidth / 1e9 }))
            .collect();
        let value = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "threads": threads,
            "targets": targets,
            "model": machine.name,
            "peaks": { "f32_gflops": machine.fma / 1e9, "bf16_gflops": machine.fma_bf16 / 1e9 },
            "caches": caches,
            "devices": [{ "name": "cpu", "available": true }, { "name": "cuda", "available": cuda.is_none(), "reason": cuda }],
        });
        println!("{value}");
        return Ok(());
    }
    println!("mixc {}, {threads} threads\n", env!("CARGO_PKG_VERSION"));
    let mut rows = vec![vec!["target".to_string(), "runs here".to_string()]];
    rows.extend(targets.into_iter().map(|(n, why)| vec![n, why.unwrap_or_else(|| "yes".into())]));
    print!("{}", output::table(&rows));
    println!("\ncosts are reckoned for {}: {:.0} GFLOP/s f32 a thread", machine.name, machine.fma / 1e9);
    for l in &machine.levels {
        println!("  {} {} KiB, {:.0} GB/s", l.name, l.bytes / 1024, l.bandwidth / 1e9);
    }
    Ok(())
}
