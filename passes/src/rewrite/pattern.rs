//! Patterns: the two sides of a rule as text, parsed against the catalogue of operations.
//!
//! ```text
//! (gram ?q (transpose ?k) {scale = ?s})    operands by place, attributes by name
//! (mask ?m {causal, ..?a})                 a flag; `..?a` stands for all attributes that are not named
//! (softmax ?m _)                           an operand that is not given; trailing ones may be left out
//! (identity : ?w)                          the written type
//! ```
//!
//! An attribute that is neither named nor in a spread is not given. `(MASK x)` stands for a mask of any kind, in rules
//! that hold for all: the rule is then one for every kind.

use super::term::{Head, OpKey, Term, normal_attr};
use egg::Id;
use mixc_ir::attr::{AttrKind, AttrSpec, AttrValue, Real};
use mixc_ir::dim::Dim;
use mixc_ir::op::Op;

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// A variable, by its place in [`Variables`].
    Variable(usize),
    /// A node over patterns.
    Node(Head, Vec<Pattern>),
}

/// The variables of a rule.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// Names without the question mark; `a.scale` is the attribute `scale` of the spread `a`.
    pub names: Vec<String>,
}

impl Variables {
    /// The place of a variable, new or not.
    pub fn place(&mut self, name: &str) -> usize {
        self.find(name).unwrap_or_else(|| {
            self.names.push(name.to_string());
            self.names.len() - 1
        })
    }

    /// The place of a variable, if there is one of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// The attributes of a spread: their names with their places.
    pub fn of_spread<'a>(&'a self, spread: &'a str) -> impl Iterator<Item = (&'a str, usize)> + 'a {
        self.names
            .iter()
            .enumerate()
            .filter_map(move |(k, n)| n.strip_prefix(spread)?.strip_prefix('.').map(|attr| (attr, k)))
    }
}

/// How spreads are read.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// They bind the attributes.
    Left,
    /// They give what the left side bound, or what one of these computes.
    Right(&'a [String]),
}

/// The kind of mask that `MASK` stands for.
#[derive(Clone, Copy, Debug)]
pub struct MaskKind {
    /// The operation.
    pub op: &'static str,
    /// Whether it has a data operand; the variable `?data` stands for it.
    pub data: bool,
}

/// Every kind, in the canonical order from the innermost: the one that may change the alignment first, then the one
/// that reads it.
pub const MASKS: [MaskKind; 5] = [
    MaskKind { op: "mask_lengths", data: true },
    MaskKind { op: "mask", data: false },
    MaskKind { op: "mask_segments", data: true },
    MaskKind { op: "mask_blocks", data: true },
    MaskKind { op: "mask_with", data: true },
];

/// Parses `text`. The error says what is wrong with it.
pub fn parse(text: &str, variables: &mut Variables, side: Side<'_>, mask: Option<MaskKind>) -> Result<Pattern, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, variables, side, mask };
    let pattern = parser.pattern()?;
    match parser.tokens.get(parser.at) {
        None => Ok(pattern),
        Some(rest) => Err(format!("`{rest}` after the pattern `{text}`")),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '(' | ')' | '{' | '}' | ',' | '=' | ':' => out.push(c.to_string()),
            c if c.is_alphanumeric() || "?._-".contains(c) => {
                let mut word = c.to_string();
                while let Some(&d) = chars.peek().filter(|d| d.is_alphanumeric() || "?._-".contains(**d)) {
                    word.push(d);
                    chars.next();
                }
                out.push(word);
            }
            other => return Err(format!("`{other}` in the pattern `{text}`")),
        }
    }
    Ok(out)
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
    variables: &'a mut Variables,
    side: Side<'a>,
    mask: Option<MaskKind>,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<String, String> {
        let token = self.tokens.get(self.at).ok_or("the pattern ends too early")?;
        self.at += 1;
        Ok(token.clone())
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|t| t == token);
        self.at += usize::from(found);
        found
    }

    fn pattern(&mut self) -> Result<Pattern, String> {
        match self.next()?.as_str() {
            "(" => self.call(),
            "_" => Ok(Pattern::Node(Head::Absent, Vec::new())),
            word => match word.strip_prefix('?') {
                Some(name) => Ok(Pattern::Variable(self.variables.place(name))),
                None => Err(format!("`{word}` is neither a variable nor a call")),
            },
        }
    }

    fn call(&mut self) -> Result<Pattern, String> {
        let name = self.next()?;
        let any_mask = self.mask.filter(|_| name == "MASK");
        let name = any_mask.map_or(name, |m| m.op.to_string());
        let op: &'static Op = mixc_ir::ops::find(&name).ok_or_else(|| format!("no operation `{name}`"))?;
        let mut attrs: Vec<Option<Pattern>> = vec![None; op.attrs.len()];
        let mut operands = Vec::new();
        let mut spread = any_mask.map(|_| "mask".to_string());
        let mut written = Pattern::Node(Head::Absent, Vec::new());
        loop {
            if self.take(")") {
                break;
            } else if self.take("{") {
                spread = self.attributes(op, &mut attrs)?.or(spread);
            } else if self.take(":") {
                written = self.pattern()?;
            } else {
                operands.push(self.pattern()?);
            }
        }
        if any_mask.is_some_and(|m| m.data) {
            operands.push(Pattern::Variable(self.variables.place("data")));
        }
        while operands.len() < op.operands.len() {
            operands.push(Pattern::Node(Head::Absent, Vec::new()));
        }
        let mut args = Vec::with_capacity(attrs.len() + operands.len() + 1);
        for (spec, attr) in op.attrs.iter().zip(attrs) {
            args.push(match (attr, &spread) {
                (Some(pattern), _) => pattern,
                (None, Some(spread)) => self.spread_attribute(spread, spec),
                (None, None) => Pattern::Node(Head::Absent, Vec::new()),
            });
        }
        args.extend(operands);
        args.push(written);
        Ok(Pattern::Node(Head::Op(OpKey(op)), args))
    }

    /// `scale = ?s, causal, ..?a}`: fills `attrs` and gives the spread's name.
    fn attributes(&mut self, op: &'static Op, attrs: &mut [Option<Pattern>]) -> Result<Option<String>, String> {
        let mut spread = None;
        while !self.take("}") {
            let word = self.next()?;
            if word == "," {
                continue;
            }
            if let Some(name) = word.strip_prefix("..?") {
                spread = Some(name.to_string());
                continue;
            }
            let k = op.attrs.iter().position(|a| a.name == word);
            let k = k.ok_or_else(|| format!("`{}` has no attribute `{word}`", op.name))?;
            attrs[k] = Some(if self.take("=") {
                self.attribute(&op.attrs[k])?
            } else {
                Pattern::Node(Head::Attr(AttrValue::Bool(true)), Vec::new())
            });
        }
        Ok(spread)
    }

    fn attribute(&mut self, spec: &AttrSpec) -> Result<Pattern, String> {
        let word = self.next()?;
        if let Some(name) = word.strip_prefix('?') {
            return Ok(Pattern::Variable(self.variables.place(name)));
        }
        let value = match spec.kind {
            AttrKind::Float => AttrValue::Float(Real(word.parse().map_err(|_| format!("`{word}` is no number"))?)),
            AttrKind::Int | AttrKind::Dim => {
                AttrValue::Dim(Dim::constant(word.parse().map_err(|_| format!("`{word}` is no integer"))?))
            }
            AttrKind::Bool => AttrValue::Bool(word == "true"),
            _ => AttrValue::Name(word.clone()),
        };
        let value = normal_attr(spec, &value);
        Ok(Pattern::Node(value.map_or(Head::Absent, Head::Attr), Vec::new()))
    }

    fn spread_attribute(&mut self, spread: &str, spec: &AttrSpec) -> Pattern {
        let name = format!("{spread}.{}", spec.name);
        let known = self.variables.find(&name);
        match self.side {
            Side::Left => Pattern::Variable(self.variables.place(&name)),
            Side::Right(computed) if computed.iter().any(|c| c == spread) => {
                Pattern::Variable(self.variables.place(&name))
            }
            Side::Right(_) => known.map_or(Pattern::Node(Head::Absent, Vec::new()), Pattern::Variable),
        }
    }
}

/// What the variables of a rule stand for.
pub type Binding = Vec<Option<Id>>;

impl Pattern {
    /// Whether the term `id` has this form; binds variables.
    pub fn matches<'t>(&self, id: Id, term: &dyn Fn(Id) -> &'t Term, binding: &mut Binding) -> bool {
        match self {
            Pattern::Variable(v) => match binding[*v] {
                Some(bound) => bound == id,
                None => {
                    binding[*v] = Some(id);
                    true
                }
            },
            Pattern::Node(head, args) => {
                let found = term(id);
                found.head == *head
                    && found.args.len() == args.len()
                    && args.iter().zip(&found.args).all(|(a, id)| a.matches(*id, term, binding))
            }
        }
    }

    /// The operation at the root, if it is one.
    pub fn root(&self) -> Option<&'static Op> {
        match self {
            Pattern::Node(Head::Op(op), _) => Some(op.0),
            _ => None,
        }
    }
}
