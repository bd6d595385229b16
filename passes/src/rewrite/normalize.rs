//! The canonical spelling of terms: canonical rules applied from the leaves up until none applies.

use super::facts::TermGraph;
use super::rule::CompiledRule;
use super::saturate::Rules;
use super::term::{Head, Term};
use egg::Id;
use std::collections::BTreeMap;

/// Rule applications a region may take. Canonical rules shrink or order, so a region takes a few a node; the limit is
/// there for a rule that does not.
const FUEL: usize = 20_000;

/// Canonical spellings found so far.
#[derive(Clone, Debug)]
pub struct Normalizer<'r> {
    rules: &'r Rules,
    known: BTreeMap<Id, Id>,
    fuel: usize,
}

impl<'r> Normalizer<'r> {
    /// Knows nothing yet.
    pub fn new(rules: &'r Rules) -> Normalizer<'r> {
        Normalizer { rules, known: BTreeMap::new(), fuel: FUEL }
    }

    /// The canonical spelling of `id`, and the rules that led there, in order, by their place in the table.
    pub fn normal(&mut self, graph: &mut TermGraph, id: Id) -> (Id, Vec<usize>) {
        let mut applied = Vec::new();
        (self.settle(graph, id, &mut applied), applied)
    }

    fn settle(&mut self, graph: &mut TermGraph, id: Id, applied: &mut Vec<usize>) -> Id {
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let mut current = id;
        loop {
            let term = graph.term(current).clone();
            let args: Vec<Id> = term.args.iter().map(|a| self.settle(graph, *a, applied)).collect();
            // Equal arguments have equal types but perhaps other structure: where that no longer fits, nothing changes.
            current = graph.add(Term { head: term.head, args }).unwrap_or(current);
            if let Some(known) = self.known.get(&current) {
                current = *known;
                break;
            }
            match self.step(graph, current) {
                Some((next, rule)) => {
                    applied.push(rule);
                    current = next;
                }
                None => break,
            }
        }
        self.known.insert(id, current);
        self.known.insert(current, current);
        current
    }

    /// One rule at the root.
    fn step(&mut self, graph: &mut TermGraph, id: Id) -> Option<(Id, usize)> {
        let Head::Op(op) = graph.term(id).head else { return None };
        for &k in self.rules.canonical(op.0.name) {
            if let Some(next) = apply(&self.rules.compiled[k], graph, id).filter(|next| *next != id) {
                self.fuel = self.fuel.checked_sub(1)?;
                return Some((next, k));
            }
        }
        None
    }
}

/// The right side of `rule` where its left side is `id`, if it applies and has the same type.
pub fn apply(rule: &CompiledRule, graph: &mut TermGraph, id: Id) -> Option<Id> {
    let mut binding = rule.unbound();
    if !rule.left.matches(id, &|id| graph.term(id), &mut binding) || !rule.holds(graph, &mut binding) {
        return None;
    }
    let right = rule.build(graph, &binding).ok()?;
    (graph.fact(right).ty() == graph.fact(id).ty()).then_some(right)
}
