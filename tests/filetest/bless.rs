//! Accepting what is printed: `check:` lines are rewritten, all other lines stay as they are.

use similar::TextDiff;

/// What is to happen when `check:` lines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The test fails.
    Compare,
    /// They are rewritten.
    Accept,
}

impl Wish {
    /// What `MIXC_BLESS` says; where `CI` is set, nothing is accepted unseen.
    pub fn from_environment() -> Result<Wish, String> {
        Wish::of(std::env::var("MIXC_BLESS").ok().as_deref(), std::env::var_os("CI").is_some())
    }

    /// The wish for a value of `MIXC_BLESS`.
    pub fn of(bless: Option<&str>, ci: bool) -> Result<Wish, String> {
        match (bless, ci) {
            (Some("1"), false) => Ok(Wish::Accept),
            (Some("1"), true) => Err("MIXC_BLESS is refused where CI is set: a person has to read the change".into()),
            _ => Ok(Wish::Compare),
        }
    }
}

/// The program with `check:` lines for what is printed, in place of the ones it has.
pub fn rewrite(text: &str, printed: &[String]) -> String {
    let is_check = |l: &str| l.trim_start().strip_prefix("//").is_some_and(|c| c.trim_start().starts_with("check:"));
    let kept: Vec<&str> = text.lines().filter(|l| !is_check(l)).collect();
    let mut out = kept.join("\n").trim_end().to_string();
    out.push('\n');
    for line in printed {
        out.push_str(format!("// check: {line}").trim_end());
        out.push('\n');
    }
    out
}

/// What differs, and how to accept it.
pub fn difference(expected: &[String], printed: &[String]) -> String {
    let (mut old, mut new) = (expected.join("\n"), printed.join("\n"));
    old.push('\n');
    new.push('\n');
    let diff = TextDiff::from_lines(&old, &new);
    let diff = diff.unified_diff().context_radius(3).header("check:", "printed").to_string();
    format!("{diff}\nTo accept what is printed: MIXC_BLESS=1 cargo test --test filetests, then read the change.")
}
