//! Errors for people: once, on standard error, with the place and the remedy.

use super::Common;
use mixc::Error;
use std::io::IsTerminal;

/// Says an error.
pub fn error(e: &Error, common: &Common) {
    if let Error::Rejected { file, source, diagnostics } = e {
        if common.json {
            // `check --format json` prints its findings itself, on standard output.
            return;
        }
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        eprint!("{}", mixc::ir::text::report::render(file, source, diagnostics, colour));
        let n = diagnostics.len();
        if n > 1 {
            eprintln!("{n} errors");
        }
        return;
    }
    eprintln!("mixc: {e}");
    if matches!(e, Error::Bug(_)) {
        eprintln!("This is a bug in mixc. Please report it with the model and the command that led here.");
    }
}

/// A panic is a bug: it is said so, a reproducer is kept, and the exit code is 101.
pub fn explain_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        let path = std::env::temp_dir().join(format!("mixc-bug-{}.txt", std::process::id()));
        let command: Vec<String> = std::env::args().collect();
        let text = format!("version {}\ncommand {command:?}\n{info}\n", env!("CARGO_PKG_VERSION"));
        match std::fs::write(&path, text) {
            Ok(()) => eprintln!("This is a bug in mixc. Please report it with {} and the model.", path.display()),
            Err(_) => eprintln!("This is a bug in mixc. Please report it with the model and the command."),
        }
    }));
}
