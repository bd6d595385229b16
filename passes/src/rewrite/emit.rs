//! Terms back to a program: everything outside of the regions as it was, the roots of the regions from their terms.

use super::expand::{Names, copy_node};
use super::facts::{Fact, TermGraph};
use super::region::Region;
use super::term::{Head, Term};
use egg::Id;
use mixc_ir::attr::Attrs;
use mixc_ir::diag::Span;
use mixc_ir::program::{Builder, Const, NodeKind, Program, ValueId};
use mixc_ir::ty::Type;
use std::collections::{BTreeMap, BTreeSet};

/// What stands in the place of a region.
#[derive(Clone, Copy, Debug)]
pub struct Replacement<'a> {
    /// Where.
    pub region: &'a Region,
    /// The terms.
    pub graph: &'a TermGraph,
    /// One a root of the region.
    pub roots: &'a [Id],
    /// Terms that stand for what a node of the region (by its place there) was, and take its name.
    pub origins: &'a BTreeMap<Id, usize>,
}

/// `program` with the replacements made. Values that stand for written ones keep their names, and steps keep a span of
/// what they came from. The error says which step does not fit; it means that a rule is wrong.
pub fn emit(program: &Program, replacements: &[Replacement<'_>]) -> Result<Program, String> {
    let mut b = Builder::new(&program.name, program.dims.clone());
    b.program.weights = program.weights.clone();
    let mut owner = vec![None; program.values.len()];
    for (k, replacement) in replacements.iter().enumerate() {
        for (r, root) in replacement.region.roots.iter().enumerate() {
            owner[root.index()] = Some((k, r));
        }
    }
    let inside: BTreeSet<usize> = replacements.iter().flat_map(|r| r.region.nodes.iter().copied()).collect();
    let mut kept: BTreeMap<usize, (usize, Id)> = BTreeMap::new();
    for (k, replacement) in replacements.iter().enumerate() {
        for id in replacement.graph.reachable(replacement.roots) {
            if let Some(n) = replacement.origins.get(&id).and_then(|place| replacement.region.nodes.get(*place)) {
                kept.entry(*n).or_insert((k, id));
            }
        }
    }
    let mut emitter = Emitter {
        program,
        replacements,
        definitions: program.definitions(),
        owner,
        map: vec![None; program.values.len()],
        open: BTreeSet::new(),
        terms: vec![BTreeMap::new(); replacements.len()],
        names: Names::of(program),
        taken: BTreeSet::new(),
        shared: BTreeMap::new(),
        b: &mut b,
    };
    for p in &program.params {
        let v = emitter.b.param(program.name_of(*p), program.ty(*p).clone());
        emitter.map[p.index()] = Some(v);
        emitter.taken.insert(program.name_of(*p).to_string());
    }
    for (n, node) in program.nodes.iter().enumerate() {
        if !inside.contains(&n) {
            emitter.node(n)?;
        } else if let (NodeKind::Const(_), Some(result)) = (&node.kind, node.results.first()) {
            // A constant that is still used stays in its place.
            if let Some((k, id)) = kept.get(&n) {
                emitter.term(*k, *id, *result)?;
            }
        } else {
            for r in &node.results {
                if emitter.owner[r.index()].is_some() {
                    emitter.value(*r)?;
                }
            }
        }
    }
    let results = program.results.iter().map(|r| emitter.value(*r)).collect::<Result<Vec<_>, _>>()?;
    Ok(b.finish(results))
}

struct Emitter<'a, 'b> {
    program: &'a Program,
    replacements: &'a [Replacement<'a>],
    definitions: Vec<Option<usize>>,
    /// The replacement and root that give a value.
    owner: Vec<Option<(usize, usize)>>,
    map: Vec<Option<ValueId>>,
    /// Values under construction: a term must not need what it gives.
    open: BTreeSet<ValueId>,
    terms: Vec<BTreeMap<Id, ValueId>>,
    names: Names,
    taken: BTreeSet<String>,
    /// Operators and constants, which several regions may use: one each.
    shared: BTreeMap<(String, Vec<Option<ValueId>>, Attrs), ValueId>,
    b: &'b mut Builder,
}

impl Emitter<'_, '_> {
    /// The new value of an old one.
    fn value(&mut self, v: ValueId) -> Result<ValueId, String> {
        if let Some(new) = self.map[v.index()] {
            return Ok(new);
        }
        if !self.open.insert(v) {
            return Err(format!("`%{}` would need itself", self.program.name_of(v)));
        }
        let new = match (self.owner[v.index()], self.definitions[v.index()]) {
            (Some((k, r)), _) => {
                let root = self.replacements[k].roots[r];
                self.term(k, root, v)?
            }
            (None, Some(n)) => {
                self.node(n)?;
                self.map[v.index()].ok_or_else(|| format!("`%{}` was not made", self.program.name_of(v)))?
            }
            (None, None) => return Err(format!("`%{}` has no definition", self.program.name_of(v))),
        };
        self.open.remove(&v);
        self.map[v.index()] = Some(new);
        Ok(new)
    }

    /// A node as it was.
    fn node(&mut self, n: usize) -> Result<(), String> {
        let node = &self.program.nodes[n];
        if node.results.iter().all(|r| self.map[r.index()].is_some()) && !node.results.is_empty() {
            return Ok(());
        }
        let mut operands = Vec::with_capacity(node.operands.len());
        for o in &node.operands {
            operands.push(match o {
                Some(v) => Some(self.value(*v)?),
                None => None,
            });
        }
        self.b.span = node.span;
        let results = copy_node(self.b, self.program, node, &operands)
            .ok_or_else(|| format!("`{}` no longer fits its operands", node.op_name().unwrap_or("const")))?;
        for (old, new) in node.results.iter().zip(results) {
            self.map[old.index()] = Some(new);
            self.taken.insert(self.program.name_of(*old).to_string());
        }
        Ok(())
    }

    /// The value of a term of replacement `k`, for the sake of the old value `site`.
    fn term(&mut self, k: usize, id: Id, site: ValueId) -> Result<ValueId, String> {
        if let Some(v) = self.terms[k].get(&id) {
            return Ok(*v);
        }
        let replacement = &self.replacements[k];
        let term = replacement.graph.term(id).clone();
        let v = match &term.head {
            Head::Input(input) => {
                let input = replacement.region.inputs.get(*input as usize).copied();
                let input = input.ok_or_else(|| format!("no input for {term:?}"))?;
                self.value(input)?
            }
            Head::Splat(number) => {
                let ty = replacement.graph.fact(id).ty().cloned().ok_or("a constant without a type")?;
                let key = (format!("{:016x} {ty}", number.0.to_bits()), Vec::new(), Attrs::new());
                match self.shared.get(&key) {
                    Some(v) => *v,
                    None => {
                        let (name, span) = self.name(k, id, site);
                        self.b.span = span;
                        let v = self.b.constant(Some(&name), Const::Splat(number.0), ty);
                        self.shared.insert(key, v);
                        v
                    }
                }
            }
            Head::Op(_) => self.call(k, id, &term, site)?,
            other => return Err(format!("{other:?} is not a value")),
        };
        self.terms[k].insert(id, v);
        Ok(v)
    }

    fn call(&mut self, k: usize, id: Id, term: &Term, site: ValueId) -> Result<ValueId, String> {
        let graph = self.replacements[k].graph;
        let parts = term.call().ok_or("a call with too few arguments")?;
        let mut attrs = Attrs::new();
        for (spec, attr) in parts.op.attrs.iter().zip(parts.attrs) {
            if let Fact::Attr(value) = graph.fact(*attr) {
                attrs = attrs.with(spec.name, value.clone());
            }
        }
        let given = parts.operands.iter().rposition(|o| graph.fact(*o) != &Fact::Absent).map_or(0, |n| n + 1);
        let mut operands = Vec::with_capacity(given);
        for o in &parts.operands[..given] {
            operands.push(match graph.fact(*o) {
                Fact::Absent => None,
                _ => Some(self.term(k, *o, site)?),
            });
        }
        let ty = graph.fact(id).ty().ok_or("a call without a type")?;
        let operator = matches!(ty, Type::Mix(_));
        let key = (format!("{} {ty}", parts.op.name), operands.clone(), attrs.clone());
        if let Some(v) = self.shared.get(&key).filter(|_| operator) {
            return Ok(*v);
        }
        let (name, span) = self.name(k, id, site);
        self.b.span = span;
        // A type is written only where the term says so: it is what the operation's rule is given.
        let written = match graph.fact(parts.written) {
            Fact::Written(w) => vec![Some(w.to_type())],
            _ => Vec::new(),
        };
        let results = self
            .b
            .call(parts.op, &operands, attrs, &written, &[Some(&name)])
            .map_err(|faults| super::facts::describe(parts.op.name, &faults))?;
        let v = *results.first().ok_or("a call without a result")?;
        if operator {
            self.shared.insert(key, v);
        }
        Ok(v)
    }

    /// The name and span of a term: those of the root or node that it stands for, or fresh ones.
    fn name(&mut self, k: usize, id: Id, site: ValueId) -> (String, Span) {
        let replacement = &self.replacements[k];
        let root = replacement.roots.iter().position(|r| *r == id).map(|r| replacement.region.roots[r]);
        let node = |n: &usize| replacement.region.nodes.get(*n).copied();
        let stands_for = root.or_else(|| {
            let n = replacement.origins.get(&id).and_then(node)?;
            self.program.nodes[n].results.first().copied()
        });
        let span = stands_for
            .or(Some(site))
            .and_then(|v| self.definitions[v.index()])
            .map_or(Span::default(), |n| self.program.nodes[n].span);
        if let Some(v) = stands_for {
            let name = self.program.name_of(v).to_string();
            if self.taken.insert(name.clone()) {
                return (name, span);
            }
        }
        (self.names.derived(self.program.name_of(site)), span)
    }
}
