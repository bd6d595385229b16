//! Rules that follow from the laws that operations declare: sums are factored out of what is linear; filters whose taps
//! are those of a state space are recurrences, and recurrences that do not change with time are filters.
//!
//! Linearity in the factoring direction only: it makes terms smaller, so it cannot grow the e-graph; expanding would.

use super::built::Built;
use super::region::is_rewritable;
use super::rule::{Exactness, Purpose, Rule};
use mixc_ir::op::{Group, Law, Op, OperandKind};

/// The rules of every linear operation that regions hold and that is no name for others.
pub fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        mixc_ir::ops::all().flat_map(|op| op.laws.iter().filter_map(move |law| built(op, law))).collect();
    for op in mixc_ir::ops::all().filter(|op| is_rewritable(op) && !op.variadic && op.expand.is_none()) {
        for law in op.laws {
            let Law::LinearIn(k) = *law else { continue };
            let Some(spec) = op.operands.get(k) else { continue };
            let gives_operator = op.group == Group::Operator && op.name != "apply";
            match spec.kind {
                OperandKind::Mix => rules.extend(factoring(op, k, "sum", if gives_operator { "sum" } else { "add" })),
                OperandKind::Any => {
                    rules.extend(factoring(op, k, "sum", "sum"));
                    rules.extend(["add", "sub"].iter().flat_map(|sum| factoring(op, k, sum, sum)));
                }
                _ if gives_operator => rules.extend(factoring(op, k, "add", "sum")),
                _ => rules.extend(["add", "sub"].iter().flat_map(|sum| factoring(op, k, sum, sum))),
            }
        }
    }
    rules
}

/// The rule of a law that builds.
fn built(op: &'static Op, law: &Law) -> Option<Rule> {
    let operands: Vec<String> = op.operands.iter().map(|o| format!("?{}", o.name)).collect();
    let attrs = if op.attrs.is_empty() { "" } else { " {..?attrs}" };
    let call = format!("({} {}{attrs})", op.name, operands.join(" "));
    let alike = format!("time_invariant({})", operands.join(", "));
    let (build, name, left, given) = match *law {
        Law::Recurs(build) => (build, "recurs", format!("(toeplitz {call})"), String::new()),
        Law::ShiftInvariant(build) => (build, "filters", call, alike),
        Law::LinearIn(_) | Law::Causal | Law::Streams => return None,
    };
    Some(Rule {
        name: format!("{}-{name}", op.name).into(),
        left: left.into(),
        right: build.says.into(),
        given: given.into(),
        built: Some(Built { op, build }),
        exactness: Exactness::Exact,
        purpose: Purpose::Equality,
    })
}

/// What an operation that tells axes apart by their places or number needs of two terms, one of which may be broadcast to
/// the other in their sum. All others see a broadcast axis as they see its copies.
fn alike(op: &str, k: usize) -> &'static str {
    match (op, k) {
        // Elements in their order are cut anew.
        ("reshape", 0) => "same_type(?x, ?y)",
        // The axis may be counted from the first.
        ("reverse", 0) => "same_rank(?x, ?y)",
        // Its rank says what the last axis of the decays is.
        ("semiseparable", 0) => "same_rank(?x, ?y)",
        // Lengths belong to the first batch dim.
        ("mask_lengths", 0) => "same_rank(?x, ?y)",
        _ => "",
    }
}

/// `outer(f(x), f(y)) = f(inner(x, y))`, everything else equal; optional operands are not given.
fn factoring(op: &Op, k: usize, inner: &str, outer: &str) -> Option<Rule> {
    let call = |operand: &str| {
        let operands: Vec<String> = op
            .operands
            .iter()
            .enumerate()
            .map(|(n, spec)| match (n == k, spec.optional) {
                (true, _) => operand.to_string(),
                (false, true) => "_".to_string(),
                (false, false) => format!("?o{n}"),
            })
            .collect();
        let attrs = if op.attrs.is_empty() { "" } else { " {..?a}" };
        format!("({} {}{attrs})", op.name, operands.join(" "))
    };
    // An operand that may be left out says nothing about the operation without it.
    if op.operands.get(k)?.optional {
        return None;
    }
    Some(Rule {
        name: format!("{}-of-{outer}-in-{}", op.name, op.operands[k].name).into(),
        left: format!("({outer} {} {})", call("?x"), call("?y")).into(),
        right: call(&format!("({inner} ?x ?y)")).into(),
        given: alike(op.name, k).into(),
        built: None,
        exactness: Exactness::Exact,
        purpose: Purpose::Equality,
    })
}
