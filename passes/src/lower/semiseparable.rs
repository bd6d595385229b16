//! Semiseparable operators during lowering: what a recurrence over tokens computes, and what is still one after a mask,
//! a sum with a diagonal or a transposition.

use super::lambda::{Lambda, axis, axis_var};
use super::mix::{Mix, batched};
use super::{Context, Failure, guard_loads};
use crate::forms;
use mixc_ir::dim::Dim;
use mixc_ir::expr::Expr;
use mixc_ir::tile::Combine;

/// `N[s, u] = sum_n c[s, n] b[u, n] exp(sum_{t = u+1..s} a[t, n])` for s > u, with a diagonal that may differ.
#[derive(Clone, Debug)]
pub struct Semiseparable {
    /// `[.., T, N]`.
    pub c: Lambda,
    /// `[.., T, N]`.
    pub b: Lambda,
    /// Log decays, `[.., T]`, `[.., T, 1]` or `[.., T, N]`.
    pub a: Lambda,
    /// Whether `a` has the axis over n.
    pub a_has_features: bool,
    /// Whether the formula holds on the diagonal too; 0 if not.
    pub own_diagonal: bool,
    /// Added to the diagonal, `[.., T]`.
    pub added: Option<Lambda>,
    /// Whether tokens are counted from the last: the operator's element (i, j) is `N[T-1-i, T-1-j]`.
    pub reversed: bool,
}

impl Semiseparable {
    /// The functions of the index that it is made of.
    pub fn lambdas(&self) -> impl Iterator<Item = &Lambda> {
        [&self.c, &self.b, &self.a].into_iter().chain(&self.added)
    }

    /// Every function of the index replaced.
    pub fn map(&self, mut f: impl FnMut(&Lambda) -> Lambda) -> Semiseparable {
        let (c, b, a) = (f(&self.c), f(&self.b), f(&self.a));
        Semiseparable { c, b, a, added: self.added.as_ref().map(f), ..*self }
    }

    /// Where the recurrence's token number `token` stands among the rows and columns.
    pub fn place(&self, tokens: &Dim, token: &Expr) -> Expr {
        if self.reversed { Expr::from(tokens) - Expr::int(1) - token.clone() } else { token.clone() }
    }

    /// Whether the formula holds everywhere.
    pub fn is_plain(&self) -> bool {
        self.own_diagonal && self.added.is_none()
    }

    /// Without its diagonal.
    pub fn strict(self) -> Semiseparable {
        Semiseparable { own_diagonal: false, added: None, ..self }
    }

    /// With `d` added to its diagonal, if nothing is yet; `tokens` are its rows.
    pub fn with_diagonal(self, d: Lambda, tokens: &Dim) -> Option<Semiseparable> {
        let d = if self.reversed { backwards(&d, d.shape.len() - 1, tokens, 1) } else { d };
        self.added.is_none().then_some(Semiseparable { added: Some(d), ..self })
    }

    /// The transpose of an operator of `tokens` rows: the same recurrence from the other end, in which what a token
    /// writes it reads and the decay of a step is that of the token before.
    pub fn transposed(self, tokens: &Dim) -> Semiseparable {
        let token_axis = |l: &Lambda, features: bool| l.shape.len() - 1 - usize::from(features);
        let turned = |l: &Lambda| backwards(l, token_axis(l, true), tokens, 1);
        let step = token_axis(&self.a, self.a_has_features);
        let after = backwards(&self.a, step, tokens, 0);
        let body = guard_loads(&after.body, &Expr::int(1).le(axis(step)));
        Semiseparable {
            c: turned(&self.b),
            b: turned(&self.c),
            a: Lambda { body, ..after },
            added: self.added.as_ref().map(|d| backwards(d, d.shape.len() - 1, tokens, 1)),
            reversed: !self.reversed,
            ..self
        }
    }
}

/// `l` read at `tokens - last - k` in place of k along an axis.
fn backwards(l: &Lambda, along: usize, tokens: &Dim, last: i64) -> Lambda {
    let at = Expr::from(tokens) - Expr::int(last) - axis(along);
    Lambda { body: l.body.with_vars(&[(axis_var(along), at)]), ..l.clone() }
}

/// The operator `m` as a matrix of elements, T x T in memory: sums of decays over segments by a running sum down every
/// column (never as differences of one prefix sum), then the sum over states.
pub fn elements(cx: &mut Context<'_>, m: &Mix, scan: &Semiseparable) -> Result<Mix, Failure> {
    let Semiseparable { c, b, a, a_has_features, .. } = scan;
    let (nb, shape) = (m.rank(), m.shape());
    let states = c.shape.last().cloned().unwrap_or_default();
    let at: Vec<Expr> = (0..nb).map(axis).collect();
    let (i, j) = (axis(nb), axis(nb + 1));
    // segment[.., i, j(, n)] = sum_{t = j+1..i} a[t(, n)]
    let mut segment_shape = shape.clone();
    let tail = if *a_has_features { vec![i.clone(), axis(nb + 2)] } else { vec![i.clone()] };
    if *a_has_features {
        segment_shape.push(a.shape.last().cloned().unwrap_or_default());
    }
    let decay = batched(a, &m.ty.batch, &at, &tail);
    let below = j.clone().lt(i.clone());
    let body = Expr::select(below.clone(), decay, Expr::float(0.0));
    let addend = Lambda { dtype: m.ty.dtype, shape: segment_shape, body };
    let segment = forms::cumulate::cumulate(cx, &addend, nb, Combine::Sum, false)?;
    let mut wide = shape.clone();
    wide.push(states.clone());
    let n = axis(nb + 2);
    let log = if *a_has_features {
        let index = if a.shape.last().is_some_and(|d| d.is(1)) { Expr::int(0) } else { n.clone() };
        let mut full: Vec<Expr> = (0..nb + 2).map(axis).collect();
        full.push(index);
        segment.at(&full)
    } else {
        segment.body.clone()
    };
    let from_formula = if scan.own_diagonal { j.clone().le(i.clone()) } else { below.clone() };
    let product = batched(c, &m.ty.batch, &at, &[i.clone(), n.clone()]) * batched(b, &m.ty.batch, &at, &[j.clone(), n]);
    let body = Expr::select(from_formula, product * log.apply(mixc_ir::expr::Unary::Exp), Expr::float(0.0));
    let sum = forms::reduce::reduce(Lambda { dtype: m.ty.dtype, shape: wide, body }, nb + 2, Combine::Sum, m.ty.dtype);
    let mut stored = cx.close(sum)?;
    let mut support = if scan.own_diagonal || scan.added.is_some() { j.clone().le(i.clone()) } else { below };
    if let Some(d) = &scan.added {
        let d = batched(d, &m.ty.batch, &at, std::slice::from_ref(&i));
        stored.body = stored.body + Expr::select(i.clone().equals(j.clone()), d, Expr::float(0.0));
    }
    if scan.reversed {
        let from_end = |e: &Expr| Expr::from(&m.ty.rows) - Expr::int(1) - e.clone();
        let turned = [(axis_var(nb), from_end(&i)), (axis_var(nb + 1), from_end(&j))];
        (stored.body, support) = (stored.body.with_vars(&turned), support.with_vars(&turned));
    }
    Ok(Mix { value: stored.body, products: Vec::new(), support, special: None, ..m.clone() })
}
