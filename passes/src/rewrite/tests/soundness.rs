//! Wrong rules of every kind are caught. That the right ones hold is checked one by one in `tests/rules.rs`.

use super::super::rule::{CompiledRule, Rule};
use super::super::saturate::Rules;
use super::trial::{approximates, check, conditions, needed};

fn one(rule: Rule) -> CompiledRule {
    Rules::new(&[rule]).unwrap().compiled.remove(0)
}

#[test]
fn a_rule_that_moves_a_mask_past_a_softmax_is_caught() {
    let wrong = Rule::equal("wrong", "(softmax (mask ?m {..?a}))", "(mask (softmax ?m) {..?a})", "");
    let message = check(&one(wrong), 50).unwrap_err();
    assert!(message.contains("values differ"), "{message}");
}

#[test]
fn a_rule_that_keeps_values_but_not_support_is_caught() {
    let left = "(scale_by (mask ?m {..?a}) {by = 0.0})";
    let wrong = Rule::equal("wrong", left, "(scale_by ?m {by = 0.0})", "");
    let message = check(&one(wrong), 50).unwrap_err();
    assert!(message.contains("support differ"), "{message}");
}

#[test]
fn a_rule_with_exchanged_operands_is_caught() {
    let wrong = Rule::equal("wrong", "(gram ?q ?k)", "(gram ?k ?q)", "");
    let message = check(&one(wrong), 50).unwrap_err();
    assert!(message.contains("values differ"), "{message}");
}

#[test]
fn an_ill_typed_rule_is_caught_with_both_types() {
    let wrong = Rule::equal("wrong", "(apply (dense ?w) ?x)", "(dense ?w)", "");
    let message = check(&one(wrong), 50).unwrap_err();
    assert!(message.contains("the left side is f") && message.contains("the right side mix f"), "{message}");
    let wrong = Rule::equal("wrong", "(apply (dense ?w) ?x)", "(matmul ?x ?w {transpose_a})", "");
    assert!(check(&one(wrong), 50).is_err());
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

#[test]
fn a_rule_without_its_condition_is_caught() {
    for (left, right) in [
        ("(mul ?x ?c)", "?x"),
        ("(alibi (mask_lengths ?m ?n {..?a}) ?s)", "(mask_lengths (alibi ?m ?s) ?n {..?a})"),
        ("(sum (mask_lengths ?x ?n {..?a}) (mask_lengths ?y ?n {..?a}))", "(mask_lengths (sum ?x ?y) ?n {..?a})"),
        ("(apply (row_normalize ?m {eps = ?e}) ?v)", "(apply (row_normalize ?m) ?v)"),
    ] {
        let message = check(&one(Rule::equal("wrong", left, right, "")), 200).unwrap_err();
        assert!(message.contains("differ"), "{message}");
    }
}

#[test]
fn a_condition_that_nothing_needs_is_caught() {
    let (left, right) = ("(matmul (matmul ?a ?b) ?c)", "(matmul ?a (matmul ?b ?c))");
    let idle = |given: &'static str| {
        let all = conditions(&[Rule::equal("idle", left, right, given)]).unwrap();
        let [c] = all.as_slice() else { panic!("{all:?}") };
        needed(c)
    };
    let message = idle("same_rank(?a, ?c)").unwrap_err();
    assert!(message.contains("wrong on none"), "{message}");
    // What is said to keep an order must keep one.
    let message = idle("number_first(?a, ?b)").unwrap_err();
    assert!(message.contains("does not undo itself"), "{message}");
    let wanted = conditions(&[Rule::equal("one", "(mul ?x ?c)", "?x", "one(?c)")]).unwrap();
    assert_eq!(needed(&wanted[0]), Ok(()));
}

#[test]
fn an_approximation_without_an_error_is_caught() {
    let exact = Rule::approximate("hip", "exact", "(apply (compose ?a ?b) ?x)", "(apply ?a (apply ?b ?x))", "");
    let message = approximates(&one(exact), 50).unwrap_err();
    assert!(message.contains("0 with one"), "{message}");
}
