//! The rule tables, by theme.

use super::rule::Rule;

mod apply;
pub mod approximate;
mod layout;
mod masks;
mod scale;
mod scans;
mod tensors;
mod written;

/// Every rule that is written down; laws generate more ([`super::laws`]).
pub fn all() -> Vec<Rule> {
    [
        masks::RULES,
        scale::RULES,
        layout::RULES,
        tensors::RULES,
        apply::RULES,
        scans::RULES,
        written::RULES,
        approximate::RULES,
    ]
    .concat()
}

/// The rule of that name, which may end in the mask that a rule for all masks was applied to.
pub fn find(name: &str) -> Option<Rule> {
    let (stem, mask) = name.split_once(':').map_or((name, None), |(stem, mask)| (stem, Some(mask)));
    let mut rule = all().into_iter().chain(super::laws::rules()).find(|r| r.name == stem)?;
    if let Some(mask) = mask {
        rule.left = rule.left.replace("MASK", mask).into();
        rule.right = rule.right.replace("MASK", mask).into();
    }
    Some(rule)
}
