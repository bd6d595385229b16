//! Standard streams: reading `-`, tables, closed pipes.

use mixc::Error;
use std::io::Read;
use std::path::Path;

/// Text of a file, or of standard input for `-`; the size is checked before the text is read.
pub fn read_text(file: &Path) -> Result<String, Error> {
    let limit = mixc::text_size_limit();
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(limit + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| Error::io(file, e))?;
    mixc::decode_text(&bytes, &display_name(file))
}

/// A file's name in messages.
pub fn display_name(file: &Path) -> String {
    if file == Path::new("-") { "<stdin>".into() } else { file.display().to_string() }
}

/// Ends the process without a word when the reader of standard output has gone.
pub fn die_quietly_on_closed_pipe() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let broken = info
            .payload()
            .downcast_ref::<String>()
            .is_some_and(|m| m.contains("failed printing to stdout") && m.contains("Broken pipe"));
        if broken {
            std::process::exit(0);
        }
        usual(info);
    }));
}

/// Rows as columns of equal width, the first row a heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            let pad = widths[c].saturating_sub(cell.chars().count());
            // Numbers to the right, words to the left; the first column is words.
            let number = c > 0 && cell.starts_with(|ch: char| ch.is_ascii_digit() || ch == '-');
            if c > 0 {
                line.push_str("  ");
            }
            if number {
                line.push_str(&" ".repeat(pad));
            }
            line.push_str(cell);
            if !number {
                line.push_str(&" ".repeat(pad));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Rows as a Markdown table.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (k, row) in rows.iter().enumerate() {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
        if k == 0 {
            out.push_str(&format!("|{}\n", " --- |".repeat(row.len())));
        }
    }
    out
}
