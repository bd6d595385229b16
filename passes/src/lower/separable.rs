//! Causal operators whose elements are sums of terms of rows, of columns and of distances, found by looking at the
//! elements themselves: `e[i, j] = r[i] + g[j] + slope * (i - j)` below the diagonal, with a diagonal that may differ.
//!
//! Under a softmax the terms of rows cancel and what is left is a recurrence. `outer_sum` gives such operators, with
//! `alibi`, masks, biases of rows or columns, factors and diagonals on top.

use super::lambda::axis_var;
use super::mix::Mix;
use mixc_ir::dim::Dim;
use mixc_ir::expr::{Binary, Compare, Expr, Node, Unary, Var};

/// What rows of such an operator differ by, without the terms that a whole row shares.
#[derive(Clone, Debug)]
pub struct Separable {
    /// g, over the axes `[batch.., i, j]` without i.
    pub column: Expr,
    /// The slope, over the batch axes.
    pub slope: Expr,
    /// The diagonal.
    pub diagonal: Diagonal,
}

/// The diagonal of a [`Separable`] operator.
#[derive(Clone, Debug)]
pub enum Diagonal {
    /// It is absent.
    Absent,
    /// Its elements are as the formula says.
    Alike,
    /// Other elements, over the axes without i.
    Other(Expr),
}

/// How a column lies to a row.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Before,
    Same,
    After,
}

/// `m` as a separable operator, if it has as many rows as columns and is one.
pub fn separate(m: &Mix) -> Option<Separable> {
    if m.ty.rows != m.ty.cols || m.special.is_some() || !m.products.is_empty() {
        return None;
    }
    let (i, j) = (axis_var(m.rank()), axis_var(m.rank() + 1));
    let present = |order| assume(&m.support, i, j, order).as_bool();
    if present(Order::Before) != Some(true) || present(Order::After) != Some(false) {
        return None;
    }
    let mut below = Terms::default();
    below.add(&assume(&m.value, i, j, Order::Before), i, j, &Factor::one())?;
    let mut on = Terms::default();
    on.add(&assume(&m.value, i, j, Order::Same), i, j, &Factor::one())?;
    // On the diagonal the row is the column. What rows share below it is taken off there too.
    let at_column = |e: &Expr| e.with_var(i, &Expr::from(j));
    let mut diagonal: Vec<Expr> = on.rows.iter().chain(&on.columns).map(at_column).collect();
    for shared in below.rows.iter().map(at_column) {
        match diagonal.iter().position(|e| *e == shared) {
            Some(place) => drop(diagonal.remove(place)),
            None => diagonal.push(-shared),
        }
    }
    let alike = diagonal.len() == below.columns.len() && below.columns.iter().all(|e| diagonal.contains(e));
    let diagonal = match present(Order::Same)? {
        false => Diagonal::Absent,
        true if alike => Diagonal::Alike,
        true => Diagonal::Other(sum(diagonal)),
    };
    Some(Separable { column: sum(below.columns), slope: sum(below.slopes), diagonal })
}

fn sum(terms: Vec<Expr>) -> Expr {
    terms.into_iter().reduce(|a, b| a + b).unwrap_or(Expr::float(0.0))
}

/// An integer expression of dims alone as a dim.
fn as_dim(e: &Expr) -> Option<Dim> {
    match e.node() {
        Node::Int(n) => Some(Dim::constant(*n)),
        Node::Dim(d) => Some(d.clone()),
        Node::Binary(Binary::Add, a, b) => as_dim(a)?.add(&as_dim(b)?).ok(),
        Node::Binary(Binary::Sub, a, b) => as_dim(a)?.sub(&as_dim(b)?).ok(),
        Node::Binary(Binary::Mul, a, b) => as_dim(a)?.mul(&as_dim(b)?).ok(),
        _ => None,
    }
}

/// The integer expression `e` as `c (i - j) + k`.
fn by_distance(e: &Expr, i: Var, j: Var) -> Option<(i64, i64)> {
    let (c, rest) = e.linear_in(i)?;
    let (other, rest) = rest.linear_in(j)?;
    (c.checked_add(other) == Some(0)).then_some(())?;
    Some((c, as_dim(&rest)?.as_constant()?))
}

/// `e` where the column lies so to the row: comparisons that this decides are decided.
fn assume(e: &Expr, i: Var, j: Var, order: Order) -> Expr {
    e.rewrite(&mut |e| {
        let Node::Compare(op, a, b) = e.node() else { return None };
        let (c, k) = by_distance(&(a.clone() - b.clone()), i, j)?;
        // The least and greatest of c (i - j) + k, which is compared with 0.
        let end = |sign: i64| if c.signum() == sign { k.checked_add(c.abs()) } else { k.checked_sub(c.abs()) };
        let (low, high) = match order {
            _ if c == 0 => (Some(k), Some(k)),
            Order::Same => (Some(k), Some(k)),
            Order::Before if c > 0 => (end(1), None),
            Order::Before => (None, end(1)),
            Order::After if c > 0 => (None, end(-1)),
            Order::After => (end(-1), None),
        };
        let (least, most) = (low.unwrap_or(i64::MIN), high.unwrap_or(i64::MAX));
        let decided = |all: bool, none: bool| (all || none).then_some(Expr::bool(all));
        match op {
            Compare::Lt => decided(most < 0, least >= 0),
            Compare::Le => decided(most <= 0, least > 0),
            Compare::Gt => decided(least > 0, most <= 0),
            Compare::Ge => decided(least >= 0, most < 0),
            Compare::Eq => decided(least == 0 && most == 0, least > 0 || most < 0),
            Compare::Ne => decided(least > 0 || most < 0, least == 0 && most == 0),
        }
    })
}

/// What a term is multiplied by: free of row and column.
#[derive(Clone)]
struct Factor {
    negative: bool,
    by: Option<Expr>,
}

impl Factor {
    fn one() -> Factor {
        Factor { negative: false, by: None }
    }

    fn negated(&self) -> Factor {
        Factor { negative: !self.negative, ..self.clone() }
    }

    fn times(&self, e: &Expr) -> Factor {
        let by = match &self.by {
            Some(by) => by.clone() * e.clone(),
            None => e.clone(),
        };
        Factor { by: Some(by), ..self.clone() }
    }

    fn of(&self, e: Expr) -> Expr {
        let scaled = match &self.by {
            Some(by) => by.clone() * e,
            None => e,
        };
        if self.negative { -scaled } else { scaled }
    }
}

/// The terms of a sum by what they depend on.
#[derive(Default)]
struct Terms {
    rows: Vec<Expr>,
    columns: Vec<Expr>,
    slopes: Vec<Expr>,
}

impl Terms {
    /// Adds the terms of `factor * e`; `None` when one depends on row and column in another way.
    fn add(&mut self, e: &Expr, i: Var, j: Var, factor: &Factor) -> Option<()> {
        let free = |e: &Expr| !e.mentions(i) && !e.mentions(j);
        match e.node() {
            Node::Float(0.0) => {}
            Node::Binary(Binary::Add, a, b) => {
                self.add(a, i, j, factor)?;
                self.add(b, i, j, factor)?;
            }
            Node::Binary(Binary::Sub, a, b) => {
                self.add(a, i, j, factor)?;
                self.add(b, i, j, &factor.negated())?;
            }
            Node::Unary(Unary::Neg, a) => self.add(a, i, j, &factor.negated())?,
            Node::Binary(Binary::Mul, a, b) if free(a) && !free(b) => self.add(b, i, j, &factor.times(a))?,
            Node::Binary(Binary::Mul, a, b) if free(b) && !free(a) => self.add(a, i, j, &factor.times(b))?,
            _ if !e.mentions(j) => self.rows.push(factor.of(e.clone())),
            _ if !e.mentions(i) => self.columns.push(factor.of(e.clone())),
            Node::ToFloat(distance) => {
                let (distance, positive) = match distance.node() {
                    Node::Unary(Unary::Abs, d) => (d, true),
                    _ => (distance, false),
                };
                let (c, k) = by_distance(distance, i, j)?;
                // Below the diagonal i - j is positive; on it the term is 0.
                (k == 0).then_some(())?;
                let c = if positive { c.checked_abs()? } else { c };
                self.slopes.push(factor.of(Expr::float(c as f64)));
            }
            _ => return None,
        }
        Some(())
    }
}
