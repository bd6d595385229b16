//! `mixc fmt`.

use super::{Common, output};
use clap::Args;
use mixc::Error;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Args, Debug)]
pub struct Fmt {
    /// Models (`-` formats standard input to standard output)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; exit with 1 when a file is not in canonical form
    #[arg(long)]
    check: bool,
}

/// Formats every file.
pub fn run(c: &Fmt, common: Common) -> Result<(), Error> {
    let mut unformatted = Vec::new();
    for file in &c.files {
        let text = output::read_text(file)?;
        let formatted = mixc::format(&text, &output::display_name(file))?;
        if file == Path::new("-") && !c.check {
            print!("{formatted}");
        } else if formatted != text {
            if c.check {
                unformatted.push(output::display_name(file));
            } else {
                std::fs::write(file, formatted).map_err(|e| Error::io(file, e))?;
                if common.verbose {
                    eprintln!("formatted {}", file.display());
                }
            }
        }
    }
    if unformatted.is_empty() {
        return Ok(());
    }
    let d = mixc::ir::diag::Diagnostic::global("E0001", "not in canonical form").help("run `mixc fmt` on it");
    for f in &unformatted[1..] {
        eprintln!("{f}: {d}");
    }
    Err(Error::rejected(Path::new(&unformatted[0]), vec![d]))
}
