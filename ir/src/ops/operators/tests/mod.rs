//! Random operators of every kind, chained at random, against whole matrices: values, supports, support expressions,
//! and every claim about structure.

mod bench;
mod dense;
mod faults;

use bench::Bench;
use std::collections::BTreeMap;

#[test]
fn rows_supports_and_structure_agree_with_whole_matrices() {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..6000 {
        let mut bench = Bench::new(seed);
        bench.chain(5, &mut counts);
    }
    for op in super::ALL {
        let n = counts.get(op.name).copied().unwrap_or(0);
        assert!(n >= 30, "`{}` was tried {n} times: {counts:?}", op.name);
    }
}
