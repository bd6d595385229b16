//! Layers replaced by their definitions, until only operations without one, or ones to keep, are left.

use mixc_ir::op::{Call, Op};
use mixc_ir::program::{Builder, Node, NodeKind, Program, ValueId};
use std::collections::BTreeSet;

/// Definitions may use layers; a catalogue whose layers nest deeper than this would be circular.
const DEEPEST: usize = 16;

/// `program` with every operation that has an expansion replaced by it, recursively, unless `keep` holds. Results keep
/// the names of the values that they stand for, inner values are named after them, and both keep the span. A layer whose
/// expansion reports a fault is left as it is.
pub fn expand_layers(program: &Program, keep: &dyn Fn(&'static Op) -> bool) -> Program {
    let mut program = program.clone();
    for _ in 0..DEEPEST {
        match expand_once(&program, keep) {
            Some(expanded) => program = expanded,
            None => break,
        }
    }
    program
}

/// One level of expansion; `None` when there is nothing to expand.
fn expand_once(program: &Program, keep: &dyn Fn(&'static Op) -> bool) -> Option<Program> {
    let expandable = |node: &Node| match node.kind {
        NodeKind::Op(op) => op.expand.filter(|_| !keep(op)).map(|expand| (op, expand)),
        NodeKind::Const(_) => None,
    };
    if !program.nodes.iter().any(|n| expandable(n).is_some()) {
        return None;
    }
    let mut names = Names::of(program);
    let mut b = Builder::new(&program.name, program.dims.clone());
    b.program.weights = program.weights.clone();
    let mut map: Vec<Option<ValueId>> = vec![None; program.values.len()];
    for p in &program.params {
        map[p.index()] = Some(b.param(program.name_of(*p), program.ty(*p).clone()));
    }
    let mut changed = false;
    for node in &program.nodes {
        b.span = node.span;
        let operands: Vec<Option<ValueId>> = node.operands.iter().map(|o| o.and_then(|v| map[v.index()])).collect();
        let expanded = expandable(node).and_then(|(op, expand)| {
            let before = (b.program.values.len(), b.program.nodes.len());
            let results = expand_call(&mut b, op, expand, program, node, &operands);
            // A definition that stopped half-way leaves nothing behind.
            if results.is_none() {
                b.program.values.truncate(before.0);
                b.program.nodes.truncate(before.1);
            }
            results.map(|r| (r, before.0))
        });
        let results = match expanded {
            Some((results, first_new)) => {
                changed = true;
                name_results(&mut b, program, node, &results, first_new, &mut names);
                results
            }
            None => copy_node(&mut b, program, node, &operands)?,
        };
        for (old, new) in node.results.iter().zip(results) {
            map[old.index()] = Some(new);
        }
    }
    let results = program.results.iter().map(|r| map[r.index()]).collect::<Option<Vec<_>>>()?;
    changed.then(|| b.finish(results))
}

/// A program of `node` alone, whose parameters are its operands, those that are absent left out; `None` where it does not
/// stand by itself.
pub fn alone(program: &Program, node: &Node) -> Option<Program> {
    let mut b = Builder::new(&program.name, program.dims.clone());
    b.span = node.span;
    let mut param = |v: ValueId| b.param(program.name_of(v), program.ty(v).clone());
    let operands: Vec<Option<ValueId>> = node.operands.iter().copied().map(|o| o.map(&mut param)).collect();
    let results = copy_node(&mut b, program, node, &operands)?;
    Some(b.finish(results))
}

/// The results of the definition of `node`, built into `b`; `None` when it does not fit.
fn expand_call(
    b: &mut Builder,
    op: &'static Op,
    expand: mixc_ir::op::Expand,
    program: &Program,
    node: &Node,
    operands: &[Option<ValueId>],
) -> Option<Vec<ValueId>> {
    let values: Vec<_> = operands.iter().map(|o| o.map(|v| b.program.values[v.index()].clone())).collect();
    let written: Vec<_> = node.results.iter().map(|r| Some(program.ty(*r).clone())).collect();
    let bounds = program.bounds();
    let call = Call {
        op,
        types: values.iter().map(|v| v.as_ref().map(|v| &v.ty)).collect(),
        structures: values.iter().map(|v| v.as_ref().and_then(|v| v.structure.as_ref())).collect(),
        values: operands.to_vec(),
        attrs: &node.attrs,
        written: &written,
        bounds: &bounds,
    };
    let results = expand(b, &call).ok()?;
    (results.len() >= node.results.len()).then_some(results)
}

/// Gives new values their names: results those of the values they stand for, the rest derived ones.
fn name_results(
    b: &mut Builder,
    program: &Program,
    node: &Node,
    results: &[ValueId],
    first_new: usize,
    names: &mut Names,
) {
    let site = node.results.first().map_or("value", |r| program.name_of(*r)).to_string();
    let mut named = BTreeSet::new();
    for (old, new) in node.results.iter().zip(results) {
        if new.index() >= first_new && named.insert(new.index()) {
            b.program.values[new.index()].name = program.name_of(*old).to_string();
        }
    }
    for k in first_new..b.program.values.len() {
        if !named.contains(&k) {
            b.program.values[k].name = names.derived(&site);
        }
    }
}

/// The same step over mapped operands.
pub(super) fn copy_node(
    b: &mut Builder,
    program: &Program,
    node: &Node,
    operands: &[Option<ValueId>],
) -> Option<Vec<ValueId>> {
    let names: Vec<Option<&str>> = node.results.iter().map(|r| Some(program.name_of(*r))).collect();
    match &node.kind {
        NodeKind::Const(c) => {
            let result = *node.results.first()?;
            Some(vec![b.constant(names[0], c.clone(), program.ty(result).clone())])
        }
        NodeKind::Op(op) => {
            let written: Vec<_> = node.results.iter().map(|r| Some(program.ty(*r).clone())).collect();
            b.call(op, operands, node.attrs.clone(), &written, &names).ok()
        }
    }
}

/// Names in use, and fresh ones derived from them: `y.1`, `y.2`, ...
#[derive(Debug)]
pub(super) struct Names {
    used: BTreeSet<String>,
}

impl Names {
    /// The names of a program.
    pub(super) fn of(program: &Program) -> Names {
        Names { used: program.values.iter().map(|v| v.name.clone()).collect() }
    }

    /// A name that nothing has, derived from `site`.
    pub(super) fn derived(&mut self, site: &str) -> String {
        // The stem without a derived suffix, so that names do not grow with every pass.
        let stem = match site.rsplit_once('.') {
            Some((stem, digits)) if !stem.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => stem,
            _ => site,
        };
        let mut k = 1usize;
        loop {
            let name = format!("{stem}.{k}");
            if self.used.insert(name.clone()) {
                return name;
            }
            k += 1;
        }
    }
}
