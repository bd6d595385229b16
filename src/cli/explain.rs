//! `mixc explain`: how what was written became what runs.

use super::{Common, Compiling, Format, output};
use clap::Args;
use mixc::explain::{Explanation, explain};
use mixc::{Error, Target};
use std::path::PathBuf;

/// Arguments.
#[derive(Args, Debug)]
pub struct Explain {
    /// The model (`-` is standard input)
    file: PathBuf,
    /// Write a page of HTML with pictures, complete in itself (`-` is standard output)
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    #[command(flatten)]
    compiling: Compiling,
}

/// Prints the derivation, or writes it as a page.
pub fn run(c: &Explain, common: Common) -> Result<(), Error> {
    let target = Target::parse(&c.compiling.target)?;
    let model = c.compiling.load(&c.file)?;
    let stages = model.stages(&target, &c.compiling.request())?;
    let e = explain(&stages, &c.compiling.request(), &c.compiling.target);
    if let Some(path) = &c.html {
        let page = mixc::page::page(&stages, &e);
        if path.as_os_str() == "-" {
            print!("{page}");
            return Ok(());
        }
        std::fs::write(path, page).map_err(|e| Error::io(path, e))?;
        if !common.quiet {
            eprintln!("wrote {}", path.display());
        }
        return Ok(());
    }
    match c.compiling.format {
        Format::Json => println!("{}", e.json()),
        _ => print!("{}", text(&e)),
    }
    Ok(())
}

fn text(e: &Explanation) -> String {
    let mut out = format!("{} for {}", e.model, e.target);
    if e.approx.is_empty() {
        out.push_str(", exact\n");
    } else {
        out.push_str(&format!(", APPROXIMATE: {}\n", e.approx.join(", ")));
    }
    let at: Vec<String> = e.dims.iter().map(|(n, v)| format!("{n} = {v}")).collect();
    if !at.is_empty() {
        out.push_str(&format!("costs at {}\n", at.join(", ")));
    }
    out.push_str("\nRules\n");
    if e.rules.is_empty() {
        out.push_str("  none: it runs as it is written\n");
    }
    for r in &e.rules {
        out.push_str(&format!("  {} at %{}{}\n", r.name, r.site, if r.exact { "" } else { " (approximate)" }));
    }
    if e.candidates.len() > 1 {
        out.push_str("\nCandidates\n");
        let mut rows = vec![["", "cost", "chain"].map(String::from).to_vec()];
        for c in &e.candidates {
            let mark = if c.chosen { "chosen" } else { "" };
            let cost = c.cost_us.map_or("not lowered".into(), |us| format!("{us:.1} us"));
            rows.push(vec![
                mark.into(),
                cost,
                if c.rules.is_empty() { "as written".into() } else { c.rules.join(", ") },
            ]);
        }
        out.push_str(&output::table(&rows));
    }
    if !e.forms.is_empty() {
        out.push_str("\nForms\n");
        let mut rows = vec![["", "site", "form", "cost us", "KiB moved"].map(String::from).to_vec()];
        for f in &e.forms {
            rows.push(vec![
                if f.chosen { "chosen" } else { "" }.into(),
                f.site.clone(),
                f.form.clone(),
                format!("{:.1}", f.cost_us),
                format!("{:.0}", f.bytes / 1024.0),
            ]);
        }
        out.push_str(&output::table(&rows));
    }
    out.push_str("\nKernels\n");
    let heading = ["form", "site", "tile", "Mflop", "KiB moved", "KiB at least", "cost us"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for k in &e.kernels {
        let tile: Vec<String> = k.tile.iter().map(|(n, v)| format!("{n}={v}")).collect();
        rows.push(vec![
            k.form.clone(),
            k.site.clone(),
            tile.join(" "),
            format!("{:.2}", k.flops / 1e6),
            format!("{:.0}", k.bytes / 1024.0),
            format!("{:.0}", k.bytes_bound / 1024.0),
            format!("{:.1}", k.cost_us),
        ]);
    }
    out.push_str(&output::table(&rows));
    out.push_str(&format!(
        "\nMemory: arena {} bytes, live at once at most {} bytes ({})\n",
        e.arena_bytes, e.max_live_bytes, e.planner
    ));
    out
}
