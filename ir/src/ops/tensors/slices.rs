//! Parts of an axis and axes joined: `slice`, `concat`, `split`, `pad`, `reverse`.

use super::axes::{axis_at, axis_of, checked, demand_possible, flat, pick, slice as sliced, value};
use crate::attr::{AttrKind, AttrSpec, Attrs};
use crate::diag::Fault;
use crate::dim::{Dim, DimError};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand, required};
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::strides;
use crate::ty::{TensorType, Type};

const AXIS: AttrSpec = required("axis", AttrKind::Int, "the axis; negative ones count from the end");

/// `slice`.
pub static SLICE: Op = Op {
    name: "slice",
    group: Group::Tensor,
    doc: "Elements start, start+step, ... below end of one axis. Where start or end is a negative number it counts \
          from the end of the axis. 0 <= start <= end <= size must hold: unlike in Python nothing is clamped, and \
          what only the call can tell is checked there.",
    example: "\
dim T = 3..8
func @main(%x: f32[T, 4]) -> f32[T-2, 2] {
  %a = slice %x {axis = 0, start = 1, end = -1}
  %y = slice %a {axis = 1, step = 2}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[
        AXIS,
        attr("start", AttrKind::Dim, "the first element, default 0"),
        attr("end", AttrKind::Dim, "one past the last element, default the axis's length"),
        attr("step", AttrKind::Int, "the distance of elements, at least 1, default 1"),
    ],
    infer: infer_slice,
    structure: None,
    meaning: Meaning::Eval(eval_slice),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

/// What `slice` takes of an axis of length `size`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first element.
    pub start: Dim,
    /// One past the last.
    pub end: Dim,
    /// The distance of elements, at least 1.
    pub step: i64,
}

impl Range {
    /// By the attributes of a `slice`, negative numbers counted from the end.
    pub fn of(size: &Dim, attrs: &Attrs) -> Result<Range, DimError> {
        let from_end = |d: &Dim| if d.as_constant().is_some_and(|n| n < 0) { size.add(d) } else { Ok(d.clone()) };
        Ok(Range {
            start: attrs.dim("start").map_or(Ok(Dim::constant(0)), from_end)?,
            end: attrs.dim("end").map_or(Ok(size.clone()), from_end)?,
            step: attrs.int("step").unwrap_or(1).max(1),
        })
    }

    /// The number of elements.
    pub fn len(&self) -> Result<Dim, DimError> {
        self.end.sub(&self.start)?.ceil_div(self.step)
    }

    /// What must not be negative, with what is wrong otherwise.
    fn requirements(&self, size: &Dim) -> Result<[(Dim, &'static str, &'static str); 3], DimError> {
        Ok([
            (self.start.clone(), "start", "the start is before the axis"),
            (size.sub(&self.end)?, "end", "the end is past the axis"),
            (self.end.sub(&self.start)?, "end", "the end is before the start"),
        ])
    }
}

/// Dims that a call of `slice` needs not to be negative: start, size - end, end - start.
pub fn slice_requirements(x: &TensorType, attrs: &Attrs) -> Result<Vec<Dim>, DimError> {
    let Some(axis) = attrs.int("axis").and_then(|a| x.axis(a)) else { return Ok(Vec::new()) };
    let size = &x.shape[axis];
    Ok(Range::of(size, attrs)?.requirements(size)?.into_iter().map(|(d, ..)| d).collect())
}

fn infer_slice(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, 0)?;
    let x = call.tensor(0)?;
    if let Some(step) = call.attrs.int("step").filter(|&s| s < 1) {
        return Err(vec![
            Fault::attr("step", format!("expected at least 1, found {step}")).help("`reverse` turns an axis round"),
        ]);
    }
    let size = &x.shape[axis];
    let fault = |e: DimError| vec![e.into()];
    let range = Range::of(size, call.attrs).map_err(fault)?;
    for (d, attr, message) in range.requirements(size).map_err(fault)? {
        demand_possible(call, attr, &[(d, message)]).map_err(|faults| {
            faults.into_iter().map(|f| f.help(format!("the axis has length {size}"))).collect::<Vec<_>>()
        })?;
    }
    let mut shape = x.shape.clone();
    shape[axis] = range.len().map_err(fault)?;
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval_slice(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    let axis = axis_at(e.attrs, x.shape.len(), 0)?;
    let range = Range::of(&Dim::from(x.shape[axis]), e.attrs).map_err(|err| err.to_string())?;
    let (start, end) = (e.dim(&range.start)?, e.dim(&range.end)?);
    if start > end || end > x.shape[axis] {
        return Err(format!("slice {start}..{end} of an axis of {}", x.shape[axis]));
    }
    let own = strides(&x.shape);
    let mut steps = own.clone();
    // A step beyond the axis is only ever multiplied by 0.
    steps[axis] = steps[axis].wrapping_mul(range.step as usize);
    Ok(vec![pick(&x, &shape, 0.0, |at| Some(start * own[axis] + flat(at, &steps))).into()])
}

/// `concat`.
pub static CONCAT: Op = Op {
    name: "concat",
    group: Group::Tensor,
    doc: "Tensors of one type joined along an axis, whose lengths add; all other dims are equal.",
    example: "\
dim T = 1..8
dim P = 0..8
func @main(%past: f32[P, 4], %x: f32[T, 4]) -> f32[P+T, 4] {
  %y = concat %past, %x {axis = 0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: true,
    attrs: &[AXIS],
    infer: infer_concat,
    structure: None,
    meaning: Meaning::Eval(eval_concat),
    expand: None,
    laws: &[],
};

fn infer_concat(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, 0)?;
    let first = call.tensor(0)?;
    let mut shape = first.shape.clone();
    for k in 1..call.types.len() {
        let t = call.tensor(k)?;
        if t.dtype != first.dtype {
            return Err(vec![
                Fault::operand(k, format!("element types differ: {} and {}", first.dtype, t.dtype))
                    .help(format!("convert one with `cast %x {{to = {}}}`", first.dtype)),
            ]);
        }
        let alike = t.rank() == first.rank() && (0..t.rank()).all(|a| a == axis || t.shape[a] == first.shape[a]);
        if !alike {
            return Err(vec![
                Fault::operand(k, format!("{t} does not join {first} along axis {axis}"))
                    .help("all axes but the joined one must be equal"),
            ]);
        }
        shape[axis] = checked(shape[axis].add(&t.shape[axis]))?;
    }
    Ok(vec![Type::tensor(first.dtype, shape)])
}

fn eval_concat(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let parts = (0..e.operands.len()).map(|k| e.tensor(k)).collect::<Result<Vec<_>, _>>()?;
    let shape = e.result_shape(0)?;
    let axis = axis_at(e.attrs, shape.len(), 0)?;
    let mut places = Vec::new();
    for (k, t) in parts.iter().enumerate() {
        places.extend((0..t.shape[axis]).map(|j| (k, j)));
    }
    let kind = parts.first().ok_or("nothing to join")?.kind();
    let out = strides(&shape);
    let own: Vec<Vec<usize>> = parts.iter().map(|t| strides(&t.shape)).collect();
    Ok(vec![
        crate::tensor::Tensor::from_fn(kind, &shape, |n| {
            let mut at: Vec<usize> = out.iter().zip(&shape).map(|(s, len)| n / s % len).collect();
            let (k, j) = places[at[axis]];
            at[axis] = j;
            parts[k].get(flat(&at, &own[k]))
        })
        .into(),
    ])
}

/// `split`.
pub static SPLIT: Op = Op {
    name: "split",
    group: Group::Tensor,
    doc: "An axis cut into consecutive parts of the lengths `sizes`, which add up to it; one result a part.",
    example: "\
func @main(%x: f32[2, 5]) -> (f32[2, 3], f32[2, 2]) {
  %a, %b = split %x {axis = -1, sizes = [3, 2]}
  return %a, %b
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[AXIS, required("sizes", AttrKind::Dims, "the lengths of the parts")],
    infer: infer_split,
    structure: None,
    meaning: Meaning::Eval(eval_split),
    expand: Some(expand_split),
    laws: &[],
};

/// The start and end of every part.
fn parts(attrs: &Attrs) -> Result<Vec<(Dim, Dim)>, DimError> {
    let mut start = Dim::constant(0);
    let mut parts = Vec::new();
    for size in attrs.dims("sizes").unwrap_or_default() {
        let end = start.add(&size)?;
        parts.push((start, end.clone()));
        start = end;
    }
    Ok(parts)
}

fn infer_split(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, 0)?;
    let x = call.tensor(0)?;
    let sizes = call.attrs.dims("sizes").unwrap_or_default();
    if sizes.is_empty() {
        return Err(vec![Fault::attr("sizes", "expected at least one part")]);
    }
    if let Some(d) = sizes.iter().find(|d| d.as_constant().is_some_and(|n| n < 0)) {
        return Err(vec![Fault::attr("sizes", format!("a part of length {d}"))]);
    }
    let sum = parts(call.attrs).map_err(|e| vec![e.into()])?.pop().map_or(Dim::constant(0), |(_, end)| end);
    if sum != x.shape[axis] {
        return Err(vec![Fault::attr("sizes", format!("the parts add up to {sum}, the axis is {}", x.shape[axis]))]);
    }
    let part = |size: Dim| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        Type::tensor(x.dtype, shape)
    };
    Ok(sizes.into_iter().map(part).collect())
}

fn eval_split(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), 0)?;
    let own = strides(&x.shape);
    let mut results = Vec::new();
    let mut start = 0;
    for k in 0..e.results.len() {
        let shape = e.result_shape(k)?;
        results.push(pick(&x, &shape, 0.0, |at| Some(start * own[axis] + flat(at, &own))).into());
        start += shape[axis];
    }
    Ok(results)
}

fn expand_split(b: &mut Builder, call: &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>> {
    let x = value(call, 0)?;
    let axis = axis_of(call, 0, 0)? as i64;
    let parts = parts(call.attrs).map_err(|e| vec![e.into()])?;
    parts.into_iter().map(|(start, end)| sliced(b, x, axis, start, end)).collect()
}

/// `pad`.
pub static PAD: Op = Op {
    name: "pad",
    group: Group::Tensor,
    doc: "`before` and `after` elements of `value` put around an axis.",
    example: "\
dim T = 1..8
func @main(%x: f32[T, 4]) -> f32[T+3, 4] {
  %y = pad %x {axis = 0, before = 2, after = 1, value = -1.0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[
        AXIS,
        attr("before", AttrKind::Dim, "elements put before the first, default 0"),
        attr("after", AttrKind::Dim, "elements put after the last, default 0"),
        attr("value", AttrKind::Float, "what they are, default 0"),
    ],
    infer: infer_pad,
    structure: None,
    meaning: Meaning::Eval(eval_pad),
    expand: None,
    laws: &[],
};

/// `before` and `after`.
pub fn pad_widths(attrs: &Attrs) -> [Dim; 2] {
    ["before", "after"].map(|name| attrs.dim(name).cloned().unwrap_or_default())
}

fn infer_pad(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let axis = axis_of(call, 0, 0)?;
    let x = call.tensor(0)?;
    let [before, after] = pad_widths(call.attrs);
    let message = "a number of elements is negative: `slice` takes elements away";
    demand_possible(call, "before", &[(before.clone(), message)])?;
    demand_possible(call, "after", &[(after.clone(), message)])?;
    let mut shape = x.shape.clone();
    shape[axis] = checked(before.add(&shape[axis]).and_then(|d| d.add(&after)))?;
    Ok(vec![Type::tensor(x.dtype, shape)])
}

fn eval_pad(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (x, shape) = (e.tensor(0)?, e.result_shape(0)?);
    let axis = axis_at(e.attrs, x.shape.len(), 0)?;
    let [before, after] = pad_widths(e.attrs);
    let (before, _) = (e.dim(&before)?, e.dim(&after)?);
    let (own, len) = (strides(&x.shape), x.shape[axis]);
    let value = e.attrs.float("value").unwrap_or(0.0);
    let padded = pick(&x, &shape, value, |at| {
        let j = at[axis].checked_sub(before).filter(|&j| j < len)?;
        let mut at = at.to_vec();
        at[axis] = j;
        Some(flat(&at, &own))
    });
    Ok(vec![padded.into()])
}

/// `reverse`.
pub static REVERSE: Op = Op {
    name: "reverse",
    group: Group::Tensor,
    doc: "An axis turned round: y[j] = x[n-1-j]. Around a layer it makes the layer run from the end.",
    example: "\
func @main(%x: f32[5, 3]) -> f32[5, 3] {
  %y = reverse %x {axis = 0}
  return %y
}
",
    operands: &[operand("x", OperandKind::Tensor)],
    variadic: false,
    attrs: &[AXIS],
    infer: infer_reverse,
    structure: None,
    meaning: Meaning::Eval(eval_reverse),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

fn infer_reverse(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    axis_of(call, 0, 0)?;
    Ok(vec![Type::Tensor(call.tensor(0)?.clone())])
}

fn eval_reverse(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let x = e.tensor(0)?;
    let axis = axis_at(e.attrs, x.shape.len(), 0)?;
    let (own, len) = (strides(&x.shape), x.shape[axis]);
    let turned = pick(&x, &x.shape, 0.0, |at| {
        let mut at = at.to_vec();
        at[axis] = len - 1 - at[axis];
        Some(flat(&at, &own))
    });
    Ok(vec![turned.into()])
}
