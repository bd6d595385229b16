//! What is known of a mixing operator without its data: the support as a canonical term, and algebraic structure.
//!
//! The same term is read by the verifier (is `decay` allowed here?), by the rewriter's conditions, and by the block
//! loops of tile programs (which blocks can be skipped), so that all three agree by construction.

use crate::dim::Dim;
use crate::expr::{Expr, SlowId};
use crate::program::ValueId;

/// A row position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Position {
    /// The row number i.
    Row,
    /// `i + S - T`.
    End,
    /// `i + n[b] - T`.
    Lengths(ValueId),
}

/// One condition on (i, j); p is the row's position.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// j <= p + by.
    AtMost {
        /// Offset.
        by: Dim,
        /// Position.
        at: Position,
    },
    /// j >= p + by.
    AtLeast {
        /// Offset.
        by: Dim,
        /// Position.
        at: Position,
    },
    /// floor(p / size) == floor(j / size).
    SameBlock {
        /// Rows and columns of a block.
        size: i64,
        /// Position.
        at: Position,
    },
    /// (p - j) mod step == 0.
    Dilated {
        /// Step.
        step: i64,
        /// Position.
        at: Position,
    },
    /// j < count.
    FirstColumns(Dim),
    /// j < n[b], n clamped to 0..=S (`mask_lengths`).
    Lengths(ValueId),
    /// s[i] == s[j] (`mask_segments`).
    Segments(ValueId),
    /// The block of (i, j) is marked (`mask_blocks`).
    Blocks {
        /// Boolean tensor over blocks.
        mask: ValueId,
        /// Rows of a block.
        rows: i64,
        /// Columns of a block.
        cols: i64,
    },
    /// The element is marked (`mask_with`).
    Marked(ValueId),
    /// floor(i / rows) == floor(j / cols): `block_diagonal`.
    Diagonal {
        /// Rows of a block.
        rows: i64,
        /// Columns of a block.
        cols: i64,
    },
    /// A set that is only known with the data or has no shorter description (`top_k`, `compose`); the value is the
    /// operator itself.
    Of(ValueId),
}

/// A union of intersections of conditions. No region is the empty support, a region without conditions is everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Support {
    /// Regions, sorted, no duplicates; the conditions of each sorted, no duplicates.
    pub regions: Vec<Vec<Condition>>,
}

impl Support {
    /// Everything.
    pub fn full() -> Support {
        Support { regions: vec![Vec::new()] }
    }

    /// One condition.
    pub fn only(condition: Condition) -> Support {
        Support { regions: vec![vec![condition]] }
    }

    /// All of several conditions.
    pub fn all(conditions: impl IntoIterator<Item = Condition>) -> Support {
        Support { regions: vec![conditions.into_iter().collect()] }.canonical()
    }

    /// Whether every (i, j) is present whatever the data.
    pub fn is_full(&self) -> bool {
        self.regions.iter().any(Vec::is_empty)
    }

    /// Intersection: products of regions.
    pub fn intersect(&self, other: &Support) -> Support {
        let mut regions = Vec::new();
        for a in &self.regions {
            for b in &other.regions {
                regions.push(a.iter().chain(b).cloned().collect());
            }
        }
        Support { regions }.canonical()
    }

    /// Union.
    pub fn union(&self, other: &Support) -> Support {
        Support { regions: self.regions.iter().chain(&other.regions).cloned().collect() }.canonical()
    }

    fn canonical(mut self) -> Support {
        for region in &mut self.regions {
            region.sort();
            region.dedup();
        }
        // A region that another one contains (has a subset of its conditions) adds nothing.
        self.regions.sort();
        self.regions.dedup();
        let all = self.regions.clone();
        self.regions.retain(|r| !all.iter().any(|s| s != r && s.iter().all(|c| r.contains(c))));
        self
    }

    /// Whether j <= p holds all over the support, for the position p.
    pub fn below_diagonal(&self, position: Position, rows: &Dim, cols: &Dim) -> bool {
        self.regions.iter().all(|region| {
            region.iter().any(|c| match c {
                Condition::AtMost { by, at } => {
                    let same = *at == position
                        || (rows == cols
                            && matches!(at, Position::Row | Position::End)
                            && matches!(position, Position::Row | Position::End));
                    same && by.as_constant().is_some_and(|n| n <= 0)
                }
                _ => false,
            })
        })
    }
}

/// What is known of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Where it may be present.
    pub support: Support,
    /// Whether no element is negative.
    pub non_negative: bool,
    /// Whether M[i,j] depends on i - j alone.
    pub toeplitz: bool,
    /// Rank of the values, when bounded by a formula (of `gram` the inner length).
    pub rank: Option<Dim>,
}

impl Default for Structure {
    /// Nothing is known.
    fn default() -> Structure {
        Structure { support: Support::full(), non_negative: false, toeplitz: false, rank: None }
    }
}

impl Structure {
    /// Only the support is known.
    pub fn of(support: Support) -> Structure {
        Structure { support, ..Structure::default() }
    }
}

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
    /// index; leading batch axes are the callback's business.
    pub element: &'a dyn Fn(ValueId, &[Expr]) -> Expr,
}

impl Condition {
    /// The condition as a boolean expression; `None` for [`Condition::Of`].
    pub fn expr(&self, cx: &SupportContext<'_>) -> Option<Expr> {
        let position = |at: &Position| match at {
            Position::Row => cx.row.clone(),
            Position::End => cx.row.clone() + (cx.cols.clone() - cx.rows.clone()),
            Position::Lengths(n) => cx.row.clone() + ((cx.element)(*n, &[]) - cx.rows.clone()),
        };
        let j = || cx.col.clone();
        Some(match self {
            Condition::AtMost { by, at } => j().le(position(at) + Expr::from(by)),
            Condition::AtLeast { by, at } => j().ge(position(at) + Expr::from(by)),
            Condition::SameBlock { size, at } => position(at).floor_div(*size).equals(j().floor_div(*size)),
            Condition::Dilated { step, at } => (position(at) - j()).modulo(*step).equals(0),
            Condition::FirstColumns(count) => j().lt(&count.clone()),
            Condition::Lengths(n) => j().lt((cx.element)(*n, &[])),
            Condition::Segments(s) => (cx.element)(*s, std::slice::from_ref(&cx.row)).equals((cx.element)(*s, &[j()])),
            Condition::Blocks { mask, rows, cols } => {
                (cx.element)(*mask, &[cx.row.clone().floor_div(*rows), j().floor_div(*cols)])
            }
            Condition::Marked(m) => (cx.element)(*m, &[cx.row.clone(), j()]),
            Condition::Diagonal { rows, cols } => cx.row.clone().floor_div(*rows).equals(j().floor_div(*cols)),
            Condition::Of(_) => return None,
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
