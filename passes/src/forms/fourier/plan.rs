//! One factoring for Fourier transforms: a product of stages, each block-diagonal with small blocks.
//!
//! A sequence is a polynomial. Modulo `z^(q m) - w` it is q polynomials modulo `z^m - y`, one for each root y of
//! `y^q = w`: multiply part j by `w^(j/q)` (the turn), then transform the q parts by a matrix of roots of unity. Each
//! stage does that to every block of the stage before, in place, so that nothing is ever sorted; the last leaves the
//! values at the N roots of `z^N = w`, in an order that the inverse undoes. With `w = i` real sequences need no padding:
//! of a product of two polynomials modulo `z^N - i` the real part are the first N coefficients, the imaginary part the
//! others (the right-angle transform).

/// A stage: `blocks` polynomials modulo `z^(radix run) - w` become `blocks radix` ones modulo `z^run - y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Polynomials before it.
    pub blocks: usize,
    /// Parts of each.
    pub radix: usize,
    /// Coefficients of a part.
    pub run: usize,
}

/// A transform of complex numbers at the roots of `z^length = i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Coefficients.
    pub length: usize,
    /// Stages, of the forward transform's order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// The stages of the given radices, whose product is the length.
    pub fn of(radices: &[usize]) -> Plan {
        let length = radices.iter().product();
        let mut blocks = 1;
        let stages = radices
            .iter()
            .map(|&radix| {
                let stage = Stage { blocks, radix, run: length / (blocks * radix) };
                blocks *= radix;
                stage
            })
            .collect();
        Plan { length, stages }
    }

    /// Stages of few operations a number: eights while they go, then what is left.
    pub fn small(length: usize) -> Plan {
        let mut radices = Vec::new();
        let mut rest = length;
        while rest > 1 {
            // 16 = 4 x 4 and 32 = 8 x 4: a last stage of 2 would load and store everything for one addition.
            let next = match rest {
                16 => 4,
                _ => [8, 4, 5, 6, 3, 2, 7].into_iter().find(|q| rest.is_multiple_of(*q)).unwrap_or(rest),
            };
            radices.push(next);
            rest /= next;
        }
        Plan::of(if radices.is_empty() { &[1] } else { &radices })
    }

    /// Stages of large blocks, `order` of them: products of dense matrices.
    pub fn dense(length: usize, order: usize) -> Plan {
        let mut radices = Vec::new();
        let mut rest = length;
        for left in (1..=order).rev() {
            let root = (rest as f64).powf(1.0 / left as f64).round() as usize;
            let next = (root..=rest).find(|q| rest.is_multiple_of(*q)).unwrap_or(rest);
            radices.push(next);
            rest /= next;
        }
        Plan::of(&radices)
    }

    /// The turns of a stage's parts: cosine and sine for every block and part, `[blocks, radix, 2]` row-major.
    ///
    /// Block n of P holds `w = e^(2 pi i (1/4 + c_n) / P)` with a whole number c_n, so angles are fractions with the
    /// denominator 4 P radix, reduced as integers.
    pub fn turns(stage: &Stage, before: &[Stage]) -> Vec<f64> {
        let mut counts = vec![0usize];
        let mut blocks = 1;
        for s in before {
            counts = counts.iter().flat_map(|c| (0..s.radix).map(move |k| c + k * blocks)).collect();
            blocks *= s.radix;
        }
        let whole = 4 * blocks * stage.radix;
        let angle = |c: usize, j: usize| root((4 * c + 1) * j % whole, whole);
        counts.iter().flat_map(|&c| (0..stage.radix).flat_map(move |j| [angle(c, j).0, angle(c, j).1])).collect()
    }
}

/// Cosine and sine of `n / whole` of a turn; exact at quarters.
pub fn root(n: usize, whole: usize) -> (f64, f64) {
    let n = n % whole;
    match (4 * n) % whole {
        0 => [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][4 * n / whole],
        _ => {
            let angle = 2.0 * std::f64::consts::PI * n as f64 / whole as f64;
            (angle.cos(), angle.sin())
        }
    }
}

/// The least length of at least `n` that has only small factors.
pub fn smooth_from(n: usize) -> usize {
    let smooth = |mut n: usize| {
        for p in [2, 3, 5] {
            while n.is_multiple_of(p) {
                n /= p;
            }
        }
        n == 1
    };
    (n.max(1)..).find(|n| smooth(*n)).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_multiply_to_the_length() {
        for n in [1, 2, 3, 12, 16, 60, 64, 125, 1000, 1024, 4096] {
            for plan in [Plan::small(n), Plan::dense(n, 2), Plan::dense(n, 3)] {
                assert_eq!(plan.stages.iter().map(|s| s.radix).product::<usize>(), n);
                assert_eq!(plan.stages.last().map(|s| s.run), Some(1));
            }
        }
        assert_eq!(Plan::small(1024).stages.iter().map(|s| s.radix).collect::<Vec<_>>(), [8, 8, 4, 4]);
        assert_eq!(Plan::dense(1024, 2).stages.iter().map(|s| s.radix).collect::<Vec<_>>(), [32, 32]);
    }

    /// The stages in plain arithmetic.
    fn transformed(plan: &Plan, mut x: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
        for (n, s) in plan.stages.iter().enumerate() {
            let turns = Plan::turns(s, &plan.stages[..n]);
            let mut y = x.clone();
            for p in 0..s.blocks {
                for r in 0..s.run {
                    let at = |k: usize| (p * s.radix + k) * s.run + r;
                    for k in 0..s.radix {
                        let mut sum = (0.0, 0.0);
                        for j in 0..s.radix {
                            let t = 2 * (p * s.radix + j);
                            let (c, w) = ((turns[t], turns[t + 1]), root(j * k, s.radix));
                            let turn = (c.0 * w.0 - c.1 * w.1, c.0 * w.1 + c.1 * w.0);
                            let v = x[at(j)];
                            sum = (sum.0 + v.0 * turn.0 - v.1 * turn.1, sum.1 + v.0 * turn.1 + v.1 * turn.0);
                        }
                        y[at(k)] = sum;
                    }
                }
            }
            x = y;
        }
        x
    }

    #[test]
    fn the_stages_evaluate_at_the_roots_of_i() {
        for n in [1, 2, 6, 16, 30, 64] {
            let x: Vec<(f64, f64)> = (0..n).map(|k| ((k as f64 * 0.7).sin(), (k as f64 * 1.3).cos())).collect();
            let mut got = transformed(&Plan::small(n), x.clone());
            let mut want: Vec<(f64, f64)> = (0..n)
                .map(|k| {
                    x.iter().enumerate().fold((0.0, 0.0), |sum, (j, v)| {
                        let w = root((4 * k + 1) * j % (4 * n), 4 * n);
                        (sum.0 + v.0 * w.0 - v.1 * w.1, sum.1 + v.0 * w.1 + v.1 * w.0)
                    })
                })
                .collect();
            let order = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0);
            got.sort_by(order);
            want.sort_by(order);
            for (g, w) in got.iter().zip(&want) {
                assert!((g.0 - w.0).abs() + (g.1 - w.1).abs() < 1e-9, "{n}: {g:?} for {w:?}");
            }
        }
    }
}
