//! The `mixc` command line: arguments in, one command run, errors said once, an exit code with meaning.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A reader that has seen enough (`mixc forms | head`) is no error.
    cli::output::die_quietly_on_closed_pipe();
    cli::report::explain_panics();
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let common = arguments.common();
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            cli::report::error(&e, &common);
            ExitCode::from(e.exit_code())
        }
    }
}
