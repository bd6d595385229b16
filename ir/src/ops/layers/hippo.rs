//! State matrices that remember polynomials of the past.

use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::{Call, Group, Meaning, Op};
use crate::ops::required;
use crate::program::{Builder, Const, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::Type;

/// `hippo`.
pub static OP: Op = Op {
    name: "hippo",
    group: Group::Layer,
    doc: "A [n, n] and B [n]. legs: A[n,k] = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, else 0; \
          B[n] = sqrt(2n+1). legt: A[n,k] = -sqrt((2n+1)(2k+1))/2 times 1 for n >= k, (-1)^(n-k) else; \
          B[n] = sqrt(2n+1)/2. fout (n even): B[0] = 1, B[2k] = sqrt 2, B[odd] = 0; A = S - B B^T, \
          S[2k+1,2k] = pi k = -S[2k,2k+1]. f32 unless f64 is written.",
    example: "\
func @main(%x: f32[6]) -> (f32[6, 6], f32[6]) {
  %a, %b = hippo {kind = legs, n = 6}
  return %a, %b
}
",
    operands: &[],
    variadic: false,
    attrs: &[
        required(
            "kind",
            AttrKind::Name(&["legs", "legt", "fout"]),
            "the measure: scaled or translated Legendre, Fourier",
        ),
        required("n", AttrKind::Int, "states"),
    ],
    infer,
    structure: None,
    meaning: Meaning::Eval(eval),
    expand: Some(expand),
    laws: &[],
};

/// The most states: the matrix is written into the program.
const MOST: i64 = 4096;

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let n = call.attrs.int("n").unwrap_or(0);
    if !(1..=MOST).contains(&n) {
        return Err(vec![Fault::attr("n", format!("must be 1..{MOST}, found {n}"))]);
    }
    if call.attrs.name("kind") == Some("fout") && n % 2 != 0 {
        return Err(vec![Fault::attr("n", format!("must be even for the Fourier measure, found {n}"))]);
    }
    let dtype = match call.written_type().map(Type::dtype) {
        Some(dtype) if dtype.is_float() => dtype,
        _ => DType::F32,
    };
    let n = Dim::constant(n);
    Ok(vec![Type::tensor(dtype, vec![n.clone(), n.clone()]), Type::tensor(dtype, vec![n])])
}

/// A, row-major, and B.
fn matrices(kind: &str, size: usize) -> (Vec<f64>, Vec<f64>) {
    let root = |n: usize| (2.0 * n as f64 + 1.0).sqrt();
    let b: Vec<f64> = (0..size)
        .map(|n| match kind {
            "legs" => root(n),
            "legt" => root(n) / 2.0,
            _ if n == 0 => 1.0,
            _ if n % 2 == 0 => std::f64::consts::SQRT_2,
            _ => 0.0,
        })
        .collect();
    let entry = |n: usize, k: usize| match kind {
        "legs" if n > k => -root(n) * root(k),
        "legs" if n == k => -(n as f64 + 1.0),
        "legs" => 0.0,
        "legt" => {
            let sign = if n >= k || (k - n).is_multiple_of(2) { 1.0 } else { -1.0 };
            -root(n) * root(k) / 2.0 * sign
        }
        _ => {
            let turn = std::f64::consts::PI * (n / 2) as f64;
            let skew = match (n / 2 == k / 2, n % 2, k % 2) {
                (true, 1, 0) => turn,
                (true, 0, 1) => -turn,
                _ => 0.0,
            };
            skew - b[n] * b[k]
        }
    };
    let a = (0..size * size).map(|p| entry(p / size, p % size)).collect();
    (a, b)
}

fn expand(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let types = infer(call)?;
    let size = usize::try_from(call.attrs.int("n").unwrap_or(0)).unwrap_or(0);
    let (matrix, vector) = matrices(call.attrs.name("kind").unwrap_or("legs"), size);
    Ok([matrix, vector].into_iter().zip(types).map(|(data, ty)| b.constant(None, Const::Dense(data), ty)).collect())
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let shape = e.result_shape(0)?;
    let (a, b) = matrices(e.attrs.name("kind").unwrap_or("legs"), shape[0]);
    let rounded = |t: Tensor, k: usize| RefValue::from(t.rounded(e.result_dtype(k)));
    Ok(vec![rounded(Tensor::floats(&shape, a), 0), rounded(Tensor::floats(&shape[..1], b), 1)])
}
