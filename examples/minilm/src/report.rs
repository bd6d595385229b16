//! What is printed: a table for a person, or JSON for a program.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// Characters of a sentence that the table shows.
const SHOWN: usize = 48;

/// Everything that one run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The sentences in the order given.
    pub sentences: Vec<Sentence>,
    /// Tokens of each row of the batch, padding included.
    pub padded_tokens: usize,
    /// The target as it was asked for.
    pub target: String,
    /// Time to import and compile the model, in milliseconds.
    pub compile_ms: f64,
    /// Time to embed the whole batch once, in milliseconds.
    pub embed_ms: f64,
    /// The cosine of every pair.
    pub similarities: Vec<Vec<f64>>,
}

/// One sentence.
#[derive(Debug, Clone, Serialize)]
pub struct Sentence {
    /// The text as given.
    pub text: String,
    /// Its tokens, the two special ones included.
    pub tokens: usize,
}

/// Milliseconds of a time.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Report {
    /// A row a sentence: number, tokens, its similarity with each sentence, text; then the times.
    pub fn table(&self) -> String {
        let mut text = format!("{:>3}  {:>6}", "", "tokens");
        for column in 1..=self.sentences.len() {
            // writing to a string does not fail
            let _ = write!(text, " {column:>6}");
        }
        text.push('\n');
        // the texts come last: characters take different widths on a terminal
        for (index, (sentence, row)) in self.sentences.iter().zip(&self.similarities).enumerate() {
            let _ = write!(text, "{:>3}  {:>6}", index + 1, sentence.tokens);
            for similarity in row {
                let _ = write!(text, " {similarity:>6.3}");
            }
            let _ = writeln!(text, "  {}", shortened(&sentence.text));
        }
        let (count, padded) = (self.sentences.len(), self.padded_tokens);
        let plural = if count == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "{count} sentence{plural} of {padded} tokens with padding: embedded in {:.1} ms, compiled for {} in {:.0} ms",
            self.embed_ms, self.target, self.compile_ms
        );
        text
    }

    /// The same as JSON, times in milliseconds.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The start of a text on one line: nothing in it can move the cursor.
fn shortened(text: &str) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let mut characters = text.chars().map(plain);
    let mut short: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let sentence = |text: &str, tokens| Sentence { text: text.to_owned(), tokens };
        Report {
            sentences: vec![sentence("one\u{1b}[2J\ntwo", 5), sentence(&"é".repeat(49), 9)],
            padded_tokens: 9,
            target: "native".to_owned(),
            compile_ms: 312.4,
            embed_ms: 4.56,
            similarities: vec![vec![1.0, -0.25], vec![-0.25, 1.0]],
        }
    }

    #[test]
    fn the_table_is_as_documented() {
        let expected = format!(
            "     tokens      1      2\n  1       5  1.000 -0.250  one [2J two\n  2       9 -0.250  1.000  {}…\n\
             2 sentences of 9 tokens with padding: embedded in 4.6 ms, compiled for native in 312 ms\n",
            "é".repeat(47)
        );
        assert_eq!(report().table(), expected);
    }

    #[test]
    fn json_holds_the_texts_unshortened() {
        let value: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!(value["sentences"][0]["text"], "one\u{1b}[2J\ntwo");
        assert_eq!(value["sentences"][1]["tokens"], 9);
        assert_eq!(value["similarities"][1][0], -0.25);
    }

    #[test]
    fn a_text_that_just_fits_is_whole() {
        assert_eq!(shortened(&"x".repeat(SHOWN)), "x".repeat(SHOWN));
        assert_eq!(milliseconds(Duration::from_micros(1500)), 1.5);
    }
}
