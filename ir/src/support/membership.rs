//! Supports as conditions on the row and the column.

use super::{Condition, Position, Support};
use crate::expr::{Expr, SlowId};
use crate::program::ValueId;

/// What the expression of a support needs to know.
pub struct SupportContext<'a> {
    /// Row number i (integer expression).
    pub row: Expr,
    /// Column number j.
    pub col: Expr,
    /// Number of rows T.
    pub rows: Expr,
    /// Number of columns S.
    pub cols: Expr,
    /// An element of a data operand (lengths, segments, masks) for the present batch index: the value and its trailing
    /// index. Leading batch axes are the callback's business, and broadcasting is too: an axis of length 1 is read
    /// at 0, an axis that the value lacks is not read. Lengths are `[B]` over the first batch dim of their mask.
    pub element: &'a dyn Fn(ValueId, &[Expr]) -> Expr,
}

impl Condition {
    /// The condition as a boolean expression; `None` for [`Condition::Data`].
    pub fn expr(&self, cx: &SupportContext<'_>) -> Option<Expr> {
        let length = |n: &ValueId| (cx.element)(*n, &[]).max(0).min(cx.cols.clone());
        let position = |at: &Position| match at {
            Position::Row => cx.row.clone(),
            Position::End => cx.row.clone() + (cx.cols.clone() - cx.rows.clone()),
            Position::Lengths(n) => cx.row.clone() + (length(n) - cx.rows.clone()),
        };
        let (i, j) = (|| cx.row.clone(), || cx.col.clone());
        Some(match self {
            Condition::AtMost { by, at } => j().le(position(at) + Expr::from(by)),
            Condition::AtLeast { by, at } => j().ge(position(at) + Expr::from(by)),
            Condition::SameBlock { size, at } => position(at).floor_div(*size).equals(j().floor_div(*size)),
            Condition::Dilated { step, at } => (position(at) - j()).modulo(*step).equals(0),
            Condition::FirstColumns(count) => j().lt(count),
            Condition::Lengths(n) => j().lt((cx.element)(*n, &[])),
            Condition::Segments(s) => (cx.element)(*s, &[i()]).equals((cx.element)(*s, &[j()])),
            Condition::Blocks { mask, rows, cols } => {
                (cx.element)(*mask, &[i().floor_div(*rows), j().floor_div(*cols)])
            }
            Condition::Marked(m) => (cx.element)(*m, &[i(), j()]),
            Condition::Diagonal { rows, cols } => i().floor_div(rows).equals(j().floor_div(cols)),
            Condition::Permuted { stride, count } => {
                j().equals(i().modulo(count) * Expr::from(stride) + i().floor_div(count))
            }
            Condition::Stages { cols, inner, outer } => {
                (i() - Expr::from(inner) * j().floor_div(cols)).modulo(outer).lt(inner)
            }
            Condition::Transposed(c) => {
                return c.expr(&SupportContext {
                    row: j(),
                    col: i(),
                    rows: cx.cols.clone(),
                    cols: cx.rows.clone(),
                    element: cx.element,
                });
            }
            Condition::Data => return None,
        })
    }
}

impl Support {
    /// The support as a boolean expression of (i, j); `None` when part of it is only known with the operator's data.
    pub fn expr(&self, cx: &SupportContext<'_>) -> Option<Expr> {
        let mut any = Expr::bool(false);
        for region in &self.regions {
            let mut all = Expr::bool(true);
            for condition in region {
                all = all.and(condition.expr(cx)?);
            }
            any = any.or(all);
        }
        Some(any)
    }
}

/// A tensor element as an expression, for callbacks of [`SupportContext`].
pub fn element_of(tensor: SlowId, batch: &[Expr], index: &[Expr]) -> Expr {
    Expr::load(tensor, batch.iter().chain(index).cloned().collect())
}
