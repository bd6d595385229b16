//! The uncased BERT tokenizer: text to token ids.
//!
//! Promises the ids that the published tokenizer of the model gives, for any text: clean, separate ideographs, strip
//! accents, lower the case, split at white space and punctuation, then cut each word into the longest pieces that the
//! vocabulary has ("WordPiece", Wu et al. 2016; the normalisation is that of Devlin et al. 2018).
//! Characters younger than that tokenizer's Unicode tables are the exception: it does not know which of them are marks or
//! punctuation. None is in the vocabulary.
//! Lacks pairs of sentences, offsets into the text and decoding, which embeddings do not need.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// A word of more characters than this becomes one `[UNK]`: the limit that the model was trained with.
const LONGEST_WORD: usize = 100;
/// Marks a piece that continues a word.
const CONTINUATION: &str = "##";
/// Far above any vocabulary in use (231 kB here); a larger file is not a vocabulary.
const LARGEST_VOCABULARY_BYTES: u64 = 16 << 20;

/// A vocabulary with its special tokens found.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pieces: BTreeMap<String, i64>,
    unknown: i64,
    start: i64,
    end: i64,
    padding: i64,
    /// Tokens that stand for themselves when a text spells them out, such as `[MASK]`.
    special: Vec<(&'static str, i64)>,
}

/// Why a vocabulary was rejected.
#[derive(Debug)]
pub enum VocabularyError {
    /// The file could not be read.
    Unreadable(PathBuf, io::Error),
    /// The file is larger than any vocabulary: its path.
    TooLarge(PathBuf),
    /// The same piece on two lines, counted from 1.
    Repeated(String, usize, usize),
    /// A special token that no line holds.
    Missing(&'static str),
}

impl fmt::Display for VocabularyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read the vocabulary {}: {error}", path.display()),
            Self::TooLarge(path) => write!(
                f,
                "{} is not a vocabulary: it has more than {} MiB",
                path.display(),
                LARGEST_VOCABULARY_BYTES >> 20
            ),
            Self::Repeated(piece, first, second) => {
                write!(f, "the vocabulary has {piece:?} on line {first} and again on line {second}")
            }
            Self::Missing(token) => {
                write!(f, "the vocabulary has no line {token}; is it that of an uncased BERT model?")
            }
        }
    }
}

impl std::error::Error for VocabularyError {}

impl Tokenizer {
    /// Reads `vocab.txt`: one piece a line, its id the line's number from 0.
    pub fn load(path: &Path) -> Result<Self, VocabularyError> {
        let unreadable = |error| VocabularyError::Unreadable(path.to_path_buf(), error);
        let file = File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        // one byte past the limit tells a file at the limit from one above it, whatever its metadata say
        file.take(LARGEST_VOCABULARY_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > LARGEST_VOCABULARY_BYTES {
            return Err(VocabularyError::TooLarge(path.to_path_buf()));
        }
        Self::from_lines(&text)
    }

    /// A vocabulary from the text of `vocab.txt`.
    pub fn from_lines(text: &str) -> Result<Self, VocabularyError> {
        let mut pieces = BTreeMap::new();
        for (line, piece) in text.lines().enumerate() {
            if let Some(first) = pieces.insert(piece.to_owned(), line as i64) {
                return Err(VocabularyError::Repeated(piece.to_owned(), first as usize + 1, line + 1));
            }
        }
        let find = |token| pieces.get(token).copied().ok_or(VocabularyError::Missing(token));
        let (padding, unknown, start, end) = (find("[PAD]")?, find("[UNK]")?, find("[CLS]")?, find("[SEP]")?);
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let special = special.into_iter().filter_map(|token| Some((token, *pieces.get(token)?))).collect();
        Ok(Self { pieces, unknown, start, end, padding, special })
    }

    /// The id that fills short rows of a batch.
    pub fn padding(&self) -> i64 {
        self.padding
    }

    /// The ids of `text` between `[CLS]` and `[SEP]`: at most `longest` of them, those two included and never cut;
    /// what does not fit is dropped from the end of the text.
    pub fn encode(&self, text: &str, longest: usize) -> Vec<i64> {
        let room = longest.saturating_sub(2);
        let mut ids = vec![self.start];
        let mut rest = text;
        // a text much longer than the model reads is not tokenized to its end
        while !rest.is_empty() && ids.len() <= room {
            let (plain, token, after) = self.next_special(rest);
            self.encode_plain(plain, room + 1, &mut ids);
            ids.extend(token);
            rest = after;
        }
        ids.truncate(room + 1);
        ids.push(self.end);
        ids
    }

    /// Splits `text` at the first special token spelled out in it: (before, its id, after).
    fn next_special<'t>(&self, text: &'t str) -> (&'t str, Option<i64>, &'t str) {
        let found = self.special.iter().filter_map(|&(token, id)| Some((text.find(token)?, token, id))).min();
        match found {
            Some((at, token, id)) => (&text[..at], Some(id), &text[at + token.len()..]),
            None => (text, None, ""),
        }
    }

    /// Appends the ids of a text without special tokens; stops once `ids` has `enough`.
    fn encode_plain(&self, text: &str, enough: usize, ids: &mut Vec<i64>) {
        let mut word = String::new();
        for character in normalized(text) {
            let separates = character.is_whitespace();
            let alone = is_punctuation(character);
            if separates || alone {
                self.encode_word(&word, ids);
                word.clear();
            }
            if alone {
                self.encode_word(character.encode_utf8(&mut [0; 4]), ids);
            } else if !separates {
                word.push(character);
            }
            if ids.len() >= enough {
                return;
            }
        }
        self.encode_word(&word, ids);
    }

    /// Appends the pieces of one word, the longest first from its start; one `[UNK]` when the pieces do not cover it.
    fn encode_word(&self, word: &str, ids: &mut Vec<i64>) {
        if word.is_empty() {
            return;
        }
        if word.chars().count() > LONGEST_WORD {
            ids.push(self.unknown);
            return;
        }
        let before = ids.len();
        let mut piece = String::new();
        let mut start = 0;
        while start < word.len() {
            let rest = &word[start..];
            let ends = rest.char_indices().map(|(at, character)| at + character.len_utf8()).rev();
            let longest = ends.into_iter().find_map(|end| {
                piece.clear();
                piece.push_str(if start == 0 { "" } else { CONTINUATION });
                piece.push_str(&rest[..end]);
                Some((end, *self.pieces.get(piece.as_str())?))
            });
            let Some((end, id)) = longest else {
                ids.truncate(before);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            start += end;
        }
    }
}

/// The characters of `text` as the vocabulary spells them: controls removed, white space made plain, ideographs between
/// spaces, accents stripped, lower case. Case is lowered a character at a time: no final sigma.
fn normalized(text: &str) -> impl Iterator<Item = char> + '_ {
    let cleaned = text.chars().filter(|&character| !is_removed(character));
    let separated = cleaned.flat_map(|character| {
        let (character, space) = match character {
            _ if character.is_whitespace() => (' ', None),
            _ => (character, is_ideograph(character).then_some(' ')),
        };
        space.into_iter().chain([character]).chain(space)
    });
    separated
        .nfd()
        .filter(|character| character.general_category() != GeneralCategory::NonspacingMark)
        .flat_map(char::to_lowercase)
}

/// Whether cleaning drops a character: NUL, the replacement character, controls, formats and private use. The three
/// controls that end lines or tabulate are white space instead.
fn is_removed(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        _ => matches!(
            character.general_category(),
            GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse
        ),
    }
}

/// Whether a character is a word by itself: Unicode punctuation, and the ASCII symbols that look like it, such as `$`.
fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation() || character.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// Whether a character is written without spaces around it in Chinese and Japanese, so that each is a word: the CJK
/// ideograph blocks that the vocabulary was made with (kana and hangul are not among them).
fn is_ideograph(character: char) -> bool {
    matches!(character,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}' | '\u{2b740}'..='\u{2b81f}'
        | '\u{2b920}'..='\u{2ceaf}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests;
