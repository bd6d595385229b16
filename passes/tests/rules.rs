//! One trial a rule: it keeps values and support on random typed instances. One trial a condition: without it, the rule
//! is wrong.
//!
//! `cargo test -p mixc-passes --test rules decay` runs those with that word in their names. `MIXC_RULE_INSTANCES` says
//! how many instances a rule must pass.

#[expect(dead_code, reason = "the rewriter's own modules are looked into, most of which trials have no use for")]
#[expect(unused_imports, reason = "what its unit tests use")]
#[path = "../src/rewrite/mod.rs"]
mod rewrite;

use libtest_mimic::{Arguments, Failed, Trial};
use rewrite::tests::trial;
use rewrite::{Exactness, Rule, Rules};
use std::process::ExitCode;

/// Instances of every rule without `MIXC_RULE_INSTANCES`.
const INSTANCES: usize = 100;

fn main() -> ExitCode {
    let instances = match std::env::var("MIXC_RULE_INSTANCES").map(|n| n.parse()) {
        Ok(Ok(n)) => n,
        Ok(Err(e)) => panic!("MIXC_RULE_INSTANCES: {e}"),
        Err(_) => INSTANCES,
    };
    let rules = Rules::standard().expect("the tables compile");
    let mut trials = Vec::new();
    for rule in &rules.compiled {
        let exact = rule.exactness == Exactness::Exact;
        let name = format!("{}::{}", if exact { "holds" } else { "approximates" }, rule.name);
        let check = if exact { trial::check } else { trial::approximates };
        trials.push(Trial::test(name, move || check(rule, instances).map_err(Failed::from)));
    }
    let table = [rewrite::rules::all(), rewrite::laws::rules()].concat();
    let exact: Vec<Rule> = table.into_iter().filter(|r| r.exactness == Exactness::Exact).collect();
    for c in trial::conditions(&exact).expect("rules compile without a condition") {
        let name = format!("needs::{}::{}", c.rule.name, c.condition);
        trials.push(Trial::test(name, move || trial::needed(&c).map_err(Failed::from)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
