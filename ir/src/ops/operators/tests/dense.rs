//! Operators as whole matrices, straight from the formulas of the language reference: the oracle of the row functions.
//! Shares nothing with them, batch broadcasting included.

use crate::tensor::Tensor;

/// A matrix a batch index, `None` where absent.
#[derive(Clone, Debug)]
pub struct Dense {
    pub batch: Vec<usize>,
    pub rows: usize,
    pub cols: usize,
    /// Row-major over batch, rows, columns.
    pub cells: Vec<Option<f64>>,
    /// Lengths that rows are aligned by, and the batch axes after theirs.
    pub lengths: Option<(usize, Vec<i64>)>,
}

/// A batch index.
pub type At<'a> = &'a [usize];

/// Index along each of `own` dims for index `at` of dims `out`: proportional, which for divisors is the group.
fn within(own: &[usize], out: &[usize], at: At<'_>) -> Vec<usize> {
    let lead = out.len() - own.len();
    own.iter().enumerate().map(|(k, n)| at[lead + k] * n / out[lead + k].max(1)).collect()
}

fn flat(shape: &[usize], index: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |sum, (i, n)| sum * n + i)
}

/// Element `index` of the last axes of `t`, whose other axes are batch dims.
pub fn read(t: &Tensor, out: &[usize], at: At<'_>, index: &[usize]) -> f64 {
    let lead = t.shape.len() - index.len();
    let mut whole = within(&t.shape[..lead], out, at);
    whole.extend(index);
    t.at(flat(&t.shape, &whole))
}

/// Element (i, j) of a tensor that broadcasts to `[.., T, S]`.
pub fn read_broadcast(t: &Tensor, out: &[usize], at: At<'_>, i: usize, j: usize) -> f64 {
    let n = t.shape.len();
    let mut index = Vec::new();
    if n > 1 {
        index.push(if t.shape[n - 2] == 1 { 0 } else { i });
    }
    if n > 0 {
        index.push(if t.shape[n - 1] == 1 { 0 } else { j });
    }
    read(t, out, at, &index)
}

/// Every index of `shape`.
pub fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &n in shape {
        all = all.iter().flat_map(|a| (0..n).map(move |i| a.iter().copied().chain([i]).collect())).collect();
    }
    all
}

impl Dense {
    pub fn new(
        batch: &[usize],
        rows: usize,
        cols: usize,
        mut f: impl FnMut(At<'_>, usize, usize) -> Option<f64>,
    ) -> Dense {
        let mut cells = Vec::new();
        for at in indices(batch) {
            for i in 0..rows {
                for j in 0..cols {
                    cells.push(f(&at, i, j));
                }
            }
        }
        Dense { batch: batch.to_vec(), rows, cols, cells, lengths: None }
    }

    pub fn cell(&self, out: &[usize], at: At<'_>, i: usize, j: usize) -> Option<f64> {
        let b = flat(&self.batch, &within(&self.batch, out, at));
        self.cells[(b * self.rows + i) * self.cols + j]
    }

    /// i', for a batch index of wider dims `out`.
    pub fn position(&self, out: &[usize], at: At<'_>, i: usize) -> i64 {
        let end = match &self.lengths {
            None => self.cols as i64,
            Some((after, n)) if n.len() > 1 => {
                let axis = at.len() - 1 - after;
                n[at[axis] * n.len() / out[axis]]
            }
            Some((_, n)) => n[0],
        };
        i as i64 + end - self.rows as i64
    }

    /// A matrix of the same lengths and alignment with wider batch dims, cell by cell.
    pub fn change(&self, batch: &[usize], mut f: impl FnMut(At<'_>, usize, usize, f64) -> Option<f64>) -> Dense {
        let new =
            Dense::new(batch, self.rows, self.cols, |at, i, j| self.cell(batch, at, i, j).and_then(|x| f(at, i, j, x)));
        Dense { lengths: self.lengths.clone(), ..new }
    }

    /// A matrix made row by row.
    pub fn change_rows(
        &self,
        batch: &[usize],
        mut f: impl FnMut(At<'_>, usize, &[Option<f64>]) -> Vec<Option<f64>>,
    ) -> Dense {
        let mut cells = Vec::new();
        for at in indices(batch) {
            for i in 0..self.rows {
                let row: Vec<_> = (0..self.cols).map(|j| self.cell(batch, &at, i, j)).collect();
                cells.extend(f(&at, i, &row));
            }
        }
        Dense { batch: batch.to_vec(), cells, ..self.clone() }
    }
}

/// The inverse of a lower-triangular matrix, by columns.
pub fn inverse(m: &Dense) -> Dense {
    let n = m.rows;
    let mut columns = Vec::new();
    for at in indices(&m.batch) {
        let value = |i: usize, j: usize| m.cell(&m.batch, &at, i, j).unwrap_or(0.0);
        for j in 0..n {
            let mut x = vec![0.0; n];
            for i in j..n {
                let known: f64 = (j..i).map(|k| value(i, k) * x[k]).sum();
                x[i] = (f64::from(i == j) - known) / value(i, i);
            }
            columns.push(x);
        }
    }
    let batches = indices(&m.batch);
    let new = Dense::new(&m.batch, n, n, |at, i, j| {
        let b = batches.iter().position(|x| x == at)?;
        (i >= j).then(|| columns[b * n + j][i])
    });
    Dense { lengths: m.lengths.clone(), ..new }
}

/// The tree search, one block of rows at a time, on a whole matrix.
pub fn top_k_tree(m: &Dense, k: i64, bq: i64, bk: i64, sink: i64, window: i64) -> Dense {
    m.change_rows(&m.batch.clone(), |at, i, row| {
        let (first, size) = ((i as i64 / bq) * bq, m.rows as i64);
        let rows: Vec<i64> = (first..(first + bq).min(size)).collect();
        let last = m.position(&m.batch, at, *rows.last().unwrap() as usize);
        let sees = |j: i64| j <= last;
        let seen = (0..m.cols as i64).filter(|j| sees(*j)).count() as i64;
        let extra = |i: i64, j: i64| {
            let p = m.position(&m.batch, at, i as usize);
            j < sink || (j > p - window && j <= p)
        };
        let mut kept: Vec<i64> =
            (0..m.cols as i64).filter(|j| sees(*j) && (seen <= k || extra(i as i64, *j))).collect();
        if seen > k {
            let n = (seen + bk - 1) / bk;
            let groups_kept = (k + bk - 1) / bk;
            let mut groups: Vec<(i64, i64)> =
                (0..groups_kept).map(|g| (n * g / groups_kept, n * (g + 1) / groups_kept)).collect();
            let rounds = (n as f64 / groups_kept as f64).log2().ceil() as i64;
            let scored: Vec<i64> = if rows.len() == 1 {
                rows.clone()
            } else {
                rows.iter().copied().filter(|r| (r - first) % 2 == 1).collect()
            };
            for _ in 0..rounds {
                let mut halves = Vec::new();
                for (s, e) in groups {
                    let middle = (s + e) / 2;
                    halves.push((s, middle));
                    halves.push((middle, e));
                }
                halves.retain(|(s, e)| e > s);
                let score = |(s, _): &(i64, i64)| {
                    let mut best = f64::NEG_INFINITY;
                    for &r in &scored {
                        for j in (s * bk..(s + 1) * bk).filter(|j| *j < m.cols as i64 && sees(*j) && !extra(r, *j)) {
                            if let Some(x) = m.cell(&m.batch, at, r as usize, j as usize) {
                                best = best.max(x);
                            }
                        }
                    }
                    best
                };
                // Stable: of equal scores the lower start stays first.
                halves.sort();
                halves.sort_by(|a, b| score(b).partial_cmp(&score(a)).unwrap());
                halves.truncate(groups_kept as usize);
                groups = halves;
            }
            for (s, e) in groups {
                if e > s {
                    kept.extend((s * bk..(s + 1) * bk).filter(|j| sees(*j)));
                }
            }
        }
        row.iter().enumerate().map(|(j, x)| x.filter(|_| kept.contains(&(j as i64)))).collect()
    })
}

/// The greatest numerical rank of a block of one matrix that has no absent element: for every row, what it has in all
/// rows that have as much.
pub fn rank(m: &Dense, at: At<'_>) -> usize {
    let cell = |i: usize, j: usize| m.cell(&m.batch, at, i, j);
    let block = |row: usize| -> Vec<Vec<f64>> {
        let present: Vec<usize> = (0..m.cols).filter(|j| cell(row, *j).is_some()).collect();
        (0..m.rows).filter_map(|i| present.iter().map(|j| cell(i, *j)).collect()).collect()
    };
    (0..m.rows).map(|row| rank_of(block(row))).max().unwrap_or(0)
}

fn rank_of(mut a: Vec<Vec<f64>>) -> usize {
    let (rows, cols) = (a.len(), a.first().map_or(0, Vec::len));
    let scale = a.iter().flatten().fold(0.0f64, |s, x| s.max(x.abs()));
    let mut rank = 0;
    for col in 0..cols {
        let Some(pivot) = (rank..rows).max_by(|&x, &y| a[x][col].abs().total_cmp(&a[y][col].abs())) else { break };
        if a[pivot][col].abs() <= 1e-9 * scale {
            continue;
        }
        a.swap(rank, pivot);
        for i in rank + 1..rows {
            let f = a[i][col] / a[rank][col];
            for j in col..cols {
                let x = a[rank][j];
                a[i][j] -= f * x;
            }
        }
        rank += 1;
    }
    rank
}
