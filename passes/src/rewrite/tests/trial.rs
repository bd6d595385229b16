//! A rule against the reference interpreter: both sides of random typed instances, on values and support; and the same
//! without one of its conditions.
//!
//! Rules are equalities of real numbers, data are not: two sides may differ by what rounding makes of them. How much
//! that is depends on the instance, so it is measured: by how much the left side moves when its inputs and constants
//! move a little.
//! Nothing is compared with a fixed number, hence errors are seen at every scale.

use super::super::conditions::{GUIDES, Guide};
use super::super::facts::Surroundings;
use super::super::normalize::apply;
use super::super::rule::{CompiledRule, Rule};
use super::super::saturate::Rules;
use super::random::{Data, Instance, Rng};
use egg::Id;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::program::{Const, NodeKind};
use mixc_ir::reference::{Weights, interpret};
use mixc_ir::tensor::Tensor;
use mixc_ir::ty::Type;
use std::collections::BTreeMap;

/// Draws for an instance before a rule counts as one that never applies.
const DRAWS: u64 = 800;

/// Types, with every approximation allowed.
pub fn surroundings() -> Surroundings {
    Surroundings {
        approximations: BTreeMap::from([("hip".to_string(), Attrs::new().with_int("k", 2))]).into(),
        ..Surroundings::default()
    }
}

/// The seed of a draw.
fn seed(draw: u64) -> u64 {
    draw.wrapping_mul(0x5851_f42d_4c95_7f2d)
}

/// Checks that both sides agree on that many instances; the error says on which one they do not, or why there are too
/// few.
pub fn check(rule: &CompiledRule, instances: usize) -> Result<(), String> {
    let around = surroundings();
    let mut passed = 0;
    let mut reason = "the left side has no typed instance".to_string();
    for draw in 0..instances as u64 * DRAWS {
        if passed == instances {
            return Ok(());
        }
        let mut instance = Instance::unusual(seed(draw), &around);
        let mut binding = rule.unbound();
        let Some(left) = instance.generate(&rule.left, &mut binding) else { continue };
        if !rule.holds(&mut instance.graph, &mut binding) {
            reason = "what must be given never holds".into();
            continue;
        }
        let right = match rule.build(&mut instance.graph, &binding) {
            Ok(right) => right,
            Err(e) => {
                reason = format!("the right side has no type: {e}");
                continue;
            }
        };
        let (l, r) = (instance.graph.fact(left).ty().cloned(), instance.graph.fact(right).ty().cloned());
        let (Some(l), Some(r)) = (l, r) else { return Err("a side is not a value".into()) };
        if l != r {
            reason = format!("the left side is {l}, the right side {r}");
            continue;
        }
        compare(&mut instance, left, right, &l)
            .map_err(|e| format!("rule `{}`, draw {draw}, {:?} data: {e}", rule.name, instance.kind))?;
        passed += 1;
    }
    match passed == instances {
        true => Ok(()),
        false => Err(format!("rule `{}` was checked {passed} times: {reason}", rule.name)),
    }
}

/// A condition of a compiled rule.
#[derive(Clone, Debug)]
pub struct Conditioned {
    /// The rule.
    pub rule: CompiledRule,
    /// The rule without the condition.
    pub without: CompiledRule,
    /// The condition as it is written.
    pub condition: String,
    /// What it is for, if not for truth.
    pub guide: Option<Guide>,
}

/// The conditions of a table's rules. What computes something is none: without it there is no right side.
pub fn conditions(rules: &[Rule]) -> Result<Vec<Conditioned>, String> {
    let mut all = Vec::new();
    for row in rules {
        let clauses: Vec<&str> = row.given.split(';').map(str::trim).filter(|c| !c.is_empty()).collect();
        let full = Rules::new(std::slice::from_ref(row))?.compiled;
        for condition in clauses.iter().filter(|c| !c.contains('=')) {
            let others: Vec<&str> = clauses.iter().copied().filter(|c| c != condition).collect();
            let without = Rules::new(&[Rule { given: others.join("; ").into(), ..row.clone() }])?.compiled;
            let (mask, call) = condition.split_once(':').unwrap_or(("", condition));
            let name = call.trim().split('(').next().unwrap_or_default();
            let guide = GUIDES.iter().find(|(n, _)| *n == name).map(|(_, guide)| *guide);
            for (rule, without) in full.iter().zip(without) {
                if mask.is_empty() || rule.name.ends_with(&format!(":{mask}")) {
                    let condition = call.trim().to_string();
                    all.push(Conditioned { rule: rule.clone(), without, condition, guide });
                }
            }
        }
    }
    Ok(all)
}

/// Draws in which a counterexample must be found.
const SEARCHED: u64 = 40_000;

/// Instances without one that show that there is none: every condition that truth needs has one among far fewer.
const ENOUGH: usize = 200;

/// Checks that the rule is wrong without the condition; or, of a guide, that it is right, and what the guide is for.
pub fn needed(c: &Conditioned) -> Result<(), String> {
    let around = surroundings();
    let mut equal = 0;
    for draw in 0..SEARCHED {
        let mut instance = Instance::unusual(seed(draw), &around);
        let mut binding = c.without.unbound();
        let Some(left) = instance.generate(&c.without.left, &mut binding) else { continue };
        if c.rule.holds(&mut instance.graph, &mut binding.clone())
            || !c.without.holds(&mut instance.graph, &mut binding)
        {
            continue;
        }
        let Ok(right) = c.without.build(&mut instance.graph, &binding) else { continue };
        let (l, r) = (instance.graph.fact(left).ty().cloned(), instance.graph.fact(right).ty().cloned());
        // Sides of different types are never made equal.
        let Some(l) = l.filter(|l| Some(l) == r.as_ref()) else { continue };
        // With equal parts there is nothing to undo.
        if c.guide == Some(Guide::Order)
            && left != right
            && apply(&c.without, &mut instance.graph, right) != Some(left)
            && apply(&c.rule, &mut instance.graph, right) != Some(left)
        {
            return Err(format!("draw {draw}: without `{}` the rule does not undo itself", c.condition));
        }
        if c.guide == Some(Guide::Shorter) && !shorter(&mut instance, c, left, right)? {
            return Err(format!("draw {draw}: without `{}` no other rule gives something shorter", c.condition));
        }
        match compare(&mut instance, left, right, &l) {
            Ok(()) => equal += 1,
            Err(_) if c.guide.is_none() => return Ok(()),
            Err(e) => return Err(format!("draw {draw}: `{}` is no mere guide: {e}", c.condition)),
        }
        if equal == ENOUGH {
            break;
        }
    }
    match c.guide {
        Some(_) if equal == ENOUGH => Ok(()),
        _ => Err(format!("without `{}` the rule is right on {equal} instances and wrong on none", c.condition)),
    }
}

/// Whether another rule makes fewer operations of `left` than `right` has.
fn shorter(instance: &mut Instance, c: &Conditioned, left: Id, right: Id) -> Result<bool, String> {
    let operations = |instance: &Instance, id: Id| instance.graph.reachable(&[id]).len();
    let most = operations(instance, right);
    let others = Rules::standard()?.compiled.iter().filter(|r| r.name != c.rule.name);
    let found = others.filter_map(|r| apply(r, &mut instance.graph, left)).collect::<Vec<_>>();
    Ok(found.into_iter().any(|id| operations(instance, id) < most))
}

/// Checks of an approximation that both sides have one type, that the error is finite, and that there are instances
/// with an error and without.
pub fn approximates(rule: &CompiledRule, instances: usize) -> Result<(), String> {
    let around = surroundings();
    let (mut equal, mut different) = (0, 0);
    for draw in 0..instances as u64 * DRAWS {
        if equal + different == instances {
            break;
        }
        let mut instance = Instance::new(seed(draw), &around);
        let mut binding = rule.unbound();
        let Some(left) = instance.generate(&rule.left, &mut binding) else { continue };
        if !rule.holds(&mut instance.graph, &mut binding) {
            continue;
        }
        let Ok(right) = rule.build(&mut instance.graph, &binding) else { continue };
        let (l, r) = (instance.graph.fact(left).ty().cloned(), instance.graph.fact(right).ty().cloned());
        let Some(l) = l.filter(|l| Some(l) == r.as_ref()) else { continue };
        match compare(&mut instance, left, right, &l) {
            Ok(()) => equal += 1,
            Err(e) if e.contains("NaN") || e.contains("inf") => return Err(format!("draw {draw}: {e}")),
            Err(_) => different += 1,
        }
    }
    match equal > 0 && different > 0 {
        true => Ok(()),
        false => Err(format!("rule `{}`: {equal} instances without an error, {different} with one", rule.name)),
    }
}

/// Both sides' values and, of operators, where they are present.
fn compare(instance: &mut Instance, left: Id, right: Id, ty: &Type) -> Result<(), String> {
    let mut roots = vec![left, right];
    if let Some(m) = ty.as_mix() {
        // An operator is seen through what it does to the unit vectors; its support through a softmax of zeros, which is
        // above 0 exactly there.
        let n = m.cols.as_constant().ok_or("symbolic length")? as usize;
        let eye = (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.0 }).collect();
        let eye = instance.input(instance.dtype, Tensor::floats(&[n, n], eye), false).ok_or("no unit vectors")?;
        let mut seen = Vec::new();
        for side in [left, right] {
            seen.push(instance.call("apply", &[side, eye], &Attrs::new()).ok_or("cannot apply")?);
        }
        for side in [left, right] {
            // Bounded first: zero times infinity is no zero.
            let bounded = instance.call("map", &[side], &Attrs::new().with_name("fn", "sigmoid"));
            let zero = bounded.and_then(|z| instance.call("scale_by", &[z], &Attrs::new().with_float("by", 0.0)));
            let flat = zero.and_then(|z| instance.call("softmax", &[z], &Attrs::new()));
            let support = flat.and_then(|f| instance.call("apply", &[f, eye], &Attrs::new()));
            seen.push(support.ok_or("cannot see the support")?);
        }
        roots = seen;
    }
    let results = evaluate(instance, &instance.data, &roots)?;
    for (k, what) in ["values", "support"].iter().enumerate().take(roots.len() / 2) {
        let (a, b) = (&results[2 * k], &results[2 * k + 1]);
        if a.shape != b.shape {
            return Err(format!("{what}: shapes {:?} and {:?}", a.shape, b.shape));
        }
        if let Err(n) = close(instance, a, b, roots[2 * k]) {
            return Err(format!("{what} differ at {n} of {:?}: {} and {}", a.shape, a.at(n), b.at(n)));
        }
    }
    Ok(())
}

/// Where the results of both sides differ by more than rounding explains.
fn close(instance: &Instance, a: &Tensor, b: &Tensor, left: Id) -> Result<(), usize> {
    let largest = (0..a.len()).map(|k| a.at(k).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    // By type: what is certainly rounding, how far inputs are moved, and which share of what that does is rounding.
    let (rounding, step, share) = match instance.dtype {
        DType::F64 => (1e-13, f64::powi(2.0, -24), 1e-4),
        _ => (1e-6, f64::powi(2.0, -10), 1e-2),
    };
    let differs = |k: usize, allowed: f64| {
        let (x, y) = (a.at(k), b.at(k));
        // What overflows or vanishes is no real number: of data on the way there, one side may pass and the other not.
        // Of large data the left side may, the right side may not where the left does not.
        let real = |z: f64| z.is_finite() && z != 0.0;
        let unreal = match instance.kind {
            Data::Scaled => !(real(x) && real(y)),
            Data::Large => !x.is_finite(),
            _ => false,
        };
        !unreal && ((x - y).abs() > allowed || x.is_finite() != y.is_finite())
    };
    let suspect: Vec<usize> = (0..a.len()).filter(|k| differs(*k, rounding * largest)).collect();
    if suspect.is_empty() {
        return Ok(());
    }
    let mut moved = vec![0.0f64; a.len()];
    for seed in 0..2 {
        let mut rng = Rng::new(seed);
        let data: Vec<Tensor> = instance.data.iter().map(|t| nudged(t, step, &mut rng)).collect();
        let Ok(mut program) = instance.program(&[left]) else { continue };
        for node in &mut program.nodes {
            if let NodeKind::Const(Const::Splat(x)) = &mut node.kind {
                *x *= 1.0 + step * sign(&mut rng);
            }
        }
        let Ok(results) = interpret(&program, &DimValues::new(), &data, &Weights::new()) else { continue };
        for (k, m) in moved.iter_mut().enumerate() {
            *m = m.max((results[0].at(k) - a.at(k)).abs());
        }
    }
    match suspect.into_iter().find(|k| differs(*k, rounding * largest + share * moved[*k])) {
        Some(k) => Err(k),
        None => Ok(()),
    }
}

fn sign(rng: &mut Rng) -> f64 {
    if rng.chance(50) { 1.0 } else { -1.0 }
}

/// Reals moved by that share of themselves, in either direction.
fn nudged(t: &Tensor, step: f64, rng: &mut Rng) -> Tensor {
    match &t.data {
        mixc_ir::tensor::Data::Float(data) => {
            let moved = data.iter().map(|x| x * (1.0 + step * sign(rng))).collect();
            Tensor::floats(&t.shape, moved)
        }
        _ => t.clone(),
    }
}

fn evaluate(instance: &Instance, data: &[Tensor], roots: &[Id]) -> Result<Vec<Tensor>, String> {
    interpret(&instance.program(roots)?, &DimValues::new(), data, &Weights::new())
}
