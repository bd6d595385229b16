//! The rule tables, by theme.

use super::rule::Rule;

mod apply;
mod approximate;
mod layout;
mod masks;
mod scale;
mod scans;
mod tensors;

/// Every rule that is written down; laws generate more ([`super::laws`]).
pub fn all() -> Vec<Rule> {
    [masks::RULES, scale::RULES, layout::RULES, tensors::RULES, apply::RULES, scans::RULES, approximate::RULES].concat()
}
