//! Elements by number and numbers of elements: `gather`, `take`, `one_hot`, `iota`, `top_k_axis`, `argmax`.

use super::axes::{Lanes, axis_at, axis_of, cast, checked, demand_possible, map_lanes, reshape, value};
use crate::attr::{AttrKind, AttrSpec, Attrs};
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Kind, Scalar};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue, kind_of};
use crate::tensor::{Tensor, strides};
use crate::ty::Type;
use std::cmp::Ordering;

const AXIS: AttrSpec = required("axis", AttrKind::Int, "the axis; negative ones count from the end");

/// `gather`.
pub static GATHER: Op = Op {
    name: "gather",
    group: Group::Tensor,
    doc: "Rows of a table: table [V, D], ids [..] of integers -> [.., D]. An id below 0 or from V on is an error of \
          the call, never a read.",
    example: "\
func @main(%table: f32[7, 4], %ids: i64[2, 3]) -> f32[2, 3, 4] {
  %y = gather %table, %ids
  return %y
}
",
    operands: &[operand("table", OperandKind::Tensor), operand("ids", OperandKind::Int)],
    variadic: false,
    attrs: &[],
    infer: infer_gather,
    structure: None,
    meaning: Meaning::Eval(eval_gather),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer_gather(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (table, ids) = (call.tensor(0)?, call.tensor(1)?);
    let [_, features] = table.shape.as_slice() else {
        return Err(vec![
            Fault::operand(0, format!("`table` must be [rows, features], found {table}"))
                .help("`take` picks along any axis of any tensor"),
        ]);
    };
    let mut shape = ids.shape.clone();
    shape.push(features.clone());
    Ok(vec![Type::tensor(table.dtype, shape)])
}

/// The element numbers `ids`, each from 0 to below `len`; those below 0 count from the end where `wrap` says so.
fn numbers(ids: &Tensor, len: usize, wrap: bool) -> Result<Vec<usize>, String> {
    let number = |k: usize| {
        let id = ids.get(k).as_int();
        let own = if wrap && id < 0 { id.saturating_add(len as i64) } else { id };
        usize::try_from(own)
            .ok()
            .filter(|&n| n < len)
            .ok_or_else(|| format!("id {id} is out of range: there are {len}"))
    };
    (0..ids.len()).map(number).collect()
}

/// `x` with the elements `numbers` along `axis`.
fn picked(x: &Tensor, axis: usize, numbers: &[usize], shape: &[usize]) -> Tensor {
    let from = Lanes::of(&x.shape, axis);
    let mut places = Vec::new();
    for o in 0..from.outer {
        for &j in numbers {
            places.extend((0..from.inner).map(|i| from.at(o, j, i)));
        }
    }
    Tensor::from_fn(x.kind(), shape, |k| x.get(places[k]))
}

fn eval_gather(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (table, ids) = (e.tensor(0)?, e.tensor(1)?);
    let numbers = numbers(&ids, table.shape[0], false)?;
    Ok(vec![picked(&table, 0, &numbers, &e.result_shape(0)?).into()])
}

/// `take`.
pub static TAKE: Op = Op {
    name: "take",
    group: Group::Tensor,
    doc: "Elements of x along an axis, as NumPy: the axis is replaced by the axes of ids. An id below 0 counts from \
          the end; one out of range is an error of the call, never a read.",
    example: "\
func @main(%x: f32[2, 7, 4], %ids: i64[3]) -> f32[2, 3, 4] {
  %y = take %x, %ids {axis = 1}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor), operand("ids", OperandKind::Int)],
    variadic: false,
    attrs: &[AXIS],
    infer: infer_take,
    structure: None,
    meaning: Meaning::Eval(eval_take),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer_take(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let (x, ids) = (call.tensor(0)?, call.tensor(1)?);
    let shape = [&x.shape[..axis], &ids.shape, &x.shape[axis + 1..]].concat();
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval_take(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, ids) = (e.tensor(0)?, e.tensor(1)?);
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let numbers = numbers(&ids, x.shape[axis], true)?;
    Ok(vec![picked(&x, axis, &numbers, &e.result_shape(0)?).into()])
}

/// `one_hot`.
pub static ONE_HOT: Op = Op {
    name: "one_hot",
    group: Group::Tensor,
    doc: "1 at the id and 0 elsewhere along a new last axis: ids [..] -> [.., depth], of f32 unless the written type \
          says otherwise. An id out of range gives zeros.",
    example: "\
func @main(%ids: i64[3]) -> f32[3, 5] {
  %y = one_hot %ids {depth = 5}
  return %y
}
",
    operands: &[operand("ids", OperandKind::Int)],
    variadic: false,
    attrs: &[required("depth", AttrKind::Dim, "the length of the new axis")],
    infer: infer_one_hot,
    structure: None,
    meaning: Meaning::Eval(eval_one_hot),
    expand: Some(expand_one_hot),
    laws: &[],
};

/// The written element type, else `default`.
fn written_dtype(call: &Call<'_>, default: DType) -> DType {
    call.written_type().map_or(default, Type::dtype)
}

fn infer_one_hot(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let mut shape = call.tensor(0)?.shape.clone();
    let depth = call.attrs.dim("depth").cloned().unwrap_or_default();
    demand_possible(call, "depth", &[(depth.clone(), "the depth is negative")])?;
    shape.push(depth);
    Ok(vec![Type::tensor(written_dtype(call, DType::F32), shape)])
}

fn eval_one_hot(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let ids = e.tensor(0)?;
    let shape = e.result_shape(0)?;
    let depth = shape[shape.len() - 1];
    let kind = kind_of(e.result_dtype(0));
    let y = Tensor::from_fn(kind, &shape, |k| Scalar::Bool(ids.get(k / depth).as_int() == (k % depth) as i64));
    Ok(vec![y.into()])
}

fn expand_one_hot(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let ids = call.tensor(0)?;
    let result = infer_one_hot(call)?.remove(0);
    let depth = call.attrs.dim("depth").cloned().unwrap_or_default();
    let numbers = b.op_typed("iota", &[], Attrs::new(), Some(Type::tensor(ids.dtype, vec![depth])))?;
    let mut column = ids.shape.clone();
    column.push(Dim::constant(1));
    let column = reshape(b, value(call, 0)?, column)?;
    let equal = b.op("eq", &[column, numbers], Attrs::new())?;
    Ok(vec![cast(b, equal, result.dtype())?])
}

/// `iota`.
pub static IOTA: Op = Op {
    name: "iota",
    group: Group::Tensor,
    doc: "0, 1, 2, ... along an axis of the written type, the same along its others; of i64 or another type of \
          numbers, as written.",
    example: "\
dim T = 1..8
func @main(%x: i64[T]) -> i64[T, 3] {
  %y = iota {axis = 0} : i64[T, 3]
  return %y
}
",
    operands: &[],
    variadic: false,
    attrs: &[attr("axis", AttrKind::Int, "the axis that is counted along, needed when there are several")],
    infer: infer_iota,
    structure: None,
    meaning: Meaning::Eval(eval_iota),
    expand: None,
    laws: &[],
};

fn infer_iota(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let Some(Type::Tensor(t)) = call.written_type() else {
        return Err(vec![
            Fault::result("`iota` has no operands to tell its type from")
                .help("write it: `%i = iota {axis = 0} : i64[T, 3]`"),
        ]);
    };
    if t.dtype == DType::Bool {
        return Err(vec![Fault::result("`iota` gives numbers, not booleans")]);
    }
    let axis = match (call.attrs.int("axis"), t.rank()) {
        (Some(axis), _) => axis,
        (None, 1) => 0,
        (None, n) => {
            return Err(vec![
                Fault::call(format!("which of {n} axes to count along is not said")).help("write `{axis = 0}`"),
            ]);
        }
    };
    if t.axis(axis).is_none() {
        return Err(vec![Fault::attr("axis", format!("{t} has no axis {axis}"))]);
    }
    Ok(vec![Type::Tensor(t.clone())])
}

fn eval_iota(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let shape = e.result_shape(0)?;
    let axis = axis_at(e.attrs, shape.len(), 0)?;
    let (step, len) = (strides(&shape)[axis], shape[axis]);
    let dtype = e.result_dtype(0);
    let y = Tensor::from_fn(kind_of(dtype), &shape, |k| Scalar::Int((k / step % len) as i64));
    Ok(vec![y.into()])
}

/// `top_k_axis`.
pub static TOP_K_AXIS: Op = Op {
    name: "top_k_axis",
    group: Group::Tensor,
    doc: "The k greatest along an axis, greatest first, and where they were (i64): x [.., n, ..] -> [.., k, ..] \
          twice. Of equal ones the lower index comes first; NaN counts as less than every number; k <= n.",
    example: "\
func @main(%x: f32[2, 5]) -> (f32[2, 3], i64[2, 3]) {
  %v, %i = top_k_axis %x {axis = -1, k = 3}
  return %v, %i
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[
        attr("axis", AttrKind::Int, "the axis, default the last"),
        required("k", AttrKind::Dim, "how many are kept"),
    ],
    infer: infer_top_k,
    structure: None,
    meaning: Meaning::Eval(eval_top_k),
    expand: None,
    laws: &[],
};

fn infer_top_k(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let x = call.tensor(0)?;
    let k = call.attrs.dim("k").cloned().unwrap_or_default();
    let left = checked(x.shape[axis].sub(&k))?;
    demand_possible(call, "k", &[(k.clone(), "k is negative"), (left, "k is greater than the axis is long")])?;
    let mut shape = x.shape.clone();
    shape[axis] = k;
    Ok(vec![Type::tensor(x.dtype, shape.clone()), Type::tensor(DType::I64, shape)])
}

/// Greatest first, NaN last.
fn descending(a: Scalar, b: Scalar) -> Ordering {
    match (a, b) {
        (Scalar::Int(a), Scalar::Int(b)) => b.cmp(&a),
        _ => {
            let (a, b) = (a.as_float(), b.as_float());
            b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

fn ranking(lane: &[Scalar]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lane.len()).collect();
    order.sort_by(|&i, &j| descending(lane[i], lane[j]).then(i.cmp(&j)));
    order
}

fn eval_top_k(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    let k = e.result_shape(0)?[axis];
    if k > x.shape[axis] {
        return Err(format!("the {k} greatest of {}", x.shape[axis]));
    }
    let values = map_lanes(&x, axis, x.kind(), k, |lane| ranking(lane).into_iter().map(|j| lane[j]).collect());
    let places =
        map_lanes(&x, axis, Kind::Int, k, |lane| ranking(lane).into_iter().map(|j| Scalar::Int(j as i64)).collect());
    Ok(vec![values.into(), places.into()])
}

/// `argmax`.
pub static ARGMAX: Op = Op {
    name: "argmax",
    group: Group::Tensor,
    doc: "Where along an axis the greatest element is (i64), the first of equal ones; the axis is removed. NaN counts \
          as less than every number; the axis must not be empty.",
    example: "\
func @main(%x: f32[2, 5]) -> i64[2] {
  %y = argmax %x {axis = -1}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[AXIS],
    infer: infer_argmax,
    structure: None,
    meaning: Meaning::Eval(eval_argmax),
    expand: Some(expand_argmax),
    laws: &[],
};

fn infer_argmax(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let mut shape = call.tensor(0)?.shape.clone();
    let rest = checked(shape.remove(axis).sub(&Dim::constant(1)))?;
    demand_possible(call, "axis", &[(rest, "the axis is empty")])?;
    Ok(vec![Type::tensor(DType::I64, shape)])
}

fn eval_argmax(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), -1)?;
    if x.shape[axis] == 0 {
        return Err("the greatest of nothing".into());
    }
    let places = map_lanes(&x, axis, Kind::Int, 1, |lane| {
        ranking(lane).first().map(|&j| Scalar::Int(j as i64)).into_iter().collect()
    });
    Ok(vec![Tensor { shape: e.result_shape(0)?, data: places.data }.into()])
}

fn expand_argmax(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let axis = axis_of(call, 0, -1)?;
    let result = infer_argmax(call)?.remove(0);
    let attrs = Attrs::new().with_int("axis", axis as i64).with_int("k", 1);
    let best = b.call(&TOP_K_AXIS, &[Some(value(call, 0)?)], attrs, &[], &[])?;
    Ok(vec![reshape(b, best[1], result.dims())?])
}
