//! Tests of the runner itself: what it must reject, so that no test is green by mistake.

use crate::bless::{self, Wish};
use crate::verdict::{Verdict, judge};
use libtest_mimic::{Failed, Trial};

const DOUBLE: &str = "func @main(%x: f32[2]) -> f32[2] {\n  %y = add %x, %x\n  return %y\n}\n";
const WRONG: &str = "func @main(%x: f32[2]) -> f32[2] {\n  %y = ad %x, %x // error[E0103]: `ad`\n  return %y\n}\n";

fn expect(condition: bool, what: &str) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn rejected(text: &str, part: &str) -> Result<(), Failed> {
    match judge(text, &Wish::Compare) {
        Err(e) if e.contains(part) => Ok(()),
        other => Err(format!("expected a failure with {part:?}, got {other:?} for\n{text}").into()),
    }
}

fn slips_are_errors() -> Result<(), Failed> {
    for (slip, part) in [
        ("// test: verify\n// chekc: no errors\n", "`chekc:` is no directive"),
        ("// test: verfy\n// check: no errors\n", "no stage `verfy`"),
        ("// check: no errors\n", "no `test:` line"),
        ("// test: parse\n", "expects nothing"),
        ("// test: run\n// targets: cpu\n", "belong together"),
        ("// test: run\n// run: seed=1 tol=1e-5\n", "belong together"),
        ("// test: run\n// targets: cpu\n// run: seed=1 tol=3\n", "at most 0.1"),
        ("// test: parse\n// bind: T\n// has: add\n", "expected NAME=N"),
        ("// test: parse\n// bind: T=3\n// has: add\n", "no dim `T`"),
        ("// test: parse\n// has:\n", "says nothing"),
        ("// test: parse run\n// targets: tpu\n// has: add\n// run: seed=1 tol=0\n", "tpu"),
    ] {
        rejected(&format!("{slip}{DOUBLE}"), part)?;
    }
    Ok(())
}

fn what_is_not_printed_fails() -> Result<(), Failed> {
    rejected(&format!("// test: parse\n// has: sub\n{DOUBLE}"), "`sub` is not printed")?;
    rejected(&format!("// test: parse\n// has: return\n// has: add\n{DOUBLE}"), "after the ones before it")?;
    rejected(&format!("// test: parse\n// not: add\n{DOUBLE}"), "`add` is printed")?;
    rejected(&format!("// test: parse\n// check: nothing\n{DOUBLE}"), "MIXC_BLESS=1")?;
    rejected(&format!("// test: rewrite\n// rule: no-such-rule\n{DOUBLE}"), "no `no-such-rule` among the rules")?;
    rejected(&format!("// test: rewrite\n// form: flash\n{DOUBLE}"), "no `flash` among the kernels")
}

fn findings_are_expected_one_by_one() -> Result<(), Failed> {
    expect(judge(&format!("// test: verify\n{WRONG}"), &Wish::Compare) == Ok(Verdict::Passed), "an expected finding")?;
    rejected(&format!("// test: verify\n{}", WRONG.replace("E0103", "E0104")), "not expected: line 3: error[E0103]")?;
    rejected(&format!("// test: verify\n{}", WRONG.replace("`ad`", "`at`")), "not found: line 3: error[E0103]")?;
    rejected(&format!("// test: verify\n// has: ad\n{}", WRONG.replace("//", "// no")), "not expected")?;
    rejected(&format!("// test: verify\n{}", WRONG.replace("= ad", "= add")), "not found")
}

fn blessing_rewrites_check_lines_only() -> Result<(), Failed> {
    let text = format!("// test: parse\n// a word of prose\n{DOUBLE}// check: old\n");
    let Ok(Verdict::Blessed(blessed)) = judge(&text, &Wish::Accept) else { return Err("nothing was blessed".into()) };
    expect(blessed.starts_with(&text[..text.len() - "// check: old\n".len()]), "other lines stay")?;
    expect(!blessed.contains("old") && blessed.contains("// check:   %y = add %x, %x"), "new lines are written")?;
    expect(judge(&blessed, &Wish::Accept) == Ok(Verdict::Passed), "blessing twice changes nothing")?;
    expect(judge(&blessed, &Wish::Compare) == Ok(Verdict::Passed), "what is blessed passes")?;
    expect(bless::rewrite("a\n", &[]) == "a\n", "nothing to write")?;
    expect(Wish::of(Some("1"), true).is_err(), "refused in continuous integration")?;
    expect(Wish::of(Some("1"), false) == Ok(Wish::Accept) && Wish::of(None, true) == Ok(Wish::Compare), "else not")
}

fn a_missing_target_is_said() -> Result<(), Failed> {
    let text = format!("// test: run\n// targets: cuda\n// run: seed=1 tol=1e-5\n{DOUBLE}");
    match judge(&text, &Wish::Compare) {
        Ok(Verdict::Passed) if mixc::runs_here("cuda").is_ok() => Ok(()),
        Ok(Verdict::Ignored(reason)) if reason.contains("CUDA") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("runner::slips_are_errors", slips_are_errors),
        Trial::test("runner::what_is_not_printed_fails", what_is_not_printed_fails),
        Trial::test("runner::findings_are_expected_one_by_one", findings_are_expected_one_by_one),
        Trial::test("runner::blessing_rewrites_check_lines_only", blessing_rewrites_check_lines_only),
        Trial::test("runner::a_missing_target_is_said", a_missing_target_is_said),
    ]
}
