//! Elementwise operations on constants with one number everywhere, computed once: `sqrt(64)` is a factor like 8.

use mixc_ir::dim::DimValues;
use mixc_ir::expr::{Expr, Scalar};
use mixc_ir::op::Meaning;
use mixc_ir::program::{Const, Node, NodeKind, Program, ValueId};

/// `program` with such operations replaced by constants under the same names.
pub fn fold(program: &Program) -> Program {
    let mut program = program.clone();
    let mut numbers: Vec<Option<f64>> = vec![None; program.values.len()];
    for n in 0..program.nodes.len() {
        let [result] = program.nodes[n].results.as_slice() else { continue };
        let result = *result;
        let number = match &program.nodes[n].kind {
            NodeKind::Const(Const::Splat(x)) => Some(*x),
            _ => computed(&program, &program.nodes[n], result, &numbers),
        };
        numbers[result.index()] = number;
        if let (Some(x), NodeKind::Op(_)) = (number, &program.nodes[n].kind) {
            let node = &mut program.nodes[n];
            (node.kind, node.operands, node.attrs) = (NodeKind::Const(Const::Splat(x)), Vec::new(), Default::default());
        }
    }
    program
}

/// The number that every element of the result is, from those of the operands; `None` where it is not finite, which only
/// the call should meet.
fn computed(program: &Program, node: &Node, result: ValueId, numbers: &[Option<f64>]) -> Option<f64> {
    let NodeKind::Op(op) = &node.kind else { return None };
    let ty = program.ty(result).as_tensor().filter(|t| t.dtype.is_float())?;
    let real = |v: &ValueId| program.ty(*v).as_tensor().is_some_and(|t| t.dtype.is_float());
    let operands = node.operands.iter().map(|v| v.filter(|v| real(v))).collect::<Option<Vec<_>>>()?;
    let values = operands.iter().map(|v| numbers[v.index()]).collect::<Option<Vec<_>>>()?;
    let x = match (op.meaning, values.as_slice()) {
        (Meaning::Pointwise(f), [_, ..]) => {
            let arguments: Vec<Expr> = values.iter().map(|x| Expr::float(*x)).collect();
            match f(&node.attrs, &arguments).eval(&DimValues::new(), &mut |_| Scalar::Float(0.0)) {
                Scalar::Float(x) => x,
                _ => return None,
            }
        }
        (_, [x]) if matches!(op.name, "broadcast" | "reshape" | "transpose" | "cast") => *x,
        _ => return None,
    };
    x.is_finite().then(|| ty.dtype.round(x))
}
