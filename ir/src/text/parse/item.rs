//! Items: `ir`, `weights`, `dim`, `func`.

use super::{Parsed, Parser, Reported};
use crate::diag::Diagnostic;
use crate::text::ast::{At, Comment, File, Func, Item, ItemKind, Param, Trivia, TypeExpr};
use crate::text::lex::TokenKind;
use crate::text::limits;

impl Parser<'_> {
    pub(super) fn file(&mut self) -> File {
        let mut items = Vec::new();
        while !self.at(TokenKind::End) {
            if self.check_count("items", items.len() + 1, limits::MAX_ITEMS).is_err() {
                self.stop();
                break;
            }
            let mut trivia = self.lead();
            let start = self.start();
            let kind = match self.item(&mut trivia) {
                Ok(kind) => match self.end_of_line() {
                    Ok(()) => kind,
                    Err(Reported) => {
                        self.skip_to_item(start);
                        kind
                    }
                },
                Err(Reported) => {
                    self.skip_to_item(start);
                    ItemKind::Broken
                }
            };
            let at = self.since(start);
            self.trail(&mut trivia);
            items.push(Item { kind, at, trivia });
        }
        File { items, tail: self.take_comments() }
    }

    fn skip_to_item(&mut self, start: usize) {
        if self.start() == start {
            self.advance();
        }
        while !self.at(TokenKind::End) && !self.at_item() {
            self.advance();
        }
    }

    fn item(&mut self, trivia: &mut Trivia) -> Parsed<ItemKind> {
        match (self.token.kind, self.text(self.token)) {
            (TokenKind::Name, "ir") => {
                self.advance();
                let token = self.expect(TokenKind::Int, "a version (`ir 1`)")?;
                // Any number beyond the range is some unknown version.
                Ok(ItemKind::Version(self.text(token).parse().unwrap_or(i64::MAX)))
            }
            (TokenKind::Name, "weights") => {
                self.advance();
                let mut paths = vec![self.string()?];
                while self.eat(TokenKind::Comma) {
                    self.check_count("weight files", paths.len() + 1, limits::MAX_LIST)?;
                    paths.push(self.string()?);
                }
                Ok(ItemKind::Weights(paths))
            }
            (TokenKind::Name, "dim") => {
                self.advance();
                let name = self.word("a name (`dim T = 1..8192`)")?;
                self.expect(TokenKind::Equals, "`=`")?;
                let low = self.dim_expr()?;
                self.expect(TokenKind::Range, "`..`")?;
                Ok(ItemKind::Dim { name, low, high: self.dim_expr()? })
            }
            (TokenKind::Name, "func") => self.func(trivia).map(ItemKind::Func),
            _ => {
                let reported = self.expected("an item (`ir`, `weights`, `dim` or `func`)");
                if self.at(TokenKind::Value)
                    && let Some(found) = self.diagnostics.last_mut()
                {
                    found.help = Some("statements stand in the braces of a function".into());
                }
                Err(reported)
            }
        }
    }

    fn func(&mut self, trivia: &mut Trivia) -> Parsed<Func> {
        self.advance();
        let name = self.sigil_name(TokenKind::Func, "a name (`func @main`)")?;
        let mut params = Vec::new();
        let mut params_tail = Vec::new();
        let results = self.signature(&mut params, &mut params_tail).ok();
        if results.is_none() {
            // The body is still worth reading, if it can be found.
            while !self.at(TokenKind::LeftBrace) && !self.at(TokenKind::End) && !self.at_item() && !self.at_statement()
            {
                self.advance();
            }
        }
        let brace = self.token.span;
        let opened = self.eat(TokenKind::LeftBrace);
        if !opened && results.is_some() {
            return Err(self.expected("`{`"));
        }
        // Comments between the signature and its brace go before the function, the one behind the brace stays there.
        let mut around = Trivia::default();
        self.trail(&mut around);
        trivia.lead.append(&mut around.lead);
        let body = self.body();
        let tail = self.take_comments();
        let end = At(self.token.span);
        if !self.eat(TokenKind::RightBrace) && opened {
            let found = Diagnostic::at("E0006", brace, format!("the body of `@{}` is not closed", name.text));
            self.report(found.help("close it with `}`"));
        }
        Ok(Func { name, params, params_tail, results, open: around.trail, body, tail, end })
    }

    /// Parameters and result types.
    fn signature(&mut self, params: &mut Vec<Param>, params_tail: &mut Vec<Comment>) -> Parsed<Vec<TypeExpr>> {
        let mut broken = false;
        self.expect(TokenKind::LeftParen, "`(` and the parameters")?;
        while !self.at(TokenKind::RightParen) {
            self.check_count("parameters", params.len() + 1, limits::MAX_PARAMS)?;
            let mut trivia = self.lead();
            let name = match self.value_name() {
                Ok(name) => name,
                Err(Reported) => {
                    self.skip_param()?;
                    broken = true;
                    if self.eat(TokenKind::Comma) { continue } else { break }
                }
            };
            let ty = match self.param_type() {
                Ok(ty) => Some(ty),
                Err(Reported) => {
                    self.skip_param()?;
                    None
                }
            };
            let more = self.eat(TokenKind::Comma);
            self.trail(&mut trivia);
            params.push(Param { name, ty, trivia });
            if !more {
                break;
            }
        }
        *params_tail = self.take_comments();
        self.expect(TokenKind::RightParen, "`,` or `)`")?;
        self.expect(TokenKind::Arrow, "`->` and the result type")?;
        let mut results = Vec::new();
        if self.eat(TokenKind::LeftParen) {
            loop {
                self.check_count("results", results.len() + 1, limits::MAX_PARAMS)?;
                results.push(self.type_expr()?);
                if !self.eat(TokenKind::Comma) || self.at(TokenKind::RightParen) {
                    break;
                }
            }
            self.expect(TokenKind::RightParen, "`,` or `)`")?;
        } else {
            results.push(self.type_expr()?);
        }
        if broken { Err(Reported) } else { Ok(results) }
    }

    fn param_type(&mut self) -> Parsed<TypeExpr> {
        self.expect(TokenKind::Colon, "`:` and a type")?;
        let ty = self.type_expr()?;
        if self.at(TokenKind::Comma) || self.at(TokenKind::RightParen) {
            return Ok(ty);
        }
        Err(self.expected("`,` or `)`"))
    }

    /// Goes to the end of a parameter that did not parse.
    fn skip_param(&mut self) -> Parsed<()> {
        let mut brackets = usize::from(std::mem::take(&mut self.in_type));
        loop {
            match self.token.kind {
                TokenKind::Comma | TokenKind::RightParen if brackets == 0 => return Ok(()),
                TokenKind::LeftBracket => brackets += 1,
                TokenKind::RightBracket => brackets = brackets.saturating_sub(1),
                TokenKind::LeftBrace | TokenKind::End | TokenKind::Arrow => return Err(Reported),
                // The next line's parameter.
                TokenKind::Value if self.token.line_start => return Ok(()),
                _ if self.at_item() => return Err(Reported),
                _ => {}
            }
            self.advance();
        }
    }
}
