//! `mixc check`.

use super::{Format, output};
use clap::Args;
use mixc::Error;
use mixc::ir::diag::Diagnostic;
use std::path::PathBuf;

/// Arguments.
#[derive(Args, Debug)]
pub struct Check {
    /// Models (`-` is standard input)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Checks every file; the error holds the last file's findings when there are any.
pub fn run(c: &Check) -> Result<(), Error> {
    let mut findings = Vec::new();
    let mut failed = Vec::new();
    for file in &c.files {
        let checked = output::read_text(file).and_then(|text| mixc::check(&text, &output::display_name(file)));
        if let Err(e) = checked {
            match &e {
                Error::Rejected { file, source, diagnostics } => {
                    findings.extend(mixc::ir::text::report::entries(file, source, diagnostics));
                }
                // A file that cannot be read has no place to point at.
                other => {
                    let unread = [Diagnostic::global("E0000", other.to_string())];
                    findings.extend(mixc::ir::text::report::entries(&output::display_name(file), "", &unread));
                }
            }
            failed.push(e);
        }
    }
    if c.format == Format::Json {
        println!("{}", serde_json::json!({ "errors": findings }));
    }
    let last = failed.pop();
    if c.format != Format::Json {
        let common = super::Common { quiet: false, verbose: false, json: false };
        for e in &failed {
            super::report::error(e, &common);
        }
    }
    last.map_or(Ok(()), Err)
}
