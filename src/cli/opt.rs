//! `mixc opt`.

use super::Compiling;
use clap::{Args, ValueEnum};
use mixc::{Error, Stage, Target};
use std::path::PathBuf;

/// Arguments.
#[derive(Args, Debug)]
pub struct Opt {
    /// The model (`-` is standard input)
    file: PathBuf,
    /// After which stage
    #[arg(long, value_enum)]
    stage: Name,
    #[command(flatten)]
    compiling: Compiling,
}

/// Stages by the names of the command line. Programs are fused and tiled as they are lowered: the three print the same.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    Parse,
    Expand,
    Rewrite,
    Lower,
    Fuse,
    Tile,
    Plan,
    Emit,
}

/// Prints a stage.
pub fn run(c: &Opt) -> Result<(), Error> {
    let target = Target::parse(&c.compiling.target)?;
    let model = c.compiling.load(&c.file)?;
    let stages = model.stages(&target, &c.compiling.request())?;
    let stage = match c.stage {
        Name::Parse => Stage::Parse,
        Name::Expand => Stage::Expand,
        Name::Rewrite => Stage::Rewrite,
        Name::Lower | Name::Fuse | Name::Tile => Stage::Lower,
        Name::Plan => Stage::Plan,
        Name::Emit => {
            print!("{}", mixc::artefacts::listing(&stages, &target)?);
            return Ok(());
        }
    };
    print!("{}", mixc::print_stage(&stages, stage));
    Ok(())
}
