//! The text format: tokens, tree, parser, canonical printer, and programs as text.
//!
//! Parsing and printing know syntax alone; names, types and shapes are the verifier's work. Whatever the input, there is
//! no panic, and time and memory are bounded by [`limits`]. Files and terminals are the caller's business.

pub mod ast;
mod layout;
mod lex;
pub mod limits;
mod parse;
mod print;
mod program;
pub mod report;

pub(crate) use lex::shorten;
pub use parse::{is_name, parse};
pub use print::{print, quote};
pub use program::{dim_expr, print_program, program_tree};

#[cfg(test)]
mod tests;

use crate::diag::{Diagnostic, Span};

/// The text of a file's bytes (`E0009` where they are not UTF-8, `E0008` where there are too many).
pub fn source(bytes: &[u8]) -> Result<&str, Diagnostic> {
    if bytes.len() > limits::MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; at most {} are read", bytes.len(), limits::MAX_FILE_BYTES);
        return Err(Diagnostic::global("E0008", message).help("large constants belong into a weight file"));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        Diagnostic::at("E0009", Span::new(at, at + 1), format!("byte {at} is not part of any UTF-8 text"))
    })
}

/// The canonical text of a source text, comments kept, or what is wrong with its syntax.
pub fn format(source: &str) -> Result<String, Vec<Diagnostic>> {
    let (file, diagnostics) = parse(source);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let text = print(&file);
    if text.len() > limits::MAX_FILE_BYTES {
        let message =
            format!("the canonical text has {} bytes; at most {} are read", text.len(), limits::MAX_FILE_BYTES);
        return Err(vec![Diagnostic::global("E0008", message).help("large constants belong into a weight file")]);
    }
    Ok(text)
}
