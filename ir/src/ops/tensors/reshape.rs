//! The same elements under other dims: `reshape`, `broadcast`, `split_heads`, `merge_heads`.

use super::axes::{checked, flat, pick, product, reshape as reshaped, value};
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::{Atom, Dim, DimError};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::{Tensor, strides};
use crate::ty::Type;

/// `reshape`.
pub static RESHAPE: Op = Op {
    name: "reshape",
    group: Group::Tensor,
    doc: "The elements of x in row-major order under the dims `shape`. One entry may be -1: the length that makes the \
          numbers of elements equal, where it can be worked out from the dims.",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 12]) -> f32[T, 3, 4] {
  %y = reshape %x {shape = [T, 3, -1]}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[required("shape", AttrKind::Dims, "the dims of the result; one may be -1")],
    infer: infer_reshape,
    structure: None,
    meaning: Meaning::Eval(eval_reshape),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer_reshape(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let x = call.tensor(0)?;
    let mut shape = call.attrs.dims("shape").unwrap_or_default();
    let is_open = |d: &Dim| d.is(-1);
    if let Some(d) = shape.iter().find(|d| !is_open(d) && d.as_constant().is_some_and(|n| n < 0)) {
        return Err(vec![
            Fault::attr("shape", format!("a length of {d}")).help("one entry may be -1, the rest not less than 0"),
        ]);
    }
    let open: Vec<usize> = (0..shape.len()).filter(|&k| is_open(&shape[k])).collect();
    match open.as_slice() {
        [] => {
            let (had, wanted) = (checked(product(&x.shape))?, checked(product(&shape))?);
            if had != wanted {
                return Err(vec![Fault::attr("shape", format!("x has {had} elements, the shape {wanted}"))]);
            }
        }
        [k] => {
            shape[*k] = missing_length(&x.shape, &shape, *k)
                .map_err(|message| vec![Fault::attr("shape", message).help("write the length in place of -1")])?;
        }
        _ => return Err(vec![Fault::attr("shape", "more than one entry is -1")]),
    }
    Ok(vec![Type::tensor(x.dtype, shape)])
}

/// The length of entry `open` of `shape` that makes it hold the elements of `had`.
fn missing_length(had: &[Dim], shape: &[Dim], open: usize) -> Result<Dim, String> {
    // Equal dims cancel as they stand, so that a sum among them (`P+T`) needs no division of polynomials.
    let mut had = had.to_vec();
    let mut rest = Vec::new();
    for (_, d) in shape.iter().enumerate().filter(|(k, _)| *k != open) {
        match had.iter().position(|h| h == d) {
            Some(k) if !d.is(0) => drop(had.remove(k)),
            _ => rest.push(d.clone()),
        }
    }
    let (total, known) = (product(&had).map_err(|e| e.to_string())?, product(&rest).map_err(|e| e.to_string())?);
    quotient(&total, &known).map_err(|e| match e {
        Some(e) => e.to_string(),
        None => format!("{total} elements in rows of {known}: how many cannot be told from the dims"),
    })
}

/// `total / divisor` where the divisor is a single product; `Err(None)` where it does not go into every term.
fn quotient(total: &Dim, divisor: &Dim) -> Result<Dim, Option<DimError>> {
    let mut terms = divisor.terms();
    let (Some((atoms, coefficient)), None) = (terms.next(), terms.next()) else { return Err(None) };
    let mut sum = Dim::default();
    for (product, c) in total.terms() {
        let mut left = product.to_vec();
        for atom in atoms {
            let k = left.iter().position(|a| a == atom).ok_or(None)?;
            left.remove(k);
        }
        let mut term = Dim::constant(c);
        for atom in &left {
            term = term.mul(&dim_of(atom)?)?;
        }
        sum = sum.add(&term)?;
    }
    Ok(sum.div(coefficient)?)
}

fn dim_of(atom: &Atom) -> Result<Dim, DimError> {
    match atom {
        Atom::Symbol(s) => Ok(Dim::symbol(s)),
        Atom::Exact(d, n) => d.div(*n),
        Atom::Ceil(d, n) => d.ceil_div(*n),
    }
}

fn eval_reshape(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    if shape.iter().product::<usize>() != x.len() {
        return Err(format!("{} elements do not fit {shape:?}", x.len()));
    }
    Ok(vec![Tensor { shape, data: x.data.clone() }.into()])
}

/// `broadcast`.
pub static BROADCAST: Op = Op {
    name: "broadcast",
    group: Group::Tensor,
    doc: "x repeated to the dims `shape` as NumPy does: axes are matched from the last, an axis of length 1 and a \
          missing leading axis are repeated.",
    example: "\
func @main(%x: f32[3, 1]) -> f32[2, 3, 4] {
  %y = broadcast %x {shape = [2, 3, 4]}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[required("shape", AttrKind::Dims, "the dims of the result")],
    infer: infer_broadcast,
    structure: None,
    meaning: Meaning::Eval(eval_broadcast),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer_broadcast(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let x = call.tensor(0)?;
    let shape = call.attrs.dims("shape").unwrap_or_default();
    if let Some(d) = shape.iter().find(|d| d.as_constant().is_some_and(|n| n < 0)) {
        return Err(vec![Fault::attr("shape", format!("a length of {d}"))]);
    }
    if shape.len() < x.rank() {
        return Err(vec![Fault::attr("shape", format!("{} axes are fewer than those of {x}", shape.len()))]);
    }
    let lead = shape.len() - x.rank();
    for (d, wanted) in x.shape.iter().zip(&shape[lead..]) {
        if d != wanted && !d.is(1) {
            return Err(vec![Fault::attr("shape", format!("an axis of length {d} cannot be repeated to {wanted}"))]);
        }
    }
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval_broadcast(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    let own = strides(&x.shape);
    let lead = shape.len() - x.shape.len();
    let steps: Vec<usize> =
        (0..shape.len()).map(|k| if k < lead || x.shape[k - lead] == 1 { 0 } else { own[k - lead] }).collect();
    Ok(vec![pick(&x, &shape, 0.0, |at| Some(flat(at, &steps))).into()])
}

/// `split_heads`.
pub static SPLIT_HEADS: Op = Op {
    name: "split_heads",
    group: Group::Tensor,
    doc: "Features cut into heads, heads before tokens: x [.., T, H*d] -> [.., H, T, d].",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 12]) -> f32[3, T, 4] {
  %y = split_heads %x {heads = 3}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[required("heads", AttrKind::Int, "H, a divisor of the features")],
    infer: infer_split_heads,
    structure: None,
    meaning: Meaning::Eval(eval_split_heads),
    expand: Some(expand_split_heads),
    laws: &[Law::LinearIn(0)],
};

/// The dims of x with its features cut: [.., T, H, d].
fn cut_dims(call: &Call<'_>) -> Result<Vec<Dim>, Vec<Fault>> {
    let x = call.tensor(0)?;
    let heads = call.attrs.int("heads").unwrap_or(1);
    if x.rank() < 2 {
        return Err(vec![Fault::operand(0, format!("expected [.., tokens, features], found {x}"))]);
    }
    if heads < 1 {
        return Err(vec![Fault::attr("heads", format!("expected at least 1, found {heads}"))]);
    }
    let (lead, features) = (&x.shape[..x.rank() - 1], &x.shape[x.rank() - 1]);
    let d = features
        .div(heads)
        .map_err(|_| vec![Fault::attr("heads", format!("{features} features do not divide into {heads} heads"))])?;
    let mut dims = lead.to_vec();
    dims.extend([Dim::constant(heads), d]);
    Ok(dims)
}

fn infer_split_heads(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let mut dims = cut_dims(call)?;
    let n = dims.len();
    dims.swap(n - 3, n - 2);
    Ok(vec![Type::tensor(call.tensor(0)?.dtype, dims)])
}

fn eval_split_heads(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    let n = shape.len();
    let (heads, tokens, d) = (shape[n - 3], shape[n - 2], shape[n - 1]);
    let mut cut = x.shape[..x.shape.len() - 1].to_vec();
    cut.extend([heads, d]);
    let mut steps = strides(&cut);
    steps.swap(n - 3, n - 2);
    debug_assert_eq!(cut[n - 3], tokens);
    Ok(vec![pick(&x, &shape, 0.0, |at| Some(flat(at, &steps))).into()])
}

/// The permutation that exchanges the two axes before the last.
fn exchange_heads(rank: usize) -> Attrs {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 3, rank - 2);
    Attrs::new().with_dims("perm", perm.into_iter().map(Dim::from))
}

fn expand_split_heads(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let dims = cut_dims(call)?;
    let attrs = exchange_heads(dims.len());
    let cut = reshaped(b, value(call, 0)?, dims)?;
    Ok(vec![b.op("transpose", &[cut], attrs)?])
}

/// `merge_heads`.
pub static MERGE_HEADS: Op = Op {
    name: "merge_heads",
    group: Group::Tensor,
    doc: "The inverse of split_heads: x [.., H, T, d] -> [.., T, H*d].",
    example: "\
dim T = 1..8
func @main(%x: f32[3, T, 4]) -> f32[T, 12] {
  %y = merge_heads %x
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[],
    infer: infer_merge_heads,
    structure: None,
    meaning: Meaning::Eval(eval_merge_heads),
    expand: Some(expand_merge_heads),
    laws: &[Law::LinearIn(0)],
};

fn infer_merge_heads(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let x = call.tensor(0)?;
    if x.rank() < 3 {
        return Err(vec![Fault::operand(0, format!("expected [.., heads, tokens, features], found {x}"))]);
    }
    let (lead, tail) = x.shape.split_at(x.rank() - 3);
    let mut dims = lead.to_vec();
    dims.extend([tail[1].clone(), checked(tail[0].mul(&tail[2]))?]);
    Ok(vec![Type::tensor(x.dtype, dims)])
}

fn eval_merge_heads(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    let n = x.shape.len();
    let mut swapped = x.shape.clone();
    swapped.swap(n - 3, n - 2);
    let mut steps = strides(&x.shape);
    steps.swap(n - 3, n - 2);
    let data = pick(&x, &swapped, 0.0, |at| Some(flat(at, &steps))).data;
    Ok(vec![Tensor { shape, data }.into()])
}

fn expand_merge_heads(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let result = infer_merge_heads(call)?.remove(0);
    let swapped = b.op("transpose", &[value(call, 0)?], exchange_heads(call.tensor(0)?.rank()))?;
    Ok(vec![reshaped(b, swapped, result.dims())?])
}
