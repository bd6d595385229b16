//! Laws that build: what the function makes is the operator that the law says, on the operation's example.

use super::super::find;
use super::difference;
use crate::attr::Attrs;
use crate::dim::{Dim, DimBounds, DimValues};
use crate::op::{Build, Call, Op};
use crate::program::{Builder, Const, ValueId};
use crate::reference::Weights;
use crate::tensor::Tensor;
use crate::ty::Type;
use crate::verify::check;

type Faults = Vec<crate::diag::Fault>;

/// The causal filter with taps `v`.
fn taps_as_filter(b: &mut Builder, v: ValueId) -> Result<ValueId, Faults> {
    b.op("toeplitz", &[v], Attrs::new())
}

/// An operand `v` of an operator over that many tokens, with its first token in the place of all.
fn alike_at_all_tokens(b: &mut Builder, v: ValueId, tokens: &Dim) -> Result<ValueId, Faults> {
    let dims = b.ty(v).dims();
    let axis = if dims[dims.len() - 2] == *tokens { -2 } else { -1 };
    let first = b.op("slice", &[v], Attrs::new().with_int("axis", axis).with_int("start", 0).with_int("end", 1))?;
    b.op("broadcast", &[first], Attrs::new().with_dims("shape", dims))
}

/// Whether the causal filter with the taps of the example is what `build` makes.
pub fn recurs(op: &Op, build: Build) -> Result<(), String> {
    built(op, build, &taps_as_filter, &|_, v, _| Ok(v))
}

/// Whether the example's operator is what `build` makes where its operands are alike at all tokens.
pub fn shift_invariant(op: &Op, build: Build) -> Result<(), String> {
    built(op, build, &|_, v| Ok(v), &alike_at_all_tokens)
}

/// Whether what `build` makes of the call in an operation's example is the operator that `of_result` makes of its result,
/// with operands as `of_operand` makes them.
fn built(
    op: &Op,
    build: Build,
    of_result: &dyn Fn(&mut Builder, ValueId) -> Result<ValueId, Faults>,
    of_operand: &dyn Fn(&mut Builder, ValueId, &Dim) -> Result<ValueId, Faults>,
) -> Result<(), String> {
    let told = |f: Faults| format!("{f:?}");
    let example = check(op.example).map_err(|d| format!("{d:?}"))?;
    let node = example.nodes.iter().find(|n| n.op_name() == Some(op.name)).ok_or("the example has no call")?;
    let tokens = example.ty(node.results[0]).dims().last().cloned().ok_or("no axis")?;
    let n = tokens.as_constant().ok_or("a length that is no number")? as usize;
    let mut b = Builder::new("main", Vec::new());
    let mut operands = Vec::new();
    for v in node.operands.iter().flatten() {
        let given = b.param(example.name_of(*v), example.ty(*v).clone());
        operands.push(of_operand(&mut b, given, &tokens).map_err(told)?);
    }
    let whole = b.op(op.name, &operands, node.attrs.clone()).map_err(told)?;
    let whole = of_result(&mut b, whole).map_err(told)?;
    let types: Vec<Type> = operands.iter().map(|v| b.ty(*v).clone()).collect();
    let bounds = DimBounds::new();
    let call = Call {
        op: find(op.name).ok_or("not in the catalogue")?,
        types: types.iter().map(Some).collect(),
        structures: vec![None; operands.len()],
        values: operands.iter().copied().map(Some).collect(),
        attrs: &node.attrs,
        written: &[],
        bounds: &bounds,
    };
    let made = (build.build)(&mut b, &call).map_err(told)?;
    let eye = (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.0 }).collect();
    let eye = b.constant(None, Const::Dense(eye), Type::tensor(b.ty(whole).dtype(), vec![tokens.clone(), tokens]));
    let results = [whole, made].map(|m| b.op("apply", &[m, eye], Attrs::new()));
    let results = results.into_iter().collect::<Result<Vec<_>, _>>().map_err(told)?;
    let program = b.finish(results);
    let inputs: Vec<Tensor> = program
        .params
        .iter()
        .enumerate()
        .map(|(k, v)| {
            let dims = program.ty(*v).dims();
            let shape: Vec<usize> = dims.iter().map(|d| d.as_constant().unwrap_or(0) as usize).collect();
            let number = |m: usize| (((m + 5 * k) * 7919 % 101) as f64 - 60.0) / 60.0;
            Tensor::floats(&shape, (0..shape.iter().product()).map(number).collect())
        })
        .collect();
    let results = crate::reference::interpret(&program, &DimValues::new(), &inputs, &Weights::new())?;
    match difference(&results[0].clone().into(), &results[1].clone().into()) {
        Some(d) => Err(d),
        None => Ok(()),
    }
}
