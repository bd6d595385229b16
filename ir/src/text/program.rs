//! A verified program as text again: every result type written, so that a reader sees all shapes, and what is parsed and
//! verified from the text is the same program.

use super::ast::{
    At, Attr, Binary, Constant, Element, Expr, ExprKind, File, Func, Item, ItemKind, Name, Number, Operand, Param,
    Stmt, StmtKind, Text, Trivia, TypeExpr,
};
use super::lex::is_name_part;
use super::limits;
use super::parse::is_name;
use crate::attr::{AttrValue, Attrs, Real};
use crate::dim::{Atom, Dim};
use crate::dtype::DType;
use crate::program::{Const, Node, NodeKind, Program, ValueId};
use crate::ty::Type;
use std::collections::BTreeSet;

/// The canonical text of a program. Names that could not be written (the passes make up their own) are replaced.
pub fn print_program(program: &Program) -> String {
    super::print(&program_tree(program))
}

/// The tree of a program: `ir 1`, its weights and dims, and one function.
pub fn program_tree(program: &Program) -> File {
    let names = names(program);
    let mut items = vec![item(ItemKind::Version(1))];
    if !program.weights.is_empty() {
        items.push(item(ItemKind::Weights(program.weights.iter().map(|w| text(w)).collect())));
    }
    for d in &program.dims {
        let (low, high) = (expr(ExprKind::Int(d.low)), expr(ExprKind::Int(d.high)));
        items.push(item(ItemKind::Dim { name: name(&d.name), low, high }));
    }
    let value = |v: &ValueId| name(&names[v.index()]);
    let params = program
        .params
        .iter()
        .map(|p| Param { name: value(p), ty: Some(type_expr(program.ty(*p))), trivia: Trivia::default() })
        .collect();
    let mut body: Vec<Stmt> = program.nodes.iter().map(|n| stmt(node(program, &names, n))).collect();
    body.push(stmt(StmtKind::Return(program.results.iter().map(value).collect())));
    let func = ItemKind::Func(Func {
        name: name(if is_name(&program.name) { &program.name } else { "main" }),
        params,
        params_tail: Vec::new(),
        results: Some(program.results.iter().map(|r| type_expr(program.ty(*r))).collect()),
        open: None,
        body,
        tail: Vec::new(),
        end: At::default(),
    });
    let trivia = Trivia { blank_before: true, ..Trivia::default() };
    items.push(Item { kind: func, at: At::default(), trivia });
    File { items, tail: Vec::new() }
}

/// A name for every value, each its own.
///
/// Good names are kept where they are first; only what repeats or cannot be written gives way.
fn names(program: &Program) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::with_capacity(program.values.len());
    for value in &program.values {
        if is_name(&value.name) && taken.insert(value.name.clone()) {
            out.push(value.name.clone());
            continue;
        }
        let mut name: String =
            value.name.chars().map(|c| if c.is_ascii() && is_name_part(c as u8) { c } else { '_' }).collect();
        name.truncate(limits::MAX_NAME - 16);
        if !is_name(&name) {
            name.insert(0, '_');
        }
        let mut candidate = name.clone();
        let mut suffix = 1;
        while !taken.insert(candidate.clone()) {
            suffix += 1;
            candidate = format!("{name}.{suffix}");
        }
        out.push(candidate);
    }
    out
}

fn node(program: &Program, names: &[String], node: &Node) -> StmtKind {
    let value = |v: &ValueId| name(&names[v.index()]);
    match &node.kind {
        NodeKind::Const(constant) => {
            let v = node.results[0];
            let ty = program.ty(v);
            StmtKind::Const { name: value(&v), value: constant_tree(constant, ty), ty: type_expr(ty) }
        }
        NodeKind::Op(op) => {
            let present = node.operands.iter().rposition(Option::is_some).map_or(0, |k| k + 1);
            let operand =
                |o: &Option<ValueId>| Operand { name: o.map(|v| names[v.index()].clone()), at: At::default() };
            StmtKind::Op {
                results: node.results.iter().map(value).collect(),
                op: name(op.name),
                operands: node.operands[..present].iter().map(operand).collect(),
                attrs: attrs(&node.attrs),
                types: node.results.iter().map(|r| type_expr(program.ty(*r))).collect(),
            }
        }
    }
}

fn constant_tree(constant: &Const, ty: &Type) -> Constant {
    let dtype = ty.dtype();
    match constant {
        Const::Weight(name) => Constant::Weight(text(name)),
        Const::Splat(x) => Constant::Splat(element(*x, dtype)),
        Const::Dense(values) => {
            let length = |d: &Dim| d.as_constant().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let mut shape: Vec<usize> = ty.dims().iter().map(length).collect();
            if let Some(k) = shape.iter().position(|n| *n == 0) {
                // A literal cannot show the lengths behind one that is 0.
                shape.truncate(k + 1);
            }
            let elements = values.iter().map(|x| element(*x, dtype)).collect();
            Constant::Dense { shape, elements, at: At::default() }
        }
    }
}

/// A number in the form that its element type suggests.
fn element(x: f64, dtype: DType) -> Element {
    let number = match dtype {
        DType::Bool => Number::Bool(x != 0.0),
        // What was written as an integer is below 2^53 and therefore exact.
        d if d.is_int() && x.fract() == 0.0 => Number::Int(x as i64),
        _ => Number::Float(Real(x)),
    };
    Element { number, at: At::default() }
}

fn attrs(attrs: &Attrs) -> Vec<Attr> {
    let attr = |(key, value): (&str, &AttrValue)| {
        let value = (*value != AttrValue::Bool(true)).then(|| attr_value(value));
        Attr { name: name(key), value }
    };
    attrs.iter().map(attr).collect()
}

fn attr_value(value: &AttrValue) -> Expr {
    expr(match value {
        AttrValue::Dim(d) => return dim_expr(d),
        AttrValue::Float(x) => ExprKind::Float(*x),
        AttrValue::Bool(b) => ExprKind::Name(b.to_string()),
        AttrValue::Text(s) => ExprKind::Text(s.clone()),
        AttrValue::Name(s) => ExprKind::Name(s.clone()),
        AttrValue::List(items) => ExprKind::List(items.iter().map(attr_value).collect()),
    })
}

fn type_expr(ty: &Type) -> TypeExpr {
    TypeExpr {
        mix: ty.as_mix().is_some(),
        dtype: name(ty.dtype().name()),
        dims: ty.dims().iter().map(dim_expr).collect(),
        at: At::default(),
    }
}

/// An expression that means `d`: products in order, the constant last.
pub fn dim_expr(d: &Dim) -> Expr {
    let constant = d.terms().filter(|(product, _)| product.is_empty());
    let products = d.terms().filter(|(product, _)| !product.is_empty());
    let sum = products.chain(constant).fold(None, |sum: Option<Expr>, (product, coefficient)| {
        // `a - 2*b` reads better than `a + (-2)*b`; the least integer has no positive counterpart.
        let subtract = sum.is_some() && coefficient < 0 && coefficient != i64::MIN;
        let term = term(product, if subtract { -coefficient } else { coefficient });
        Some(match sum {
            None => term,
            Some(sum) => binary(if subtract { Binary::Sub } else { Binary::Add }, sum, term),
        })
    });
    sum.unwrap_or_else(|| expr(ExprKind::Int(0)))
}

fn term(product: &[Atom], coefficient: i64) -> Expr {
    let factors = product.iter().map(|atom| match atom {
        Atom::Symbol(s) => expr(ExprKind::Name(s.to_string())),
        Atom::Exact(d, n) => binary(Binary::Div, dim_expr(d), expr(ExprKind::Int(*n))),
        Atom::Ceil(d, n) => expr(ExprKind::Ceil(Box::new(binary(Binary::Div, dim_expr(d), expr(ExprKind::Int(*n)))))),
    });
    let product = factors.reduce(|x, y| binary(Binary::Mul, x, y));
    match (product, coefficient) {
        (None, n) => expr(ExprKind::Int(n)),
        (Some(x), 1) => x,
        (Some(x), -1) => expr(ExprKind::Neg(Box::new(x))),
        (Some(x), n) => match x.kind {
            // The number goes first: `2*T*P`, not `2*(T*P)`; a division keeps its parentheses.
            ExprKind::Binary(Binary::Mul, ..) => times_first(n, x),
            _ => binary(Binary::Mul, expr(ExprKind::Int(n)), x),
        },
    }
}

/// `n * x` with the number as the first factor of the product `x`.
fn times_first(n: i64, x: Expr) -> Expr {
    match x.kind {
        ExprKind::Binary(Binary::Mul, left, right) => binary(Binary::Mul, times_first(n, *left), *right),
        kind => binary(Binary::Mul, expr(ExprKind::Int(n)), expr(kind)),
    }
}

fn binary(binary: Binary, x: Expr, y: Expr) -> Expr {
    expr(ExprKind::Binary(binary, Box::new(x), Box::new(y)))
}

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, at: At::default() }
}

fn name(text: &str) -> Name {
    Name { text: text.to_string(), at: At::default() }
}

fn text(text: &str) -> Text {
    Text { text: text.to_string(), at: At::default() }
}

fn item(kind: ItemKind) -> Item {
    Item { kind, at: At::default(), trivia: Trivia::default() }
}

fn stmt(kind: StmtKind) -> Stmt {
    Stmt { kind, at: At::default(), trivia: Trivia::default() }
}
