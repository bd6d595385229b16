//! The derivation of a model as data: rules, candidates, kernels with their bytes against the bound, memory.

use crate::{Compilation, Request, shapes};
use mixc_ir::dim::DimValues;
use mixc_ir::lowered::{Action, Phase};
use mixc_ir::machine::Machine;
use mixc_passes::rewrite::Exactness;
use serde_json::{Value, json};

/// Forms that compute tensors element by element or row by row: what surrounds the forms of mixing.
pub const SMALL_WORK: [&str; 5] = ["map", "gather", "layout", "reduce", "norm"];

/// A rule that was applied.
#[derive(Clone, Debug)]
pub struct AppliedRule {
    /// Its name.
    pub name: String,
    /// Whether it is an identity.
    pub exact: bool,
    /// The value for whose sake.
    pub site: String,
}

/// A program that was considered.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Rules that lead to it.
    pub rules: Vec<String>,
    /// Reckoned microseconds.
    pub cost_us: Option<f64>,
    /// Whether it is what runs.
    pub chosen: bool,
}

/// A form that was considered for an application.
#[derive(Clone, Debug)]
pub struct FormChoice {
    /// The value it computes.
    pub site: String,
    /// The form.
    pub form: String,
    /// Reckoned microseconds.
    pub cost_us: f64,
    /// Bytes moved by all accesses to tensors.
    pub bytes: f64,
    /// Whether it is what runs.
    pub chosen: bool,
}

/// A tile program that runs.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The program's name.
    pub name: String,
    /// The form it is part of.
    pub form: String,
    /// The value it computes.
    pub site: String,
    /// Knobs.
    pub tile: Vec<(String, i64)>,
    /// Operations.
    pub flops: f64,
    /// Bytes moved by all accesses to tensors.
    pub bytes: f64,
    /// Bytes that must move: every tensor once.
    pub bytes_bound: f64,
    /// Bytes that come from each level of the memory, the fastest first.
    pub levels: Vec<(&'static str, f64)>,
    /// Reckoned microseconds.
    pub cost_us: f64,
}

/// A derivation.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The model's name.
    pub model: String,
    /// The target's name.
    pub target: String,
    /// Approximations in use.
    pub approx: Vec<String>,
    /// The lengths that costs are reckoned at.
    pub dims: DimValues,
    /// The chain of rules.
    pub rules: Vec<AppliedRule>,
    /// What was considered, the cheapest first.
    pub candidates: Vec<Candidate>,
    /// Forms that were considered wherever several apply, the cheapest first at each value.
    pub forms: Vec<FormChoice>,
    /// What runs, in order.
    pub kernels: Vec<Kernel>,
    /// Bytes of temporaries.
    pub arena_bytes: u64,
    /// Bytes of temporaries that are live at once, at most.
    pub max_live_bytes: u64,
    /// Who made the memory plan.
    pub planner: &'static str,
}

/// The derivation of a compilation.
pub fn explain(c: &Compilation, request: &Request, target: &str) -> Explanation {
    let dims = shapes::typical(&c.program, &request.shapes);
    let machine = &c.machine;
    let mut kernels = Vec::new();
    for step in c.lowered.phase(Phase::Run) {
        let Action::Run { program, form, site, .. } = &step.action else { continue };
        let Ok(cost) = mixc_ir::tile::cost(program, &dims) else { continue };
        kernels.push(Kernel {
            name: program.name.clone(),
            form: form.clone(),
            site: format!("%{site}"),
            tile: program.knobs.clone(),
            flops: cost.flops.fma + cost.flops.special + cost.flops.other,
            bytes: cost.moved(),
            bytes_bound: cost.compulsory(),
            levels: levels(&cost, machine),
            cost_us: cost.seconds(machine, machine.fewest_threads) * 1e6,
        });
    }
    let mut approx = Vec::new();
    let rules: Vec<AppliedRule> = c
        .rewritten
        .rules
        .iter()
        .map(|r| {
            let exact = match &r.exactness {
                Exactness::Exact => true,
                Exactness::Approximate(name) => {
                    approx.push(name.to_string());
                    false
                }
            };
            AppliedRule { name: r.rule.clone(), exact, site: r.site.clone() }
        })
        .collect();
    approx.sort();
    approx.dedup();
    let candidates = c
        .rewritten
        .candidates
        .iter()
        .enumerate()
        .map(|(k, candidate)| Candidate {
            rules: candidate.rules.iter().map(|r| r.rule.clone()).collect(),
            cost_us: candidate.cost.map(|s| s * 1e6),
            chosen: k == 0,
        })
        .collect();
    let forms = c.choices.iter().map(|f| FormChoice {
        site: format!("%{}", f.site),
        form: f.form.to_string(),
        cost_us: f.seconds * 1e6,
        bytes: f.bytes,
        chosen: f.chosen,
    });
    let arena = mixc_ir::plan::layout(&c.lowered, Phase::Run, &dims).map_or(0, |(_, bytes)| bytes);
    let live = mixc_ir::plan::max_live_bytes(&c.lowered, Phase::Run, &dims).unwrap_or(0);
    Explanation {
        model: c.lowered.name.clone(),
        target: target.to_string(),
        approx,
        dims,
        rules,
        candidates,
        forms: forms.collect(),
        kernels,
        arena_bytes: arena,
        max_live_bytes: live,
        planner: "greedy",
    }
}

/// The bytes that come from each level: all from the first, from the next what the one before does not hold.
fn levels(cost: &mixc_ir::tile::Cost, machine: &Machine) -> Vec<(&'static str, f64)> {
    let from = |k: usize| if k == 0 { cost.moved() } else { cost.past(machine.levels[k - 1].bytes) };
    machine.levels.iter().enumerate().map(|(k, level)| (level.name, from(k))).collect()
}

impl Explanation {
    /// As the command line's JSON.
    pub fn json(&self) -> Value {
        let kernels: Vec<Value> = self
            .kernels
            .iter()
            .map(|k| {
                let tile: serde_json::Map<String, Value> =
                    k.tile.iter().map(|(n, v)| (n.clone(), (*v).into())).collect();
                let mut bytes = serde_json::Map::from_iter([("slow".to_string(), Value::from(k.bytes))]);
                bytes.extend(k.levels.iter().map(|(level, bytes)| (level.to_string(), Value::from(*bytes))));
                json!({
                    "name": k.name, "form": k.form, "site": k.site, "layers": [], "tile": tile, "flops": k.flops,
                    "bytes": bytes, "bytes_bound": { "slow": k.bytes_bound }, "cost_us": k.cost_us,
                })
            })
            .collect();
        let considered = self
            .forms
            .iter()
            .map(|f| json!({ "site": f.site, "form": f.form, "cost_us": f.cost_us, "chosen": f.chosen }));
        let alone = self
            .kernels
            .iter()
            .filter(|k| self.forms.iter().all(|f| f.site != k.site))
            .map(|k| json!({ "site": k.site, "form": k.form, "cost_us": k.cost_us, "chosen": true }));
        let sites: Vec<Value> = considered.chain(alone).collect();
        let programs: Vec<Value> = self
            .candidates
            .iter()
            .map(|c| json!({ "rules": c.rules, "cost_us": c.cost_us, "chosen": c.chosen }))
            .collect();
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|r| json!({ "name": r.name, "exact": r.exact, "site": format!("%{}", r.site) }))
            .collect();
        json!({
            "model": self.model, "target": self.target, "approx": self.approx, "rules": rules, "kernels": kernels,
            "candidates": sites, "programs": programs,
            "memory": { "arena_bytes": self.arena_bytes, "max_live_bytes": self.max_live_bytes, "planner": self.planner },
        })
    }
}
