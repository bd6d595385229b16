//! Random well-typed programs and systematic ones: the reference, the interpreter of tile programs and native code agree.
//!
//! `cargo test` runs a quick tier. `MIXC_RANDOM=N` tries N programs instead, `MIXC_SEED=K` starts at seed K,
//! `MIXC_ONLY=a,b` draws from these operations alone, and
//! `MIXC_REPORT=1` prints what was covered. A failure is shrunk and printed with its seed.

#[path = "random/check.rs"]
mod check;
#[path = "random/generate.rs"]
mod generate;
#[path = "random/layers.rs"]
mod layers;
#[path = "random/operators.rs"]
mod operators;
#[path = "random/shrink.rs"]
mod shrink;
#[path = "random/source.rs"]
mod source;
#[path = "random/systematic.rs"]
mod systematic;
#[path = "random/tensors.rs"]
mod tensors;

use check::Outcome;
use std::collections::BTreeMap;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn random_programs_agree_with_the_reference() {
    // A quick tier of about ten seconds on two cores.
    let count = number("MIXC_RANDOM").unwrap_or(120);
    let first = number("MIXC_SEED").unwrap_or(1);
    let report = number("MIXC_REPORT").is_some();
    let mut covered: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let progress = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("random_programs.{first}"));
    for seed in first..first + count {
        let source = generate::program(seed, &mut covered);
        if report {
            // Native code that crashes takes the test with it: this file then names the program.
            std::fs::write(&progress, format!("seed {seed}\n{}", source.text()))
                .expect("the target folder is writable");
        }
        let outcome = check::check(&source);
        let key = match &outcome {
            Outcome::Agrees => "agrees".to_string(),
            Outcome::Skipped(why) => format!("skipped: {why}"),
            Outcome::Fails { kind, .. } => format!("FAILS: {kind}"),
        };
        *outcomes.entry(key).or_default() += 1;
        if let Outcome::Fails { kind, message } = outcome {
            let small = shrink::shrink(&source, kind);
            let message = match check::check(&small) {
                Outcome::Fails { message, .. } => message,
                _ => message,
            };
            let text = format!("seed {seed}: {kind}: {message}\n{}at {:?}\n", small.text(), small.lengths);
            if report {
                eprintln!("{text}");
            }
            failures.push(text);
        }
    }
    if report {
        for (name, [proposed, accepted]) in &covered {
            eprintln!("{name}: {accepted} of {proposed}");
        }
        for op in mixc::ir::ops::all().filter(|op| !covered.contains_key(op.name)) {
            eprintln!("{}: never proposed", op.name);
        }
        for (key, n) in &outcomes {
            eprintln!("{n} {key}");
        }
    }
    assert!(failures.is_empty(), "{} of {count} programs fail:\n{}", failures.len(), failures.join("\n"));
}
