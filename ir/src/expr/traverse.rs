//! Walking through expressions: replacing, visiting, and what is found by it.

use super::{Binary, Expr, Kind, Node, Unary, Var};

impl Expr {
    /// The expression with every node that `f` answers for replaced, bottom-up from the answer (answers are not
    /// visited again).
    pub fn rewrite(&self, f: &mut dyn FnMut(&Expr) -> Option<Expr>) -> Expr {
        if let Some(new) = f(self) {
            return new;
        }
        match self.node() {
            Node::Float(_)
            | Node::Int(_)
            | Node::Bool(_)
            | Node::Arg(_)
            | Node::Var(_)
            | Node::Dim(_)
            | Node::Tile(..) => self.clone(),
            Node::Unary(op, a) => Expr::unary(*op, a.rewrite(f)),
            Node::Binary(op, a, b) => {
                let (a, b) = (a.rewrite(f), b.rewrite(f));
                Expr::binary(*op, a, b)
            }
            Node::Compare(op, a, b) => {
                let (a, b) = (a.rewrite(f), b.rewrite(f));
                Expr::compare(*op, a, b)
            }
            Node::Select(c, a, b) => {
                let (c, a, b) = (c.rewrite(f), a.rewrite(f), b.rewrite(f));
                Expr::select(c, a, b)
            }
            Node::ToFloat(a) => a.rewrite(f).to_float(),
            Node::ToInt(a) => a.rewrite(f).to_int(),
            Node::ToBool(a) => a.rewrite(f).to_bool(),
            Node::Round(d, a) => a.rewrite(f).round_to(*d),
            Node::Load(l) => {
                let index = l.index.iter().map(|e| e.rewrite(f)).collect();
                match &l.guard {
                    None => Expr::load(l.tensor, index),
                    // A guard that becomes false keeps the load: the fill's kind is the tensor's, unknown here.
                    Some(g) => Expr::load_if(l.tensor, index, g.rewrite(f), l.fill),
                }
            }
        }
    }

    /// With operands in place of [`Node::Arg`].
    pub fn with_args(&self, args: &[Expr]) -> Expr {
        self.rewrite(&mut |e| match e.node() {
            Node::Arg(k) => args.get(*k).cloned(),
            _ => None,
        })
    }

    /// With the variable `v` replaced.
    pub fn with_var(&self, v: Var, by: &Expr) -> Expr {
        self.with_vars(&[(v, by.clone())])
    }

    /// With several variables replaced at once.
    pub fn with_vars(&self, map: &[(Var, Expr)]) -> Expr {
        self.rewrite(&mut |e| match e.node() {
            Node::Var(v) => map.iter().find(|(w, _)| w == v).map(|(_, by)| by.clone()),
            _ => None,
        })
    }

    /// Calls `f` on every node, parents first.
    pub fn visit(&self, f: &mut dyn FnMut(&Expr)) {
        f(self);
        match self.node() {
            Node::Float(_)
            | Node::Int(_)
            | Node::Bool(_)
            | Node::Arg(_)
            | Node::Var(_)
            | Node::Dim(_)
            | Node::Tile(..) => {}
            Node::Unary(_, a) | Node::ToFloat(a) | Node::ToInt(a) | Node::ToBool(a) | Node::Round(_, a) => a.visit(f),
            Node::Binary(_, a, b) | Node::Compare(_, a, b) => {
                a.visit(f);
                b.visit(f);
            }
            Node::Select(c, a, b) => {
                c.visit(f);
                a.visit(f);
                b.visit(f);
            }
            Node::Load(l) => {
                for e in &l.index {
                    e.visit(f);
                }
                if let Some(g) = &l.guard {
                    g.visit(f);
                }
            }
        }
    }

    /// Whether the variable occurs.
    pub fn mentions(&self, v: Var) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= matches!(e.node(), Node::Var(w) if *w == v));
        found
    }

    /// `self = coefficient * v + rest` with a constant coefficient and `rest` free of `v`, when the expression is
    /// linear in `v` in the obvious way (sums, differences, products with constants).
    pub fn linear_in(&self, v: Var) -> Option<(i64, Expr)> {
        match self.node() {
            Node::Var(w) if *w == v => Some((1, Expr::int(0))),
            _ if !self.mentions(v) => Some((0, self.clone())),
            Node::Binary(Binary::Add, a, b) => {
                let ((ca, ra), (cb, rb)) = (a.linear_in(v)?, b.linear_in(v)?);
                Some((ca.checked_add(cb)?, ra + rb))
            }
            Node::Binary(Binary::Sub, a, b) => {
                let ((ca, ra), (cb, rb)) = (a.linear_in(v)?, b.linear_in(v)?);
                Some((ca.checked_sub(cb)?, ra - rb))
            }
            Node::Binary(Binary::Mul, a, b) => {
                let (factor, other) = match (a.as_int(), b.as_int()) {
                    (Some(n), _) => (n, b),
                    (_, Some(n)) => (n, a),
                    _ => return None,
                };
                let (c, r) = other.linear_in(v)?;
                Some((c.checked_mul(factor)?, r * Expr::int(factor)))
            }
            _ => None,
        }
    }

    /// The kind of value, given the kinds of operands, tensors and tiles.
    pub fn kind(&self, of: &dyn Fn(&Node) -> Kind) -> Kind {
        match self.node() {
            Node::Float(_) | Node::ToFloat(_) => Kind::Float,
            Node::Int(_) | Node::Var(_) | Node::Dim(_) | Node::ToInt(_) => Kind::Int,
            Node::Bool(_) | Node::Compare(..) | Node::ToBool(_) => Kind::Bool,
            Node::Unary(Unary::IsNan | Unary::Not, _) => Kind::Bool,
            Node::Unary(Unary::Neg | Unary::Abs | Unary::Sign, a) | Node::Round(_, a) => a.kind(of),
            Node::Unary(..) => Kind::Float,
            Node::Binary(_, a, _) | Node::Select(_, a, _) => a.kind(of),
            n @ (Node::Arg(_) | Node::Load(_) | Node::Tile(..)) => of(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{COL, ROW};
    use super::*;

    #[test]
    fn linear_parts_are_found() {
        let e = (Expr::from(ROW) + Expr::int(3)) * Expr::int(4) - Expr::from(COL);
        let (c, rest) = e.linear_in(ROW).unwrap();
        assert_eq!(c, 4);
        assert_eq!(rest.linear_in(COL).unwrap().0, -1);
        assert!(Expr::from(ROW).floor_div(2).linear_in(ROW).is_none());
    }
}
