//! Elementwise operations by which scores are written as tensors: what lies between a product of queries and keys and the
//! product with the values, in what such products are multiplied with, or under `dense`. Elsewhere the same operations are activations and gates, about which rules
//! say nothing.

use mixc_ir::program::{Node, Program, ValueId};

/// Operations that regions hold on the way from a product, or to `dense`.
const OF_SCORES: [&str; 12] =
    ["exp", "log", "recip", "tanh", "relu", "sigmoid", "silu", "abs", "select", "cumsum", "broadcast", "pow"];

/// Operations through which scores stay scores, which regions hold anyway.
const THROUGH: [&str; 9] = ["add", "sub", "mul", "div", "neg", "reduce", "reshape", "transpose", "softmax_axis"];

/// For every node, whether it is one of [`OF_SCORES`] on such a way.
pub fn of(program: &Program) -> Vec<bool> {
    let name = |n: &Node| n.op_name().unwrap_or_default().to_string();
    let passes = |n: &Node| {
        let name = n.op_name().unwrap_or_default();
        OF_SCORES.contains(&name) || THROUGH.contains(&name)
    };
    let real = |v: ValueId| program.ty(v).as_tensor().is_some_and(|t| t.dtype.is_float());
    let mut from = vec![false; program.values.len()];
    for node in &program.nodes {
        let reached =
            name(node) == "matmul" || (passes(node) && node.operands.iter().flatten().any(|v| from[v.index()]));
        for r in node.results.iter().filter(|r| reached && real(**r)) {
            from[r.index()] = true;
        }
    }
    let mut to = vec![false; program.values.len()];
    for node in program.nodes.iter().rev() {
        // What scores are multiplied with is part of them.
        let factor = name(node) == "mul" && node.results.iter().any(|r| from[r.index()]);
        let operator = matches!(name(node).as_str(), "dense" | "outer_sum");
        let leads = factor || operator || (passes(node) && node.results.iter().any(|r| to[r.index()]));
        for v in node.operands.iter().flatten().filter(|v| leads && real(**v)) {
            to[v.index()] = true;
        }
    }
    program
        .nodes
        .iter()
        .map(|n| match n.results.as_slice() {
            [r] => OF_SCORES.contains(&name(n).as_str()) && real(*r) && (from[r.index()] || to[r.index()]),
            _ => false,
        })
        .collect()
}
