//! Expressions, types and literals.

use super::{Parsed, Parser, Reported, unescape};
use crate::attr::Real;
use crate::diag::{Diagnostic, Span};
use crate::text::ast::{At, Binary, Constant, Element, Expr, ExprKind, Number, Text, TypeExpr};
use crate::text::lex::{TokenKind, shorten};
use crate::text::limits;

impl Parser<'_> {
    fn too_deep(&mut self, span: Span) -> Reported {
        let message = format!("nested more than {} deep", limits::MAX_DEPTH);
        self.report(Diagnostic::at("E0007", span, message))
    }

    /// Reads with one level of nesting more.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= limits::MAX_DEPTH {
            return Err(self.too_deep(self.token.span));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > limits::MAX_OPERATORS {
            let message = format!("an expression of more than {} operators", limits::MAX_OPERATORS);
            return Err(self.report(Diagnostic::at("E0508", self.token.span, message)));
        }
        Ok(())
    }

    /// A dim: `T`, `2*T`, `ceil(T/8)`, `P+T-1`.
    pub(super) fn dim_expr(&mut self) -> Parsed<Expr> {
        (self.depth, self.operators) = (0, 0);
        self.sum()
    }

    /// An attribute's value: an expression, a string, a list.
    pub(super) fn attr_value(&mut self) -> Parsed<Expr> {
        (self.depth, self.operators) = (0, 0);
        let mut entries = 0;
        self.value(&mut entries)
    }

    fn value(&mut self, entries: &mut usize) -> Parsed<Expr> {
        let start = self.start();
        let kind = match self.token.kind {
            TokenKind::Str => ExprKind::Text(self.string()?.text),
            TokenKind::LeftBracket => self.nested(|p| p.list(entries))?,
            _ => {
                self.operators = 0;
                return self.sum();
            }
        };
        Ok(Expr { kind, at: self.since(start) })
    }

    fn list(&mut self, entries: &mut usize) -> Parsed<ExprKind> {
        self.advance();
        let mut items = Vec::new();
        while !self.at(TokenKind::RightBracket) {
            *entries += 1;
            self.check_count("entries in a list", *entries, limits::MAX_LIST)?;
            items.push(self.value(entries)?);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        Ok(ExprKind::List(items))
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let start = self.start();
        let mut left = if self.eat(TokenKind::Minus) {
            self.operator()?;
            if matches!(self.token.kind, TokenKind::Int | TokenKind::Float) {
                let number = self.negative(start)?;
                self.product(start, number)?
            } else {
                let first = self.factor()?;
                let term = self.product(start, first)?;
                Expr { kind: ExprKind::Neg(Box::new(term)), at: self.since(start) }
            }
        } else {
            let first = self.factor()?;
            self.product(start, first)?
        };
        loop {
            let binary = match self.token.kind {
                TokenKind::Plus => Binary::Add,
                TokenKind::Minus => Binary::Sub,
                _ => return Ok(left),
            };
            self.operator()?;
            self.advance();
            let from = self.start();
            let first = self.factor()?;
            let right = self.product(from, first)?;
            left = self.binary(binary, start, left, right);
        }
    }

    fn binary(&self, binary: Binary, start: usize, left: Expr, right: Expr) -> Expr {
        Expr { kind: ExprKind::Binary(binary, Box::new(left), Box::new(right)), at: self.since(start) }
    }

    /// The product that starts with `left`.
    fn product(&mut self, start: usize, mut left: Expr) -> Parsed<Expr> {
        loop {
            let binary = match self.token.kind {
                TokenKind::Star => Binary::Mul,
                TokenKind::Slash => Binary::Div,
                _ => return Ok(left),
            };
            self.operator()?;
            self.advance();
            let right = self.factor()?;
            left = self.binary(binary, start, left, right);
        }
    }

    fn factor(&mut self) -> Parsed<Expr> {
        let start = self.start();
        self.expressions += 1;
        if self.expressions > limits::MAX_EXPRESSIONS {
            let message = format!("more than {} numbers and names in expressions", limits::MAX_EXPRESSIONS);
            let reported = self.report(Diagnostic::at("E0508", self.token.span, message));
            self.stop();
            return Err(reported);
        }
        let kind = match self.token.kind {
            TokenKind::Int | TokenKind::Float => self.number_kind(false, start)?,
            TokenKind::Name if !self.at_keyword() => {
                let token = self.advance();
                if self.text(token) == "ceil" && self.at(TokenKind::LeftParen) {
                    let inner = self.parenthesised()?;
                    ExprKind::Ceil(Box::new(inner))
                } else {
                    ExprKind::Name(self.text(token).to_string())
                }
            }
            TokenKind::LeftParen => {
                // Parentheses are no node of their own; the place includes them.
                let inner = self.parenthesised()?;
                return Ok(Expr { kind: inner.kind, at: self.since(start) });
            }
            TokenKind::Minus => {
                self.advance();
                self.operator()?;
                if matches!(self.token.kind, TokenKind::Int | TokenKind::Float) {
                    return self.negative(start);
                }
                // As deep as there are operators, which are counted.
                ExprKind::Neg(Box::new(self.factor()?))
            }
            _ => return Err(self.expected("a number, a name or `(`")),
        };
        Ok(Expr { kind, at: self.since(start) })
    }

    fn parenthesised(&mut self) -> Parsed<Expr> {
        let open = self.advance().span;
        if !self.at(TokenKind::Minus) {
            if self.depth >= limits::MAX_DEPTH {
                return Err(self.too_deep(open));
            }
            self.depth += 1;
            let inner = self.sum();
            self.depth -= 1;
            return self.closed(inner?);
        }
        let inner = self.sum()?;
        self.closed(inner)
    }

    fn closed(&mut self, inner: Expr) -> Parsed<Expr> {
        self.expect(TokenKind::RightParen, "`)`")?;
        Ok(inner)
    }

    /// The number at the present token, negated; the minus sign stood at `start`.
    fn negative(&mut self, start: usize) -> Parsed<Expr> {
        let kind = self.number_kind(true, start)?;
        Ok(Expr { kind, at: self.since(start) })
    }

    fn number_kind(&mut self, negative: bool, start: usize) -> Parsed<ExprKind> {
        Ok(match self.number(negative, start)? {
            Number::Int(n) => ExprKind::Int(n),
            Number::Float(x) => ExprKind::Float(x),
            Number::Bool(b) => ExprKind::Name(b.to_string()),
        })
    }

    fn number(&mut self, negative: bool, start: usize) -> Parsed<Number> {
        self.expressions += usize::from(negative);
        let token = self.advance();
        let digits = self.text(token);
        let span = Span::new(start, self.end);
        let signed = |digits: &str| if negative { format!("-{digits}") } else { digits.to_string() };
        if token.kind == TokenKind::Int {
            return match signed(digits).parse() {
                Ok(n) => Ok(Number::Int(n)),
                Err(_) => {
                    let message = format!("`{}` leaves the 64-bit range", shorten(digits));
                    Err(self.report(Diagnostic::at("E0004", span, message)))
                }
            };
        }
        match signed(digits).parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Number::Float(Real(x))),
            _ => {
                let message = format!("`{}` leaves the range of 64-bit reals", shorten(digits));
                Err(self.report(Diagnostic::at("E0004", span, message)))
            }
        }
    }

    pub(super) fn string(&mut self) -> Parsed<Text> {
        let token = self.expect(TokenKind::Str, "a string in double quotes")?;
        match unescape(self.text(token)) {
            Ok(text) if text.len() > limits::MAX_STRING => {
                let message = format!("a string of {} bytes; at most {} are allowed", text.len(), limits::MAX_STRING);
                Err(self.report(Diagnostic::at("E0508", token.span, message)))
            }
            Ok(text) => Ok(Text { text, at: At(token.span) }),
            Err((from, to)) => {
                let start = token.span.start as usize;
                let span = Span::new(start + from, start + to);
                let found = Diagnostic::at("E0003", span, "this escape means nothing");
                Err(self.report(found.help("known are \\\" \\\\ \\' \\n \\t \\r \\0 and \\u{code}")))
            }
        }
    }

    /// `f32[T, 4]`, `mix f32[T, T]`.
    pub(super) fn type_expr(&mut self) -> Parsed<TypeExpr> {
        let start = self.start();
        let mix = self.at_word("mix");
        if mix {
            self.advance();
        }
        let dtype = self.word("a type (`f32[T, 64]`)")?;
        self.in_type = false;
        self.expect(TokenKind::LeftBracket, "`[` and the lengths (`f32[]` is a scalar)")?;
        self.in_type = true;
        let mut dims = Vec::new();
        while !self.at(TokenKind::RightBracket) {
            self.check_count("axes", dims.len() + 1, limits::MAX_RANK)?;
            dims.push(self.dim_expr()?);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        self.in_type = false;
        Ok(TypeExpr { mix, dtype, dims, at: self.since(start) })
    }

    /// What stands between `const %w =` and the type.
    pub(super) fn constant(&mut self) -> Parsed<Constant> {
        if self.at_word("weight") {
            self.advance();
            Ok(Constant::Weight(self.string()?))
        } else if self.at_word("splat") {
            self.advance();
            Ok(Constant::Splat(self.element()?))
        } else if self.at_word("dense") {
            self.advance();
            self.dense()
        } else {
            Err(self.expected("`weight`, `splat` or `dense`"))
        }
    }

    fn element(&mut self) -> Parsed<Element> {
        let start = self.start();
        let negative = self.eat(TokenKind::Minus);
        let number = match self.token.kind {
            TokenKind::Int | TokenKind::Float => self.number(negative, start)?,
            TokenKind::Name => {
                let token = self.token;
                let number = match (self.text(token), negative) {
                    ("inf", false) => Number::Float(Real(f64::INFINITY)),
                    ("inf", true) => Number::Float(Real(f64::NEG_INFINITY)),
                    ("nan", false) => Number::Float(Real(f64::NAN)),
                    ("true", false) => Number::Bool(true),
                    ("false", false) => Number::Bool(false),
                    _ => return Err(self.expected("a number")),
                };
                self.advance();
                number
            }
            _ => return Err(self.expected("a number")),
        };
        Ok(Element { number, at: self.since(start) })
    }

    /// Nested lists of equal lengths, read without recursion: `open` holds the entries so far of every list that is
    /// not closed yet.
    fn dense(&mut self) -> Parsed<Constant> {
        let start = self.start();
        let mut elements = Vec::new();
        if !self.at(TokenKind::LeftBracket) {
            elements.push(self.element()?);
            return Ok(Constant::Dense { shape: Vec::new(), elements, at: self.since(start) });
        }
        let mut shape: Vec<Option<usize>> = Vec::new();
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut lists = 0;
        loop {
            if self.at(TokenKind::LeftBracket) {
                if open.len() >= limits::MAX_RANK {
                    return Err(self.too_deep(self.token.span));
                }
                lists += 1;
                self.check_count("lists in a literal", lists, limits::MAX_DENSE)?;
                open.push((0, self.start()));
                let bracket = self.advance();
                if open.len() > shape.len() {
                    // Deeper than any list before: numbers or closed lists there would be of another rank.
                    if !elements.is_empty() || shape.iter().any(Option::is_some) {
                        return Err(self.ragged(bracket.span, "a list among numbers"));
                    }
                    shape.push(None);
                }
                continue;
            }
            if !self.at(TokenKind::RightBracket) {
                if open.len() != shape.len() {
                    return Err(self.ragged(self.token.span, "a number among lists"));
                }
                elements.push(self.element()?);
                self.check_count("numbers in a literal", elements.len(), limits::MAX_DENSE)?;
                open.last_mut().expect("the literal starts with a bracket").0 += 1;
                if self.eat(TokenKind::Comma) {
                    continue;
                }
            }
            loop {
                self.expect(TokenKind::RightBracket, "`,` or `]`")?;
                let (count, from) = open.pop().expect("a list is open until the literal ends");
                let first = *shape[open.len()].get_or_insert(count);
                if first != count {
                    let message = format!("a list of {count} where the first has {first}");
                    return Err(self.ragged(Span::new(from, self.end), &message));
                }
                let Some(outer) = open.last_mut() else {
                    let shape = shape.into_iter().map(|n| n.unwrap_or(0)).collect();
                    return Ok(Constant::Dense { shape, elements, at: self.since(start) });
                };
                outer.0 += 1;
                if self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
    }

    fn ragged(&mut self, span: Span, message: &str) -> Reported {
        self.report(Diagnostic::at("E0209", span, message).help("lists at one depth have one length"))
    }
}
