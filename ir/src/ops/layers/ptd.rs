//! Perturb, then diagonalise: the diagonal state space that stands for a dense one whose own eigenvectors are too
//! ill-conditioned to use (Yu, Nigam, Lakshmanan, Mahoney and Erichson, arXiv 2310.01698). Work of the compiler: its
//! operands are constants, and so are its results.

use super::eigen::{self, Complex, Square};
use super::rules;
use super::steps::value;
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::DimValues;
use crate::op::{Call, Group, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::program::{Builder, Const, NodeKind, Program, ValueId};
use crate::reference::{Eval, RefValue, Weights, interpret};
use crate::tensor::Tensor;
use crate::ty::Type;
use std::collections::BTreeSet;

/// `ptd`.
pub static OP: Op = Op {
    name: "ptd",
    group: Group::Layer,
    doc: "Diagonalises A + E, E standard normal from `seed` and scaled to the Frobenius norm eps |A|: with A + E = V \
          diag(L) V^-1 the results are L, B' = V^-1 B and C' = C V, each as its real and its imaginary part, by \
          ascending imaginary part of L (equal ones by real part), columns of V of length 1. A [n, n], B [n] or [n, m], \
          C [n] or [m, n] -> L_re, L_im [n], B'_re, B'_im like B, C'_re, C'_im like C. The transfer function C (s - A)^-1 \
          B moves by at most O(eps). At compile time: A, B and C are constants or computed from constants.",
    example: "\
dim T = 1..64
func @main(%x: f32[T, 2], %dt: f32[2]) -> f32[T, 2] {
  %A, %B = hippo {kind = legs, n = 6}
  const %C = splat 1.0 : f32[6]
  %lr, %li, %br, %bi, %cr, %ci = ptd %A, %B, %C {eps = 0.05, seed = 1}
  %rr = mul %br, %cr
  %ii = mul %bi, %ci
  %ri = mul %br, %ci
  %ir = mul %bi, %cr
  %re = sub %rr, %ii
  %im = add %ri, %ir
  const %half = splat 0.5 : f32[2, 6]
  %wr = mul %re, %half
  %wi = mul %im, %half
  %Lr = broadcast %lr {shape = [2, 6]}
  %Li = broadcast %li {shape = [2, 6]}
  %k = s4d_kernel %dt, %Lr, %Li, %wr, %wi {len = T}
  %y = long_conv %x, %k
  return %y
}
",
    operands: &[operand("A", OperandKind::Data), operand("B", OperandKind::Data), operand("C", OperandKind::Data)],
    variadic: false,
    attrs: &[
        attr("eps", AttrKind::Float, "size of the perturbation as a part of the norm of A, default 0.01"),
        attr("seed", AttrKind::Int, "seed of the perturbation, default 0"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[],
};

/// The most states: the work grows with their cube.
const MOST: i64 = 512;

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let a = call.tensor(0)?;
    let [n, columns] = a.shape.as_slice() else {
        return Err(vec![Fault::operand(0, format!("expected [n, n], found {a}"))]);
    };
    let mut faults = Vec::new();
    rules::same(&mut faults, 0, "A is not square", columns, n);
    if !n.as_constant().is_some_and(|n| (1..=MOST).contains(&n)) {
        faults.push(Fault::operand(0, format!("expected 1 to {MOST} states, known here, found {n}")));
    }
    for (k, expected) in [(1, "[n] or [n, m]"), (2, "[n] or [m, n]")] {
        let t = call.tensor(k)?;
        let states = if k == 1 { t.shape.first() } else { t.shape.last() };
        match states {
            Some(states) if t.rank() <= 2 => rules::same(&mut faults, k, "states differ from those of A", states, n),
            _ => faults.push(Fault::operand(k, format!("expected {expected}, found {t}"))),
        }
    }
    if eps_of(call.attrs) < 0.0 {
        faults.push(Fault::attr("eps", format!("must not be negative, found {}", eps_of(call.attrs))));
    }
    rules::settle(faults)?;
    let like = |k: usize| call.tensor(k).map(|t| Type::tensor(a.dtype, t.shape.clone()));
    let values = Type::tensor(a.dtype, vec![n.clone()]);
    Ok(vec![values.clone(), values, like(1)?, like(1)?, like(2)?, like(2)?])
}

fn eps_of(attrs: &Attrs) -> f64 {
    attrs.float("eps").unwrap_or(0.01)
}

/// Standard normal numbers: SplitMix64 (Steele, Lea and Flood 2014), then Box and Muller's transform.
fn normals(seed: i64, count: usize) -> Vec<f64> {
    let mut state = seed as u64;
    let mut unit = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // In (0, 1]: its logarithm is finite.
        (((z ^ (z >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    };
    let pair = |u: f64, v: f64| {
        let (size, angle) = ((-2.0 * u.ln()).sqrt(), 2.0 * std::f64::consts::PI * v);
        [size * angle.cos(), size * angle.sin()]
    };
    let mut all: Vec<f64> = (0..count.div_ceil(2)).flat_map(|_| pair(unit(), unit())).collect();
    all.truncate(count);
    all
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// A + E.
pub fn perturbed(a: &[f64], eps: f64, seed: i64) -> Vec<f64> {
    let e = normals(seed, a.len());
    let size = if eps == 0.0 { 0.0 } else { eps * norm(a) / norm(&e) };
    a.iter().zip(&e).map(|(a, e)| a + size * e).collect()
}

/// The six results from A, B and C.
fn diagonal(of: &[Tensor], attrs: &Attrs) -> Result<Vec<Tensor>, String> {
    let [a, b, c] = of else { return Err("expected A, B and C".into()) };
    let numbers = |t: &Tensor| -> Vec<f64> { (0..t.len()).map(|k| t.at(k)).collect() };
    let n = a.shape[0];
    let elements = perturbed(&numbers(a), eps_of(attrs), attrs.int("seed").unwrap_or(0));
    if elements.iter().any(|x| !x.is_finite()) {
        return Err("A has elements that are not finite".into());
    }
    let unusable =
        || "A has no eigenvectors that could be used; a greater `eps` moves its eigenvalues apart".to_string();
    let (values, vectors) = eigen::eigen(n, &elements).ok_or_else(unusable)?;
    let columns = b.len() / n;
    let wide: Vec<Complex> = numbers(b).into_iter().map(Complex::real).collect();
    let into = eigen::solve(&vectors, &wide, columns).ok_or_else(unusable)?;
    let out = product(&numbers(c), &vectors, n);
    let parts = |of: &[Complex], shape: &[usize]| {
        [of.iter().map(|x| x.re).collect(), of.iter().map(|x| x.im).collect()].map(|x| Tensor::floats(shape, x))
    };
    let all = [parts(&values, &a.shape[..1]), parts(&into, &b.shape), parts(&out, &c.shape)];
    Ok(all.into_iter().flatten().collect())
}

/// C V for the rows of C.
fn product(c: &[f64], v: &Square, n: usize) -> Vec<Complex> {
    let row = |row: &[f64]| -> Vec<Complex> {
        (0..n).map(|j| row.iter().enumerate().fold(Complex::default(), |s, (i, x)| s + v.at(i, j).times(*x))).collect()
    };
    c.chunks(n).flat_map(row).collect()
}

/// The values of `wanted`, which only constants may go into.
fn known(b: &Builder, wanted: &[ValueId]) -> Result<Vec<Tensor>, Vec<Fault>> {
    let program = &b.program;
    let definitions = program.definitions();
    let (mut needed, mut open) = (BTreeSet::new(), wanted.to_vec());
    while let Some(v) = open.pop() {
        let unknown = |what: &str| {
            let operand = wanted.iter().position(|w| *w == v).unwrap_or(0);
            vec![
                Fault::operand(
                    operand,
                    format!("`{}` is {what}, not known when the model is compiled", program.name_of(v)),
                )
                .help("give constants, or results of operations on constants"),
            ]
        };
        let Some(at) = definitions[v.index()] else { return Err(unknown("a parameter")) };
        let node = &program.nodes[at];
        if matches!(node.kind, NodeKind::Const(Const::Weight(_))) {
            return Err(unknown("a stored weight"));
        }
        if node.results.iter().any(|r| program.ty(*r).dims().iter().any(|d| d.as_constant().is_none())) {
            return Err(unknown("of a length"));
        }
        if needed.insert(at) {
            open.extend(node.operands.iter().flatten());
        }
    }
    let part = Program {
        params: Vec::new(),
        nodes: needed.into_iter().map(|n| program.nodes[n].clone()).collect(),
        results: wanted.to_vec(),
        ..program.clone()
    };
    interpret(&part, &DimValues::new(), &[], &Weights::new()).map_err(|e| vec![Fault::call(e)])
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let operands = (0..3).map(|k| value(call, k)).collect::<Result<Vec<_>, _>>()?;
    let results = diagonal(&known(b, &operands)?, call.attrs).map_err(|e| vec![Fault::call(e)])?;
    let constant =
        |(t, ty): (Tensor, Type)| b.constant(None, Const::Dense((0..t.len()).map(|k| t.at(k)).collect()), ty);
    Ok(results.into_iter().zip(types).map(constant).collect())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let of = (0..3).map(|k| e.tensor(k).map(|t| (*t).clone())).collect::<Result<Vec<_>, _>>()?;
    let rounded = |(k, t): (usize, Tensor)| RefValue::from(t.rounded(e.result_dtype(k)));
    Ok(diagonal(&of, e.attrs)?.into_iter().enumerate().map(rounded).collect())
}
