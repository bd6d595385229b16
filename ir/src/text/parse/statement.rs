//! Statements: constants, operations, calls, `return`.

use super::{Parsed, Parser, Reported};
use crate::text::ast::{At, Attr, Name, Operand, Stmt, StmtKind, TypeExpr};
use crate::text::lex::TokenKind;
use crate::text::limits;

impl Parser<'_> {
    /// Statements up to the closing brace, or to what must be the next item.
    pub(super) fn body(&mut self) -> Vec<Stmt> {
        let mut body = Vec::new();
        while !self.at(TokenKind::RightBrace) && !self.at(TokenKind::End) && !self.at_item() {
            self.statements += 1;
            if self.check_count("statements", self.statements, limits::MAX_STATEMENTS).is_err() {
                self.stop();
                break;
            }
            body.push(self.statement());
        }
        body
    }

    fn statement(&mut self) -> Stmt {
        let mut trivia = self.lead();
        let start = self.start();
        let mut returns = self.at_word("return");
        let mut results = Vec::new();
        let kind = match self.statement_kind(&mut results).and_then(|kind| self.end_of_line().map(|()| kind)) {
            Ok(kind) => kind,
            Err(Reported) => {
                if self.start() == start {
                    self.advance();
                }
                returns |= self.skip_statement();
                StmtKind::Broken { results, returns }
            }
        };
        let at = self.since(start);
        self.trail(&mut trivia);
        Stmt { kind, at, trivia }
    }

    /// Goes to the next statement, or to the brace that closes the body: not one that closes attributes. Whether a
    /// `return` was among what was passed over.
    fn skip_statement(&mut self) -> bool {
        let mut returns = false;
        let mut braces = usize::from(std::mem::take(&mut self.in_attrs));
        while !self.at(TokenKind::End) && !self.at_item() {
            returns |= self.at_word("return") && !self.token.line_start;
            match self.token.kind {
                TokenKind::RightBrace if braces == 0 || self.token.line_start => break,
                TokenKind::RightBrace => braces -= 1,
                TokenKind::LeftBrace => braces += 1,
                _ if self.at_statement() => break,
                _ => {}
            }
            self.advance();
        }
        returns
    }

    /// Reads a statement; the names it defines go to `results`, so that they are known even when the rest is broken.
    fn statement_kind(&mut self, results: &mut Vec<Name>) -> Parsed<StmtKind> {
        if self.at_word("const") {
            self.advance();
            let name = self.value_name()?;
            results.push(name.clone());
            self.expect(TokenKind::Equals, "`=`")?;
            let value = self.constant()?;
            self.expect(TokenKind::Colon, "`:` and the constant's type")?;
            return Ok(StmtKind::Const { name, value, ty: self.type_expr()? });
        }
        if self.at_word("return") {
            self.advance();
            return Ok(StmtKind::Return(self.values("results")?));
        }
        if !self.at(TokenKind::Value) {
            let reported = self.expected("a statement");
            if self.at(TokenKind::Name)
                && let Some(found) = self.diagnostics.last_mut()
            {
                found.help = Some("name the result: `%y = ...`".into());
            }
            return Err(reported);
        }
        loop {
            self.check_count("results", results.len() + 1, limits::MAX_OPERANDS)?;
            let name = self.value_name()?;
            results.push(name);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::Equals, "`=`")?;
        let op = self.operation_name()?;
        if op.text == "call" {
            let func = self.sigil_name(TokenKind::Func, "a function (`@name`)")?;
            self.expect(TokenKind::LeftParen, "`(` and the arguments")?;
            let args = if self.at(TokenKind::RightParen) { Vec::new() } else { self.values("arguments")? };
            self.expect(TokenKind::RightParen, "`,` or `)`")?;
            return Ok(StmtKind::Call { results: results.clone(), func, args, types: self.types()? });
        }
        let operands = self.operands()?;
        let attrs = if self.at(TokenKind::LeftBrace) { self.attrs()? } else { Vec::new() };
        Ok(StmtKind::Op { results: results.clone(), op, operands, attrs, types: self.types()? })
    }

    fn operation_name(&mut self) -> Parsed<Name> {
        // `dense` is not among them: it is also the operation that makes an operator of a tensor.
        for word in ["const", "weight", "splat"] {
            if self.at_word(word) {
                let reported = self.expected("an operation");
                if let Some(found) = self.diagnostics.last_mut() {
                    found.help = Some("a constant is written `const %w = ... : type`".into());
                }
                return Err(reported);
            }
        }
        self.word("an operation")
    }

    /// `%a, %b`.
    fn values(&mut self, what: &str) -> Parsed<Vec<Name>> {
        let mut values = vec![self.value_name()?];
        while self.eat(TokenKind::Comma) {
            self.check_count(what, values.len() + 1, limits::MAX_OPERANDS)?;
            values.push(self.value_name()?);
        }
        Ok(values)
    }

    /// Operands start on the operation's line: the next line's `%` begins a statement.
    fn operands(&mut self) -> Parsed<Vec<Operand>> {
        let mut operands = Vec::new();
        if self.token.line_start || !(self.at(TokenKind::Value) || self.at_word("_")) {
            return Ok(operands);
        }
        loop {
            self.check_count("operands", operands.len() + 1, limits::MAX_OPERANDS)?;
            operands.push(if self.at_word("_") {
                Operand { name: None, at: At(self.advance().span) }
            } else {
                let name = self.sigil_name(TokenKind::Value, "a value (`%name`) or `_`")?;
                Operand { name: Some(name.text), at: name.at }
            });
            if !self.eat(TokenKind::Comma) {
                return Ok(operands);
            }
        }
    }

    /// `{key = value, flag}`.
    fn attrs(&mut self) -> Parsed<Vec<Attr>> {
        self.advance();
        self.in_attrs = true;
        let mut attrs = Vec::new();
        while !self.at(TokenKind::RightBrace) {
            self.check_count("attributes", attrs.len() + 1, limits::MAX_ATTRS)?;
            let name = self.word("an attribute's name")?;
            let value = if self.eat(TokenKind::Equals) { Some(self.attr_value()?) } else { None };
            attrs.push(Attr { name, value });
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightBrace, "`,` or `}`")?;
        self.in_attrs = false;
        Ok(attrs)
    }

    /// `: f32[2], f32[3]`, or nothing.
    fn types(&mut self) -> Parsed<Vec<TypeExpr>> {
        let mut types = Vec::new();
        if !self.eat(TokenKind::Colon) {
            return Ok(types);
        }
        loop {
            self.check_count("types", types.len() + 1, limits::MAX_OPERANDS)?;
            types.push(self.type_expr()?);
            if !self.eat(TokenKind::Comma) {
                return Ok(types);
            }
        }
    }
}
