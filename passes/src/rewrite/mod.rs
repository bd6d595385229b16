//! Rewriting: from a program to equal ones, of which the cheapest is chosen.
//!
//! `expand_layers` -> regions -> canonical spelling -> e-graph -> k best by cost -> program. Everything here maps
//! programs to programs: which algorithm computes an `apply` is decided after it, by structure. Rules are data
//! (`rules`, `laws`); every one is checked against the reference interpreter on values and support.
//!
//! Promises: the result is well-typed and, with exact rules alone, equal in real arithmetic; equal inputs give equal
//! outputs; work is bounded by nodes, iterations and programs costed, never by time; what no rule improves is left as
//! it was written. Lacks: tiles, loops, costs of its own.

mod alike;
mod built;
pub(crate) mod conditions;
mod constants;
mod emit;
mod expand;
mod extract;
mod facts;
pub(crate) mod laws;
mod normalize;
mod pattern;
mod positions;
mod region;
mod rule;
pub(crate) mod rules;
mod saturate;
mod scores;
mod solve;
mod term;
#[cfg(test)]
pub(crate) mod tests;

pub use expand::{alone, expand_layers};
pub use region::is_seen_whole;
pub use rule::{Exactness, Purpose, Rule};
pub use rules::approximate::{Approximation, approximations};
pub use rules::find as find_rule;
pub use saturate::Rules;

use emit::{Replacement, emit};
use mixc_ir::attr::Attrs;
use mixc_ir::program::Program;
use solve::{Solution, Step, solve};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Limits and permissions.
#[derive(Clone, Debug, PartialEq)]
pub struct RewriteSettings {
    /// Nodes of an e-graph at most.
    pub node_limit: usize,
    /// Iterations at most.
    pub iteration_limit: usize,
    /// Operations of a region at most; a larger one is left as written.
    pub region_limit: usize,
    /// Candidates that are kept.
    pub candidates: usize,
    /// Programs costed for a region at most.
    pub costed: usize,
    /// Errors that are allowed, with the parameters of the rules: `hip` -> `{k = 512}`.
    pub approximations: BTreeMap<String, Attrs>,
}

impl Default for RewriteSettings {
    /// Measured on attention, retention and Mamba blocks: all saturate below 600 nodes and 8 iterations. A region that does
    /// not takes 20 ms to the limit.
    fn default() -> RewriteSettings {
        RewriteSettings {
            node_limit: 2_000,
            iteration_limit: 12,
            region_limit: 256,
            candidates: 6,
            costed: 32,
            approximations: BTreeMap::new(),
        }
    }
}

/// A rule that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRule {
    /// Its name.
    pub rule: String,
    /// Exact, or which error it makes.
    pub exactness: Exactness,
    /// The value for whose sake: an `apply`, or a result of its region.
    pub site: String,
}

/// A program to choose.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The program.
    pub program: Program,
    /// Its regions' costs together; `None` when one cannot be lowered.
    pub cost: Option<f64>,
    /// What led to it from what was written, site by site.
    pub rules: Vec<AppliedRule>,
}

/// What rewriting gives.
#[derive(Clone, Debug)]
pub struct Rewritten {
    /// The cheapest program.
    pub program: Program,
    /// The cheapest and what comes next, cheapest first.
    pub candidates: Vec<Candidate>,
    /// What led from what was written to the cheapest.
    pub rules: Vec<AppliedRule>,
    /// Nodes of all e-graphs.
    pub nodes: usize,
    /// Iterations of the longest run.
    pub iterations: usize,
    /// Whether every e-graph held all that the rules give.
    pub saturated: bool,
    /// Regions in the program, and how many of them are different.
    pub regions: (usize, usize),
}

/// The cheapest program equal to `program` by the standard rules, and the next ones. `program` should have its layers
/// expanded, save those that are seen whole, which are expanded here. `cost` is asked for regions, as programs of their own: parameters are what the region reads, results what
/// it gives; `None` says that it cannot be lowered.
pub fn rewrite(program: &Program, settings: &RewriteSettings, cost: &dyn Fn(&Program) -> Option<f64>) -> Rewritten {
    // The tables are checked by tests; were one wrong, programs would still compile as written.
    match Rules::standard() {
        Ok(rules) => rewrite_with(rules, program, settings, cost),
        Err(_) => as_written(program),
    }
}

/// As [`rewrite`], with rules of one's own.
pub fn rewrite_with(
    rules: &Rules,
    program: &Program,
    settings: &RewriteSettings,
    cost: &dyn Fn(&Program) -> Option<f64>,
) -> Rewritten {
    let program = &constants::fold(program);
    let cost = |p: &Program| cost(&without_seen_whole(p));
    let alike = alike::of_program(program);
    let mut solutions: BTreeMap<String, Rc<Solution>> = BTreeMap::new();
    let mut sites = Vec::new();
    for region in region::find(program, settings.region_limit) {
        let mut around = region::surroundings(program, &alike, &region);
        around.approximations = settings.approximations.clone().into();
        let Ok(imported) = region::import(program, &region, around) else { continue };
        let key = region::key(&imported);
        let solution = solutions
            .entry(key)
            .or_insert_with(|| Rc::new(solve(program, &region, imported, rules, settings, &cost)))
            .clone();
        sites.push((region, solution));
    }
    let mut ways: Vec<Vec<usize>> = vec![vec![0; sites.len()]];
    // Next to the best of all: every other way for each kind of region, where all regions of the kind take it.
    let mut others: Vec<(f64, Vec<usize>)> = Vec::new();
    for solution in solutions.values() {
        let uses = sites.iter().filter(|(_, s)| Rc::ptr_eq(s, solution)).count() as f64;
        for (k, way) in solution.ways.iter().enumerate().skip(1) {
            let (Some(cost), Some(best)) = (way.cost, solution.ways[0].cost) else { continue };
            let choice = sites.iter().map(|(_, s)| if Rc::ptr_eq(s, solution) { k } else { 0 }).collect();
            others.push(((cost - best) * uses, choice));
        }
    }
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    ways.extend(others.into_iter().map(|(_, choice)| choice).take(settings.candidates.saturating_sub(1)));
    let candidates: Vec<Candidate> =
        ways.iter().filter_map(|choice| candidate(program, &sites, choice, rules)).collect();
    let Some(best) = candidates.first() else { return as_written(program) };
    Rewritten {
        program: best.program.clone(),
        rules: best.rules.clone(),
        nodes: solutions.values().map(|s| s.nodes).sum(),
        iterations: solutions.values().map(|s| s.iterations).max().unwrap_or(0),
        saturated: solutions.values().all(|s| s.saturated),
        regions: (sites.len(), solutions.len()),
        candidates,
    }
}

/// The program in which every region is computed in the way of `choice`.
fn candidate(
    program: &Program,
    sites: &[(region::Region, Rc<Solution>)],
    choice: &[usize],
    rules: &Rules,
) -> Option<Candidate> {
    let replacements: Vec<Replacement<'_>> = sites
        .iter()
        .zip(choice)
        .map(|((region, solution), k)| Replacement {
            region,
            graph: &solution.graph,
            roots: &solution.ways[*k].roots,
            origins: &solution.ways[*k].origins,
        })
        .collect();
    let rewritten = without_seen_whole(&emit(program, &replacements).ok()?);
    let mut applied = Vec::new();
    let mut cost = Some(0.0);
    for ((region, solution), k) in sites.iter().zip(choice) {
        let way = &solution.ways[*k];
        cost = cost.zip(way.cost).map(|(a, b)| a + b);
        for Step { rule, node } in &way.steps {
            let site = region.nodes.get(*node).and_then(|n| program.nodes[*n].results.first());
            let rule = &rules.compiled[*rule];
            applied.push(AppliedRule {
                rule: rule.name.clone(),
                exactness: rule.exactness.clone(),
                site: site.map_or(String::new(), |v| program.name_of(*v).to_string()),
            });
        }
    }
    Some(Candidate { program: rewritten, cost, rules: applied })
}

/// With the layers expanded that were kept for the rules to see.
fn without_seen_whole(program: &Program) -> Program {
    expand_layers(program, &|op| !is_seen_whole(op))
}

fn as_written(program: &Program) -> Rewritten {
    let program = without_seen_whole(program);
    let candidate = Candidate { program: program.clone(), cost: None, rules: Vec::new() };
    Rewritten {
        program,
        candidates: vec![candidate],
        rules: Vec::new(),
        nodes: 0,
        iterations: 0,
        saturated: true,
        regions: (0, 0),
    }
}
