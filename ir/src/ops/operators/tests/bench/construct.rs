//! Random constructors, both ways.

use super::*;

impl Bench {
    pub(super) fn construct(&mut self, rows: usize, cols: usize) -> (&'static str, Pair) {
        let square = rows == cols;
        let none = Attrs::new;
        loop {
            return match self.below(13) {
                0 => {
                    let r = self.below(4);
                    let ((qv, q), (kv, k)) = (self.data(&[rows, r]), self.data(&[cols, r]));
                    let v = self.call("gram", &[qv, kv], none().with_float("scale", 0.5), None).unwrap();
                    let out = self.batch_of(v);
                    let f = |at: At<'_>, i, j| {
                        Some(
                            0.5 * (0..r)
                                .map(|n| read(&q, &out, at, &[i, n]) * read(&k, &out, at, &[j, n]))
                                .sum::<f64>(),
                        )
                    };
                    ("gram", self.made(v, f, rows, cols))
                }
                1 if square => {
                    let n = self.below(3) + 1;
                    let mut lead = self.batch();
                    lead.extend([rows, n]);
                    let ((cv, c), (bv, b)) = (self.exactly(&lead), self.data(&[rows, n]));
                    let shape: Vec<usize> = match self.below(3) {
                        0 => lead.clone(),
                        1 => lead[..lead.len() - 1].iter().copied().chain([1]).collect(),
                        _ => lead[..lead.len() - 1].to_vec(),
                    };
                    let (av, a) = self.exactly(&shape);
                    let v = self.call("semiseparable", &[cv, bv, av], none(), None).unwrap();
                    let out = self.batch_of(v);
                    let gate = |at: At<'_>, t: usize, n: usize| {
                        if shape.len() < lead.len() {
                            read(&a, &out, at, &[t])
                        } else {
                            read(&a, &out, at, &[t, if shape.last() == Some(&1) { 0 } else { n }])
                        }
                    };
                    let f = |at: At<'_>, i: usize, j: usize| {
                        (i >= j).then(|| {
                            (0..n)
                                .map(|n| {
                                    let sum: f64 = (j + 1..=i).map(|t| gate(at, t, n)).sum();
                                    read(&c, &out, at, &[i, n]) * read(&b, &out, at, &[j, n]) * sum.exp()
                                })
                                .sum()
                        })
                    };
                    ("semiseparable", self.made(v, f, rows, cols))
                }
                2 => {
                    let ((uv, u), (wv, w)) = (self.data(&[rows]), self.data(&[cols]));
                    let v = self.call("outer_sum", &[uv, wv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    let f = |at: At<'_>, i, j| Some(read(&u, &out, at, &[i]) + read(&w, &out, at, &[j]));
                    ("outer_sum", self.made(v, f, rows, cols))
                }
                3 if square => {
                    let (taps, two) = (self.below(9) + 1, self.flip());
                    let (hv, h) = self.data(&[if two { 2 * taps - 1 } else { taps }]);
                    let written = if taps == rows && self.flip() {
                        None
                    } else {
                        let batch = h.shape[..h.shape.len() - 1].iter().map(|&n| Dim::from(n)).collect();
                        let n = Dim::from(rows);
                        let m = MixType { dtype: DType::F32, batch, rows: n.clone(), cols: n, align: Align::End };
                        Some(Type::Mix(m))
                    };
                    let v = self.call("toeplitz", &[hv], none().with_flag("two_sided", two), written).unwrap();
                    let out = self.batch_of(v);
                    let f = |at: At<'_>, i: usize, j: usize| {
                        let (d, k) = (i as i64 - j as i64, taps as i64);
                        if two {
                            (d.abs() < k).then(|| read(&h, &out, at, &[(d + k - 1) as usize]))
                        } else {
                            (0 <= d && d < k).then(|| read(&h, &out, at, &[d as usize]))
                        }
                    };
                    ("toeplitz", self.made(v, f, rows, cols))
                }
                4 if square => {
                    let (hv, h) = self.data(&[rows]);
                    let v = self.call("circulant", &[hv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    let n = rows as i64;
                    let f = |at: At<'_>, i: usize, j: usize| {
                        Some(read(&h, &out, at, &[(i as i64 - j as i64).rem_euclid(n) as usize]))
                    };
                    ("circulant", self.made(v, f, rows, cols))
                }
                5 => {
                    let (wv, w) = self.data(&[rows, cols]);
                    let v = self.call("dense", &[wv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    ("dense", self.made(v, |at, i, j| Some(read(&w, &out, at, &[i, j])), rows, cols))
                }
                6 if square => {
                    let (dv, d) = self.data(&[rows]);
                    let v = self.call("diagonal", &[dv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    ("diagonal", self.made(v, |at, i, j| (i == j).then(|| read(&d, &out, at, &[i])), rows, cols))
                }
                7 => {
                    let written = self.written(rows, cols);
                    let v = self.call("identity", &[], none(), written).unwrap();
                    ("identity", self.made(v, |_, i, j| (i == j).then_some(1.0), rows, cols))
                }
                8 => {
                    let (by, written) = (self.between(-3, 5), self.written(rows, cols));
                    let v = self.call("shift", &[], none().with_int("by", by), written).unwrap();
                    let f = |_: At<'_>, i: usize, j: usize| (i as i64 - by == j as i64).then_some(1.0);
                    ("shift", self.made(v, f, rows, cols))
                }
                9 => {
                    // n blocks of p x q that give exactly rows x cols.
                    let n = (1..=8).rev().find(|n| rows.is_multiple_of(*n) && cols.is_multiple_of(*n)).unwrap();
                    let (p, q) = (rows / n, cols / n);
                    let (bv, b) = self.data(&[n, p, q]);
                    let v = self.call("block_diagonal", &[bv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    let f = |at: At<'_>, i: usize, j: usize| {
                        (i / p == j / q).then(|| read(&b, &out, at, &[i / p, i % p, j % q]))
                    };
                    ("block_diagonal", self.made(v, f, rows, cols))
                }
                10 if square => {
                    let m = (1..=3).rev().find(|m| rows.is_multiple_of(*m)).unwrap();
                    let n = rows / m;
                    let written = self.written(rows, cols);
                    let v = self.call("permutation", &[], none().with_int("stride", m as i64), written).unwrap();
                    let mut place = vec![0; rows];
                    for a in 0..m {
                        for c in 0..n {
                            place[a * n + c] = c * m + a;
                        }
                    }
                    ("permutation", self.made(v, |_, i, j| (place[i] == j).then_some(1.0), rows, cols))
                }
                11 => {
                    // Any middle with divisors g of it and of rows, k of it and of cols.
                    let middle = [4, 6, 8, 12][self.below(4)];
                    let divisors = |a: usize, b: usize| {
                        (1..=b).filter(|d| a.is_multiple_of(*d) && b.is_multiple_of(*d)).collect::<Vec<_>>()
                    };
                    let (gs, ks) = (divisors(rows, middle), divisors(cols, middle));
                    let (g, k) = (gs[self.below(gs.len())], ks[self.below(ks.len())]);
                    let (s, m, q, p) = (rows / g, middle / g, middle / k, cols / k);
                    let ((lv, l), (rv, r)) = (self.data(&[g, s, m]), self.data(&[k, q, p]));
                    let v = self.call("monarch", &[lv, rv], none(), None).unwrap();
                    let out = self.batch_of(v);
                    let f = |at: At<'_>, i: usize, j: usize| {
                        // Both stages as matrices, multiplied.
                        let (e, b, c, f) = (i / g, i % g, j / p, j % p);
                        let through: Vec<f64> = (0..middle)
                            .filter(|u| u % g == b && u / q == c)
                            .map(|u| read(&l, &out, at, &[b, e, u / g]) * read(&r, &out, at, &[c, u % q, f]))
                            .collect();
                        (!through.is_empty()).then(|| through.iter().sum())
                    };
                    ("monarch", self.made(v, f, rows, cols))
                }
                12 if square && rows.is_power_of_two() => {
                    let (normalized, written) = (self.flip(), self.written(rows, cols));
                    let v =
                        self.call("walsh_hadamard", &[], none().with_flag("normalized", normalized), written).unwrap();
                    let size = if normalized { (rows as f64).sqrt() } else { 1.0 };
                    let f = |_: At<'_>, i: usize, j: usize| Some((-1f64).powi((i & j).count_ones() as i32) / size);
                    ("walsh_hadamard", self.made(v, f, rows, cols))
                }
                _ => continue,
            };
        }
    }
}
