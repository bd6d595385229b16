//! Builds random operators twice: as a program evaluated by rows, and as whole matrices.

use super::dense::{self, At, Dense, indices, read, read_broadcast};
use crate::attr::Attrs;
use crate::diag::Fault;
use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::expr::{Expr, Node, Scalar};
use crate::op::Meaning;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::support::{Structure, SupportContext};
use crate::tensor::{Data, Tensor};
use crate::ty::{Align, MixType, Type};
use std::collections::BTreeMap;

mod construct;

pub struct Bench {
    pub b: Builder,
    pub values: Vec<RefValue>,
    state: u64,
    /// Batch dims that all operands are parts of.
    base: Vec<usize>,
    /// Of lengths: batch axes after theirs.
    axes_after: BTreeMap<ValueId, usize>,
}

/// An operator, both ways.
#[derive(Clone)]
struct Pair(ValueId, Dense);

impl Bench {
    pub fn new(seed: u64) -> Bench {
        let mut bench = Bench {
            b: Builder::new("main", Vec::new()),
            values: Vec::new(),
            state: seed,
            base: Vec::new(),
            axes_after: BTreeMap::new(),
        };
        let bases: [&[usize]; 5] = [&[], &[2], &[4], &[3, 4], &[2, 1, 2]];
        bench.base = bases[bench.below(5)].to_vec();
        bench
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Multiples of a quarter within -1..=1, so that ties happen.
    fn real(&mut self) -> f64 {
        self.between(-4, 4) as f64 / 4.0
    }

    /// Part of the base batch dims.
    fn batch(&mut self) -> Vec<usize> {
        let keep = self.below(self.base.len() + 1);
        let mut own = self.base[self.base.len() - keep..].to_vec();
        for k in 0..own.len() {
            match self.below(4) {
                0 => own[k] = 1,
                1 if k + 1 == own.len() && own[k] == 4 => own[k] = 2,
                _ => {}
            }
        }
        own
    }

    fn param(&mut self, t: Tensor) -> ValueId {
        let dtype = match t.data {
            Data::Float(_) => DType::F32,
            Data::Int(_) => DType::I64,
            Data::Bool(_) => DType::Bool,
        };
        let ty = Type::tensor(dtype, t.shape.iter().map(|&n| Dim::from(n)).collect());
        let v = self.b.param(&format!("p{}", self.values.len()), ty);
        self.values.push(t.into());
        v
    }

    /// A random tensor with random batch dims and these last dims.
    fn data(&mut self, tail: &[usize]) -> (ValueId, Tensor) {
        let mut shape = self.batch();
        shape.extend(tail);
        self.exactly(&shape)
    }

    fn exactly(&mut self, shape: &[usize]) -> (ValueId, Tensor) {
        let n = shape.iter().product();
        let t = Tensor::floats(shape, (0..n).map(|_| self.real()).collect());
        (self.param(t.clone()), t)
    }

    fn bools(&mut self, tail: &[usize]) -> (ValueId, Tensor) {
        let mut shape = self.batch();
        shape.extend(tail);
        let n = shape.iter().product();
        let t = Tensor::bools(&shape, (0..n).map(|_| self.below(3) > 0).collect());
        (self.param(t.clone()), t)
    }

    /// The operation on the program and its value.
    pub fn call(
        &mut self,
        name: &str,
        operands: &[ValueId],
        attrs: Attrs,
        written: Option<Type>,
    ) -> Result<ValueId, Vec<Fault>> {
        let v = self.b.op_typed(name, operands, attrs.clone(), written)?;
        let op = crate::ops::find(name).unwrap();
        let eval = Eval {
            operands: operands.iter().map(|o| Some(&self.values[o.index()])).collect(),
            types: operands.iter().map(|o| Some(self.b.ty(*o))).collect(),
            attrs: &attrs,
            results: vec![self.b.ty(v)],
            dims: &DimValues::new(),
            rows: None,
        };
        let Meaning::Eval(f) = op.meaning else { panic!("`{name}` has no meaning of its own") };
        let value = f(&eval).unwrap().remove(0);
        self.values.push(value);
        Ok(v)
    }

    /// Batch dims of a value's type.
    fn batch_of(&self, v: ValueId) -> Vec<usize> {
        let m = self.b.ty(v).as_mix().unwrap();
        m.batch.iter().map(|d| d.as_constant().unwrap() as usize).collect()
    }

    fn structure(&self, v: ValueId) -> Structure {
        self.b.program.values[v.index()].structure.clone().unwrap()
    }

    /// A chain of `length` operations upon a constructor, checked after each.
    pub fn chain(&mut self, length: usize, counts: &mut BTreeMap<&'static str, usize>) {
        const SIZES: [usize; 8] = [0, 1, 2, 3, 4, 5, 7, 8];
        let rows = SIZES[self.below(8)];
        let cols = if self.flip() { rows } else { SIZES[self.below(8)] };
        let (name, mut m) = self.construct(rows, cols);
        *counts.entry(name).or_default() += 1;
        self.check(name, &m);
        for _ in 0..length {
            // Overflow and NaN are tested by themselves.
            if !m.1.cells.iter().flatten().all(|x| x.abs() < 300.0) {
                break;
            }
            let Some((name, next)) = self.extend(&m) else { continue };
            *counts.entry(name).or_default() += 1;
            m = next;
            self.check(name, &m);
        }
        self.check_apply(&m);
        *counts.entry("apply").or_default() += 1;
    }

    fn made(
        &mut self,
        v: ValueId,
        f: impl FnMut(At<'_>, usize, usize) -> Option<f64>,
        rows: usize,
        cols: usize,
    ) -> Pair {
        let batch = self.batch_of(v);
        Pair(v, Dense::new(&batch, rows, cols, f))
    }

    fn written(&mut self, rows: usize, cols: usize) -> Option<Type> {
        let batch = self.batch().into_iter().map(Dim::from).collect();
        let (rows, cols) = (Dim::from(rows), Dim::from(cols));
        Some(Type::Mix(MixType { dtype: DType::F32, batch, rows, cols, align: Align::End }))
    }

    /// One more operation upon `m`, if the one that was drawn fits.
    fn extend(&mut self, m: &Pair) -> Option<(&'static str, Pair)> {
        let (v, d) = (m.0, &m.1);
        let (rows, cols) = (d.rows, d.cols);
        let none = Attrs::new;
        let choice = self.below(26);
        Some(match choice {
            0 => {
                let t = self.call("transpose", &[v], none(), None).unwrap();
                let batch = self.batch_of(t);
                ("transpose", Pair(t, Dense::new(&batch, cols, rows, |at, i, j| d.cell(&batch, at, j, i))))
            }
            1 | 2 if d.lengths.is_none() => {
                let size = if self.flip() { cols } else { self.below(6) };
                let (_, Pair(w, e)) = self.construct(cols, size);
                let c = self.call("compose", &[v, w], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i: usize, j: usize| {
                    let joined: Vec<f64> = (0..cols)
                        .filter_map(|k| d.cell(&batch, at, i, k).zip(e.cell(&batch, at, k, j)))
                        .map(|(x, y)| x * y)
                        .collect();
                    (!joined.is_empty()).then(|| joined.iter().sum())
                };
                ("compose", Pair(c, Dense::new(&batch, rows, size, f)))
            }
            3 | 4 if d.lengths.is_none() => {
                let (_, Pair(w, e)) = self.construct(rows, cols);
                let name = if choice == 3 { "sum" } else { "times" };
                let c = self.call(name, &[v, w], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i: usize, j: usize| match (d.cell(&batch, at, i, j), e.cell(&batch, at, i, j)) {
                    (Some(x), Some(y)) => Some(if choice == 3 { x + y } else { x * y }),
                    (x, y) => {
                        if choice == 3 {
                            x.or(y)
                        } else {
                            None
                        }
                    }
                };
                (name, Pair(c, Dense::new(&batch, rows, cols, f)))
            }
            5 => {
                if self.flip() {
                    let by = self.real();
                    let c = self.call("scale_by", &[v], none().with_float("by", by), None).unwrap();
                    ("scale_by", Pair(c, d.change(&d.batch, |_, _, _, x| Some(by * x))))
                } else {
                    let (tv, t) = self.data(&[]);
                    let c = self.call("scale_by", &[v, tv], none(), None).unwrap();
                    let batch = self.batch_of(c);
                    ("scale_by", Pair(c, d.change(&batch, |at, _, _, x| Some(x * read(&t, &batch, at, &[])))))
                }
            }
            6 => {
                let tail = match self.below(4) {
                    0 => vec![rows, cols],
                    1 => vec![1, cols],
                    2 => vec![rows, 1],
                    _ => vec![cols],
                };
                let (tv, t) = if tail.len() == 1 { self.exactly(&tail) } else { self.data(&tail) };
                let c = self.call("add_bias", &[v, tv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i, j, x| Some(x + read_broadcast(&t, &batch, at, i, j));
                ("add_bias", Pair(c, d.change(&batch, f)))
            }
            7 if rows == cols => {
                let (tv, t) = self.data(&[rows]);
                let c = self.call("add_diagonal", &[v, tv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let new = Dense::new(&batch, rows, cols, |at, i, j| {
                    let x = d.cell(&batch, at, i, j);
                    if i == j { Some(x.unwrap_or(0.0) + read(&t, &batch, at, &[i])) } else { x }
                });
                ("add_diagonal", Pair(c, Dense { lengths: d.lengths.clone(), ..new }))
            }
            8 => {
                let (tv, t) = self.data(&[]);
                let c = self.call("alibi", &[v, tv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i, j: usize, x| {
                    Some(x - read(&t, &batch, at, &[]) * (d.position(&batch, at, i) - j as i64).abs() as f64)
                };
                ("alibi", Pair(c, d.change(&batch, f)))
            }
            9 => {
                let c = self.call("soft_cap", &[v], none().with_float("cap", 1.5), None).unwrap();
                ("soft_cap", Pair(c, d.change(&d.batch, |_, _, _, x| Some(1.5 * (x / 1.5).tanh()))))
            }
            10 | 11 => {
                let (tv, t) = self.data(&[]);
                match self.call("decay", &[v, tv], none(), None) {
                    Ok(c) => {
                        let batch = self.batch_of(c);
                        let f = |at: At<'_>, i, j: usize, x| {
                            let distance = d.position(&batch, at, i) - j as i64;
                            assert!(distance >= 0, "decay accepted j > i'");
                            Some(x * read(&t, &batch, at, &[]).powi(distance as i32))
                        };
                        ("decay", Pair(c, d.change(&batch, f)))
                    }
                    Err(_) => return None,
                }
            }
            12 => {
                let name = super::super::map::FUNCTIONS[self.below(12)];
                let c = self.call("map", &[v], none().with_name("fn", name), None).unwrap();
                let f = |x: f64| match name {
                    "exp" => x.exp(),
                    "relu" => {
                        if x > 0.0 {
                            x
                        } else {
                            0.0
                        }
                    }
                    "square" => x.powi(2),
                    "silu" => x / (1.0 + (-x).exp()),
                    "sigmoid" => 1.0 / (1.0 + (-x).exp()),
                    "tanh" => x.tanh(),
                    "elu" => {
                        if x > 0.0 {
                            x
                        } else {
                            x.exp() - 1.0
                        }
                    }
                    "elu1" => {
                        if x > 0.0 {
                            x + 1.0
                        } else {
                            x.exp()
                        }
                    }
                    "gelu" => 0.5 * x * (1.0 + crate::expr::erf(x / 2f64.sqrt())),
                    "gelu_tanh" => {
                        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
                    }
                    "identity" => x,
                    "abs" => x.abs(),
                    _ => panic!("{name}"),
                };
                ("map", Pair(c, d.change(&d.batch, |_, _, _, x| Some(f(x)))))
            }
            13 => {
                let heads = self.base.last().copied().unwrap_or(1);
                let sink = self.flip().then(|| self.exactly(&[heads]));
                let operands: Vec<ValueId> = [v].into_iter().chain(sink.as_ref().map(|s| s.0)).collect();
                let c = self.call("softmax", &operands, none(), None).unwrap();
                let batch = self.batch_of(c);
                let new = d.change_rows(&batch, |at, _, row| {
                    let more = sink.as_ref().map_or(0.0, |(_, s)| read(s, &batch, at, &[]).exp());
                    let sum: f64 = row.iter().flatten().map(|x| x.exp()).sum::<f64>() + more;
                    row.iter().map(|x| x.map(|x| x.exp() / sum)).collect()
                });
                ("softmax", Pair(c, new))
            }
            14 => {
                let eps = if self.flip() { 0.5 } else { 0.0 };
                let c = self.call("row_normalize", &[v], none().with_float("eps", eps), None).unwrap();
                let new = d.change_rows(&d.batch, |_, _, row| {
                    let sum: f64 = row.iter().flatten().sum();
                    row.iter().map(|x| x.map(|x| x / (sum + eps))).collect()
                });
                ("row_normalize", Pair(c, new))
            }
            15 | 16 if rows == cols => {
                // A diagonal, then a cut to the lower triangle unless it is there already.
                let (tv, t) = self.data(&[rows]);
                let c = self.call("add_diagonal", &[v, tv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let new = Dense::new(&batch, rows, cols, |at, i, j| {
                    let x = d.cell(&batch, at, i, j);
                    if i == j { Some(x.unwrap_or(0.0) + read(&t, &batch, at, &[i])) } else { x }
                });
                // The comparison needs a diagonal that is well away from 0.
                let far = |x: f64| x.is_finite() && x.abs() >= 0.2 && x.abs() < 1e3;
                if !indices(&batch).iter().all(|at| (0..rows).all(|i| new.cell(&batch, at, i, i).is_some_and(far))) {
                    return None;
                }
                let (c, new) = match self.call("inverse", &[c], none(), None) {
                    Ok(n) => (n, new),
                    Err(_) => {
                        let attrs = none().with_flag("causal", true).with_name("align", "start");
                        let c = self.call("mask", &[c], attrs, None).unwrap();
                        (
                            self.call("inverse", &[c], none(), None).unwrap(),
                            new.change(&batch, |_, i, j, x| (j <= i).then_some(x)),
                        )
                    }
                };
                ("inverse", Pair(c, dense::inverse(&Dense { lengths: d.lengths.clone(), ..new })))
            }
            17 => {
                let k = self.below(5);
                let c = self.call("top_k", &[v], none().with_int("k", k as i64), None).unwrap();
                let d = self.as_computed(m)?;
                let new = d.change_rows(&d.batch, |_, _, row| {
                    let place = |j: usize| {
                        let x = row[j].unwrap();
                        let before = |(l, y): (usize, &Option<f64>)| y.is_some_and(|y| y > x || (y == x && l < j));
                        row.iter().enumerate().filter(|p| before(*p)).count()
                    };
                    (0..row.len()).map(|j| row[j].filter(|_| place(j) < k)).collect()
                });
                ("top_k", Pair(c, new))
            }
            18 => {
                let (k, bq, bk) = (self.between(1, 5), self.between(1, 4), self.between(1, 3));
                let (sink, window) = if self.flip() { (0, 0) } else { (self.between(0, 2), self.between(0, 3)) };
                let mut attrs = none().with_int("k", k).with_int("block_q", bq).with_int("block_k", bk);
                if sink + window > 0 {
                    attrs = attrs.with_int("sink", sink).with_int("window", window);
                }
                let c = self.call("top_k_tree", &[v], attrs, None).unwrap();
                ("top_k_tree", Pair(c, dense::top_k_tree(&self.as_computed(m)?, k, bq, bk, sink, window)))
            }
            19..=21 => self.mask(v, d),
            22 => {
                let first = d.batch.first().copied().unwrap_or(1);
                // The base's dim of that axis where the operator has 1 or nothing.
                let axis = self.base.len() as i64 - d.batch.len().max(1) as i64;
                let wide = usize::try_from(axis).ok().and_then(|k| self.base.get(k)).copied().unwrap_or(1);
                let count = if first == 1 { wide } else { first };
                let n: Vec<i64> = (0..count).map(|_| self.between(-1, cols as i64 + 1)).collect();
                let nv = self.param(Tensor::ints(&[count], n.clone()));
                let align = self.flip();
                let Ok(c) = self.call("mask_lengths", &[v, nv], none().with_flag("align", align), None) else {
                    return None;
                };
                let batch = self.batch_of(c);
                self.axes_after.insert(nv, batch.len() - 1);
                let n: Vec<i64> = n.into_iter().map(|x| x.clamp(0, cols as i64)).collect();
                let pick = |at: At<'_>| if n.len() == 1 { n[0] } else { n[at[0]] };
                let mut new = d.change(&batch, |at, _, j, x| ((j as i64) < pick(at)).then_some(x));
                if align {
                    new.lengths = Some((batch.len() - 1, n.clone()));
                }
                ("mask_lengths", Pair(c, new))
            }
            23 if rows == cols => {
                let mut shape = self.batch();
                shape.push(rows);
                let count = shape.iter().product();
                let s = Tensor::ints(&shape, (0..count).map(|_| self.between(0, 2)).collect());
                let sv = self.param(s.clone());
                let c = self.call("mask_segments", &[v, sv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i, j, x| (read(&s, &batch, at, &[i]) == read(&s, &batch, at, &[j])).then_some(x);
                ("mask_segments", Pair(c, d.change(&batch, f)))
            }
            24 => {
                let (bq, bk) = (self.between(1, 3) as usize, self.between(1, 3) as usize);
                let (mv, t) = self.bools(&[rows.div_ceil(bq), cols.div_ceil(bk)]);
                let attrs = none().with_int("block_q", bq as i64).with_int("block_k", bk as i64);
                let c = self.call("mask_blocks", &[v, mv], attrs, None).unwrap();
                let batch = self.batch_of(c);
                let f =
                    |at: At<'_>, i: usize, j: usize, x| (read(&t, &batch, at, &[i / bq, j / bk]) != 0.0).then_some(x);
                ("mask_blocks", Pair(c, d.change(&batch, f)))
            }
            25 => {
                let (mv, t) = if self.flip() { self.bools(&[rows, cols]) } else { self.bools(&[rows, 1]) };
                let c = self.call("mask_with", &[v, mv], none(), None).unwrap();
                let batch = self.batch_of(c);
                let f = |at: At<'_>, i, j, x| (read_broadcast(&t, &batch, at, i, j) != 0.0).then_some(x);
                ("mask_with", Pair(c, d.change(&batch, f)))
            }
            _ => return None,
        })
    }

    /// The matrix with the values that the rows gave, which were found near enough: a selection feels the last bit.
    /// `None` when there is a NaN.
    fn as_computed(&self, Pair(v, d): &Pair) -> Option<Dense> {
        let RefValue::Operator(m) = &self.values[v.index()] else { return None };
        let new = d.change(&d.batch, |at, i, j, _| Some(m.row_for(&d.batch, at, i).values[j]));
        new.cells.iter().flatten().all(|x| !x.is_nan()).then_some(new)
    }

    /// A mask with random attributes.
    fn mask(&mut self, v: ValueId, d: &Dense) -> (&'static str, Pair) {
        let mut attrs = Attrs::new();
        let mut draw = |bench: &mut Bench, name: &str, low: i64, high: i64| -> Option<i64> {
            let x = bench.between(low, high);
            let given = bench.below(3) == 0;
            if given {
                attrs = std::mem::take(&mut attrs).with_int(name, x);
            }
            given.then_some(x)
        };
        let (left, right) = (draw(self, "left", -2, 3), draw(self, "right", -2, 3));
        let (window, block) = (draw(self, "window", 0, 3), draw(self, "block", 1, 4));
        let dilation = draw(self, "dilation", 1, 3);
        let sink = if window.is_some() { draw(self, "sink", 0, 3) } else { None };
        let (causal, start) = (self.flip(), self.below(4) == 0);
        attrs = attrs.with_flag("causal", causal);
        if start {
            attrs = attrs.with_name("align", "start");
        }
        let c = self.call("mask", &[v], attrs, None).unwrap();
        let f = |at: At<'_>, i: usize, j: usize, x: f64| {
            let p = if start { i as i64 } else { d.position(&d.batch, at, i) };
            let j = j as i64;
            let floor = |a: i64, b: i64| (a as f64 / b as f64).floor();
            let mut keep = true;
            keep &= !causal || j <= p;
            keep &= left.is_none_or(|l| j >= p - l);
            keep &= right.is_none_or(|r| j <= p + r);
            keep &= block.is_none_or(|b| floor(p, b) == floor(j, b));
            keep &= dilation.is_none_or(|s| (p - j).abs() % s == 0);
            if let Some(w) = window {
                let inside = j >= p - (w - 1) && (causal || j <= p + (w - 1));
                keep &= inside || sink.is_some_and(|n| j < n);
            }
            keep.then_some(x)
        };
        ("mask", Pair(c, d.change(&d.batch, f)))
    }

    /// Rows and everything that is said of the support and the structure.
    fn check(&self, name: &str, Pair(v, d): &Pair) {
        let RefValue::Operator(m) = &self.values[v.index()] else { panic!("`{name}` gave no operator") };
        assert_eq!((&m.batch, m.rows, m.cols), (&d.batch, d.rows, d.cols), "{name}");
        let structure = self.structure(*v);
        let (bound, exact) = (structure.support.bound(), structure.support.is_exact());
        for at in indices(&d.batch) {
            for i in 0..d.rows {
                let row = m.row_for(&d.batch, &at, i);
                for j in 0..d.cols {
                    let cell = d.cell(&d.batch, &at, i, j);
                    assert_eq!(row.present[j], cell.is_some(), "{name}: support at {at:?} {i} {j} of {self:?}");
                    let (x, y) = (row.values[j], cell.unwrap_or(0.0));
                    let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * (1.0 + y.abs());
                    assert!(same, "{name}: {x} is not {y} at {at:?} {i} {j} of {self:?}");
                    let said = self.holds(&bound, d, &at, i, j);
                    let fits = if exact { said == cell.is_some() } else { said || cell.is_none() };
                    assert!(fits, "{name}: {:?} at {at:?} {i} {j} of {self:?}", structure.support);
                    if structure.toeplitz && i > 0 && j > 0 {
                        let before = d.cell(&d.batch, &at, i - 1, j - 1);
                        let same = match (cell, before) {
                            (Some(x), Some(y)) => {
                                !x.is_finite() || !y.is_finite() || (x - y).abs() <= 1e-6 * (1.0 + x.abs())
                            }
                            (x, y) => x.is_none() && y.is_none(),
                        };
                        assert!(same, "{name} is no Toeplitz matrix: {cell:?} {before:?} in {self:?}");
                    }
                    if structure.non_negative {
                        assert!(y >= 0.0 || y.is_nan(), "{name} has a negative element {y} in {self:?}");
                    }
                }
            }
            let finite = d.cells.iter().flatten().all(|x| x.is_finite() && x.abs() < 1e3);
            if let Some(rank) = structure.rank.as_ref().filter(|_| finite) {
                let rank = rank.as_constant().unwrap() as usize;
                assert!(dense::rank(d, &at) <= rank, "{name} has a rank above {rank} in {self:?}");
            }
        }
    }

    /// Whether the support's expression holds.
    fn holds(&self, support: &crate::support::Support, d: &Dense, at: At<'_>, i: usize, j: usize) -> bool {
        let element = |v: ValueId, index: &[Expr]| Expr::load(crate::expr::SlowId(v.0), index.to_vec());
        let int = |n: usize| Expr::int(n as i64);
        let cx = SupportContext { row: int(i), col: int(j), rows: int(d.rows), cols: int(d.cols), element: &element };
        let expr = support.expr(&cx).expect("a bound has an expression");
        expr.eval(&DimValues::new(), &mut |leaf| {
            let Node::Load(load) = leaf else { panic!("{leaf:?}") };
            let v = ValueId(load.tensor.0);
            let RefValue::Tensor(t) = &self.values[v.index()] else { panic!("{v:?} is no tensor") };
            if let Some(after) = self.axes_after.get(&v) {
                let axis = at.len() - 1 - after;
                let b = at[axis] * t.len() / d.batch[axis];
                return t.get(b);
            }
            let index: Vec<usize> = load
                .index
                .iter()
                .map(|e| e.eval(&DimValues::new(), &mut |_| Scalar::Int(-1)).as_int() as usize)
                .collect();
            let lead = t.shape.len() - index.len();
            let index: Vec<usize> =
                index.iter().zip(&t.shape[lead..]).map(|(i, n)| if *n == 1 { 0 } else { *i }).collect();
            let x = read(t, &d.batch, at, &index);
            if matches!(t.data, Data::Bool(_)) { Scalar::Bool(x != 0.0) } else { Scalar::Int(x as i64) }
        })
        .as_bool()
    }

    /// `apply`, plain and by channels, against sums over the cells.
    fn check_apply(&mut self, Pair(v, d): &Pair) {
        let features = 4;
        let channelwise = matches!(d.batch.last(), Some(1 | 2 | 4)) && self.flip();
        let (xv, x) = if channelwise { self.exactly(&[d.cols, features]) } else { self.data(&[d.cols, features]) };
        let y = self.call("apply", &[*v, xv], Attrs::new().with_flag("channelwise", channelwise), None).unwrap();
        let RefValue::Tensor(y) = &self.values[y.index()] else { panic!("apply gave no tensor") };
        let out = &y.shape[..y.shape.len() - 2];
        for at in indices(out) {
            for i in 0..d.rows {
                for f in 0..features {
                    let (wide, index) = match channelwise {
                        true => ([out, &[features]].concat(), [at.as_slice(), &[f]].concat()),
                        false => (out.to_vec(), at.clone()),
                    };
                    let cell = |j| d.cell(&wide, &index, i, j);
                    let sum: f64 = (0..d.cols).filter_map(|j| Some(cell(j)? * read(&x, out, &at, &[j, f]))).sum();
                    let found = read(y, out, &at, &[i, f]);
                    let same = found == sum || (found - sum).abs() <= 1e-9 * (1.0 + sum.abs());
                    assert!(same || !sum.is_finite(), "apply: {found} is not {sum} in {self:?}");
                }
            }
        }
    }
}

impl std::fmt::Debug for Bench {
    /// The program as text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for node in &self.b.program.nodes {
            let name = node.op_name().unwrap_or("const");
            let ty = node.results.first().map(|r| self.b.ty(*r).to_string()).unwrap_or_default();
            write!(f, "\n  {:?} = {name} {:?}{} : {ty}", node.results, node.operands, node.attrs)?;
        }
        Ok(())
    }
}
