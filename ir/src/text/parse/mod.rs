//! Text to tree, by hand, with recovery: an error ends its statement, parameter or item, and reading goes on behind it,
//! so that one pass finds everything that is wrong with the text. Nesting is bounded by [`limits::MAX_DEPTH`].

mod expression;
mod item;
mod statement;

use super::ast::{At, Comment, File, Name, Trivia};
use super::lex::{Lexer, Token, TokenKind, is_name_part, shorten};
use super::limits;
use crate::diag::{Diagnostic, Span};

/// The tree of `source`, and everything that is wrong with the text, by position. What did not parse is left out of the
/// tree or stands in it as broken.
pub fn parse(source: &str) -> (File, Vec<Diagnostic>) {
    if source.len() > limits::MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; at most {} are read", source.len(), limits::MAX_FILE_BYTES);
        let found = Diagnostic::global("E0008", message).help("large constants belong into a weight file");
        return (File::default(), vec![found]);
    }
    let mut parser = Parser::new(source);
    let file = parser.file();
    let mut diagnostics = parser.lexer.diagnostics;
    diagnostics.extend(parser.diagnostics);
    diagnostics.sort_by_key(|d| (d.span, d.code));
    (file, diagnostics)
}

/// An error that is already recorded.
struct Reported;

type Parsed<T> = Result<T, Reported>;

/// A position in the tokens, with one token of lookahead.
struct Parser<'s> {
    source: &'s str,
    lexer: Lexer<'s>,
    token: Token,
    /// End of the token before.
    end: usize,
    diagnostics: Vec<Diagnostic>,
    /// Statements so far, of all functions.
    statements: usize,
    /// Nesting of the expression being read.
    depth: usize,
    /// Operators of the expression being read.
    operators: usize,
    /// Numbers and names of all expressions so far.
    expressions: usize,
    /// Whether the statement being read is within the braces of its attributes.
    in_attrs: bool,
    /// Whether the type being read is within its brackets.
    in_type: bool,
}

impl<'s> Parser<'s> {
    fn new(source: &'s str) -> Parser<'s> {
        let mut lexer = Lexer::new(source);
        let token = lexer.token();
        Parser {
            source,
            lexer,
            token,
            end: 0,
            diagnostics: Vec::new(),
            statements: 0,
            depth: 0,
            operators: 0,
            expressions: 0,
            in_attrs: false,
            in_type: false,
        }
    }

    fn advance(&mut self) -> Token {
        let next = self.lexer.token();
        self.end = self.token.span.end as usize;
        std::mem::replace(&mut self.token, next)
    }

    /// The letters of a token.
    fn text(&self, token: Token) -> &'s str {
        &self.source[token.span.start as usize..token.span.end as usize]
    }

    fn at(&self, kind: TokenKind) -> bool {
        self.token.kind == kind
    }

    /// Whether the present token is that bare word.
    fn at_word(&self, word: &str) -> bool {
        self.at(TokenKind::Name) && self.text(self.token) == word
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.at(kind);
        if found {
            self.advance();
        }
        found
    }

    /// From `start` to the end of the token before.
    fn since(&self, start: usize) -> At {
        At(Span::new(start, self.end.max(start)))
    }

    fn start(&self) -> usize {
        self.token.span.start as usize
    }

    fn report(&mut self, found: Diagnostic) -> Reported {
        self.diagnostics.push(found);
        Reported
    }

    /// The present token is not what should stand here.
    fn expected(&mut self, what: &str) -> Reported {
        let found = match self.token.kind {
            // The lexer has said what is wrong with it.
            TokenKind::Bad => return Reported,
            TokenKind::End => "the end of the file".to_string(),
            _ => format!("`{}`", shorten(self.text(self.token))),
        };
        // Something missing at the end of a line is best shown there, not at whatever starts the next line.
        let missing = self.token.line_start && self.end > 0;
        let (span, found) = match missing {
            true => (Span::new(self.end, self.end), "the end of the line".to_string()),
            false => (self.token.span, found),
        };
        self.report(Diagnostic::at("E0005", span, format!("expected {what}, found {found}")))
    }

    fn expect(&mut self, kind: TokenKind, what: &str) -> Parsed<Token> {
        if self.at(kind) { Ok(self.advance()) } else { Err(self.expected(what)) }
    }

    /// `count` things where at most `most` are allowed.
    fn check_count(&mut self, what: &str, count: usize, most: usize) -> Parsed<()> {
        if count <= most {
            return Ok(());
        }
        let message = format!("more than {most} {what}");
        Err(self.report(Diagnostic::at("E0508", self.token.span, message)))
    }

    /// `%name` or `@name`.
    fn sigil_name(&mut self, kind: TokenKind, what: &str) -> Parsed<Name> {
        let token = self.expect(kind, what)?;
        Ok(Name { text: self.text(token)[1..].to_string(), at: At(token.span) })
    }

    fn value_name(&mut self) -> Parsed<Name> {
        self.sigil_name(TokenKind::Value, "a value (`%name`)")
    }

    fn word(&mut self, what: &str) -> Parsed<Name> {
        if self.at_keyword() {
            return Err(self.expected(what));
        }
        let token = self.expect(TokenKind::Name, what)?;
        Ok(Name { text: self.text(token).to_string(), at: At(token.span) })
    }

    /// Takes the comments before the present token, and whether an empty line stands right before it.
    fn lead(&mut self) -> Trivia {
        let lead = self.take_comments();
        Trivia { lead, blank_before: self.token.blank_before, trail: None }
    }

    fn take_comments(&mut self) -> Vec<Comment> {
        let comments = std::mem::take(&mut self.lexer.comments);
        comments.into_iter().map(|c| self.comment(c.span, c.blank_before)).collect()
    }

    fn comment(&self, span: Span, blank_before: bool) -> Comment {
        Comment { text: self.source[span.start as usize..span.end as usize].to_string(), blank_before }
    }

    /// Sorts the comments met since `trivia.lead` was taken: those within go before, the one behind on the same line
    /// trails, the rest stays for what follows.
    fn trail(&mut self, trivia: &mut Trivia) {
        let end = self.end;
        let comments = std::mem::take(&mut self.lexer.comments);
        let (inside, behind): (Vec<_>, Vec<_>) = comments.into_iter().partition(|c| (c.span.start as usize) < end);
        trivia.lead.extend(inside.into_iter().map(|c| self.comment(c.span, false)));
        let mut behind = behind.into_iter().peekable();
        if let Some(c) = behind.next_if(|c| !c.own_line) {
            trivia.trail = Some(self.comment(c.span, false).text);
        }
        self.lexer.comments = behind.collect();
    }

    /// What was read must be the last of its line.
    fn end_of_line(&mut self) -> Parsed<()> {
        let ends = self.token.line_start || self.at(TokenKind::End) || self.at(TokenKind::RightBrace);
        if ends { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    /// Whether the present token starts an item.
    fn at_item(&self) -> bool {
        self.token.line_start
            && self.at(TokenKind::Name)
            && matches!(self.text(self.token), "ir" | "weights" | "dim" | "func")
            && !self.source[self.token.span.end as usize..]
                .trim_start_matches([' ', '\t'])
                .starts_with([',', '=', ':', ')', ']', '}', '+', '-', '*', '/'])
    }

    /// Whether the present token is a word that starts an item or statement here, rather than a name.
    fn at_keyword(&self) -> bool {
        self.at_item() || self.token.line_start && (self.at_word("const") || self.at_word("return"))
    }

    /// Whether the present token starts a statement or ends a body.
    fn at_statement(&self) -> bool {
        let word = |w: &str| self.at_word(w);
        self.at(TokenKind::RightBrace)
            || self.token.line_start
                && (word("const")
                    || word("return")
                    || self.at(TokenKind::Value) && self.lexer.defines_values(self.start()))
    }

    /// Gives up the rest of the file after a limit is passed.
    fn stop(&mut self) {
        self.lexer.stop();
        self.advance();
    }
}

/// The characters of a string literal (quotes included), or the place of a wrong escape within it.
fn unescape(literal: &str) -> Result<String, (usize, usize)> {
    let inner = &literal[1..literal.len() - 1];
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((k, c)) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let (_, escape) = chars.next().unwrap_or((k, ' '));
        let bad = |length: usize| (k + 1, k + 1 + length);
        out.push(match escape {
            '"' | '\\' | '\'' => escape,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'u' => {
                let rest = chars.as_str();
                let digits = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(digits, _)| digits);
                let digits = digits.filter(|d| (1..=6).contains(&d.len())).ok_or(bad(2))?;
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                for _ in 0..digits.len() + 2 {
                    chars.next();
                }
                code.ok_or(bad(digits.len() + 4))?
            }
            _ => return Err(bad(1 + escape.len_utf8())),
        });
    }
    Ok(out)
}

/// Whether `name` can stand behind `%`, `@`, or alone.
pub fn is_name(name: &str) -> bool {
    name.len() <= limits::MAX_NAME
        && name.bytes().next().is_some_and(super::lex::is_name_start)
        && name.bytes().all(is_name_part)
}
