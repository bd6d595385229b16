//! Tensors that are not stored: an element as an expression of its index.
//!
//! Layout operations and cheap elementwise ones never become programs of their own; whoever reads the result reads
//! through the expression. This is all the prologue fusion there is, and it cannot go wrong: substitution is exact.

use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, Node, Unary, Var};

/// First of the variables that stand for the axes of a [`Lambda`]; tile programs never use so many.
const AXIS_BASE: u32 = 1 << 24;

/// The variable of axis `k`.
pub fn axis_var(k: usize) -> Var {
    Var(AXIS_BASE + k as u32)
}

/// The index along axis `k` as an expression.
pub fn axis(k: usize) -> Expr {
    Expr::from(axis_var(k))
}

/// The identity index of a tensor with `rank` axes.
pub fn axes(rank: usize) -> Vec<Expr> {
    (0..rank).map(axis).collect()
}

/// A tensor as a function of its index. Loads name buffers of the model under construction.
#[derive(Clone, Debug)]
pub struct Lambda {
    /// Element type.
    pub dtype: DType,
    /// Lengths of the axes.
    pub shape: Vec<Dim>,
    /// The element at [`axis`] 0, 1, ...
    pub body: Expr,
}

impl Lambda {
    /// The element at an index.
    pub fn at(&self, index: &[Expr]) -> Expr {
        let map: Vec<(Var, Expr)> = index.iter().enumerate().map(|(k, e)| (axis_var(k), e.clone())).collect();
        self.body.with_vars(&map)
    }

    /// Whether an element is one load (moved about by the index alone).
    pub fn is_layout(&self) -> bool {
        match self.body.node() {
            Node::Load(l) => l.guard.is_none(),
            _ => false,
        }
    }

    /// Whether elements are picked by an index that is data.
    pub fn is_picked(&self) -> bool {
        let mut found = false;
        self.body.visit(&mut |e| {
            if let Node::Load(l) = e.node() {
                found |= l.index.iter().any(reads);
            }
        });
        found
    }

    /// Whether elements join two tensors of which one is read at the quotient and one at the remainder of the index along
    /// axis `k`: all pairs of their elements, as they are when two axes have been made one.
    pub fn is_of_pairs(&self, k: usize) -> bool {
        let var = axis_var(k);
        let (mut quotient, mut remainder) = (false, false);
        self.body.visit(&mut |e| {
            let Node::Load(l) = e.node() else { return };
            let (mut divided, mut left) = (false, false);
            let rest = l.index.iter().map(|index| {
                index.rewrite(&mut |e| match e.node() {
                    Node::Binary(op @ (Binary::Div | Binary::Mod), a, b)
                        if *a == Expr::from(var) && !b.mentions(var) =>
                    {
                        divided |= *op == Binary::Div;
                        left |= *op == Binary::Mod;
                        Some(Expr::int(0))
                    }
                    _ => None,
                })
            });
            let as_it_is = rest.filter(|index| index.mentions(var)).count() > 0;
            quotient |= divided && !left && !as_it_is;
            remainder |= left && !divided && !as_it_is;
        });
        quotient && remainder
    }

    /// Roughly what computing an element costs, in operations of a vector unit; a load counts 2.
    pub fn cost(&self) -> usize {
        let mut cost = 0;
        self.body.visit(&mut |e| {
            cost += match e.node() {
                Node::Load(_) => 2,
                Node::Unary(
                    Unary::Neg | Unary::Abs | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::RoundEven | Unary::Not,
                    _,
                ) => 1,
                // Polynomials of degree 5 to 10 with their range reduction.
                Node::Unary(..) => 16,
                Node::Binary(Binary::Pow, ..) => 40,
                Node::Binary(..) | Node::Compare(..) | Node::Select(..) => 1,
                _ => 0,
            };
        });
        cost
    }
}

/// Whether an expression reads a tensor.
fn reads(e: &Expr) -> bool {
    let mut found = false;
    e.visit(&mut |e| found |= matches!(e.node(), Node::Load(_)));
    found
}

/// The flat row-major index.
pub fn flatten(index: &[Expr], shape: &[Dim]) -> Expr {
    index.iter().zip(shape).fold(Expr::int(0), |flat, (i, n)| flat * Expr::from(n) + i.clone())
}

/// The index of a flat one.
pub fn unflatten(flat: &Expr, shape: &[Dim]) -> Vec<Expr> {
    let mut index = Vec::new();
    let mut rest = flat.clone();
    for (k, n) in shape.iter().enumerate().rev() {
        if k == 0 {
            index.push(rest.clone());
        } else {
            index.push(rest.clone().modulo(Expr::from(n)));
            rest = rest.floor_div(Expr::from(n));
        }
    }
    index.reverse();
    index
}

/// The index into a tensor of shape `from` of the element at `index` of its reshape to `to`.
///
/// Shapes are cut into the shortest groups of axes with equal products, so that an axis that is only split or merged
/// gives the plainest expression (`h*d + c`, not a division of the whole flat index).
pub fn reshape_index(index: &[Expr], to: &[Dim], from: &[Dim]) -> Vec<Expr> {
    let mut out = Vec::with_capacity(from.len());
    let (mut i, mut j) = (0, 0);
    while i < to.len() || j < from.len() {
        let (i0, j0) = (i, j);
        let mut a = to.get(i).cloned().unwrap_or_else(|| Dim::constant(1));
        let mut b = from.get(j).cloned().unwrap_or_else(|| Dim::constant(1));
        i = (i + 1).min(to.len());
        j = (j + 1).min(from.len());
        while a != b && (i < to.len() || j < from.len()) {
            // Widen the side that is the shorter, when numbers tell; else the one with fewer axes taken.
            let widen_from = match (a.as_constant(), b.as_constant()) {
                (Some(x), Some(y)) => x > y,
                _ => from.len() - j >= to.len() - i,
            };
            if (widen_from && j < from.len()) || i >= to.len() {
                b = b.mul(&from[j]).unwrap_or_default();
                j += 1;
            } else {
                a = a.mul(&to[i]).unwrap_or_default();
                i += 1;
            }
        }
        let flat = flatten(&index[i0..i], &to[i0..i]);
        out.extend(unflatten(&flat, &from[j0..j]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use mixc_ir::dim::DimValues;
    use mixc_ir::expr::{ROW, Scalar};

    fn dims(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|&n| Dim::constant(n)).collect()
    }

    #[test]
    fn splitting_an_axis_needs_no_division() {
        let (t, h) = (Dim::symbol("T"), Dim::constant(4));
        let to = [t.clone(), h, Dim::constant(8)];
        let from = [t, Dim::constant(32)];
        let index = [Expr::from(Var(5)), Expr::from(Var(6)), Expr::from(ROW)];
        let e = reshape_index(&index, &to, &from);
        assert_eq!(e.len(), 2);
        assert_eq!(e[0], index[0]);
        assert_eq!(e[1].linear_in(ROW).unwrap().0, 1);
        assert_eq!(e[1].linear_in(Var(6)).unwrap().0, 8);
    }

    #[test]
    fn pairs_read_one_tensor_by_the_quotient_and_another_by_the_remainder() {
        use mixc_ir::expr::SlowId;
        let load = |tensor: u32, index: Vec<Expr>| Expr::load(SlowId(tensor), index);
        let (quotient, remainder) = (axis(0).floor_div(7), axis(0).modulo(7));
        let of_pairs = |body: Expr| Lambda { dtype: DType::F32, shape: dims(&[35, 4]), body }.is_of_pairs(0);
        let [a, b] = [&quotient, &remainder].map(|e| vec![e.clone(), axis(1)]);
        assert!(of_pairs(load(0, a.clone()) * load(1, b.clone())));
        assert!(of_pairs(load(0, b.clone()) + load(0, a.clone())));
        let whole = load(0, vec![quotient, remainder, axis(1)]);
        assert!(!of_pairs(whole.clone()));
        assert!(!of_pairs(whole + load(1, b)));
        assert!(!of_pairs(load(0, a.clone()) * load(1, a)));
        assert!(!of_pairs(load(0, axes(2))));
    }

    #[test]
    fn every_reshape_keeps_the_flat_index() {
        for (to, from) in [
            (dims(&[2, 3, 4]), dims(&[4, 6])),
            (dims(&[24]), dims(&[2, 3, 4])),
            (dims(&[1, 6, 1, 4]), dims(&[3, 8])),
            (dims(&[]), dims(&[1, 1])),
            (dims(&[5, 1]), dims(&[1, 5])),
        ] {
            let total: i64 = to.iter().map(|d| d.as_constant().unwrap()).product();
            for flat in 0..total {
                let index = unflatten(&Expr::int(flat), &to);
                let back = flatten(&reshape_index(&index, &to, &from), &from);
                assert_eq!(back.eval(&DimValues::new(), &mut |_| Scalar::Int(0)).as_int(), flat, "{to:?} {from:?}");
            }
        }
    }
}
