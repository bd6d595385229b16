//! Choosing terms: the k best by the cost of whole extracted programs.
//!
//! Costs belong to lowered and fused programs, so a class has none of its own. The search starts from what was written
//! and from the smallest term, and flips the choice of one class at a time, following the cheapest programs found so
//! far. Sharing is counted once because whole programs are costed. The number of programs costed is bounded.

use super::facts::{Fact, TermGraph};
use super::saturate::{Graph, costs};
use super::term::Term;
use egg::{Id, Language};
use std::collections::{BTreeMap, BTreeSet};

/// Programs whose neighbours are looked at in every round.
const BEAM: usize = 4;

/// Rounds of flips: how many classes a candidate may differ in from where the search started.
const ROUNDS: usize = 6;

/// A way to compute the roots.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// The roots as extracted.
    pub raw: Vec<Id>,
    /// The roots in canonical spelling.
    pub roots: Vec<Id>,
    /// Cost of the program; `None` when it cannot be lowered.
    pub cost: Option<f64>,
    /// Canonical rules applied after extraction, by place, for every root.
    pub spelled: Vec<Vec<usize>>,
    /// Of written terms whose value is still computed, the extracted term that stands for them.
    pub stands_for: BTreeMap<Id, Id>,
}

/// Classes by number, their terms in order.
struct Choices<'a> {
    graph: &'a Graph,
    classes: BTreeMap<Id, Vec<&'a Term>>,
    /// The place of each class's smallest term.
    smallest: BTreeMap<Id, usize>,
    /// The place of the written term, for classes that have one.
    written: BTreeMap<Id, usize>,
    /// The classes of written terms.
    class_of: BTreeMap<Id, Id>,
}

type Overrides = BTreeMap<Id, usize>;

/// Costs `roots` in canonical spelling: `None` when they cannot be lowered. Gives the canonical roots too.
pub type Evaluate<'a> = dyn FnMut(&mut TermGraph, &[Id]) -> (Vec<Id>, Vec<Vec<usize>>, Option<f64>) + 'a;

/// The `keep` cheapest ways to compute `roots` (ids of `terms`, in `graph` too), cheapest first, with at most `limit`
/// programs costed. What was written is among the costed, and wins against equals.
pub fn cheapest(
    graph: &Graph,
    terms: &mut TermGraph,
    roots: &[Id],
    written_roots: &[Id],
    keep: usize,
    limit: usize,
    evaluate: &mut Evaluate<'_>,
) -> Vec<Extracted> {
    let choices = Choices::new(graph, terms, roots);
    let classes: Vec<Id> = written_roots.iter().map(|r| graph.find(*r)).collect();
    let mut found: Vec<(Extracted, Start, Overrides)> = Vec::new();
    let mut seen: BTreeSet<Vec<Id>> = BTreeSet::new();
    let mut costed = 0;
    let mut consider = |start: Start, overrides: Overrides, found: &mut Vec<(Extracted, Start, Overrides)>| {
        if costed >= limit {
            return;
        }
        let Some((raw, stands_for)) = choices.extract(terms, &classes, start, &overrides) else { return };
        let (canonical, spelled, cost) = {
            if !seen.insert(raw.clone()) {
                return;
            }
            evaluate(terms, &raw)
        };
        costed += 1;
        if found.iter().any(|(e, _, _)| e.roots == canonical) {
            return;
        }
        found.push((Extracted { raw, roots: canonical, cost, spelled, stands_for }, start, overrides));
    };
    consider(Start::Written, Overrides::new(), &mut found);
    consider(Start::Smallest, Overrides::new(), &mut found);
    let mut expanded: BTreeSet<Vec<Id>> = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|a, b| by_cost(&found[*a].0, &found[*b].0).then(a.cmp(b)));
        let next: Vec<usize> = order.into_iter().take(BEAM).filter(|k| !expanded.contains(&found[*k].0.raw)).collect();
        if next.is_empty() {
            break;
        }
        for k in next {
            let (extracted, start, overrides) = found[k].clone();
            expanded.insert(extracted.raw);
            for (class, alternatives) in choices.reached(&classes, start, &overrides) {
                for alternative in alternatives {
                    let mut flipped = overrides.clone();
                    flipped.insert(class, alternative);
                    consider(start, flipped, &mut found);
                }
            }
        }
    }
    let mut found: Vec<Extracted> = found.into_iter().map(|(e, _, _)| e).collect();
    found.sort_by(by_cost);
    found.truncate(keep.max(1));
    found
}

/// Cheaper first; what cannot be lowered last. Stable sorts keep what was found first in front.
pub fn by_cost(a: &Extracted, b: &Extracted) -> std::cmp::Ordering {
    match (a.cost, b.cost) {
        (Some(x), Some(y)) => x.total_cmp(&y),
        (x, y) => y.is_some().cmp(&x.is_some()),
    }
}

/// What is chosen where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Written,
    Smallest,
}

impl<'a> Choices<'a> {
    fn new(graph: &'a Graph, terms: &TermGraph, roots: &[Id]) -> Choices<'a> {
        let mut classes: BTreeMap<Id, Vec<&Term>> = BTreeMap::new();
        for class in graph.classes() {
            let mut nodes: Vec<&Term> = class.nodes.iter().collect();
            nodes.sort();
            classes.insert(class.id, nodes);
        }
        let smallest = smallest(graph, &classes);
        let mut written = BTreeMap::new();
        let mut ids: BTreeMap<Id, Id> = BTreeMap::new();
        for id in terms.reachable(roots) {
            let term = terms.term(id).clone().map_children(|child| ids.get(&child).copied().unwrap_or(child));
            let Some(class) = graph.lookup(term.clone()) else { continue };
            ids.insert(id, class);
            let term = term.map_children(|child| graph.find(child));
            // Arguments come first, so the first term of a class is made of first terms: no cycle.
            if let (false, Some(place)) =
                (written.contains_key(&class), classes.get(&class).and_then(|all| all.iter().position(|t| **t == term)))
            {
                written.insert(class, place);
            }
        }
        Choices { graph, classes, smallest, written, class_of: ids }
    }

    fn choice(&self, class: Id, start: Start, overrides: &Overrides) -> Option<usize> {
        let written = || self.written.get(&class).filter(|_| start == Start::Written);
        overrides.get(&class).or_else(written).or_else(|| self.smallest.get(&class)).copied()
    }

    /// The chosen terms of `roots`, and of written terms among them; `None` when the choices go in a circle or do not fit together.
    fn extract(
        &self,
        terms: &mut TermGraph,
        roots: &[Id],
        start: Start,
        overrides: &Overrides,
    ) -> Option<(Vec<Id>, BTreeMap<Id, Id>)> {
        let mut done: BTreeMap<Id, Id> = BTreeMap::new();
        let mut open: BTreeSet<Id> = BTreeSet::new();
        let mut stack: Vec<Id> = roots.to_vec();
        while let Some(&class) = stack.last() {
            if done.contains_key(&class) {
                stack.pop();
                continue;
            }
            let term = self.classes.get(&class)?[self.choice(class, start, overrides)?];
            let waiting: Vec<Id> =
                term.args.iter().map(|a| self.graph.find(*a)).filter(|a| !done.contains_key(a)).collect();
            if waiting.is_empty() {
                let made = term.clone().map_children(|a| done[&self.graph.find(a)]);
                done.insert(class, terms.add(made).ok()?);
                stack.pop();
            } else {
                if !open.insert(class) {
                    return None;
                }
                stack.extend(waiting);
            }
        }
        let stands_for =
            self.class_of.iter().filter_map(|(written, class)| Some((*written, *done.get(class)?))).collect();
        Some((roots.iter().map(|r| done.get(r).copied()).collect::<Option<_>>()?, stands_for))
    }

    /// The classes that `roots` are made of, with the alternatives to what is chosen.
    fn reached(&self, roots: &[Id], start: Start, overrides: &Overrides) -> Vec<(Id, Vec<usize>)> {
        let mut seen: BTreeSet<Id> = BTreeSet::new();
        let mut stack: Vec<Id> = roots.iter().rev().copied().collect();
        let mut out = Vec::new();
        while let Some(class) = stack.pop() {
            if !seen.insert(class) {
                continue;
            }
            let (Some(all), Some(chosen)) = (self.classes.get(&class), self.choice(class, start, overrides)) else {
                continue;
            };
            if all.len() > 1 {
                let alternatives: Vec<usize> = (0..all.len()).filter(|k| *k != chosen).collect();
                out.push((class, alternatives));
            }
            stack.extend(all[chosen].args.iter().rev().map(|a| self.graph.find(*a)));
        }
        out
    }
}

/// The smallest term of every class, by the number of operations as a tree, ties to the first in order.
fn smallest(graph: &Graph, classes: &BTreeMap<Id, Vec<&Term>>) -> BTreeMap<Id, usize> {
    let mut size: BTreeMap<Id, (u64, usize)> = BTreeMap::new();
    loop {
        let mut changed = false;
        for (class, nodes) in classes {
            // A class without a type is the work of a wrong rule; nothing is made of it.
            if matches!(graph[*class].data, Fact::Fault(_)) {
                continue;
            }
            for (k, term) in nodes.iter().enumerate() {
                let own = u64::from(costs(&term.head));
                let add = |sum: u64, a: &Id| Some(sum.saturating_add(size.get(&graph.find(*a))?.0));
                let Some(total) = term.args.iter().try_fold(own, add) else { continue };
                // A term must be larger than its arguments for choices never to go in a circle; leaves have none.
                if size.get(class).is_none_or(|old| total < old.0) {
                    size.insert(*class, (total, k));
                    changed = true;
                }
            }
        }
        if !changed {
            return size.into_iter().map(|(class, (_, k))| (class, k)).collect();
        }
    }
}
