//! `mixc compile`.

use super::{Common, Compiling};
use clap::{Args, ValueEnum};
use mixc::artefacts::{Emit, Wanted};
use mixc::{Error, Target};
use std::path::PathBuf;

/// Arguments.
#[derive(Args, Debug)]
pub struct Compile {
    /// The model (`-` is standard input)
    file: PathBuf,
    /// The directory for the artefacts
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Which artefacts: obj lib header pc cmake crate manifest ir, of CUDA targets cu cubin ptx stub manifest ir (default: all
    /// but ir)
    #[arg(long, value_delimiter = ',')]
    emit: Vec<String>,
    /// Put the weights into the object
    #[arg(long)]
    embed_weights: bool,
    /// Tuning: off, cached (records that exist are used)
    #[arg(long, value_enum, default_value_t)]
    tune: Tune,
    #[command(flatten)]
    compiling: Compiling,
}

/// Whether tuning records are used. There are none yet, so both compile the same.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Tune {
    Off,
    #[default]
    Cached,
}

/// Compiles and writes.
pub fn run(c: &Compile, common: Common) -> Result<(), Error> {
    let target = Target::parse(&c.compiling.target)?;
    let emit = c.emit.iter().map(|n| Emit::parse(n, &target)).collect::<Result<Vec<_>, _>>()?;
    let model = c.compiling.load(&c.file)?;
    let stages = model.stages(&target, &c.compiling.request())?;
    let wanted = Wanted { emit, embed_weights: c.embed_weights, target_name: c.compiling.target.clone() };
    let written = mixc::artefacts::write(&model, &stages, &target, &wanted, &c.output)?;
    if !common.quiet {
        for path in written {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}
