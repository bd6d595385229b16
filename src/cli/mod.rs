//! Arguments and dispatch: one file a command.

pub mod output;
pub mod report;

mod bench;
mod check;
mod compile;
mod explain;
mod fmt;
mod forms;
mod import;
mod info;
mod opt;
mod run;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mixc::{Error, ShapeArg};
use std::path::PathBuf;

/// Compiles long-sequence models, written as token mixing, into native code.
#[derive(Parser, Debug)]
#[command(name = "mixc", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 110)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    verbose: bool,
}

const EXAMPLES: &str = "Examples:
  mixc run examples/attention.ir --random 1 --shape T=1000 --check
  mixc explain examples/bert_layer.ir
  mixc import hf DIR -o model.ir && mixc compile model.ir -o build
  mixc bench model.ir --shape T=512 --threads 1

Exit codes: 0 done, 1 input rejected, 2 usage, 3 a numeric check failed, 5 target not available here, 101 a bug in mixc.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Parse and verify; every mistake of every file at once
    Check(check::Check),
    /// Write files in canonical form, in place
    Fmt(fmt::Fmt),
    /// Compile in memory and run
    Run(run::Run),
    /// Compile to an object, a header and what else links it
    Compile(compile::Compile),
    /// Time a model and its kernels
    Bench(bench::Bench),
    /// Show how what was written became what runs
    Explain(explain::Explain),
    /// Print the program after a stage
    Opt(opt::Opt),
    /// Write a model of another tool as IR
    Import(import::Import),
    /// The catalogue of operations and forms
    Forms(forms::Forms),
    /// This machine's targets, peaks and devices
    Info(info::Info),
}

/// What to print results as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// A table for documents
    Markdown,
}

/// Options of every command that compiles.
#[derive(Args, Clone, Debug)]
pub struct Compiling {
    /// native, x86-64-v3, x86-64-v4, znver4, aarch64, cpu, ref, ... (see `mixc info`)
    #[arg(long, env = "MIXC_TARGET", default_value = "native")]
    pub target: String,
    /// A dim's value, NAME=N, or its range and the value costs are reckoned at, NAME=MIN..MAX:TYPICAL
    #[arg(long = "shape", value_name = "NAME=N")]
    pub shapes: Vec<ShapeArg>,
    /// Weight files in place of those that the model names
    #[arg(long, value_name = "FILE")]
    pub weights: Vec<PathBuf>,
    /// Approximate rules that are allowed, by name
    #[arg(long, value_name = "NAME:...")]
    pub approx: Vec<String>,
    /// Form wanted for every mixing that it applies to
    #[arg(long, value_name = "FORM", hide = true)]
    pub force_form: Option<String>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl Compiling {
    /// As the library's request.
    pub fn request(&self) -> mixc::Request {
        mixc::Request { shapes: self.shapes.clone(), approx: self.approx.clone(), force_form: self.force_form.clone() }
    }

    /// The model in a file (`-` is standard input), verified, with its weights.
    pub fn load(&self, file: &std::path::Path) -> Result<mixc::Model, Error> {
        let text = output::read_text(file)?;
        let name = output::display_name(file);
        let home = file.parent().unwrap_or(std::path::Path::new("."));
        mixc::Model::from_text(&text, &name, home, &self.weights)
    }
}

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Only errors.
    pub quiet: bool,
    /// More than usual.
    pub verbose: bool,
    /// Whether errors are wanted as JSON.
    pub json: bool,
}

impl Arguments {
    /// How much is said.
    pub fn common(&self) -> Common {
        let json = match &self.command {
            Command::Check(c) => c.format == Format::Json,
            _ => false,
        };
        Common { quiet: self.quiet, verbose: self.verbose, json }
    }
}

/// Runs the command.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    let common = arguments.common();
    match arguments.command {
        Command::Check(c) => check::run(&c),
        Command::Fmt(c) => fmt::run(&c, common),
        Command::Run(c) => run::run(&c, common),
        Command::Compile(c) => compile::run(&c, common),
        Command::Bench(c) => bench::run(&c, common),
        Command::Explain(c) => explain::run(&c, common),
        Command::Opt(c) => opt::run(&c),
        Command::Import(c) => import::run(&c, common),
        Command::Forms(c) => forms::run(&c),
        Command::Info(c) => info::run(&c),
    }
}
