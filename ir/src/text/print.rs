//! Tree to canonical text: one form for every tree, comments kept, numbers in their shortest form that reads back as
//! the same number.

use super::ast::{
    Attr, Binary, Comment, Constant, Element, Expr, ExprKind, File, Func, ItemKind, Name, Number, Stmt, StmtKind, Text,
    Trivia, TypeExpr,
};
use super::layout::{Line, WIDTH, join, wrap};
use std::fmt::Write;

/// The canonical text of a tree without broken parts (broken ones are left out). Printing what is parsed from the
/// result gives the same text again.
pub fn print(file: &File) -> String {
    let mut printer = Printer::default();
    for item in &file.items {
        let text = match &item.kind {
            ItemKind::Version(n) => format!("ir {n}"),
            ItemKind::Weights(paths) => {
                format!("weights {}", list(paths, |p: &Text| quote(&p.text)))
            }
            ItemKind::Dim { name, low, high } => format!("dim {} = {}..{}", name.text, expr(low), expr(high)),
            ItemKind::Func(f) => {
                printer.func(f, &item.trivia);
                continue;
            }
            ItemKind::Broken => continue,
        };
        printer.item(0, &text, &item.trivia);
    }
    printer.comments(0, &file.tail);
    join(&printer.lines)
}

#[derive(Default)]
struct Printer {
    lines: Vec<Line>,
    /// Whether the next line is the first of its block, where no empty line goes before it.
    first: bool,
}

impl Printer {
    fn line(&mut self, text: String, comment: Option<String>, blank_before: bool) {
        let blank_before = blank_before && !std::mem::take(&mut self.first);
        self.lines.push(Line { text, comment, blank_before });
        self.first = false;
    }

    fn comments(&mut self, indent: usize, comments: &[Comment]) {
        for c in comments {
            self.line(format!("{}{}", " ".repeat(indent), c.text), None, c.blank_before);
        }
    }

    fn item(&mut self, indent: usize, text: &str, trivia: &Trivia) {
        self.comments(indent, &trivia.lead);
        let mut lines = wrap(text, indent);
        let last = lines.pop().unwrap_or_default();
        let mut blank = trivia.blank_before;
        for line in lines {
            self.line(line, None, std::mem::take(&mut blank));
        }
        self.line(last, trivia.trail.clone(), blank);
    }

    fn func(&mut self, f: &Func, trivia: &Trivia) {
        self.comments(0, &trivia.lead);
        let params: Vec<String> = f
            .params
            .iter()
            .map(|p| format!("%{}: {}", p.name.text, p.ty.as_ref().map_or_else(String::new, type_expr)))
            .collect();
        let results = match f.results.as_deref().unwrap_or_default() {
            [one] => type_expr(one),
            several => format!("({})", list(several, type_expr)),
        };
        let header = format!("func @{}({}) -> {results} {{", f.name.text, params.join(", "));
        let plain =
            f.params_tail.is_empty() && f.params.iter().all(|p| p.trivia.lead.is_empty() && p.trivia.trail.is_none());
        if plain && header.chars().count() <= WIDTH {
            self.line(header, f.open.clone(), trivia.blank_before);
        } else {
            self.line(format!("func @{}(", f.name.text), None, trivia.blank_before);
            self.first = true;
            for (k, (param, text)) in f.params.iter().zip(&params).enumerate() {
                let comma = if k + 1 < params.len() { "," } else { "" };
                self.item(2, &format!("{text}{comma}"), &param.trivia);
            }
            self.comments(2, &f.params_tail);
            let mut lines = wrap(&format!(") -> {results} {{"), 0);
            let last = lines.pop().unwrap_or_default();
            for line in lines {
                self.line(line, None, false);
            }
            self.line(last, f.open.clone(), false);
        }
        self.first = true;
        for stmt in &f.body {
            if let Some(text) = statement(stmt) {
                self.item(2, &text, &stmt.trivia);
            }
        }
        self.comments(2, &f.tail);
        self.line("}".into(), trivia.trail.clone(), false);
    }
}

fn statement(stmt: &Stmt) -> Option<String> {
    Some(match &stmt.kind {
        StmtKind::Const { name, value, ty } => {
            format!("const %{} = {} : {}", name.text, constant(value), type_expr(ty))
        }
        StmtKind::Op { results, op, operands, attrs, types } => {
            let mut text = format!("{} = {}", values(results), op.text);
            if !operands.is_empty() {
                let operands = list(operands, |o| o.name.as_ref().map_or("_".to_string(), |n| format!("%{n}")));
                text.push(' ');
                text.push_str(&operands);
            }
            if !attrs.is_empty() {
                text.push_str(&format!(" {{{}}}", list(attrs, attr)));
            }
            text + &written(types)
        }
        StmtKind::Call { results, func, args, types } => {
            format!("{} = call @{}({}){}", values(results), func.text, values(args), written(types))
        }
        StmtKind::Return(results) => format!("return {}", values(results)),
        StmtKind::Broken { .. } => return None,
    })
}

fn list<T>(items: &[T], mut f: impl FnMut(&T) -> String) -> String {
    let mut out = String::new();
    for (k, item) in items.iter().enumerate() {
        if k > 0 {
            out.push_str(", ");
        }
        out.push_str(&f(item));
    }
    out
}

fn values(names: &[Name]) -> String {
    list(names, |n| format!("%{}", n.text))
}

fn written(types: &[TypeExpr]) -> String {
    if types.is_empty() { String::new() } else { format!(" : {}", list(types, type_expr)) }
}

/// `mix f32[T, T]`.
pub fn type_expr(ty: &TypeExpr) -> String {
    format!("{}{}[{}]", if ty.mix { "mix " } else { "" }, ty.dtype.text, list(&ty.dims, expr))
}

fn attr(attr: &Attr) -> String {
    match &attr.value {
        None => attr.name.text.clone(),
        Some(value) => format!("{} = {}", attr.name.text, expr(value)),
    }
}

fn constant(value: &Constant) -> String {
    match value {
        Constant::Weight(name) => format!("weight {}", quote(&name.text)),
        Constant::Splat(x) => format!("splat {}", element(x)),
        Constant::Dense { shape, elements, .. } => {
            let mut out = String::from("dense ");
            let mut elements = elements.iter();
            nested(shape, &mut elements, &mut out);
            out
        }
    }
}

/// Lists of the lengths `shape`; their number is bounded by the parser, their depth by the rank.
fn nested<'a>(shape: &[usize], elements: &mut impl Iterator<Item = &'a Element>, out: &mut String) {
    let Some((&length, inner)) = shape.split_first() else {
        out.push_str(&elements.next().map_or_else(String::new, element));
        return;
    };
    out.push('[');
    for k in 0..length {
        if k > 0 {
            out.push_str(", ");
        }
        nested(inner, elements, out);
    }
    out.push(']');
}

fn element(x: &Element) -> String {
    match x.number {
        Number::Int(n) => n.to_string(),
        Number::Float(x) if x.0.is_nan() => "nan".into(),
        // `{:?}` keeps the point (`1.0`) and is the shortest text that reads back as the same number.
        Number::Float(x) => format!("{:?}", x.0),
        Number::Bool(b) => b.to_string(),
    }
}

/// A string in double quotes.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text of an expression.
pub fn expr(e: &Expr) -> String {
    let mut out = String::new();
    write_expr(e, Place::Start, &mut out);
    out
}

/// Whether the first factor of a product is a number.
fn starts_with_number(x: &Expr) -> bool {
    match &x.kind {
        ExprKind::Int(_) | ExprKind::Float(_) => true,
        ExprKind::Binary(Binary::Mul | Binary::Div, left, _) => starts_with_number(left),
        _ => false,
    }
}

/// Where an expression stands, which decides about parentheses.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// First of a sum.
    Start,
    /// A later term of a sum.
    Term,
    /// First of a product.
    First,
    /// A later factor of a product.
    Factor,
}

fn write_expr(e: &Expr, place: Place, out: &mut String) {
    let parentheses = match &e.kind {
        ExprKind::Int(n) => *n < 0 && place != Place::Start,
        ExprKind::Float(x) => x.0.is_sign_negative() && place != Place::Start,
        ExprKind::Neg(_) => place != Place::Start,
        ExprKind::Binary(Binary::Add | Binary::Sub, ..) => place != Place::Start,
        ExprKind::Binary(Binary::Mul | Binary::Div, ..) => place == Place::Factor,
        _ => false,
    };
    if parentheses {
        out.push('(');
    }
    match &e.kind {
        ExprKind::Int(n) => {
            let _ = write!(out, "{n}");
        }
        ExprKind::Float(x) => {
            let _ = write!(out, "{:?}", x.0);
        }
        ExprKind::Name(name) => out.push_str(name),
        ExprKind::Text(text) => out.push_str(&quote(text)),
        ExprKind::Neg(x) => {
            out.push('-');
            // A digit behind the minus sign would be read as a negative number.
            let bare = match x.kind {
                ExprKind::Name(_) | ExprKind::Ceil(_) => true,
                ExprKind::Binary(Binary::Mul | Binary::Div, ..) => !starts_with_number(x),
                _ => false,
            };
            if !bare {
                out.push('(');
            }
            write_expr(x, if bare { Place::First } else { Place::Start }, out);
            if !bare {
                out.push(')');
            }
        }
        ExprKind::Binary(binary, left, right) => {
            let (sign, first, second) = match binary {
                Binary::Add => ('+', Place::Start, Place::Term),
                Binary::Sub => ('-', Place::Start, Place::Term),
                Binary::Mul => ('*', Place::First, Place::Factor),
                Binary::Div => ('/', Place::First, Place::Factor),
            };
            // The first of a product that starts a sum may be a negative number.
            let starts = parentheses || place == Place::Start;
            let negative = matches!(left.kind, ExprKind::Int(_) | ExprKind::Float(_));
            write_expr(left, if first == Place::First && starts && negative { Place::Start } else { first }, out);
            out.push(sign);
            write_expr(right, second, out);
        }
        ExprKind::Ceil(x) => {
            out.push_str("ceil(");
            write_expr(x, Place::Start, out);
            out.push(')');
        }
        ExprKind::List(items) => {
            out.push('[');
            for (k, item) in items.iter().enumerate() {
                if k > 0 {
                    out.push_str(", ");
                }
                write_expr(item, Place::Start, out);
            }
            out.push(']');
        }
    }
    if parentheses {
        out.push(')');
    }
}
