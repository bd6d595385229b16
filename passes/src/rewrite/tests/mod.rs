//! Tests of the rewriter as a whole.

mod choice;
mod expansion;
mod fuzz;
pub mod random;
mod round_trip;
mod soundness;
mod spellings;
pub mod trial;

use super::{RewriteSettings, Rewritten, rewrite};
use mixc_ir::program::{NodeKind, Program, ValueId};

/// The program of a text.
fn program(text: &str) -> Program {
    mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{text}\n{d:#?}"))
}

/// The text of a program, a node a line, types written.
fn text(program: &Program) -> String {
    let name = |v: &ValueId| format!("%{}", program.name_of(*v));
    let list = |all: &[ValueId]| all.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut out = format!("({})\n", list(&program.params));
    for node in &program.nodes {
        let operands: Vec<String> = node.operands.iter().map(|o| o.as_ref().map_or("_".into(), name)).collect();
        let what = match &node.kind {
            NodeKind::Op(op) => op.name.to_string(),
            NodeKind::Const(c) => format!("{c:?}"),
        };
        let types: Vec<String> = node.results.iter().map(|r| program.ty(*r).to_string()).collect();
        let (results, types) = (list(&node.results), types.join(", "));
        out.push_str(&format!("{results} = {what} {}{} : {types}\n", operands.join(", "), node.attrs));
    }
    out + &format!("return {}\n", list(&program.results))
}

/// As [`text`], with values numbered in order, so that spellings can be compared.
fn canonical_text(program: &Program) -> String {
    let mut program = program.clone();
    let order: Vec<ValueId> =
        program.params.iter().chain(program.nodes.iter().flat_map(|n| &n.results)).copied().collect();
    for (k, v) in order.into_iter().enumerate() {
        program.values[v.index()].name = format!("v{k}");
    }
    text(&program)
}

/// Prefers what was written to everything else: shows the canonical spelling.
fn canonical(program: &Program) -> Rewritten {
    let expanded = super::expand_layers(program, &|_| false);
    rewrite(&expanded, &RewriteSettings { costed: 1, ..RewriteSettings::default() }, &|_| Some(1.0))
}
