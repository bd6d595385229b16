//! Terms as formulas: the two sides of a rule, and what a value of a program is.

use mixc_ir::attr::AttrValue;
use mixc_ir::program::{Const, Node, NodeKind, Program, ValueId};
use mixc_ir::ty::Type;

/// What a formula is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A variable, a value or a number.
    Name(String),
    /// An operation.
    Call {
        /// Its name.
        op: String,
        /// Operands; `_` where one is not given.
        args: Vec<Term>,
        /// Attributes as they are written, a flag without a value.
        attrs: Vec<(String, String)>,
    },
}

/// How tightly a formula binds: what stands in a sum, in a product, or anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    Sum,
    Product,
    Atom,
}

/// A side of a rule; what is not of its notation stands as it is.
pub fn of_rule(text: &str) -> String {
    let mut rest = text.trim();
    match parse(&mut rest) {
        Some(term) if rest.trim().is_empty() => show(&term).0,
        _ => text.to_string(),
    }
}

/// What defines a value, operators written out down to tensors.
pub fn of_value(program: &Program, v: ValueId) -> String {
    show(&term(program, &program.definitions(), v, true)).0
}

fn term(program: &Program, definitions: &[Option<usize>], v: ValueId, open: bool) -> Term {
    let name = || Term::Name(program.name_of(v).to_string());
    let Some(node) = definitions[v.index()].map(|n| &program.nodes[n]) else { return name() };
    match &node.kind {
        NodeKind::Const(Const::Splat(x)) => Term::Name(x.to_string()),
        NodeKind::Op(op) if open || matches!(program.ty(v), Type::Mix(_)) => Term::Call {
            op: op.name.to_string(),
            args: node
                .operands
                .iter()
                .map(|o| o.map_or(Term::Name("_".into()), |o| term(program, definitions, o, false)))
                .collect(),
            attrs: attrs(node),
        },
        _ => name(),
    }
}

fn attrs(node: &Node) -> Vec<(String, String)> {
    let text = |value: &AttrValue| if *value == AttrValue::Bool(true) { String::new() } else { value.to_string() };
    node.attrs.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The next term of the rules' notation, which is cut off `rest`.
fn parse(rest: &mut &str) -> Option<Term> {
    *rest = rest.trim_start();
    let Some(inside) = rest.strip_prefix('(') else {
        let end = rest.find([' ', ')', '(', '{']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        *rest = after;
        return (!word.is_empty()).then(|| Term::Name(word.trim_start_matches('?').to_string()));
    };
    *rest = inside;
    let Some(Term::Name(op)) = parse(rest) else { return None };
    let (mut args, mut attrs) = (Vec::new(), Vec::new());
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(')') {
            *rest = after;
            return Some(Term::Call { op, args, attrs });
        }
        if let Some(after) = rest.strip_prefix('{') {
            let (list, after) = after.split_once('}')?;
            *rest = after;
            attrs.extend(list.split(',').map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name.trim().replace('?', ""), value.trim().replace('?', ""))
            }));
        } else if let Some(after) = rest.strip_prefix(':') {
            // A written type says nothing that a reader of the formula misses.
            *rest = after;
            parse(rest)?;
        } else {
            args.push(parse(rest)?);
        }
    }
}

fn show(t: &Term) -> (String, Binds) {
    let (op, args, attrs) = match t {
        Term::Name(name) => return (name.clone(), Binds::Atom),
        Term::Call { op, args, attrs } => (op.as_str(), args.as_slice(), attrs),
    };
    let attr = |name: &str| attrs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let at = |k: usize, least: Binds| {
        let (text, binds) = args.get(k).map_or((String::new(), Binds::Atom), show);
        if binds < least { format!("({text})") } else { text }
    };
    let product = |text: String| (text, Binds::Product);
    // Which of two products comes first is what some rules are about: products in products stand in parentheses.
    let transposed = |k: usize, on: bool| format!("{}{}", at(k, Binds::Atom), if on { "ᵀ" } else { "" });
    match (op, args.len()) {
        ("gram", 2) => {
            let scores = format!("{} {}", at(0, Binds::Atom), transposed(1, true));
            product(match attr("scale") {
                Some(s) => format!("{s} · {scores}"),
                None => scores,
            })
        }
        // Which factors are transposed is not known of a spread.
        ("matmul", 2) if attrs.iter().all(|(name, _)| !name.starts_with("..")) => {
            let (a, b) = (attr("transpose_a").is_some(), attr("transpose_b").is_some());
            product(format!("{} {}", transposed(0, a), transposed(1, b)))
        }
        ("linear", 2) => product(format!("{} {}", at(0, Binds::Atom), transposed(1, true))),
        ("linear", 3) => {
            let text = format!("{} {} + {}", at(0, Binds::Atom), transposed(1, true), at(2, Binds::Sum));
            (text, Binds::Sum)
        }
        ("apply" | "compose", 2) => product(format!("{} {}", at(0, Binds::Atom), at(1, Binds::Atom))),
        ("sum" | "add" | "add_bias", 2) => (format!("{} + {}", at(0, Binds::Sum), at(1, Binds::Sum)), Binds::Sum),
        ("sub", 2) => (format!("{} − {}", at(0, Binds::Sum), at(1, Binds::Product)), Binds::Sum),
        ("mul" | "times", 2) => product(format!("{} ∘ {}", at(0, Binds::Atom), at(1, Binds::Atom))),
        ("div", 2) => product(format!("{} / {}", at(0, Binds::Atom), at(1, Binds::Atom))),
        ("neg", 1) => product(format!("−{}", at(0, Binds::Atom))),
        ("scale_by", 1) => product(format!("{} · {}", attr("by").unwrap_or("?"), at(0, Binds::Product))),
        ("scale_by", 2) => product(format!("{} · {}", at(1, Binds::Atom), at(0, Binds::Product))),
        ("decay", 2) => product(format!("{} ∘ {}^(i−j)", at(0, Binds::Atom), at(1, Binds::Atom))),
        ("transpose", 1) if attrs.is_empty() => (transposed(0, true), Binds::Atom),
        ("inverse", 1) => (format!("{}⁻¹", at(0, Binds::Atom)), Binds::Atom),
        ("identity", 0) => ("I".into(), Binds::Atom),
        ("diagonal", 1) => (format!("diag({})", at(0, Binds::Sum)), Binds::Atom),
        ("dense", 1) => (at(0, Binds::Atom), Binds::Atom),
        _ => {
            let inside: Vec<String> = (0..args.len()).map(|k| at(k, Binds::Sum)).collect();
            let said: Vec<String> = attrs
                .iter()
                .map(|(name, value)| if value.is_empty() { name.clone() } else { format!("{name} = {value}") })
                .collect();
            let attrs = if said.is_empty() { String::new() } else { format!("[{}]", said.join(", ")) };
            (format!("{op}{attrs}({})", inside.join(", ")), Binds::Atom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_formulas() {
        for (rule, formula) in [
            ("(apply (gram ?q ?k) ?v)", "(q kᵀ) v"),
            ("(matmul ?q (matmul ?k ?v {transpose_a}))", "q (kᵀ v)"),
            ("(apply (compose ?a ?b) ?x {..?f})", "(a b) x"),
            ("(apply (softmax (mask (gram ?q ?k {scale = ?s}) {causal})) ?v)", "softmax(mask[causal](s · q kᵀ)) v"),
            ("(apply (sum ?a ?b) ?x {..?f})", "(a + b) x"),
            ("(inverse (sum ?e (mask ?m {right = -1})))", "(e + mask[right = -1](m))⁻¹"),
            ("(mul (add ?x ?y) ?c)", "(x + y) ∘ c"),
            ("(sub ?x (add ?y ?z))", "x − (y + z)"),
            ("(iota {axis = 0} : ?w)", "iota[axis = 0]()"),
            ("(matmul ?a ?b {..?f})", "matmul[..f](a, b)"),
            ("?m", "m"),
            ("(broken", "(broken"),
        ] {
            assert_eq!(of_rule(rule), formula);
        }
    }
}
