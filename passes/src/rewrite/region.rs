//! Regions: maximal runs of rewritable operations around mixing operators, between barriers.
//!
//! A barrier is any operation that rules say nothing about (a norm, an activation, a gather): it is carried over
//! unchanged, and what it reads and gives are a region's roots and inputs. Operators and constants are never stored, so
//! every region that uses one has it as its own. A region is convex: no path leaves it and comes back, hence its roots
//! can be computed anew in any order that its inputs allow.

use super::alike::Axes;
use super::facts::{ALWAYS_POSITIVE, InputFact, Surroundings, TermGraph};
use super::term::{Head, OpKey, Term, Written, normal_attr};
use super::{positions, scores};
use egg::Id;
use mixc_ir::attr::Real;
use mixc_ir::op::{Law, Op};
use mixc_ir::program::{Const, Node, NodeKind, Program, ValueId};
use mixc_ir::ty::Type;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tensor operations that rules say something about. Everything over operators is rewritable too.
const REWRITABLE: [&str; 17] = [
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "matmul",
    "linear",
    "lora",
    "transpose",
    "reverse",
    "reshape",
    "split_heads",
    "merge_heads",
    "rope",
    "softmax_axis",
    "token_shift",
    "reduce",
];

/// Whether regions hold the operation.
pub fn is_rewritable(op: &Op) -> bool {
    op.group == mixc_ir::op::Group::Operator || REWRITABLE.contains(&op.name)
}

/// Products whose association is worth a search even without a mixing operator.
const PRODUCTS: [&str; 3] = ["matmul", "linear", "reverse"];

/// A region of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its nodes in order, with the operators and constants that they use.
    pub nodes: Vec<usize>,
    /// Values from outside, in order of first use.
    pub inputs: Vec<ValueId>,
    /// Values that are read outside, in order of definition.
    pub roots: Vec<ValueId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// An operator or a constant with one number everywhere.
    Transparent,
    /// A tensor by a rewritable operation.
    Member,
    Barrier,
}

/// Whether the operation is one that laws speak of and that expansions hide: it is expanded after the rewriting.
pub fn is_seen_whole(op: &Op) -> bool {
    op.laws.iter().any(|law| matches!(law, Law::Recurs(_)))
}

/// Whether the node gives taps of one filter and is read by nothing else: it then belongs to the operator.
fn is_taps_of_one(program: &Program, readers: &[Vec<usize>], node: &Node) -> bool {
    let one_reader = |v: ValueId| match readers[v.index()].as_slice() {
        [one] if !program.results.contains(&v) => Some(&program.nodes[*one]),
        _ => None,
    };
    let filter = node.results.first().and_then(|r| one_reader(*r)).filter(|n| n.op_name() == Some("toeplitz"));
    filter.and_then(|n| n.results.first()).is_some_and(|m| one_reader(*m).is_some())
}

fn role(program: &Program, readers: &[Vec<usize>], node: &Node) -> Role {
    let [result] = node.results.as_slice() else { return Role::Barrier };
    let ty = program.ty(*result);
    match &node.kind {
        NodeKind::Const(c) if number_of(c).is_some() => Role::Transparent,
        NodeKind::Const(_) => Role::Barrier,
        NodeKind::Op(_) if ty.as_mix().is_some() => Role::Transparent,
        NodeKind::Op(op) if is_seen_whole(op) && is_taps_of_one(program, readers, node) => Role::Transparent,
        NodeKind::Op(op) if ty.dtype().is_float() && (op.name == "apply" || REWRITABLE.contains(&op.name)) => {
            Role::Member
        }
        NodeKind::Op(_) => Role::Barrier,
    }
}

/// The number that every element of a constant is.
pub fn number_of(c: &Const) -> Option<f64> {
    match c {
        Const::Splat(x) => Some(*x),
        Const::Dense(all) => {
            let first = all.first()?;
            all.iter().all(|x| x.to_bits() == first.to_bits()).then_some(*first)
        }
        Const::Weight(_) => None,
    }
}

/// The regions of `program` that have something to rewrite and at most `node_limit` nodes, in order.
pub fn find(program: &Program, node_limit: usize) -> Vec<Region> {
    let definitions = program.definitions();
    let readers = readers(program);
    let scores = scores::of(program);
    let roles: Vec<Role> = program
        .nodes
        .iter()
        .zip(&scores)
        .map(|(n, is_score)| {
            let role = role(program, &readers, n);
            let member = role == Role::Member || (role == Role::Barrier && *is_score);
            // What is known of positions is known of inputs.
            let positional = || n.results.iter().any(|r| positions::of(program, &definitions, *r).is_some());
            match member {
                true if positional() => Role::Barrier,
                true => Role::Member,
                false => role,
            }
        })
        .collect();
    let role_of = |v: ValueId| definitions[v.index()].map(|n| roles[n]);
    let sources = tensor_sources(program, &roles);
    // How many barriers lie between the parameters and a value at most: equal within a region, so that no path that
    // leaves a region can come back.
    let mut level = vec![0usize; program.values.len()];
    for (n, node) in program.nodes.iter().enumerate() {
        let operands = sources[n].iter().map(|v| match (role_of(*v), roles[n]) {
            (Some(Role::Member), Role::Barrier) => level[v.index()] + 1,
            _ => level[v.index()],
        });
        let deepest = operands.max().unwrap_or(0);
        for r in &node.results {
            level[r.index()] = deepest;
        }
    }
    let mut leader: Vec<usize> = (0..program.nodes.len()).collect();
    for (n, node) in program.nodes.iter().enumerate() {
        if roles[n] != Role::Member {
            continue;
        }
        for v in &sources[n] {
            let same = node.results.first().is_some_and(|r| level[r.index()] == level[v.index()]);
            if let (Some(Role::Member), Some(m), true) = (role_of(*v), definitions[v.index()], same) {
                let (a, b) = (find_leader(&mut leader, n), find_leader(&mut leader, m));
                leader[a.max(b)] = a.min(b);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for n in 0..program.nodes.len() {
        if roles[n] == Role::Member {
            groups.entry(find_leader(&mut leader, n)).or_default().push(n);
        }
    }
    groups
        .into_values()
        .filter_map(|members| region(program, &roles, &definitions, &readers, &members, node_limit))
        .collect()
}

fn find_leader(leader: &mut [usize], mut n: usize) -> usize {
    while leader[n] != n {
        leader[n] = leader[leader[n]];
        n = leader[n];
    }
    n
}

/// Of every node, the values that its operands are made of when looked at through operators and constants.
fn tensor_sources(program: &Program, roles: &[Role]) -> Vec<BTreeSet<ValueId>> {
    let mut of_value: Vec<BTreeSet<ValueId>> =
        (0..program.values.len()).map(|v| BTreeSet::from([ValueId(v as u32)])).collect();
    let mut sources = Vec::with_capacity(program.nodes.len());
    for (n, node) in program.nodes.iter().enumerate() {
        let all: BTreeSet<ValueId> =
            node.operands.iter().flatten().flat_map(|v| of_value[v.index()].iter().copied()).collect();
        if roles[n] == Role::Transparent {
            for r in &node.results {
                of_value[r.index()] = all.clone();
            }
        }
        sources.push(all);
    }
    sources
}

/// Of every value, the nodes that read it.
fn readers(program: &Program) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); program.values.len()];
    for (n, node) in program.nodes.iter().enumerate() {
        for v in node.operands.iter().flatten() {
            readers[v.index()].push(n);
        }
    }
    readers
}

fn region(
    program: &Program,
    roles: &[Role],
    definitions: &[Option<usize>],
    readers: &[Vec<usize>],
    members: &[usize],
    node_limit: usize,
) -> Option<Region> {
    let mut nodes: BTreeSet<usize> = members.iter().copied().collect();
    let mut stack: Vec<usize> = members.to_vec();
    while let Some(n) = stack.pop() {
        for v in program.nodes[n].operands.iter().flatten() {
            if let Some(m) = definitions[v.index()].filter(|m| roles[*m] == Role::Transparent)
                && nodes.insert(m)
            {
                stack.push(m);
            }
        }
        if nodes.len() > node_limit {
            return None;
        }
    }
    let inside = |v: ValueId| definitions[v.index()].is_some_and(|n| nodes.contains(&n));
    // By first use, so that equal regions number them alike wherever the values were defined.
    let mut inputs: Vec<ValueId> = Vec::new();
    for v in nodes.iter().flat_map(|n| program.nodes[*n].operands.iter().flatten()) {
        if !inside(*v) && !inputs.contains(v) {
            inputs.push(*v);
        }
    }
    // An operator from outside would carry an alignment that refers to a value of the whole program.
    if inputs.iter().any(|v| program.ty(*v).as_mix().is_some()) {
        return None;
    }
    let in_members: BTreeSet<usize> = members.iter().copied().collect();
    let mut roots = BTreeSet::new();
    for r in members.iter().flat_map(|n| program.nodes[*n].results.iter()) {
        let escapes = readers[r.index()].iter().any(|reader| match roles[*reader] {
            Role::Member => !in_members.contains(reader),
            // An operator of this region is rewritten with it; one of another region reads this value as an input.
            Role::Transparent => {
                !nodes.contains(reader) || read_elsewhere(*reader, program, roles, readers, &in_members)
            }
            Role::Barrier => true,
        });
        if escapes || program.results.contains(r) {
            roots.insert(*r);
        }
    }
    let names: Vec<&str> = nodes.iter().filter_map(|n| program.nodes[*n].op_name()).collect();
    let mixes = nodes.iter().any(|n| program.nodes[*n].results.iter().any(|r| program.ty(*r).as_mix().is_some()));
    let masked = || inputs.iter().any(|v| positions::of(program, definitions, *v).is_some());
    let product = names.iter().any(|name| PRODUCTS.contains(name));
    let worth = mixes
        || (product && masked())
        || names.contains(&"lora")
        || names.iter().filter(|n| PRODUCTS.contains(n)).count() > 1;
    (worth && !roots.is_empty()).then(|| Region {
        nodes: nodes.into_iter().collect(),
        inputs,
        roots: roots.into_iter().collect(),
    })
}

/// Whether an operator is used, directly or through other operators, outside of a region's members.
fn read_elsewhere(
    operator: usize,
    program: &Program,
    roles: &[Role],
    readers: &[Vec<usize>],
    members: &BTreeSet<usize>,
) -> bool {
    let mut stack = vec![operator];
    let mut seen = BTreeSet::new();
    while let Some(n) = stack.pop() {
        for r in &program.nodes[n].results {
            if program.results.contains(r) {
                return true;
            }
            for reader in &readers[r.index()] {
                match roles[*reader] {
                    Role::Transparent => {
                        if seen.insert(*reader) {
                            stack.push(*reader);
                        }
                    }
                    Role::Member if members.contains(reader) => {}
                    _ => return true,
                }
            }
        }
    }
    false
}

/// A region as terms.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The terms.
    pub graph: TermGraph,
    /// The term of each node's result.
    pub of_node: Vec<Id>,
    /// The terms of the roots.
    pub roots: Vec<Id>,
}

/// What the types of a region's terms depend on; `alike` says along which axes the program's values are.
pub fn surroundings(program: &Program, alike: &[Axes], region: &Region) -> Surroundings {
    let definitions = program.definitions();
    let positive = |v: &ValueId| {
        definitions[v.index()]
            .and_then(|n| program.nodes[n].op_name())
            .is_some_and(|name| ALWAYS_POSITIVE.contains(&name))
    };
    // Types first: values of one type are in the same order in every equal region, whatever lies between them.
    let mut sorted: Vec<(String, ValueId)> = region.inputs.iter().map(|v| (program.ty(*v).to_string(), *v)).collect();
    sorted.sort();
    let order = |v: &ValueId| sorted.iter().position(|(_, w)| w == v).unwrap_or(0) as u32;
    let fact = |v: &ValueId| InputFact {
        ty: program.ty(*v).clone(),
        positive: positive(v),
        positions: positions::of(program, &definitions, *v),
        order: order(v),
        alike: alike[v.index()],
    };
    let inputs = region.inputs.iter().map(fact).collect();
    Surroundings { bounds: Arc::new(program.bounds()), inputs: Arc::new(inputs), ..Surroundings::default() }
}

/// The terms of a region; the error says which node has none.
pub fn import(program: &Program, region: &Region, around: Surroundings) -> Result<Imported, String> {
    let mut graph = TermGraph::new(around);
    let mut ids: BTreeMap<ValueId, Id> = BTreeMap::new();
    for (k, v) in region.inputs.iter().enumerate() {
        ids.insert(*v, graph.add(Term::leaf(Head::Input(k as u32)))?);
    }
    let mut of_node = Vec::with_capacity(region.nodes.len());
    for n in &region.nodes {
        let node = &program.nodes[*n];
        let result = *node.results.first().ok_or("a node without results")?;
        let ty = program.ty(result);
        let id = match &node.kind {
            NodeKind::Const(c) => {
                let number = number_of(c).ok_or("a constant of several numbers in a region")?;
                splat(&mut graph, ty.dtype().round(number), ty)?
            }
            NodeKind::Op(op) => import_call(&mut graph, op, node, ty, &ids)?,
        };
        ids.insert(result, id);
        of_node.push(id);
    }
    let roots = region.roots.iter().map(|r| ids.get(r).copied().ok_or_else(|| format!("no term for {r:?}")));
    let roots = roots.collect::<Result<_, String>>()?;
    Ok(Imported { graph, of_node, roots })
}

/// The constant `number` of a type.
pub fn splat(graph: &mut TermGraph, number: f64, ty: &Type) -> Result<Id, String> {
    let written = graph.add(Term::leaf(Head::Written(Written::of(ty))))?;
    graph.add(Term { head: Head::Splat(Real(number)), args: vec![written] })
}

fn import_call(
    graph: &mut TermGraph,
    op: &'static Op,
    node: &Node,
    ty: &Type,
    ids: &BTreeMap<ValueId, Id>,
) -> Result<Id, String> {
    let absent = graph.add(Term::leaf(Head::Absent))?;
    let mut args = Vec::with_capacity(op.attrs.len() + op.operands.len() + 1);
    for spec in op.attrs {
        args.push(match node.attrs.get(spec.name).and_then(|value| normal_attr(spec, value)) {
            Some(value) => graph.add(Term::leaf(Head::Attr(value)))?,
            None => absent,
        });
    }
    for k in 0..op.operands.len().max(node.operands.len()) {
        args.push(match node.operands.get(k).copied().flatten() {
            Some(v) => *ids.get(&v).ok_or_else(|| format!("operand {v:?} is not in the region"))?,
            None => absent,
        });
    }
    args.push(absent);
    let mut term = Term { head: Head::Op(OpKey(op)), args };
    // The type is written only where it is not what the operands alone give.
    let written = Written::of(ty);
    match graph.add(term.clone()) {
        Ok(id) if graph.fact(id).ty().is_some_and(|found| Written::of(found) == written) => Ok(id),
        _ => {
            let written = graph.add(Term::leaf(Head::Written(written)))?;
            *term.args.last_mut().ok_or("a call without a place for its type")? = written;
            graph.add(term)
        }
    }
}

/// A text that is equal for regions that differ in the names of their values only.
pub fn key(imported: &Imported) -> String {
    let graph = &imported.graph;
    let order = graph.reachable(&imported.roots);
    let place: BTreeMap<Id, usize> = order.iter().enumerate().map(|(k, id)| (*id, k)).collect();
    let mut text = format!("{:?}\n", graph.around.inputs);
    for id in &order {
        let term = graph.term(*id);
        let args: Vec<usize> = term.args.iter().map(|a| place[a]).collect();
        text.push_str(&format!("{:?} {args:?}\n", term.head));
    }
    let roots: Vec<usize> = imported.roots.iter().map(|r| place[r]).collect();
    // Which node a term came from decides the names of results, so it belongs to what is shared.
    let nodes: Vec<Option<&usize>> = imported.of_node.iter().map(|id| place.get(id)).collect();
    text.push_str(&format!("{roots:?} {nodes:?}"));
    text
}
