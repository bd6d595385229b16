//! Every rule against the reference interpreter, on random typed inputs: values and support of both sides.

use super::super::facts::Surroundings;
use super::super::rule::{CompiledRule, Exactness, Rule};
use super::super::saturate::Rules;
use super::random::Instance;
use egg::Id;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::reference::{Weights, interpret};
use mixc_ir::tensor::Tensor;
use mixc_ir::ty::Type;
use std::collections::BTreeMap;

/// Instances that every rule must pass.
const INSTANCES: usize = 50;

/// Draws before a rule counts as one that never applies.
const DRAWS: u64 = 40_000;

/// Instances on which both sides agree; the error says on which one they do not, or why there are too few.
fn check(rule: &CompiledRule, draws: u64) -> Result<(), String> {
    let around = Surroundings {
        approximations: BTreeMap::from([("hip".to_string(), Attrs::new().with_int("k", 2))]).into(),
        ..Surroundings::default()
    };
    let mut passed = 0;
    let mut reason = "the left side has no typed instance".to_string();
    for seed in 0..draws {
        if passed == INSTANCES {
            break;
        }
        let mut instance = Instance::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d), &around);
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
        compare(&mut instance, left, right, &l).map_err(|e| format!("rule `{}`, seed {seed}: {e}", rule.name))?;
        passed += 1;
    }
    if passed < INSTANCES {
        return Err(format!("rule `{}` was checked {passed} times: {reason}", rule.name));
    }
    Ok(())
}

/// Both sides' values and, of operators, where they are present.
fn compare(instance: &mut Instance, left: Id, right: Id, ty: &Type) -> Result<(), String> {
    let mut roots = Vec::new();
    match ty.as_mix() {
        None => roots.extend([left, right]),
        Some(m) => {
            // An operator is seen through what it does to the unit vectors; its support through a softmax of zeros,
            // which is above 0 exactly there.
            let n = m.cols.as_constant().ok_or("symbolic length")? as usize;
            let eye = (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.0 }).collect();
            let eye = instance.input(instance.dtype, Tensor::floats(&[n, n], eye), false).ok_or("no unit vectors")?;
            for side in [left, right] {
                roots.push(instance.call("apply", &[side, eye], &Attrs::new()).ok_or("cannot apply")?);
            }
            for side in [left, right] {
                let zero = instance.call("scale_by", &[side], &Attrs::new().with_float("by", 0.0));
                let flat = zero.and_then(|z| instance.call("softmax", &[z], &Attrs::new()));
                let seen = flat.and_then(|f| instance.call("apply", &[f, eye], &Attrs::new()));
                roots.push(seen.ok_or("cannot see the support")?);
            }
        }
    }
    let results = evaluate(instance, &roots)?;
    let tolerance = if instance.dtype == DType::F64 { 1e-9 } else { 1e-5 };
    for (what, pair) in ["values", "support"].iter().zip(results.chunks(2)) {
        let [a, b] = pair else { continue };
        if a.shape != b.shape {
            return Err(format!("{what}: shapes {:?} and {:?}", a.shape, b.shape));
        }
        let scale = (0..a.len()).map(|k| a.at(k).abs()).filter(|x| x.is_finite()).fold(1.0, f64::max);
        for k in 0..a.len() {
            let (x, y) = (a.at(k), b.at(k));
            if (x - y).abs() > tolerance * scale || x.is_finite() != y.is_finite() {
                return Err(format!("{what} differ at {k} of {:?}: {x} and {y}", a.shape));
            }
        }
    }
    Ok(())
}

fn evaluate(instance: &Instance, roots: &[Id]) -> Result<Vec<Tensor>, String> {
    interpret(&instance.program(roots)?, &DimValues::new(), &instance.data, &Weights::new())
}

fn one(rule: Rule) -> CompiledRule {
    Rules::new(&[rule]).unwrap().compiled.remove(0)
}

#[test]
fn every_exact_rule_keeps_values_and_support() {
    let rules = Rules::standard().unwrap();
    let wrong: Vec<String> = rules
        .compiled
        .iter()
        .filter(|r| r.exactness == Exactness::Exact)
        .filter_map(|r| check(r, DRAWS).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_rule_that_moves_a_mask_past_a_softmax_is_caught() {
    let wrong = Rule::equal("wrong", "(softmax (mask ?m {..?a}))", "(mask (softmax ?m) {..?a})", "");
    let message = check(&one(wrong), 2_000).unwrap_err();
    assert!(message.contains("values differ"), "{message}");
}

#[test]
fn a_rule_that_keeps_values_but_not_support_is_caught() {
    let left = "(scale_by (mask ?m {..?a}) {by = 0.0})";
    let wrong = Rule::equal("wrong", left, "(scale_by ?m {by = 0.0})", "");
    let message = check(&one(wrong), 2_000).unwrap_err();
    assert!(message.contains("support differ"), "{message}");
}

#[test]
fn a_rule_with_exchanged_operands_is_caught() {
    let wrong = Rule::equal("wrong", "(gram ?q ?k)", "(gram ?k ?q)", "");
    let message = check(&one(wrong), 2_000).unwrap_err();
    assert!(message.contains("values differ"), "{message}");
}

#[test]
fn an_ill_typed_rule_is_caught_with_both_types() {
    let wrong = Rule::equal("wrong", "(apply (dense ?w) ?x)", "(dense ?w)", "");
    let message = check(&one(wrong), 2_000).unwrap_err();
    assert!(message.contains("the left side is f") && message.contains("the right side mix f"), "{message}");
    let wrong = Rule::equal("wrong", "(apply (dense ?w) ?x)", "(matmul ?x ?w {transpose_a})", "");
    assert!(check(&one(wrong), 2_000).is_err());
}

#[test]
fn wrong_tables_do_not_compile() {
    for (left, right, given, message) in [
        ("(no_such ?x)", "?x", "", "no operation `no_such`"),
        ("(mask ?m {nothing})", "?m", "", "no attribute `nothing`"),
        ("(softmax ?m)", "?n", "", "`?n` is bound by nothing"),
        ("(softmax ?m)", "?m", "maybe(?m)", "no condition `maybe`"),
        ("(softmax ?m", "?m", "", "ends too early"),
        ("?m", "?m", "", "variable on the left"),
    ] {
        let e = Rules::new(&[Rule::equal("wrong", left, right, given)]).unwrap_err();
        assert!(e.contains(message) && e.contains("wrong"), "{e}");
    }
}
