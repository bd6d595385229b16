//! Lines of printed text: width, continuation lines, and the column of trailing comments.

/// Columns of a line.
pub const WIDTH: usize = 120;

/// A printed line.
#[derive(Debug, Default)]
pub struct Line {
    /// The text, indented.
    pub text: String,
    /// The comment behind it.
    pub comment: Option<String>,
    /// Whether an empty line stands before it.
    pub blank_before: bool,
}

/// `text`, at `indent` columns, cut behind commas where it is too wide; continuation lines stand four columns further.
pub fn wrap(text: &str, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut width = indent;
    let mut empty = true;
    for piece in pieces(text) {
        let length = piece.trim_end().chars().count();
        if !empty && width + length > WIDTH {
            lines.push(line.trim_end().to_string());
            line = " ".repeat(indent + 4);
            width = indent + 4;
        }
        line.push_str(piece);
        width += piece.chars().count();
        empty = false;
    }
    lines.push(line.trim_end().to_string());
    lines
}

/// `text` cut behind every `, ` that is not within a string.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= bytes.len() {
            return None;
        }
        let (mut at, mut quoted) = (start, false);
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b',' if !quoted && bytes.get(at + 1) == Some(&b' ') => {
                    at += 2;
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        let end = at.min(bytes.len());
        let piece = &text[start..end];
        start = end;
        Some(piece)
    })
}

/// The lines as one text; comments behind neighbouring lines stand in one column.
pub fn join(lines: &[Line]) -> String {
    let mut out = String::new();
    let mut k = 0;
    while k < lines.len() {
        let commented = |line: &Line| line.comment.is_some() && !line.text.is_empty();
        let run = lines[k..]
            .iter()
            .enumerate()
            .take_while(|(n, line)| commented(line) && (*n == 0 || !line.blank_before))
            .count();
        let column = lines[k..k + run].iter().map(|line| line.text.chars().count()).max().unwrap_or(0) + 2;
        for line in &lines[k..k + run.max(1)] {
            if line.blank_before && !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&line.text);
            if let Some(comment) = &line.comment {
                if run > 0 {
                    let width = line.text.chars().count();
                    out.extend(std::iter::repeat_n(' ', column - width));
                }
                out.push_str(comment);
            }
            out.push('\n');
        }
        k += run.max(1);
    }
    out
}
