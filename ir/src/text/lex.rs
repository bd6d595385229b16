//! Tokens of the text format, one at a time, with comments kept aside.
//!
//! Newlines are no tokens: a token knows whether a line starts with it. What is no token at all becomes one
//! [`TokenKind::Bad`] a run, with its diagnostic already recorded.

use super::limits;
use crate::diag::{Diagnostic, Span};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A bare word.
    Name,
    /// `%name`.
    Value,
    /// `@name`.
    Func,
    /// Digits.
    Int,
    /// A number with a point or an exponent.
    Float,
    /// A quoted string.
    Str,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// `[`
    LeftBracket,
    /// `]`
    RightBracket,
    /// `{`
    LeftBrace,
    /// `}`
    RightBrace,
    /// `,`
    Comma,
    /// `:`
    Colon,
    /// `=`
    Equals,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Star,
    /// `/`
    Slash,
    /// `..`
    Range,
    /// `->`
    Arrow,
    /// The end of the file.
    End,
    /// Not a token; already reported.
    Bad,
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is.
    pub span: Span,
    /// Whether it is the first of its line.
    pub line_start: bool,
    /// Whether an empty line lies between it and what stands before it.
    pub blank_before: bool,
}

/// A comment, as found between tokens.
#[derive(Clone, Copy, Debug)]
pub struct RawComment {
    /// From `//` to the end of the line, trailing space excluded.
    pub span: Span,
    /// Whether no token precedes it on its line.
    pub own_line: bool,
    /// Whether an empty line lies between it and what stands before it.
    pub blank_before: bool,
}

/// Reads tokens from a source text.
#[derive(Debug)]
pub struct Lexer<'s> {
    source: &'s str,
    at: usize,
    /// Newlines since the last token or comment; the file starts like a line.
    newlines: usize,
    fresh_line: bool,
    /// Comments met since the caller last took them.
    pub comments: Vec<RawComment>,
    /// What is wrong so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl<'s> Lexer<'s> {
    /// Starts at the beginning of `source`, behind a byte order mark.
    pub fn new(source: &'s str) -> Lexer<'s> {
        let at = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lexer { source, at, newlines: 0, fresh_line: true, comments: Vec::new(), diagnostics: Vec::new() }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Goes to the end: no tokens follow.
    pub fn stop(&mut self) {
        self.at = self.source.len();
    }

    /// The next token.
    pub fn token(&mut self) -> Token {
        self.skip_space();
        let (line_start, blank_before) = (self.fresh_line, self.newlines > 1);
        (self.fresh_line, self.newlines) = (false, 0);
        let start = self.at;
        let kind = self.scan();
        Token { kind, span: Span::new(start, self.at), line_start, blank_before }
    }

    fn skip_space(&mut self) {
        loop {
            match self.byte(0) {
                b'\n' => {
                    self.newlines += 1;
                    self.fresh_line = true;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.byte(1) == b'/' => {
                    let rest = &self.source[self.at..];
                    let line = rest.split('\n').next().unwrap_or(rest);
                    self.comments.push(RawComment {
                        span: Span::new(self.at, self.at + line.trim_end().len()),
                        own_line: self.fresh_line,
                        blank_before: self.newlines > 1,
                    });
                    self.newlines = 0;
                    self.at += line.len();
                }
                _ => return,
            }
        }
    }

    fn scan(&mut self) -> TokenKind {
        use TokenKind::*;
        if self.at >= self.source.len() {
            return End;
        }
        let (kind, length) = match (self.byte(0), self.byte(1)) {
            (b'(', _) => (LeftParen, 1),
            (b')', _) => (RightParen, 1),
            (b'[', _) => (LeftBracket, 1),
            (b']', _) => (RightBracket, 1),
            (b'{', _) => (LeftBrace, 1),
            (b'}', _) => (RightBrace, 1),
            (b',', _) => (Comma, 1),
            (b':', _) => (Colon, 1),
            (b'=', _) => (Equals, 1),
            (b'+', _) => (Plus, 1),
            (b'-', b'>') => (Arrow, 2),
            (b'-', _) => (Minus, 1),
            (b'*', _) => (Star, 1),
            (b'/', _) => (Slash, 1),
            (b'.', b'.') => (Range, 2),
            (b'%', c) | (b'@', c) if is_name_start(c) => {
                let kind = if self.byte(0) == b'%' { Value } else { Func };
                return self.name(1, kind);
            }
            (c, _) if is_name_start(c) => return self.name(0, Name),
            (c, _) if c.is_ascii_digit() => return self.number(),
            (b'"', _) => return self.string(),
            _ => return self.garbage(),
        };
        self.at += length;
        kind
    }

    fn bad(&mut self, code: &'static str, start: usize, message: String, help: &str) -> TokenKind {
        let found = Diagnostic::at(code, Span::new(start, self.at.max(start + 1)), message);
        self.diagnostics.push(if help.is_empty() { found } else { found.help(help) });
        TokenKind::Bad
    }

    fn name(&mut self, sigil: usize, kind: TokenKind) -> TokenKind {
        let start = self.at;
        self.at += sigil;
        while is_name_part(self.byte(0)) {
            self.at += 1;
        }
        if self.at - start - sigil > limits::MAX_NAME {
            let message = format!("a name of {} bytes; at most {} are allowed", self.at - start, limits::MAX_NAME);
            return self.bad("E0508", start, message, "");
        }
        kind
    }

    /// Digits, then perhaps a fraction and an exponent. `1..8` is a number and a range.
    fn number(&mut self) -> TokenKind {
        let start = self.at;
        let digits = |lexer: &mut Lexer<'_>| {
            while lexer.byte(0).is_ascii_digit() {
                lexer.at += 1;
            }
        };
        digits(self);
        let mut kind = TokenKind::Int;
        if self.byte(0) == b'.' && self.byte(1) != b'.' {
            kind = TokenKind::Float;
            self.at += 1;
            digits(self);
        }
        if matches!(self.byte(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(1), b'+' | b'-'));
            if self.byte(1 + sign).is_ascii_digit() {
                kind = TokenKind::Float;
                self.at += 1 + sign;
                digits(self);
            }
        }
        if is_name_part(self.byte(0)) && self.byte(0) != b'.' {
            while is_name_part(self.byte(0)) {
                self.at += 1;
            }
            let text = shorten(&self.source[start..self.at]);
            return self.bad("E0004", start, format!("`{text}` is not a number"), "names start with a letter or `_`");
        }
        kind
    }

    fn string(&mut self) -> TokenKind {
        let start = self.at;
        self.at += 1;
        loop {
            match self.byte(0) {
                b'"' => break,
                b'\n' | 0 if self.at >= self.source.len() || self.byte(0) == b'\n' => {
                    return self.bad("E0002", start, "this string has no end".into(), "close it with `\"` on its line");
                }
                b'\\' if self.at + 1 < self.source.len() && self.byte(1) != b'\n' => {
                    self.at += 1 + char_len(self.byte(1));
                }
                c => self.at += char_len(c),
            }
        }
        self.at += 1;
        if self.at - start > limits::MAX_LITERAL {
            let message = format!("a string of {} bytes; at most {} are allowed", self.at - start, limits::MAX_STRING);
            return self.bad("E0508", start, message, "");
        }
        TokenKind::Str
    }

    /// One diagnostic for a run of characters that start no token.
    fn garbage(&mut self) -> TokenKind {
        let start = self.at;
        self.at += char_len(self.byte(0));
        let stops = |c: u8| c.is_ascii_whitespace() || is_name_part(c) || b"%@\"()[]{},:=+-*/".contains(&c);
        while self.at < self.source.len() && !stops(self.byte(0)) {
            self.at += char_len(self.byte(0));
        }
        let text = &self.source[start..self.at];
        let help = match text.as_bytes()[0] {
            b'#' | b';' => "comments start with `//`",
            b'%' => "a value is written `%name`",
            b'@' => "a function is written `@name`",
            b'\'' => "strings are written in double quotes",
            _ => "",
        };
        let text: String = shorten(text).escape_debug().collect();
        self.bad("E0001", start, format!("`{text}` means nothing here"), help)
    }

    /// Whether the line that starts at byte `at` reads `%a, %b =`: the beginning of a statement, however broken the
    /// lines before it are.
    pub fn defines_values(&self, at: usize) -> bool {
        let line = self.source[at..].split('\n').next().unwrap_or("");
        let Some((values, _)) = line.split_once('=') else { return false };
        values.len() <= limits::MAX_NAME * 16
            && values
                .split(',')
                .all(|v| v.trim().strip_prefix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(is_name_part)))
    }
}

/// Bytes of the UTF-8 character that starts with `first`.
fn char_len(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// Whether a name can start with `c`.
pub fn is_name_start(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_'
}

/// Whether a name can go on with `c`.
pub fn is_name_part(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'.'
}

/// At most the first 40 characters of `text`, for messages.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text.to_string(),
    }
}
