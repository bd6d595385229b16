//! The meaning of the tile operations over present elements, each by its definition.

use super::{TileFault, Value};
use crate::expr::{Binary, Kind, Scalar, eval_binary};
use crate::tile::{Axis, Combine, TileType};

fn shapes(what: &str, a: &Value, b: &Value) -> TileFault {
    TileFault::Shapes(format!("{what}: {:?} and {:?}", a.counts(), b.counts()))
}

/// A real element that is known to be inside.
fn real(v: &Value, r: usize, c: usize) -> Result<f64, TileFault> {
    match v.get(r, c) {
        Some(Scalar::Float(x)) => Ok(x),
        Some(other) => Err(TileFault::Kinds(format!("an element of kind {:?} where reals are meant", other.kind()))),
        None => Err(TileFault::Shapes(format!("element [{r}, {c}] of {:?}", v.counts()))),
    }
}

impl Value {
    pub(super) fn map(mut self, f: impl Fn(Scalar) -> Scalar) -> Value {
        for x in &mut self.data {
            *x = f(*x);
        }
        self
    }
}

/// `acc + a b`.
pub(super) fn dot(
    (a, at): (&Value, bool),
    (b, bt): (&Value, bool),
    acc: Option<&Value>,
    round: impl Fn(f64) -> f64,
) -> Result<Value, TileFault> {
    let element = |v: &Value, transposed: bool, r, c| if transposed { real(v, c, r) } else { real(v, r, c) };
    let (rows, inner) = if at { (a.cols, a.rows) } else { (a.rows, a.cols) };
    let (b_inner, cols) = if bt { (b.cols, b.rows) } else { (b.rows, b.cols) };
    if inner != b_inner {
        return Err(shapes("the inner lengths of a dot differ", a, b));
    }
    if let Some(acc) = acc.filter(|acc| acc.counts() != (rows, cols)) {
        return Err(shapes("a dot's accumulator is not of its shape", acc, a));
    }
    Value::from_fn((rows, cols), |r, c| {
        let mut sum = acc.map_or(Ok(0.0), |acc| real(acc, r, c))?;
        for k in 0..inner {
            sum += element(a, at, r, k)? * element(b, bt, k, c)?;
        }
        Ok(Scalar::Float(round(sum)))
    })
}

/// What a combination of nothing is.
fn nothing(combine: Combine, ty: TileType) -> Result<Scalar, TileFault> {
    Ok(match (combine, ty.kind()) {
        (Combine::Sum, Kind::Float) => Scalar::Float(0.0),
        (Combine::Sum, Kind::Int) => Scalar::Int(0),
        (Combine::Product, Kind::Float) => Scalar::Float(1.0),
        (Combine::Product, Kind::Int) => Scalar::Int(1),
        (Combine::Max | Combine::LogSumExp, Kind::Float) => Scalar::Float(f64::NEG_INFINITY),
        (Combine::Max, Kind::Int) => Scalar::Int(i64::MIN),
        (Combine::Max, Kind::Bool) => Scalar::Bool(false),
        (Combine::Min, Kind::Float) => Scalar::Float(f64::INFINITY),
        (Combine::Min, Kind::Int) => Scalar::Int(i64::MAX),
        (Combine::Min, Kind::Bool) => Scalar::Bool(true),
        (combine, kind) => return Err(TileFault::Kinds(format!("{combine:?} of values of kind {kind:?}"))),
    })
}

fn combined(combine: Combine, a: Scalar, b: Scalar) -> Scalar {
    match combine {
        Combine::Sum => eval_binary(Binary::Add, a, b),
        Combine::Product => eval_binary(Binary::Mul, a, b),
        Combine::Max => eval_binary(Binary::Max, a, b),
        Combine::Min => eval_binary(Binary::Min, a, b),
        Combine::LogSumExp => {
            let (x, y) = (a.as_float(), b.as_float());
            let top = eval_binary(Binary::Max, a, b).as_float();
            // Infinities: the difference below would be infinity minus itself.
            if top.is_infinite() {
                return Scalar::Float(top);
            }
            Scalar::Float(top + ((x - top).exp() + (y - top).exp()).ln())
        }
    }
}

/// Combines along an axis.
pub(super) fn reduce(combine: Combine, axis: Axis, of: &Value, ty: TileType) -> Result<Value, TileFault> {
    let start = nothing(combine, ty)?;
    let all = |length: usize, get: &dyn Fn(usize) -> Option<Scalar>| {
        let mut total = start;
        for k in 0..length {
            total = combined(combine, total, get(k).ok_or_else(|| TileFault::Shapes("a reduction".into()))?);
        }
        Ok(total)
    };
    match axis {
        Axis::Rows => Value::from_fn((1, of.cols), |_, c| all(of.rows, &|k| of.get(k, c))),
        Axis::Cols => Value::from_fn((of.rows, 1), |r, _| all(of.cols, &|k| of.get(r, k))),
    }
}

/// Running combination along an axis, inclusive.
pub(super) fn scan(
    combine: Combine,
    axis: Axis,
    reverse: bool,
    of: &Value,
    ty: TileType,
    round: impl Fn(Scalar) -> Scalar,
) -> Result<Value, TileFault> {
    let mut result = of.clone();
    let (lines, length) = match axis {
        Axis::Rows => (of.cols, of.rows),
        Axis::Cols => (of.rows, of.cols),
    };
    for line in 0..lines {
        let mut running = nothing(combine, ty)?;
        for k in 0..length {
            let k = if reverse { length - 1 - k } else { k };
            let (r, c) = match axis {
                Axis::Rows => (k, line),
                Axis::Cols => (line, k),
            };
            let place = &mut result.data[r * of.cols + c];
            running = round(combined(combine, running, *place));
            *place = running;
        }
    }
    Ok(result)
}

/// `h[t] = decay[t] * h[t-1] + input[t]` along the rows.
pub(super) fn recurrence(
    decay: &Value,
    input: &Value,
    start: Option<&Value>,
    round: impl Fn(f64) -> f64,
) -> Result<Value, TileFault> {
    if decay.rows != input.rows || (decay.cols != input.cols && decay.cols != 1) {
        return Err(shapes("a recurrence's factors and addends do not fit", decay, input));
    }
    if let Some(start) = start.filter(|s| s.counts() != (1, input.cols)) {
        return Err(shapes("a recurrence's start is not a row of its addends", start, input));
    }
    let mut state = (0..input.cols).map(|c| start.map_or(Ok(0.0), |s| real(s, 0, c))).collect::<Result<Vec<_>, _>>()?;
    Value::from_fn(input.counts(), |r, c| {
        let factor = real(decay, r, if decay.cols == 1 { 0 } else { c })?;
        state[c] = round(factor * state[c] + real(input, r, c)?);
        Ok(Scalar::Float(state[c]))
    })
}

/// X of `L X = B` by forward substitution.
pub(super) fn solve(lower: &Value, rhs: &Value, round: impl Fn(f64) -> f64) -> Result<Value, TileFault> {
    if lower.rows != lower.cols || lower.rows != rhs.rows {
        return Err(shapes("a solve's triangle and right side do not fit", lower, rhs));
    }
    let mut x: Vec<f64> = Vec::with_capacity(rhs.rows * rhs.cols);
    for r in 0..rhs.rows {
        let pivot = real(lower, r, r)?;
        if pivot == 0.0 {
            return Err(TileFault::Singular { row: r });
        }
        for c in 0..rhs.cols {
            let mut rest = real(rhs, r, c)?;
            for k in 0..r {
                rest -= real(lower, r, k)? * x[k * rhs.cols + c];
            }
            x.push(round(rest / pivot));
        }
    }
    Ok(Value { rows: rhs.rows, cols: rhs.cols, data: x.into_iter().map(Scalar::Float).collect() })
}

/// The `k` greatest of each row in falling order with their columns; NaN counts as the greatest.
pub(super) fn top_k(of: &Value, k: usize) -> Result<[Value; 2], TileFault> {
    let mut values = Vec::with_capacity(of.rows * k);
    let mut columns = Vec::with_capacity(of.rows * k);
    for r in 0..of.rows {
        let mut row = (0..of.cols).map(|c| Ok((real(of, r, c)?, c))).collect::<Result<Vec<_>, TileFault>>()?;
        // A stable sort: equal elements keep the order of their columns. `total_cmp` alone would part 0 from -0.
        row.sort_by(|(x, _), (y, _)| match (x.is_nan(), y.is_nan()) {
            (false, false) => y.partial_cmp(x).expect("neither is NaN"),
            (a, b) => b.cmp(&a),
        });
        for n in 0..k {
            let (x, c) = row.get(n).map_or((f64::NEG_INFINITY, -1), |(x, c)| (*x, *c as i64));
            values.push(Scalar::Float(x));
            columns.push(Scalar::Int(c));
        }
    }
    let value = |data| Value { rows: of.rows, cols: k, data };
    Ok([value(values), value(columns)])
}
