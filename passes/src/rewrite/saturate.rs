//! Equality saturation: all rules, until nothing is new or a limit of nodes or iterations is met; never of time, so
//! that equal inputs give equal results on every machine.

use super::built::Made;
use super::facts::{Fact, Surroundings, TermGraph, infer};
use super::pattern::{Binding, Pattern, Variables};
use super::rule::{CompiledRule, Exactness, Purpose, Right, Rule, Terms, compile};
use super::term::{Head, Term};
use egg::{Analysis, DidMerge, EGraph, ENodeOrVar, Id, Language, PatternAst, RecExpr, Searcher, Subst, Var};
use mixc_ir::support::Structure;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::OnceLock;

/// Compiled rules with their patterns for the e-graph.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules.
    pub compiled: Vec<CompiledRule>,
    canonical: BTreeMap<&'static str, Vec<usize>>,
    patterns: Vec<Sides>,
}

#[derive(Clone, Debug)]
struct Sides {
    left: egg::Pattern<Term>,
    /// `None` where it is built for what was matched.
    right: Option<PatternAst<Term>>,
    variables: Vec<Var>,
}

impl Rules {
    /// Compiles a table. The error names the rule and what is wrong with it.
    pub fn new(rules: &[Rule]) -> Result<Rules, String> {
        let compiled = compile(rules)?;
        let mut canonical: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
        let mut patterns = Vec::with_capacity(compiled.len());
        for (k, rule) in compiled.iter().enumerate() {
            let root = rule.left.root().ok_or_else(|| format!("rule `{}` has a variable on the left", rule.name))?;
            if rule.purpose == Purpose::Canonical {
                canonical.entry(root.name).or_default().push(k);
            }
            let variables = variables(&rule.variables).map_err(|e| format!("rule `{}`: {e}", rule.name))?;
            let left = egg::Pattern::new(ast(&rule.left, &variables));
            let right = match &rule.right {
                Right::Pattern(right) => Some(ast(right, &variables)),
                Right::Built(_) => None,
            };
            patterns.push(Sides { left, right, variables });
        }
        Ok(Rules { compiled, canonical, patterns })
    }

    /// The rules that are written down and those that follow from laws.
    pub fn standard() -> Result<&'static Rules, String> {
        static STANDARD: OnceLock<Result<Rules, String>> = OnceLock::new();
        let all = || Rules::new(&[super::rules::all(), super::laws::rules()].concat());
        STANDARD.get_or_init(all).as_ref().map_err(Clone::clone)
    }

    /// Canonical rules with that operation at the root, by place, in order.
    pub fn canonical(&self, op: &str) -> &[usize] {
        self.canonical.get(op).map_or(&[], Vec::as_slice)
    }
}

fn variables(variables: &Variables) -> Result<Vec<Var>, String> {
    variables.names.iter().map(|n| format!("?{n}").parse().map_err(|_| format!("`{n}` is no name"))).collect()
}

fn ast(pattern: &Pattern, variables: &[Var]) -> PatternAst<Term> {
    fn add(pattern: &Pattern, variables: &[Var], into: &mut PatternAst<Term>) -> Id {
        match pattern {
            Pattern::Variable(v) => into.add(ENodeOrVar::Var(variables[*v])),
            Pattern::Node(head, args) => {
                let args = args.iter().map(|a| add(a, variables, into)).collect();
                into.add(ENodeOrVar::ENode(Term { head: head.clone(), args }))
            }
        }
    }
    let mut out = RecExpr::default();
    add(pattern, variables, &mut out);
    out
}

/// Types, structure and constants of every class.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What types depend on.
    pub around: Surroundings,
    /// Classes that came to hold terms of different types: a wrong rule. The region is then left as written.
    pub faults: Vec<String>,
}

impl Analysis<Term> for Facts {
    type Data = Fact;

    fn make(egraph: &mut EGraph<Term, Facts>, term: &Term, _: Id) -> Fact {
        infer(&egraph.analysis.around, term, &|id| &egraph[id].data).unwrap_or_else(Fact::Fault)
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        if *a == b {
            return DidMerge(false, false);
        }
        match (&mut *a, b) {
            (Fact::Value(x), Fact::Value(y)) => {
                if x.ty != y.ty {
                    self.faults.push(format!("a term of {} is made equal to one of {}", x.ty, y.ty));
                    return DidMerge(false, true);
                }
                let before = x.clone();
                if let (Some(s), Some(t)) = (&x.structure, y.structure.clone()) {
                    x.structure = Some(sharper(s, t));
                }
                x.splat = x.splat.or(y.splat);
                x.input = x.input.or(y.input);
                x.positive |= y.positive;
                x.positions = x.positions.take().or(y.positions);
                x.alike |= y.alike;
                DidMerge(*x != before, true)
            }
            (Fact::Fault(_), b) => {
                *a = b;
                DidMerge(true, false)
            }
            (_, Fact::Fault(_)) => DidMerge(false, true),
            (a, b) => {
                self.faults.push(format!("{a:?} is made equal to {b:?}"));
                DidMerge(false, true)
            }
        }
    }
}

/// What two descriptions of one operator say together.
fn sharper(a: &Structure, b: Structure) -> Structure {
    let size = |s: &Structure| (s.support.is_full(), s.support.regions.iter().map(Vec::len).sum::<usize>());
    Structure {
        support: if size(&b) < size(a) { b.support } else { a.support.clone() },
        non_negative: a.non_negative || b.non_negative,
        toeplitz: a.toeplitz || b.toeplitz,
        rank: a.rank.clone().or(b.rank),
    }
}

/// An e-graph of terms.
pub type Graph = EGraph<Term, Facts>;

struct InGraph<'a>(&'a mut Graph);

impl Terms for InGraph<'_> {
    fn around(&self) -> &Surroundings {
        &self.0.analysis.around
    }

    fn fact(&self, id: Id) -> &Fact {
        &self.0[id].data
    }

    fn put(&mut self, term: Term) -> Result<Id, String> {
        Ok(self.0.add(term))
    }
}

/// A saturated region.
#[derive(Debug)]
pub struct Saturated {
    /// Every term that is known to be equal to a written one.
    pub graph: Graph,
    /// The written roots, as they were added.
    pub written: Vec<Id>,
    /// Iterations done.
    pub iterations: usize,
    /// Whether nothing new was left to find.
    pub complete: bool,
}

impl Saturated {
    /// An e-graph with the terms of `roots`.
    pub fn new(terms: &TermGraph, roots: &[Id]) -> Saturated {
        let mut graph = Graph::new(Facts { around: terms.around.clone(), faults: Vec::new() })
            .with_explanations_enabled()
            .without_explanation_length_optimization();
        let written = add_terms(&mut graph, terms, roots);
        graph.rebuild();
        Saturated { graph, written, iterations: 0, complete: false }
    }

    /// Applies the rules that `use_rule` accepts until nothing is new or there are `node_limit` nodes or
    /// `iteration_limit` iterations.
    pub fn run(
        &mut self,
        rules: &Rules,
        use_rule: &dyn Fn(&CompiledRule) -> bool,
        node_limit: usize,
        iteration_limit: usize,
    ) {
        self.complete = false;
        let used: Vec<usize> = (0..rules.compiled.len()).filter(|k| use_rule(&rules.compiled[*k])).collect();
        for _ in 0..iteration_limit {
            let before = (self.graph.total_number_of_nodes(), self.graph.number_of_classes());
            let mut found: Vec<(usize, Id, Subst)> = Vec::new();
            for &k in &used {
                for matches in rules.patterns[k].left.search(&self.graph) {
                    found.extend(matches.substs.into_iter().map(|s| (k, matches.eclass, s)));
                }
            }
            self.iterations += 1;
            for (k, class, subst) in found {
                apply(rules, k, &mut self.graph, class, &subst);
                if self.graph.total_number_of_nodes() > node_limit {
                    self.graph.rebuild();
                    return;
                }
            }
            self.graph.rebuild();
            if before == (self.graph.total_number_of_nodes(), self.graph.number_of_classes()) {
                self.complete = true;
                return;
            }
        }
    }

    /// The rules that make `terms`, one a root, of the written ones: for every root in turn, each rule once, in the
    /// order of the proof.
    pub fn proof(&mut self, graph: &TermGraph, roots: &[Id], rules: &Rules) -> Vec<Vec<usize>> {
        let places: BTreeMap<&str, usize> =
            rules.compiled.iter().enumerate().map(|(k, r)| (r.name.as_str(), k)).collect();
        let added = add_terms(&mut self.graph, graph, roots);
        let mut chains = Vec::with_capacity(roots.len());
        for (written, made) in self.written.clone().into_iter().zip(added) {
            let mut chain = Chain::default();
            if self.graph.find(written) == self.graph.find(made) && written != made {
                let explanation = self.graph.explain_id_equivalence(written, made);
                chain.collect(&explanation.explanation_trees);
            }
            chains.push(chain.names.iter().filter_map(|n| places.get(n.as_str()).copied()).collect());
        }
        chains
    }
}

/// Names of rules in a proof, each once. Proofs share their parts, which are looked at once: the walk takes time in the
/// size of the shared form, not of the tree.
#[derive(Default)]
struct Chain {
    names: Vec<egg::Symbol>,
    seen: BTreeSet<*const egg::TreeTerm<Term>>,
}

impl Chain {
    fn collect(&mut self, trees: &[Rc<egg::TreeTerm<Term>>]) {
        let mut stack: Vec<(&Rc<egg::TreeTerm<Term>>, bool)> = trees.iter().rev().map(|t| (t, false)).collect();
        while let Some((tree, entered)) = stack.pop() {
            if entered || !self.seen.insert(Rc::as_ptr(tree)) {
                continue;
            }
            for rule in [tree.forward_rule, tree.backward_rule].into_iter().flatten() {
                if !self.names.contains(&rule) {
                    self.names.push(rule);
                }
            }
            stack.push((tree, true));
            stack.extend(tree.child_proofs.iter().flatten().rev().map(|t| (t, false)));
        }
    }
}

/// Adds the terms of `roots`; the ids are of exactly these terms, not of their classes.
fn add_terms(into: &mut Graph, terms: &TermGraph, roots: &[Id]) -> Vec<Id> {
    let mut ids: BTreeMap<Id, Id> = BTreeMap::new();
    for id in terms.reachable(roots) {
        let term = terms.term(id).clone().map_children(|child| ids[&child]);
        ids.insert(id, into.add_uncanonical(term));
    }
    roots.iter().map(|r| ids[r]).collect()
}

/// Adds the right side where the left was found, if all that must be given holds and the types agree.
fn apply(rules: &Rules, k: usize, graph: &mut Graph, class: Id, subst: &Subst) {
    let (rule, sides) = (&rules.compiled[k], &rules.patterns[k]);
    let mut binding: Binding = sides.variables.iter().map(|v| subst.get(*v).map(|id| graph.find(*id))).collect();
    let mut terms = InGraph(graph);
    if !rule.holds(&mut terms, &mut binding) {
        return;
    }
    let built = match &rule.right {
        Right::Pattern(_) => None,
        Right::Built(right) => Some(right.build(&terms, &binding)),
    };
    let right = match &built {
        None => rule.right_type(&terms, &binding),
        Some(built) => built.as_ref().map(|b| b.fact().clone()).map_err(String::clone),
    };
    if right.is_ok_and(|right| right.ty() != terms.fact(class).ty()) {
        return;
    }
    let built = match built {
        None => None,
        Some(Ok(built)) => Some(built_ast(&built, &sides.variables)),
        Some(Err(_)) => return,
    };
    let Some(right) = built.as_ref().or(sides.right.as_ref()) else { return };
    let mut subst = subst.clone();
    for (v, id) in sides.variables.iter().zip(&binding) {
        if let (None, Some(id)) = (subst.get(*v), id) {
            subst.insert(*v, *id);
        }
    }
    graph.union_instantiations(&sides.left.ast, right, &subst, rule.name.as_str());
}

/// What was built as a pattern over the rule's variables.
fn built_ast(built: &Made, variables: &[Var]) -> PatternAst<Term> {
    let out = std::cell::RefCell::new(RecExpr::default());
    let put = |node| Ok::<Id, std::convert::Infallible>(out.borrow_mut().add(node));
    let Ok(_) = built.fold(|term| put(ENodeOrVar::ENode(term)), |v| put(ENodeOrVar::Var(variables[v])));
    out.into_inner()
}

/// Whether the rule is exact, or approximate with an error that is allowed.
pub fn is_allowed(rule: &CompiledRule, around: &Surroundings) -> bool {
    match &rule.exactness {
        Exactness::Exact => true,
        Exactness::Approximate(error) => around.approximations.contains_key(error.as_ref()),
    }
}

/// Whether a head is an operation or a constant: what costs something.
pub fn costs(head: &Head) -> bool {
    matches!(head, Head::Op(_) | Head::Splat(_))
}
