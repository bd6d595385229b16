//! One region: canonical spelling, saturation, the cheapest ways to compute it, and how each came about.

use super::RewriteSettings;
use super::emit::{Replacement, emit};
use super::extract::{Extracted, by_cost, cheapest};
use super::facts::TermGraph;
use super::normalize::Normalizer;
use super::region::{Imported, Region};
use super::rule::Exactness;
use super::saturate::{Rules, Saturated, is_allowed};
use egg::Id;
use mixc_ir::program::{Program, Value};
use std::collections::BTreeMap;

/// A rule applied for the sake of a node of the region, both by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: usize,
    /// The node.
    pub node: usize,
}

/// A way to compute a region.
#[derive(Clone, Debug)]
pub struct Way {
    /// Terms of its roots.
    pub roots: Vec<Id>,
    /// Cost; `None` when it cannot be lowered.
    pub cost: Option<f64>,
    /// The rules that led to it.
    pub steps: Vec<Step>,
    /// Terms that stand for what a node of the region was.
    pub origins: BTreeMap<Id, usize>,
}

/// What is known of a region and of all that are equal to it.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The terms of all ways.
    pub graph: TermGraph,
    /// Ways, cheapest first; at least one.
    pub ways: Vec<Way>,
    /// Nodes of the e-graph.
    pub nodes: usize,
    /// Its iterations.
    pub iterations: usize,
    /// Whether it held all that the rules give.
    pub saturated: bool,
}

/// Solves a region of `program`.
pub fn solve(
    program: &Program,
    region: &Region,
    imported: Imported,
    rules: &Rules,
    settings: &RewriteSettings,
    cost: &dyn Fn(&Program) -> Option<f64>,
) -> Solution {
    let Imported { mut graph, of_node, roots: as_written } = imported;
    let mut normalizer = Normalizer::new(rules);
    let mut origins = BTreeMap::new();
    let mut steps = Vec::new();
    let sites = sites(program, region, &graph, &of_node, &as_written);
    let mut as_imported = BTreeMap::new();
    for (place, id) in of_node.iter().enumerate() {
        as_imported.entry(*id).or_insert(place);
        let (normal, applied) = normalizer.normal(&mut graph, *id);
        origins.entry(normal).or_insert(place);
        steps.extend(applied.into_iter().map(|rule| Step { rule, node: sites[place] }));
    }
    let roots: Vec<Id> = as_written.iter().map(|id| normalizer.normal(&mut graph, *id).0).collect();
    let root_places: Vec<usize> =
        as_written.iter().map(|r| of_node.iter().position(|id| id == r).unwrap_or(0)).collect();

    let mut saturated = Saturated::new(&graph, &roots);
    let exact = |rule: &super::rule::CompiledRule| rule.exactness == Exactness::Exact;
    saturated.run(rules, &exact, settings.node_limit, settings.iteration_limit);
    let mut ways = Vec::new();
    let mut search = |saturated: &mut Saturated, graph: &mut TermGraph| {
        if !saturated.graph.analysis.faults.is_empty() {
            return;
        }
        let mut evaluate = |graph: &mut TermGraph, raw: &[Id]| {
            let mut canonical = Vec::with_capacity(raw.len());
            let mut spelled = Vec::with_capacity(raw.len());
            for id in raw {
                let (normal, applied) = normalizer.normal(graph, *id);
                canonical.push(normal);
                spelled.push(applied);
            }
            let cost = standalone(program, region, graph, &canonical).and_then(|p| cost(&p));
            (canonical, spelled, cost)
        };
        let (keep, limit) = (settings.candidates, settings.costed);
        let written = saturated.written.clone();
        let found = cheapest(&saturated.graph, graph, &roots, &written, keep, limit, &mut evaluate);
        for extracted in found {
            let mut way = way(saturated, graph, rules, &steps, &root_places, &extracted);
            for (written, place) in &origins {
                if let Some(raw) = extracted.stands_for.get(written) {
                    way.origins.entry(normalizer.normal(graph, *raw).0).or_insert(*place);
                }
            }
            ways.push((extracted, way));
        }
    };
    search(&mut saturated, &mut graph);
    let approximate = |rule: &super::rule::CompiledRule| is_allowed(rule, &graph.around);
    let any = rules.compiled.iter().any(|r| r.exactness != Exactness::Exact && approximate(r));
    if any {
        // Exact equalities are proved by then, so that no proof of one goes through an approximation.
        saturated.run(rules, &approximate, settings.node_limit, settings.iteration_limit);
        search(&mut saturated, &mut graph);
    }
    ways.sort_by(|a, b| by_cost(&a.0, &b.0));
    let mut unique: Vec<Way> = Vec::new();
    for (_, way) in ways {
        if unique.iter().all(|w| w.roots != way.roots) {
            unique.push(way);
        }
    }
    unique.truncate(settings.candidates.max(1));
    if unique.is_empty() {
        unique.push(Way { roots: as_written, cost: None, steps: Vec::new(), origins: as_imported });
    }
    Solution {
        ways: unique,
        nodes: saturated.graph.total_number_of_nodes(),
        iterations: saturated.iterations,
        saturated: saturated.complete,
        graph,
    }
}

/// The rules that lead to an extracted program: those of the written spelling, the proof, those of the last spelling.
fn way(
    saturated: &mut Saturated,
    graph: &TermGraph,
    rules: &Rules,
    spelling: &[Step],
    root_places: &[usize],
    extracted: &Extracted,
) -> Way {
    let mut steps = spelling.to_vec();
    let proofs = saturated.proof(graph, &extracted.raw, rules);
    for ((proof, last), node) in proofs.into_iter().zip(&extracted.spelled).zip(root_places) {
        for rule in proof.into_iter().chain(last.iter().copied()) {
            let step = Step { rule, node: *node };
            if !steps[spelling.len()..].contains(&step) {
                steps.push(step);
            }
        }
    }
    Way { roots: extracted.roots.clone(), cost: extracted.cost, steps, origins: BTreeMap::new() }
}

/// Of every node, the place of the node for whose sake it is there: the first `apply` or root that it is part of.
fn sites(program: &Program, region: &Region, graph: &TermGraph, of_node: &[Id], roots: &[Id]) -> Vec<usize> {
    let mut sites: Vec<usize> = (0..of_node.len()).collect();
    let mut taken = vec![false; of_node.len()];
    for (place, n) in region.nodes.iter().enumerate() {
        if program.nodes[*n].op_name() != Some("apply") && !roots.contains(&of_node[place]) {
            continue;
        }
        let inside: std::collections::BTreeSet<Id> = graph.reachable(&[of_node[place]]).into_iter().collect();
        for other in 0..=place {
            if !taken[other] && inside.contains(&of_node[other]) {
                (sites[other], taken[other]) = (place, true);
            }
        }
    }
    sites
}

/// The region alone, as a program from what it reads to what it gives.
fn standalone(program: &Program, region: &Region, graph: &TermGraph, roots: &[Id]) -> Option<Program> {
    let mut alone = Program { name: program.name.clone(), dims: program.dims.clone(), ..Program::default() };
    let mut place = |v: &mixc_ir::program::ValueId| {
        alone.values.push(Value {
            name: program.name_of(*v).to_string(),
            ty: program.ty(*v).clone(),
            structure: program.values[v.index()].structure.clone(),
        });
        mixc_ir::program::ValueId(alone.values.len() as u32 - 1)
    };
    let inputs: Vec<_> = region.inputs.iter().map(&mut place).collect();
    let outputs: Vec<_> = region.roots.iter().map(&mut place).collect();
    alone.params = inputs.clone();
    alone.results = outputs.clone();
    let region = Region { nodes: Vec::new(), inputs, roots: outputs };
    let origins = BTreeMap::new();
    emit(&alone, &[Replacement { region: &region, graph, roots, origins: &origins }]).ok()
}
