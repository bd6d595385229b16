//! Text as HTML, numbers as people read them, tables.

/// Text in which nothing is markup.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters have no place in a document.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Bytes with a unit.
pub fn bytes(n: f64) -> String {
    scaled(n, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Microseconds with a unit.
pub fn time(us: f64) -> String {
    if us < 1.0 { scaled(us * 1e3, 1e3, &["ns"]) } else { scaled(us, 1e3, &["µs", "ms"]) }
}

/// Operations with a unit.
pub fn count(n: f64) -> String {
    scaled(n, 1e3, &["", "k", "M", "G", "T"]).trim_end().to_string()
}

fn scaled(mut n: f64, step: f64, units: &[&str]) -> String {
    let mut k = 0;
    while n >= step && k + 1 < units.len() {
        n /= step;
        k += 1;
    }
    let digits = if n >= 100.0 || n == n.trunc() {
        0
    } else if n >= 10.0 {
        1
    } else {
        2
    };
    format!("{n:.digits$} {}", units[k])
}

/// A bar of `value` on a track that ends at `most`, with a mark at `bound`.
pub fn bar(value: f64, most: f64, bound: Option<f64>) -> String {
    let share = |x: f64| if most > 0.0 { (100.0 * x / most).clamp(0.0, 100.0) } else { 0.0 };
    let mark =
        bound.map_or(String::new(), |b| format!("<span class=\"bound\" style=\"left:{:.1}%\"></span>", share(b)));
    format!("<span class=\"track\"><span class=\"bar\" style=\"width:{:.1}%\"></span>{mark}</span>", share(value))
}

/// A cell of a table, as HTML.
pub enum Cell {
    /// Words.
    Text(String),
    /// Words that may break lines.
    Wide(String),
    /// A number.
    Number(String),
}

/// A row, and whether it is what runs.
pub type Row = (Vec<Cell>, bool);

/// A table with a heading.
pub fn table(heading: &[&str], rows: &[Row]) -> String {
    let numbers = |k: usize| rows.first().is_some_and(|(r, _)| matches!(r.get(k), Some(Cell::Number(_))));
    let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
    for (k, h) in heading.iter().enumerate() {
        let class = if numbers(k) { " class=\"number\"" } else { "" };
        out.push_str(&format!("<th{class}>{}</th>", escape(h)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (row, chosen) in rows {
        out.push_str(if *chosen { "<tr class=\"chosen\">" } else { "<tr>" });
        for cell in row {
            out.push_str(&match cell {
                Cell::Text(t) => format!("<td>{t}</td>"),
                Cell::Wide(t) => format!("<td class=\"wide\">{t}</td>"),
                Cell::Number(t) => format!("<td class=\"number\">{t}</td>"),
            });
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_text() {
        assert_eq!(escape("<a href=\"x\">&'\u{7}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!((bytes(0.0), bytes(1536.0), bytes(3e9)), ("0 B".into(), "1.50 KiB".into(), "2.79 GiB".into()));
        assert_eq!((time(0.5), time(12.34), time(5000.0)), ("500 ns".into(), "12.3 µs".into(), "5 ms".into()));
        assert_eq!((count(999.0), count(2.5e6)), ("999".into(), "2.50 M".into()));
    }
}
