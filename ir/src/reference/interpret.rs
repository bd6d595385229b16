//! Running a program on the reference: nodes in order, each by its operation's own meaning.

use super::rows::asked;
use super::{Eval, RefValue, Rows};
use crate::dim::DimValues;
use crate::dtype::DType;
use crate::expr::{Kind, Node as ExprNode, Scalar};
use crate::op::{Call, Meaning};
use crate::program::{Builder, Const, Node, NodeKind, Program};
use crate::tensor::{Tensor, strides};
use crate::ty::Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stored tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// The results of `program` on `inputs` (one a parameter, of the declared shapes), with values of half types rounded
/// after every operation only where the program says so: results and parameters. Inside, everything is f64.
pub fn interpret(
    program: &Program,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
) -> Result<Vec<Tensor>, String> {
    interpret_rows(program, dims, inputs, weights, &vec![None; program.results.len()])
}

/// The same where only these rows of each result count: the others may hold anything.
pub fn interpret_rows(
    program: &Program,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
    rows: &[Rows],
) -> Result<Vec<Tensor>, String> {
    let values = run_on(program, dims, inputs, weights, rows)?;
    let result = |v: &crate::program::ValueId| match &values[v.index()] {
        Some(RefValue::Tensor(t)) => Ok((**t).clone()),
        _ => Err(format!("result {} is not a tensor", program.name_of(*v))),
    };
    program.results.iter().map(result).collect()
}

/// Every value of `program` on `inputs`, as in [`interpret`].
#[cfg(test)]
pub(crate) fn values_of(
    program: &Program,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
) -> Result<Vec<Option<RefValue>>, String> {
    run_on(program, dims, inputs, weights, &vec![None; program.results.len()])
}

fn run_on(
    program: &Program,
    dims: &DimValues,
    inputs: &[Tensor],
    weights: &Weights,
    rows: &[Rows],
) -> Result<Vec<Option<RefValue>>, String> {
    let mut values: Vec<Option<RefValue>> = vec![None; program.values.len()];
    for (v, t) in program.params.iter().zip(inputs) {
        values[v.index()] = Some(RefValue::from(t.clone()));
    }
    run(program, dims, weights, &mut values, rows)?;
    Ok(values)
}

fn run(
    program: &Program,
    dims: &DimValues,
    weights: &Weights,
    values: &mut [Option<RefValue>],
    rows: &[Rows],
) -> Result<(), String> {
    let asked = asked(program, rows);
    for node in &program.nodes {
        let rows = match node.results.as_slice() {
            [one] => asked[one.index()].clone(),
            _ => None,
        };
        let results = step_rows(program, node, dims, weights, values, rows)
            .map_err(|e| format!("in `%{}`: {e}", node.results.first().map_or("", |r| program.name_of(*r))))?;
        for (r, value) in node.results.iter().zip(results) {
            values[r.index()] = Some(value);
        }
    }
    Ok(())
}

/// The results of one node, whose operands have values.
#[cfg(test)]
pub(crate) fn step(
    program: &Program,
    node: &Node,
    dims: &DimValues,
    weights: &Weights,
    values: &[Option<RefValue>],
) -> Result<Vec<RefValue>, String> {
    step_rows(program, node, dims, weights, values, None)
}

fn step_rows(
    program: &Program,
    node: &Node,
    dims: &DimValues,
    weights: &Weights,
    values: &[Option<RefValue>],
    rows: Rows,
) -> Result<Vec<RefValue>, String> {
    let results: Vec<&Type> = node.results.iter().map(|r| program.ty(*r)).collect();
    let eval = Eval {
        operands: node.operands.iter().map(|o| o.and_then(|v| values[v.index()].as_ref())).collect(),
        types: node.operands.iter().map(|o| o.map(|v| program.ty(v))).collect(),
        attrs: &node.attrs,
        results,
        dims,
        rows,
    };
    match &node.kind {
        NodeKind::Const(c) => constant(c, &eval, weights).map(|t| vec![t.into()]),
        NodeKind::Op(op) => match op.meaning {
            Meaning::Pointwise(f) => pointwise(f, &eval).map(|t| vec![t.into()]),
            Meaning::Eval(f) => f(&eval),
            Meaning::Expansion => expansion(program, node, op, &eval, dims, weights),
        },
    }
}

fn constant(c: &Const, eval: &Eval<'_>, weights: &Weights) -> Result<Tensor, String> {
    let (shape, dtype) = (eval.result_shape(0)?, eval.result_dtype(0));
    let kind = kind_of(dtype);
    let tensor = match c {
        Const::Splat(x) => Tensor::from_fn(kind, &shape, |_| Scalar::Float(*x)),
        Const::Dense(v) => Tensor::from_fn(kind, &shape, |k| Scalar::Float(v[k])),
        Const::Weight(name) => {
            let t = weights.get(name).ok_or_else(|| format!("weight {name:?} is not given"))?;
            if t.shape != shape {
                return Err(format!("weight {name:?} has shape {:?}, expected {shape:?}", t.shape));
            }
            t.clone()
        }
    };
    Ok(tensor.rounded(dtype))
}

/// The kind of values that `dtype` holds.
pub fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::Bool => Kind::Bool,
        d if d.is_int() => Kind::Int,
        _ => Kind::Float,
    }
}

fn pointwise(
    f: fn(&crate::attr::Attrs, &[crate::expr::Expr]) -> crate::expr::Expr,
    eval: &Eval<'_>,
) -> Result<Tensor, String> {
    let args: Vec<crate::expr::Expr> = (0..eval.operands.len()).map(crate::expr::Expr::arg).collect();
    let expr = f(eval.attrs, &args);
    let tensors: Vec<Arc<Tensor>> = (0..eval.operands.len()).map(|k| eval.tensor(k)).collect::<Result<_, _>>()?;
    let shape = eval.result_shape(0)?;
    // NumPy broadcasting: axes are matched from the last, an axis of length 1 is read at 0.
    let steps: Vec<Vec<usize>> = tensors
        .iter()
        .map(|t| {
            let own = strides(&t.shape);
            let lead = shape.len() - t.shape.len();
            (0..shape.len()).map(|k| if k < lead || t.shape[k - lead] == 1 { 0 } else { own[k - lead] }).collect()
        })
        .collect();
    let out_strides = strides(&shape);
    let dtype = eval.result_dtype(0);
    Ok(Tensor::from_fn(kind_of(dtype), &shape, |flat| {
        let place = |steps: &[usize]| -> usize {
            out_strides.iter().zip(&shape).zip(steps).map(|((s, n), step)| flat / s % n * step).sum()
        };
        expr.eval(eval.dims, &mut |leaf| match leaf {
            ExprNode::Arg(k) => tensors[*k].get(place(&steps[*k])),
            _ => Scalar::Float(f64::NAN),
        })
    })
    // Reals stay in f64 between operations; integers wrap where their type does.
    .rounded(if dtype.is_float() { DType::F64 } else { dtype }))
}

/// Evaluates a layer by its definition: the expansion as a program of its own over the operands.
fn expansion(
    program: &Program,
    node: &Node,
    op: &'static crate::op::Op,
    eval: &Eval<'_>,
    dims: &DimValues,
    weights: &Weights,
) -> Result<Vec<RefValue>, String> {
    let expand = op.expand.ok_or_else(|| format!("`{}` has neither a meaning nor an expansion", op.name))?;
    let mut b = Builder::new(op.name, program.dims.clone());
    let params: Vec<_> =
        (0..node.operands.len()).map(|k| eval.types[k].map(|ty| b.param(&format!("p{k}"), ty.clone()))).collect();
    let types: Vec<Option<Type>> = params.iter().map(|p| p.map(|v| b.ty(v).clone())).collect();
    let written: Vec<Option<Type>> = eval.results.iter().map(|t| Some((*t).clone())).collect();
    let call = Call {
        op,
        types: types.iter().map(Option::as_ref).collect(),
        structures: vec![None; types.len()],
        values: params.clone(),
        attrs: &node.attrs,
        written: &written,
        bounds: &program.bounds(),
    };
    let results = expand(&mut b, &call).map_err(|faults| format!("expansion of `{}`: {faults:?}", op.name))?;
    let inner = b.finish(results);
    let mut values: Vec<Option<RefValue>> = vec![None; inner.values.len()];
    for (p, operand) in params.iter().zip(&eval.operands) {
        if let (Some(p), Some(value)) = (p, operand) {
            values[p.index()] = Some((*value).clone());
        }
    }
    let rows = vec![eval.rows.clone(); inner.results.len()];
    run(&inner, dims, weights, &mut values, &rows)?;
    inner
        .results
        .iter()
        .map(|r| values[r.index()].clone().ok_or_else(|| format!("`{}` left a result out", op.name)))
        .collect()
}
