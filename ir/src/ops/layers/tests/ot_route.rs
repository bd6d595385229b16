//! Transport plans: their constraints, and their cost against the best that there is.

use super::{Random, case, d, fixed, none};
use crate::tensor::Tensor;

/// The plan of costs `[tokens, experts]`.
fn plan(cost: &Tensor, k: i64, gamma: f64, rounds: i64) -> Tensor {
    let shape = [d(cost.shape[0] as i64), d(cost.shape[1] as i64)];
    let attrs = none().with_int("k", k).with_float("gamma", gamma).with_int("iters", rounds);
    case("ot_route", vec![fixed(&shape)], attrs).run(false, 0, std::slice::from_ref(cost)).remove(0)
}

fn costs(tokens: usize, experts: usize, seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    Tensor::floats(&[tokens, experts], (0..tokens * experts).map(|_| random.unit()).collect())
}

/// How far the sums over experts are from 1/T all together, and the sums over tokens from 1/E at most.
fn off(plan: &Tensor) -> (f64, f64) {
    let (t, e) = (plan.shape[0], plan.shape[1]);
    let rows = (0..t).map(|i| ((0..e).map(|j| plan.at(i * e + j)).sum::<f64>() - 1.0 / t as f64).abs()).sum();
    let column = |j: usize| ((0..t).map(|i| plan.at(i * e + j)).sum::<f64>() - 1.0 / e as f64).abs();
    (rows, (0..e).map(column).fold(0.0, f64::max))
}

fn cost_of(plan: &Tensor, cost: &Tensor) -> f64 {
    (0..cost.len()).map(|n| plan.at(n) * cost.at(n)).sum()
}

/// The least cost of a transport with both marginals, which is an assignment of every token to one of T/E places of an
/// expert, by augmenting paths (Kuhn and Munkres).
fn optimum(cost: &Tensor) -> f64 {
    let (t, e) = (cost.shape[0], cost.shape[1]);
    assert_eq!(t % e, 0);
    let of = |i: usize, place: usize| cost.at(i * e + place % e);
    let (mut u, mut v, mut at) = (vec![0.0; t + 1], vec![0.0; t + 1], vec![0usize; t + 1]);
    for i in 1..=t {
        at[0] = i;
        let (mut j0, mut least, mut used, mut way) =
            (0, vec![f64::INFINITY; t + 1], vec![false; t + 1], vec![0; t + 1]);
        while at[j0] != 0 {
            used[j0] = true;
            let (i0, mut delta, mut j1) = (at[j0], f64::INFINITY, 0);
            for j in 1..=t {
                if !used[j] {
                    let now = of(i0 - 1, j - 1) - u[i0] - v[j];
                    if now < least[j] {
                        (least[j], way[j]) = (now, j0);
                    }
                    if least[j] < delta {
                        (delta, j1) = (least[j], j);
                    }
                }
            }
            for j in 0..=t {
                if used[j] {
                    u[at[j]] += delta;
                    v[j] -= delta;
                } else {
                    least[j] -= delta;
                }
            }
            j0 = j1;
        }
        while j0 != 0 {
            at[j0] = at[way[j0]];
            j0 = way[j0];
        }
    }
    (1..=t).map(|j| of(at[j] - 1, j - 1)).sum::<f64>() / t as f64
}

fn most_tokens(plan: &Tensor) -> usize {
    let (t, e) = (plan.shape[0], plan.shape[1]);
    (0..e).map(|j| (0..t).filter(|i| plan.at(i * e + j) > 0.0).count()).max().unwrap_or(0)
}

#[test]
fn plans_keep_their_constraints_at_nearly_the_least_cost() {
    for (t, e, seed) in [(64, 8, 1), (36, 4, 2), (21, 3, 3)] {
        let cost = costs(t, e, seed);
        let best = optimum(&cost);
        for k in [t / e, t / e + 2, t] {
            for gamma in [0.01, 0.1, 1.0] {
                let p = plan(&cost, k as i64, gamma, 60);
                assert!((0..p.len()).all(|n| p.at(n) >= 0.0 && p.at(n).is_finite()));
                assert!(most_tokens(&p) <= k, "{} tokens of {k}", most_tokens(&p));
                let (rows, columns) = off(&p);
                assert!(columns < 1e-12 && rows < 0.06, "T {t}, E {e}, k {k}, gamma {gamma}: {rows:e} {columns:e}");
                let more = cost_of(&p, &cost) - best;
                assert!(more.abs() < 0.01, "T {t}, E {e}, k {k}, gamma {gamma}: {more:e} above {best}");
            }
        }
    }
}

#[test]
fn equal_costs_are_told_apart() {
    for (t, e, k) in [(64, 8, 8), (64, 8, 10), (37, 5, 9)] {
        // All equal, and equal but for what a token or an expert costs in any pair.
        for shape in 0..3 {
            let x = |n: usize| [1.0, (n % e) as f64, ((n / e) as f64).sqrt()][shape];
            let p = plan(&Tensor::floats(&[t, e], (0..t * e).map(x).collect()), k, 0.1, 40);
            let (rows, columns) = off(&p);
            assert!(most_tokens(&p) <= k as usize && columns < 1e-12 && rows < 0.03, "{t} {e} {k} {shape}: {rows:e}");
        }
    }
}

#[test]
fn few_places_leave_tokens_out_and_never_overfill() {
    let p = plan(&costs(40, 4, 9), 3, 0.1, 30);
    assert!(most_tokens(&p) == 3 && off(&p).1 < 1e-12, "{} {:?}", most_tokens(&p), off(&p));
}
