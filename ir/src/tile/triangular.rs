//! Tiles that are 0 above their diagonal by the expression that defines them.

use super::{Stmt, TileOp, TileProgram};
use crate::expr::{COL, Compare, Expr, Node, ROW, TileId};
use std::collections::BTreeSet;

/// Whether a condition can only hold at columns up to the row.
fn on_or_below(e: &Expr) -> bool {
    let Node::Compare(op, a, b) = e.node() else { return false };
    let is = |e: &Expr, v| matches!(e.node(), Node::Var(w) if *w == v);
    match op {
        Compare::Lt | Compare::Le => is(a, COL) && is(b, ROW),
        Compare::Gt | Compare::Ge => is(a, ROW) && is(b, COL),
        Compare::Eq => (is(a, ROW) && is(b, COL)) || (is(a, COL) && is(b, ROW)),
        Compare::Ne => false,
    }
}

/// Whether an element is 0 at every column past the row.
fn vanishes_above(e: &Expr) -> bool {
    match e.node() {
        Node::Float(x) => *x == 0.0,
        Node::Select(c, a, b) => vanishes_above(b) && (on_or_below(c) || vanishes_above(a)),
        _ => false,
    }
}

impl TileProgram {
    /// The tiles that are 0 at every column past the row, as their maps say. Products need not multiply what lies there.
    pub fn lower_triangular(&self) -> BTreeSet<TileId> {
        let mut found = BTreeSet::new();
        self.for_each_stmt(&mut |s| {
            if let Stmt::Let { results, op: TileOp::Map(e) } = s
                && e.as_float().is_none()
                && vanishes_above(e)
            {
                found.extend(results);
            }
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::{Extent, TileBuilder, TileType};

    #[test]
    fn triangles_are_seen_in_selections_alone() {
        let (row, col, n) = (Expr::from(ROW), Expr::from(COL), Extent::fixed(4));
        let (zero, x) = (Expr::float(0.0), Expr::float(2.0));
        let below = Expr::select(col.clone().lt(row.clone()), x.clone(), zero.clone());
        let cases = [
            (below.clone(), true),
            (Expr::select(col.clone().equals(row.clone()), x.clone(), below.clone()), true),
            (Expr::select(row.clone().ge(col.clone()), x.clone(), zero.clone()), true),
            (Expr::select(row.clone().lt(col.clone()), zero.clone(), x.clone()), false),
            (Expr::select(row.clone().le(col.clone()), x.clone(), zero.clone()), false),
            (Expr::select(col.clone().lt(row.clone() + Expr::int(1)), x.clone(), zero.clone()), false),
            (below * x, false),
            (zero, false),
        ];
        for (e, expected) in cases {
            let mut b = TileBuilder::new("triangle");
            let t = b.map("t", TileType::F32, &n, &n, e.clone());
            assert_eq!(b.finish().lower_triangular().contains(&t), expected, "{e:?}");
        }
    }
}
