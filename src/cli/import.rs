//! `mixc import`.

use super::Common;
use clap::{Args, Subcommand};
use mixc::Error;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Args, Debug)]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand, Debug)]
enum From {
    /// A Hugging Face directory: config.json and safetensors
    Hf {
        /// The directory
        dir: PathBuf,
        /// The IR file to write (`-` is standard output)
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Imports a model.
pub fn run(c: &Import, common: Common) -> Result<(), Error> {
    let From::Hf { dir, output } = &c.from;
    let home = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = mixc::import::hf(dir, home)?;
    if output == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(output, text).map_err(|e| Error::io(output, e))?;
    if !common.quiet {
        eprintln!("wrote {}", output.display());
    }
    Ok(())
}
