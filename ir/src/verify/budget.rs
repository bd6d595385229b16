//! How much work a file may make: calls of calls of calls multiply what is written once.

use crate::text::ast::{Constant, Expr, ExprKind, StmtKind, TypeExpr};
use crate::text::limits;

/// How much of a program may still be read: calls of calls of calls multiply.
pub struct Budget {
    statements: usize,
    work: usize,
}

impl Budget {
    /// All of it.
    pub fn new() -> Budget {
        Budget { statements: limits::MAX_INLINED, work: limits::MAX_WORK }
    }

    /// Takes from it; false when it is used up.
    pub fn spend(&mut self, statements: usize, work: usize) -> bool {
        let left = self.statements.checked_sub(statements).zip(self.work.checked_sub(work));
        match left {
            Some((statements, work)) => {
                (self.statements, self.work) = (statements, work);
                true
            }
            None => false,
        }
    }
}

/// The work that a statement is: its operands and expressions.
pub fn weight(kind: &StmtKind) -> usize {
    let types = |types: &[TypeExpr]| types.iter().flat_map(|t| &t.dims).map(size).sum::<usize>();
    match kind {
        StmtKind::Const { value: Constant::Dense { elements, .. }, ty, .. } => {
            elements.len() / 8 + types(std::slice::from_ref(ty))
        }
        StmtKind::Const { ty, .. } => types(std::slice::from_ref(ty)),
        StmtKind::Op { results, operands, attrs, types: written, .. } => {
            let attrs: usize = attrs.iter().map(|a| a.value.as_ref().map_or(0, size)).sum();
            results.len() + operands.len() + attrs + types(written)
        }
        StmtKind::Call { results, args, types: written, .. } => results.len() + args.len() + types(written),
        StmtKind::Return(results) | StmtKind::Broken { results, .. } => results.len(),
    }
}

/// Parts of an expression; its depth is bounded by the parser.
fn size(e: &Expr) -> usize {
    1 + match &e.kind {
        ExprKind::Neg(x) | ExprKind::Ceil(x) => size(x),
        ExprKind::Binary(_, x, y) => size(x) + size(y),
        ExprKind::List(items) => items.iter().map(size).sum(),
        ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Name(_) | ExprKind::Text(_) => 0,
    }
}
