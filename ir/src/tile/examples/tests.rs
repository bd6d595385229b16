use super::*;
use crate::dim::DimValues;
use crate::expr::erf;
use crate::tensor::Tensor;
use crate::tile::{Role, Rounding, interpret, verify};

/// A splitmix64 sequence: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// -1 to 1, f32 numbers, so that rounding inputs changes nothing.
    fn real(&mut self) -> f64 {
        ((self.next() >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        Tensor::floats(shape, (0..n).map(|_| self.real()).collect())
    }
}

/// Lengths below, at and above the blocks of the tests, odd and prime ones.
const LENGTHS: [usize; 7] = [1, 2, 3, 4, 5, 13, 17];

fn dims(values: &[(&str, usize)]) -> DimValues {
    values.iter().map(|(name, n)| ((*name).into(), *n as i64)).collect()
}

/// Runs the program exactly and as f32, both close to `expected`, which gives the results' elements in order.
fn check(p: &TileProgram, dims: &DimValues, inputs: &[&Tensor], expected: &[Vec<f64>]) -> Vec<Tensor> {
    assert_eq!(verify(p), Vec::new(), "{}", p.name);
    let close = |rounding, tolerance: f64| {
        let results = interpret(p, dims, inputs, rounding).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(results.len(), expected.len());
        for (result, expected) in results.iter().zip(expected) {
            assert_eq!(result.len(), expected.len(), "{}", p.name);
            for (k, x) in expected.iter().enumerate() {
                let y = result.at(k);
                assert!((x - y).abs() <= tolerance * (1.0 + x.abs()), "{}[{k}]: {y}, expected {x}", p.name);
            }
        }
        results
    };
    close(Rounding::Tiles, 2e-5);
    close(Rounding::Nowhere, 1e-11)
}

#[test]
fn a_product_with_bias_and_gelu() {
    let mut random = Random(1);
    for t in LENGTHS {
        for (k, n) in [(1, 1), (13, 7), (4, 8)] {
            let (x, w, bias) = (random.tensor(&[t, k]), random.tensor(&[k, n]), random.tensor(&[n]));
            let y = |i: usize, j: usize| {
                let z: f64 = (0..k).map(|l| x.at(i * k + l) * w.at(l * n + j)).sum::<f64>() + bias.at(j);
                0.5 * z * (1.0 + erf(z / 2f64.sqrt()))
            };
            let expected = (0..t * n).map(|f| y(f / n, f % n)).collect();
            check(&gemm_gelu(k, n, [4, 4, 3]), &dims(&[("T", t)]), &[&x, &w, &bias], &[expected]);
        }
    }
}

#[test]
fn a_softmax_of_rows() {
    let mut random = Random(2);
    for t in LENGTHS {
        for s in LENGTHS {
            let x = random.tensor(&[t, s]);
            let sum = |i: usize| (0..s).map(|j| (x.at(i * s + j)).exp()).sum::<f64>();
            let expected = (0..t * s).map(|f| x.at(f).exp() / sum(f / s)).collect();
            check(&softmax_rows(4, 3), &dims(&[("T", t), ("S", s)]), &[&x], &[expected]);
        }
    }
}

#[test]
fn a_layer_norm() {
    let mut random = Random(3);
    for (t, d) in [(1, 1), (5, 9), (4, 16), (13, 3)] {
        let (x, gain, bias) = (random.tensor(&[t, d]), random.tensor(&[d]), random.tensor(&[d]));
        let y = |i: usize, j: usize| {
            let row: Vec<f64> = (0..d).map(|j| x.at(i * d + j)).collect();
            let mean = row.iter().sum::<f64>() / d as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
            (row[j] - mean) / (variance + 1e-5).sqrt() * gain.at(j) + bias.at(j)
        };
        let expected = (0..t * d).map(|f| y(f / d, f % d)).collect();
        check(&layer_norm(d, 4, 1e-5), &dims(&[("T", t)]), &[&x, &gain, &bias], &[expected]);
    }
}

#[test]
fn gathered_and_joined_rows() {
    let mut random = Random(4);
    for t in LENGTHS {
        let (table, a, b) = (random.tensor(&[11, 5]), random.tensor(&[3, 5]), random.tensor(&[t, 5]));
        let ids: Vec<i64> = (0..t).map(|_| (random.next() % 11) as i64).collect();
        let expected = (0..t * 5).map(|f| table.at(ids[f / 5] as usize * 5 + f % 5)).collect();
        let ids = Tensor::ints(&[t], ids);
        check(&gather_rows(11, 5, 4), &dims(&[("T", t)]), &[&table, &ids], &[expected]);
        let expected = (0..(3 + t) * 5).map(|f| if f < 15 { a.at(f) } else { b.at(f - 15) }).collect();
        check(&concat_rows(3, 5, 4), &dims(&[("T", t)]), &[&a, &b], &[expected]);
    }
}

/// Attention of one query over the keys `present`.
fn attend(q: &[f64], k: &[f64], v: &[f64], present: impl Iterator<Item = usize> + Clone) -> Vec<f64> {
    let d = q.len();
    let score = |j: usize| (0..d).map(|l| q[l] * k[j * d + l]).sum::<f64>() / (d as f64).sqrt();
    let sum: f64 = present.clone().map(|j| score(j).exp()).sum();
    (0..d).map(|l| present.clone().map(|j| score(j).exp() / sum * v[j * d + l]).sum()).collect()
}

fn rows(t: &Tensor, from: usize, count: usize) -> Vec<f64> {
    (from..from + count).map(|k| t.at(k)).collect()
}

#[test]
fn causal_attention_with_and_without_a_window() {
    let mut random = Random(5);
    for t in LENGTHS {
        for window in [None, Some(1), Some(6)] {
            let (h, d) = (2, 5);
            let [q, k, v] = [0; 3].map(|_| random.tensor(&[h, t, d]));
            let mut expected = Vec::new();
            for head in 0..h {
                let (k, v) = (rows(&k, head * t * d, t * d), rows(&v, head * t * d, t * d));
                for i in 0..t {
                    let first = window.map_or(0, |w: usize| (i + 1).saturating_sub(w));
                    expected.extend(attend(&rows(&q, (head * t + i) * d, d), &k, &v, first..=i));
                }
            }
            check(&flash_attention(h, d, window, [4, 3]), &dims(&[("T", t)]), &[&q, &k, &v], &[expected]);
        }
    }
}

#[test]
fn attention_split_over_keys_is_merged() {
    let mut random = Random(6);
    for t in [1, 7, 16, 17, 40, 300] {
        let (h, d) = (3, 5);
        let (q, k, v) = (random.tensor(&[h, d]), random.tensor(&[h, t, d]), random.tensor(&[h, t, d]));
        let at = dims(&[("T", t), ("H", h)]);
        assert_eq!(verify(&decode_partial(d, 16, 5)), Vec::new());
        for rounding in [Rounding::Nowhere, Rounding::Tiles] {
            let parts = interpret(&decode_partial(d, 16, 5), &at, &[&q, &k, &v], rounding).unwrap();
            let expected: Vec<f64> = (0..h)
                .flat_map(|n| {
                    attend(&rows(&q, n * d, d), &rows(&k, n * t * d, t * d), &rows(&v, n * t * d, t * d), 0..t)
                })
                .collect();
            let merged = interpret(&decode_merge(d, 16), &at, &parts.iter().collect::<Vec<_>>(), rounding).unwrap();
            for (k, x) in expected.iter().enumerate() {
                assert!((merged[0].at(k) - x).abs() < 1e-5);
            }
            if rounding == Rounding::Nowhere {
                check(&decode_merge(d, 16), &at, &parts.iter().collect::<Vec<_>>(), &[expected]);
            }
        }
    }
}

#[test]
fn chosen_rows_are_gathered() {
    let mut random = Random(7);
    for t in LENGTHS {
        for k in [1, 2, 5] {
            let (scores, table) = (random.tensor(&[t, 5]), random.tensor(&[5, 3]));
            let mut expected = vec![0.0; t * 3];
            for i in 0..t {
                let mut order: Vec<usize> = (0..5).collect();
                order.sort_by(|&a, &b| scores.at(i * 5 + b).total_cmp(&scores.at(i * 5 + a)).then(a.cmp(&b)));
                for &j in &order[..k] {
                    (0..3).for_each(|d| expected[i * 3 + d] += scores.at(i * 5 + j) * table.at(j * 3 + d));
                }
            }
            check(&top_k_gather(5, 3, k), &dims(&[("T", t)]), &[&scores, &table], &[expected]);
        }
    }
}

#[test]
fn a_selective_scan() {
    let mut random = Random(8);
    for t in LENGTHS {
        let (ch, n) = (3, 5);
        let (x, dt) = (random.tensor(&[t, ch]), random.tensor(&[t, ch]));
        let (a, into, out) = (random.tensor(&[ch, n]), random.tensor(&[t, n]), random.tensor(&[t, n]));
        let mut expected = vec![0.0; t * ch];
        for c in 0..ch {
            let mut h = vec![0.0; n];
            for i in 0..t {
                for s in 0..n {
                    let step = dt.at(i * ch + c);
                    h[s] = (step * a.at(c * n + s)).exp() * h[s] + step * x.at(i * ch + c) * into.at(i * n + s);
                    expected[i * ch + c] += h[s] * out.at(i * n + s);
                }
            }
        }
        check(&selective_scan(ch, n, 4), &dims(&[("T", t)]), &[&x, &dt, &a, &into, &out], &[expected]);
    }
}

/// y by the recurrence that both chunked forms stand for; `delta` chooses between them, `rate` is g or beta.
fn recurrent(q: &Tensor, k: &Tensor, v: &Tensor, rate: &Tensor, delta: bool) -> Vec<f64> {
    let [h, t, n] = q.shape[..] else { panic!("three axes") };
    let p = v.shape[2];
    let mut y = vec![0.0; h * t * p];
    for head in 0..h {
        let mut s = vec![0.0; n * p];
        for i in head * t..(head + 1) * t {
            let g = rate.at(i);
            let key = rows(k, i * n, n);
            for c in 0..p {
                let seen: f64 = (0..n).map(|r| s[r * p + c] * key[r]).sum();
                let u = if delta { g * (v.at(i * p + c) - seen) } else { v.at(i * p + c) };
                for r in 0..n {
                    s[r * p + c] = if delta { s[r * p + c] } else { g.exp() * s[r * p + c] } + key[r] * u;
                    y[i * p + c] += s[r * p + c] * q.at(i * n + r);
                }
            }
        }
    }
    y
}

#[test]
fn chunked_recurrences_equal_sequential_ones() {
    let mut random = Random(9);
    for t in LENGTHS {
        for delta in [false, true] {
            let (h, n, p) = (2, 5, 3);
            let (q, k, v) = (random.tensor(&[h, t, n]), random.tensor(&[h, t, n]), random.tensor(&[h, t, p]));
            let rate = random.tensor(&[h, t]);
            let program = if delta { delta_rule(n, p, 4) } else { chunked_linear_attention(n, p, 4) };
            let expected = recurrent(&q, &k, &v, &rate, delta);
            check(&program, &dims(&[("T", t), ("H", h)]), &[&q, &k, &v, &rate], &[expected]);
        }
    }
}

#[test]
fn a_scan_with_a_decay_of_every_state_takes_and_gives_its_state() {
    let mut random = Random(12);
    for t in LENGTHS {
        let (n, p) = (5, 3);
        let [q, k, mut g] = [0; 3].map(|_| random.tensor(&[t, n]));
        let (v, before) = (random.tensor(&[t, p]), random.tensor(&[n, p]));
        // From no decay at all to what underflows.
        let logs = (0..t * n).map(|e| if e % 7 == 0 { 0.0 } else { -40.0 * g.at(e).abs() }).collect();
        g = Tensor::floats(&[t, n], logs).rounded(crate::dtype::DType::F32);
        let mut s: Vec<f64> = (0..n * p).map(|e| before.at(e)).collect();
        let mut y = vec![0.0; t * p];
        for i in 0..t {
            for (r, c) in (0..n).flat_map(|r| (0..p).map(move |c| (r, c))) {
                s[r * p + c] = g.at(i * n + r).exp() * s[r * p + c] + k.at(i * n + r) * v.at(i * p + c);
                y[i * p + c] += s[r * p + c] * q.at(i * n + r);
            }
        }
        let program = chunked_diagonal_scan(n, p, 4);
        check(&program, &dims(&[("T", t)]), &[&q, &k, &g, &v, &before], &[y, s]);
    }
}

#[test]
fn listed_blocks_of_keys_alone_are_seen() {
    let mut random = Random(13);
    for t in LENGTHS {
        let (width, entries, [bq, bk]) = (5, 3, [4, 3]);
        let [q, k, v] = [0; 3].map(|_| random.tensor(&[t, width]));
        let (rows_of, keys_of) = (t.div_ceil(bq), t.div_ceil(bk));
        // Every other block from a start of its own; some places are empty, some rows have none at all.
        let named = |i: usize, e: usize| (i % 3 != 2 && e != 1).then_some((i + e) % keys_of).filter(|_| e < keys_of);
        let list = Tensor::from_fn(crate::expr::Kind::Int, &[rows_of, entries], |at| {
            crate::expr::Scalar::Int(named(at / entries, at % entries).map_or(-1, |j| j as i64))
        });
        let mut expected = vec![0.0; t * width];
        for i in 0..t {
            let blocks: Vec<usize> = (0..entries).filter_map(|e| named(i / bq, e)).collect();
            let keys: Vec<usize> = blocks.iter().flat_map(|j| j * bk..t.min((j + 1) * bk)).collect();
            let score = |j: usize| {
                let dot: f64 = (0..width).map(|d| q.at(i * width + d) * k.at(j * width + d)).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let total: f64 = keys.iter().map(|j| score(*j)).sum();
            for &j in &keys {
                (0..width).for_each(|d| expected[i * width + d] += score(j) / total * v.at(j * width + d));
            }
        }
        let program = block_sparse_attention(width, entries, [bq, bk]);
        check(&program, &dims(&[("T", t)]), &[&q, &k, &v, &list], &[expected]);
    }
}

#[test]
fn a_monarch_product() {
    let mut random = Random(14);
    for (n1, n2, d) in [(3, 5, 7), (1, 4, 4), (4, 1, 1)] {
        let (x, right) = (random.tensor(&[n1, n2, d]), random.tensor(&[n1, n2, n2]));
        let left = random.tensor(&[n2, n1, n1]);
        let (mut u, mut y) = (vec![0.0; n1 * n2 * d], vec![0.0; n1 * n2 * d]);
        let all = |f: &mut dyn FnMut(usize, usize, usize)| {
            (0..n1).for_each(|a| (0..n2).for_each(|c| (0..d).for_each(|e| f(a, c, e))));
        };
        all(&mut |a, c, e| {
            let term = |k: usize| right.at((a * n2 + c) * n2 + k) * x.at((a * n2 + k) * d + e);
            u[(a * n2 + c) * d + e] = (0..n2).map(term).sum();
        });
        all(&mut |a, c, e| {
            let term = |k: usize| left.at((c * n1 + a) * n1 + k) * u[(k * n2 + c) * d + e];
            y[(a * n2 + c) * d + e] = (0..n1).map(term).sum();
        });
        check(&monarch_product(n1, n2, 4), &dims(&[("D", d)]), &[&x, &right, &left], &[u, y]);
    }
}

#[test]
fn stages_make_a_fourier_transform() {
    let mut random = Random(10);
    let factors: [&[usize]; 7] = [&[2], &[2, 2, 2], &[8, 2], &[3, 5], &[4, 3, 5], &[5, 7], &[16]];
    for radices in factors {
        let n: usize = radices.iter().product();
        let x = random.tensor(&[n, 2]);
        let mut now = x.clone();
        let mut stride = 1;
        for &radix in radices {
            now.shape = vec![radix, n / stride / radix, stride, 2];
            let p = fft_stage(n, radix, stride, 4);
            assert_eq!(verify(&p), Vec::new());
            now = interpret(&p, &DimValues::new(), &[&now], Rounding::Nowhere).unwrap().remove(0);
            stride *= radix;
        }
        for f in 0..n {
            let (mut re, mut im) = (0.0, 0.0);
            for j in 0..n {
                let angle = -std::f64::consts::TAU * (f * j % n) as f64 / n as f64;
                re += x.at(2 * j) * angle.cos() - x.at(2 * j + 1) * angle.sin();
                im += x.at(2 * j) * angle.sin() + x.at(2 * j + 1) * angle.cos();
            }
            let close = (now.at(2 * f) - re).abs() < 1e-11 && (now.at(2 * f + 1) - im).abs() < 1e-11;
            assert!(close, "{radices:?}");
        }
    }
}

#[test]
fn every_example_is_valid_and_writes_something() {
    for p in all() {
        assert_eq!(verify(&p), Vec::new(), "{}", p.name);
        assert!(p.tensors.iter().any(|t| t.role == Role::Output));
    }
}

#[test]
fn programs_of_few_lengths_keep_their_meaning() {
    use crate::dim::DimBounds;
    let mut random = Random(11);
    for p in all() {
        for (low, high) in [(1, 1), (1, 3), (2, 5), (4, 4)] {
            let mut symbols = Vec::new();
            p.tensors.iter().flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut symbols));
            let bounds: DimBounds = symbols.iter().map(|s| (s.clone(), (low, high))).collect();
            let short = p.narrowed(&bounds).unwrap();
            assert_eq!(verify(&short), Vec::new(), "{} for {low}..{high}", p.name);
            let shorter = |k: usize| (short.tiles[k].rows.cap, short.tiles[k].cols.cap);
            assert!((0..p.tiles.len()).all(|k| shorter(k) <= (p.tiles[k].rows.cap, p.tiles[k].cols.cap)));
            for t in low..=high {
                let dims: DimValues = symbols.iter().map(|s| (s.clone(), t)).collect();
                let inputs: Vec<Tensor> = p
                    .tensors
                    .iter()
                    .filter(|t| t.role == Role::Input)
                    .map(|t| {
                        let shape: Vec<usize> = t.shape.iter().map(|d| d.eval(&dims).unwrap() as usize).collect();
                        match t.dtype.is_float() {
                            true => random.tensor(&shape),
                            false => Tensor::ints(&shape, vec![0; shape.iter().product()]),
                        }
                    })
                    .collect();
                let inputs: Vec<&Tensor> = inputs.iter().collect();
                let run = |p: &TileProgram| interpret(p, &dims, &inputs, Rounding::Tiles).unwrap();
                let (want, got) = (run(&p), run(&short));
                for (want, got) in want.iter().zip(&got) {
                    let same = |k: usize| want.at(k) == got.at(k) || (want.at(k).is_nan() && got.at(k).is_nan());
                    assert!((0..want.len()).all(same), "{} at {t}", p.name);
                }
            }
        }
    }
}

#[test]
fn few_queries_make_short_tiles() {
    use crate::dim::DimBounds;
    let p = flash_attention(3, 5, None, [64, 256]);
    let caps = |p: &TileProgram| p.tiles.iter().map(|t| t.rows.cap).max();
    let short = p.narrowed(&DimBounds::from([("T".into(), (1, 7))])).unwrap();
    assert_eq!((caps(&p), caps(&short)), (Some(256), Some(7)));
    let one = p.narrowed(&DimBounds::from([("T".into(), (1, 1))])).unwrap();
    assert!(one.tiles.iter().all(|t| t.rows.is_fixed()));
    let bounds = |high: i64| DimBounds::from([("T".into(), (1, high))]);
    assert!(!p.repeats(&bounds(1)) && p.repeats(&bounds(300)));
}
