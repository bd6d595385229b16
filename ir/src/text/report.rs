//! Diagnostics as a person reads them, and as JSON. Pure functions: printing is the command line's work.

use crate::diag::{Diagnostic, Span};
use serde_json::{Value, json};
use std::fmt::Write;

/// Columns of a source line that are shown.
const SHOWN: usize = 160;

/// Where a byte of a text is, as editors count: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// The starts of the lines of a text, so that many places can be looked up.
#[derive(Debug)]
pub struct Lines<'s> {
    source: &'s str,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    /// The lines of `source`.
    pub fn new(source: &'s str) -> Lines<'s> {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(k, _)| k + 1)).collect();
        Lines { source, starts }
    }

    /// The position of a byte; one within a character counts as the character, one past the end as the end.
    pub fn position(&self, byte: usize) -> Position {
        let byte = floor_char(self.source, byte);
        let line = self.starts.partition_point(|s| *s <= byte);
        let start = self.starts[line - 1];
        Position { line, column: self.source[start..byte].chars().count() + 1 }
    }

    /// The text of a line (from 1), without its end.
    pub fn text(&self, line: usize) -> &'s str {
        let start = self.starts[line - 1];
        let end = self.starts.get(line).copied().unwrap_or(self.source.len());
        self.source[start..end].trim_end_matches(['\n', '\r'])
    }

    /// Characters of the part of a span that lies on the line it starts on; at least 1.
    fn length(&self, span: Span) -> usize {
        let start = floor_char(self.source, span.start as usize);
        let end = floor_char(self.source, span.end as usize).max(start);
        let text = &self.source[start..end];
        let on_line = text.split('\n').next().unwrap_or(text).trim_end();
        on_line.chars().count().max(1)
    }
}

fn floor_char(source: &str, byte: usize) -> usize {
    let mut byte = byte.min(source.len());
    while !source.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// Escape sequences of a terminal, or nothing.
struct Paint {
    red: &'static str,
    blue: &'static str,
    bold: &'static str,
    reset: &'static str,
}

const COLOR: Paint = Paint { red: "\x1b[1;31m", blue: "\x1b[1;34m", bold: "\x1b[1m", reset: "\x1b[0m" };
const PLAIN: Paint = Paint { red: "", blue: "", bold: "", reset: "" };

/// The diagnostics of the file named `file` as text: code and message, place, source line with the span underlined, and
/// remedy; an empty line between two. `color`: whether the text goes to a terminal that shows colours.
pub fn render(file: &str, source: &str, diagnostics: &[Diagnostic], color: bool) -> String {
    let lines = Lines::new(source);
    let paint = if color { COLOR } else { PLAIN };
    let mut out = String::new();
    for (k, found) in diagnostics.iter().enumerate() {
        if k > 0 {
            out.push('\n');
        }
        one(&mut out, file, &lines, found, &paint);
    }
    out
}

fn one(out: &mut String, file: &str, lines: &Lines<'_>, found: &Diagnostic, paint: &Paint) {
    let Paint { red, blue, bold, reset } = paint;
    let message = printable(&found.message);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{red}error[{}]{reset}{bold}: {message}{reset}", found.code);
    let Some(span) = found.span else {
        let _ = writeln!(out, "  {blue}-->{reset} {file}");
        if let Some(help) = &found.help {
            let _ = writeln!(out, "   {blue}={reset} help: {}", printable(help));
        }
        return;
    };
    let Position { line, column } = lines.position(span.start as usize);
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let _ = writeln!(out, "{gutter} {blue}-->{reset} {file}:{line}:{column}");
    let _ = writeln!(out, "{gutter} {blue}|{reset}");
    // A window of the line: the whole, if it is not enormous.
    let length = lines.length(span);
    let first = if column + length > SHOWN { column.saturating_sub(SHOWN / 2) } else { 0 };
    let shown: String =
        lines.text(line).chars().skip(first).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(out, "{blue}{number} |{reset} {}", shown.trim_end());
    let indent = column - 1 - first;
    let carets = "^".repeat(length.min((SHOWN + 1).saturating_sub(indent).max(1)));
    let _ = writeln!(out, "{gutter} {blue}|{reset} {}{red}{carets}{reset}", " ".repeat(indent));
    if let Some(help) = &found.help {
        let _ = writeln!(out, "{gutter} {blue}={reset} help: {}", printable(help));
    }
}

/// Text of the input in a message must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The diagnostics of the file named `file` as the entries of `{"errors": [...]}`: code, message, file, line, column,
/// length (in characters, on the first line), help. Without a place, line and column are 1 and length is 0.
pub fn entries(file: &str, source: &str, diagnostics: &[Diagnostic]) -> Vec<Value> {
    let lines = Lines::new(source);
    diagnostics
        .iter()
        .map(|found| {
            let at = found.span.map_or(Position { line: 1, column: 1 }, |s| lines.position(s.start as usize));
            let length = found.span.map_or(0, |s| lines.length(s));
            json!({
                "code": found.code,
                "message": found.message,
                "file": file,
                "line": at.line,
                "column": at.column,
                "length": length,
                "help": found.help,
            })
        })
        .collect()
}

/// What `check --format json` writes for files (name, text, diagnostics).
pub fn json(files: &[(&str, &str, &[Diagnostic])]) -> Value {
    let errors: Vec<Value> = files.iter().flat_map(|(file, source, found)| entries(file, source, found)).collect();
    json!({ "errors": errors })
}

/// One line for each diagnostic: `file:line:column: error[E0101]: message`, for logs and editors.
pub fn brief(file: &str, source: &str, diagnostics: &[Diagnostic]) -> String {
    let lines = Lines::new(source);
    let mut out = String::new();
    for found in diagnostics {
        let message = printable(&found.message);
        let _ = match found.span.map(|s| lines.position(s.start as usize)) {
            Some(at) => writeln!(out, "{file}:{}:{}: error[{}]: {message}", at.line, at.column, found.code),
            None => writeln!(out, "{file}: error[{}]: {message}", found.code),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_is_underlined_in_its_line() {
        let source = "ir 1\n  %é = gram %q,\r\n";
        let at = source.find("gram").unwrap();
        let found =
            Diagnostic::at("E0103", Span::new(at, at + 4), "there is no operation `gram`").help("did you mean it?");
        let expected = "\
error[E0103]: there is no operation `gram`
  --> a.ir:2:8
  |
2 |   %é = gram %q,
  |        ^^^^
  = help: did you mean it?
";
        assert_eq!(render("a.ir", source, std::slice::from_ref(&found), false), expected);
        let colored = render("a.ir", source, std::slice::from_ref(&found), true);
        assert!(colored.contains("\x1b[1;31m^^^^\x1b[0m"));
        let json = json(&[("a.ir", source, std::slice::from_ref(&found))]);
        assert_eq!(json["errors"][0]["line"], 2);
        assert_eq!(json["errors"][0]["column"], 8);
        assert_eq!(json["errors"][0]["length"], 4);
        assert_eq!(json["errors"][0]["help"], "did you mean it?");
        assert_eq!(brief("a.ir", source, &[found]), "a.ir:2:8: error[E0103]: there is no operation `gram`\n");
    }

    #[test]
    fn places_at_the_edges_of_a_text_are_shown() {
        for source in ["", "x", "é", "\n\n", "a\u{1b}[2Jb", &"x".repeat(100_000)] {
            for start in 0..source.len().min(4) + 2 {
                for end in [start, start + 1, source.len(), source.len() + 9] {
                    let found = Diagnostic::at("E0001", Span::new(start, end), "m");
                    let text = render("f", source, &[found], false);
                    assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_place_far_out_in_a_line_is_in_the_window() {
        let source = format!("{}@{}", "x".repeat(5000), "y".repeat(5000));
        let text = render("f", &source, &[Diagnostic::at("E0001", Span::new(5000, 5001), "m")], false);
        let lines: Vec<&str> = text.lines().collect();
        let column = lines[4].find('^').unwrap();
        assert_eq!(lines[3].as_bytes()[column], b'@', "{text}");
    }
}
