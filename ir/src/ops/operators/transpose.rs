//! Rows for columns: of an operator, or a permutation of a tensor's axes.

use super::signature::{Rows, batch_of_result};
use crate::attr::AttrKind;
use crate::diag::Fault;
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue, Row, unflatten};
use crate::support::Structure;
use crate::tensor::{Tensor, strides};
use crate::ty::{Align, MixType, Type};

/// `transpose`.
pub static OP: Op = Op {
    name: "transpose",
    group: Group::Operator,
    doc: "Of an operator: M^T[i,j] = M[j,i], the support too; mix [.., T, S] -> mix [.., S, T], aligned to the end \
          whatever the operand is aligned to. Of a tensor, with {perm}: axis k of the result is axis perm[k] of x.",
    example: "\
func @main(%w: f32[5, 7], %x: f32[3, 5]) -> f32[7, 3] {
  %m = dense %w
  %n = transpose %m
  %t = transpose %x {perm = [1, 0]}
  %y = apply %n, %t
  return %y
}
",
    operands: &[operand("x", OperandKind::Any)],
    variadic: false,
    attrs: &[attr("perm", AttrKind::Ints, "of a tensor, and needed there: the axes in their new order")],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

/// The axes that `perm` names, if it names each of `rank` axes once; negative ones count from the end.
pub fn permutation(perm: &[i64], rank: usize) -> Option<Vec<usize>> {
    let n = rank as i64;
    let axes: Vec<usize> = perm
        .iter()
        .map(|&a| if (-n..0).contains(&a) { a + n } else { a })
        .filter(|a| (0..n).contains(a))
        .map(|a| a as usize)
        .collect();
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    (perm.len() == rank && sorted.iter().copied().eq(0..rank)).then_some(axes)
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let perm = call.attrs.ints("perm");
    if let Some(Type::Mix(m)) = call.ty(0) {
        if perm.is_some() {
            return Err(vec![Fault::attr("perm", "an operator has one transpose: `perm` is for tensors")]);
        }
        let (rows, cols) = (m.cols.clone(), m.rows.clone());
        return Ok(vec![Type::Mix(MixType { rows, cols, align: Align::End, ..m.clone() })]);
    }
    let t = call.tensor(0)?;
    let found = Type::Tensor(t.clone());
    let Some(perm) = perm else {
        return Err(vec![Fault {
            code: "E0304",
            ..Fault::call("`transpose` of a tensor needs attribute `perm`")
                .help(format!("write the axes of {found} in their new order: {{perm = [..]}}"))
        }]);
    };
    let axes = permutation(&perm, t.rank())
        .ok_or_else(|| vec![Fault::attr("perm", format!("must hold each of the {} axes of {found} once", t.rank()))])?;
    Ok(vec![Type::tensor(t.dtype, axes.iter().map(|&a| t.shape[a].clone()).collect())])
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    Structure { support: s.support.transpose(), ..s }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let Some(RefValue::Tensor(t)) = e.operands.first().copied().flatten() else {
        let m = e.operator(0)?;
        let (out, cols) = (batch_of_result(e)?, m.rows);
        let rows = Rows::new(m);
        return e.operator_result(None, move |at, i| {
            Row::from_fn(cols, |j| {
                let row = rows.row(&out, at, j);
                row.present[i].then(|| row.values[i])
            })
        });
    };
    let axes = e.attrs.ints("perm").and_then(|p| permutation(&p, t.shape.len())).ok_or("`perm` is no permutation")?;
    let shape = e.result_shape(0)?;
    let own = strides(&t.shape);
    let flat = |k: usize| unflatten(k, &shape).iter().zip(&axes).map(|(n, &a)| n * own[a]).sum();
    Ok(vec![Tensor::from_fn(t.kind(), &shape, |k| t.get(flat(k))).into()])
}
