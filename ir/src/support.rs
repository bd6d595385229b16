//! What is known of a mixing operator without its data: the support as a canonical term, and algebraic structure.
//!
//! The same term is read by the verifier (is `decay` allowed here?), by the rewriter's conditions, and by the block
//! loops of tile programs (which blocks can be skipped), so that all three agree by construction.
//!
//! A term says where elements may be; with [`Condition::Data`] in a region, only the operator itself knows which of the
//! region's elements are there. Such terms are bounds: equal terms with it need not be equal sets.

mod membership;
mod products;

pub use membership::{SupportContext, element_of};

use crate::dim::{Dim, DimBounds};
use crate::program::ValueId;
use crate::ty::Align;
use products::compose_regions;

/// A row position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Position {
    /// The row number i.
    Row,
    /// `i + S - T`.
    End,
    /// `i + n[b] - T`, n clamped to 0..=S.
    Lengths(ValueId),
}

impl From<Align> for Position {
    fn from(align: Align) -> Position {
        match align {
            Align::End => Position::End,
            Align::Lengths(n) => Position::Lengths(n),
        }
    }
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
    /// `j < n[b]`, n clamped to 0..=S (`mask_lengths`).
    Lengths(ValueId),
    /// `s[i] == s[j]` (`mask_segments`).
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
        rows: Dim,
        /// Columns of a block.
        cols: Dim,
    },
    /// j == (i mod count) * stride + floor(i / count): `permutation`.
    Permuted {
        /// Distance of columns that neighbouring rows read.
        stride: Dim,
        /// Rows that read with one remainder.
        count: Dim,
    },
    /// (i - inner * floor(j / cols)) mod outer < inner: `monarch`, whose first stage turns every `cols` columns into
    /// `inner` middle places, and whose second stage reads middle places that are equal modulo `outer`.
    Stages {
        /// Columns of a block of the first stage.
        cols: Dim,
        /// Middle places of a block of the first stage.
        inner: Dim,
        /// Blocks of the second stage.
        outer: Dim,
    },
    /// The condition holds of (j, i), in the matrix with rows and columns exchanged.
    Transposed(Box<Condition>),
    /// A set that is only known with the data, or has no shorter description (`top_k`, some `compose`): of the region's
    /// elements, those that the operator itself has. Of two regions with this condition nothing can be compared.
    Data,
}

impl Condition {
    /// Whether every (i, j) of this condition also satisfies `other`, as far as the terms tell.
    fn implies(&self, other: &Condition) -> bool {
        let difference = |a: &Dim, b: &Dim| a.sub(b).ok().and_then(|d| d.as_constant());
        match (self, other) {
            (Condition::AtMost { by: a, at: p }, Condition::AtMost { by: b, at: q }) => {
                p == q && difference(a, b).is_some_and(|d| d <= 0)
            }
            (Condition::AtLeast { by: a, at: p }, Condition::AtLeast { by: b, at: q }) => {
                p == q && difference(a, b).is_some_and(|d| d >= 0)
            }
            (Condition::FirstColumns(a), Condition::FirstColumns(b)) => difference(a, b).is_some_and(|d| d <= 0),
            (Condition::SameBlock { size: a, at: p }, Condition::SameBlock { size: b, at: q }) => {
                p == q && b.checked_rem(*a) == Some(0)
            }
            (Condition::Dilated { step: a, at: p }, Condition::Dilated { step: b, at: q }) => {
                p == q && a.checked_rem(*b) == Some(0)
            }
            _ => self == other,
        }
    }

    /// The condition on (j, i) in the transposed matrix.
    fn transposed(&self) -> Condition {
        let negated = |by: &Dim| by.scale(-1).ok();
        match self {
            // At `End` both j <= i + S - T + by and its mirror read the difference of the two lengths.
            Condition::AtMost { by, at: at @ (Position::Row | Position::End) } => match negated(by) {
                Some(by) => Condition::AtLeast { by, at: *at },
                None => Condition::Transposed(Box::new(self.clone())),
            },
            Condition::AtLeast { by, at: at @ (Position::Row | Position::End) } => match negated(by) {
                Some(by) => Condition::AtMost { by, at: *at },
                None => Condition::Transposed(Box::new(self.clone())),
            },
            Condition::SameBlock { at: Position::Row, .. }
            | Condition::Dilated { at: Position::Row | Position::End, .. }
            | Condition::Segments(_)
            | Condition::Data => self.clone(),
            Condition::Diagonal { rows, cols } => Condition::Diagonal { rows: cols.clone(), cols: rows.clone() },
            Condition::Permuted { stride, count } => {
                Condition::Permuted { stride: count.clone(), count: stride.clone() }
            }
            Condition::Transposed(inner) => (**inner).clone(),
            _ => Condition::Transposed(Box::new(self.clone())),
        }
    }
}

/// A union of intersections of conditions. No region is the empty support, a region without conditions is everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Support {
    /// Regions, sorted, no duplicates; the conditions of each sorted, none implied by another.
    pub regions: Vec<Vec<Condition>>,
}

/// Regions that a term may have: a longer union (of many masks with sinks) is described by its common conditions.
const MAX_REGIONS: usize = 16;

/// Conditions that a region may have.
const MAX_CONDITIONS: usize = 24;

impl Support {
    /// Everything.
    pub fn full() -> Support {
        Support { regions: vec![Vec::new()] }
    }

    /// Nothing.
    pub fn empty() -> Support {
        Support { regions: Vec::new() }
    }

    /// One condition.
    pub fn only(condition: Condition) -> Support {
        Support { regions: vec![vec![condition]] }
    }

    /// All of several conditions.
    pub fn all(conditions: impl IntoIterator<Item = Condition>) -> Support {
        Support { regions: vec![conditions.into_iter().collect()] }.canonical()
    }

    /// i == j.
    pub fn diagonal() -> Support {
        let (by, at) = (Dim::constant(0), Position::Row);
        Support::all([Condition::AtMost { by: by.clone(), at }, Condition::AtLeast { by, at }])
    }

    /// Whether every (i, j) is present whatever the data.
    pub fn is_full(&self) -> bool {
        self.regions.iter().any(Vec::is_empty)
    }

    /// Whether the term says all: no region has [`Condition::Data`].
    pub fn is_exact(&self) -> bool {
        !self.regions.iter().flatten().any(|c| *c == Condition::Data)
    }

    /// The smallest exact term that holds this one: without [`Condition::Data`].
    pub fn bound(&self) -> Support {
        let keep = |r: &Vec<Condition>| r.iter().filter(|c| **c != Condition::Data).cloned().collect();
        Support { regions: self.regions.iter().map(keep).collect() }.canonical()
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

    /// The support of the transposed operator.
    pub fn transpose(&self) -> Support {
        let mirror = |r: &Vec<Condition>| r.iter().map(Condition::transposed).collect();
        Support { regions: self.regions.iter().map(mirror).collect() }.canonical()
    }

    /// The support of the product of an operator with this support and one with `other`: the (i, j) that some k joins.
    /// `shape` is rows, inner length, columns.
    ///
    /// Exact where both are bands of one square size and the bands do not need places beyond the ends, where one side
    /// is diagonal, and where both are full over at least one k; else a bound with [`Condition::Data`].
    pub fn compose(&self, other: &Support, shape: [&Dim; 3], bounds: &DimBounds) -> Support {
        let mut regions = Vec::new();
        for a in &self.regions {
            for b in &other.regions {
                regions.extend(compose_regions(a, b, shape, bounds));
            }
        }
        Support { regions }.canonical()
    }

    fn canonical(mut self) -> Support {
        for region in &mut self.regions {
            region.sort();
            region.dedup();
            if region.len() > MAX_CONDITIONS {
                region.truncate(MAX_CONDITIONS - 1);
                region.push(Condition::Data);
                region.dedup();
            }
            let all = region.clone();
            region.retain(|c| !all.iter().any(|d| d != c && d.implies(c)));
        }
        self.regions.sort();
        self.regions.dedup();
        // A region that another one contains (all of whose conditions it implies) adds nothing.
        let all = self.regions.clone();
        let within = |r: &[Condition], s: &[Condition]| s.iter().all(|c| r.iter().any(|d| d.implies(c)));
        let mut n = 0;
        self.regions.retain(|r| {
            let own = n;
            n += 1;
            !all.iter().enumerate().any(|(m, s)| m != own && within(r, s) && (m < own || !within(s, r)))
        });
        if self.regions.len() > MAX_REGIONS {
            let mut common: Vec<Condition> =
                self.regions[0].iter().filter(|c| self.regions.iter().all(|r| r.contains(c))).cloned().collect();
            common.push(Condition::Data);
            common.sort();
            common.dedup();
            self.regions = vec![common];
        }
        self
    }

    /// Whether j <= p holds all over the support, for the position p of a matrix of `rows` x `cols`.
    pub fn below_diagonal(&self, position: Position, rows: &Dim, cols: &Dim, bounds: &DimBounds) -> bool {
        // The position less the row number, where the dims tell.
        let shift = |p: Position| match p {
            Position::Row => Some(Dim::constant(0)),
            Position::End => cols.sub(rows).ok(),
            Position::Lengths(_) => None,
        };
        self.regions.iter().all(|region| {
            region.iter().any(|c| match c {
                Condition::AtMost { by, at } => {
                    let slack = if *at == position {
                        by.scale(-1).ok()
                    } else {
                        shift(position).zip(shift(*at)).and_then(|(p, q)| p.sub(&q).ok()?.sub(by).ok())
                    };
                    slack.is_some_and(|d| not_negative(&d, bounds))
                }
                // j < n[b], and the last of T rows stands at n[b] - 1: only a single row is below.
                Condition::Lengths(n) => position == Position::Lengths(*n) && rows.is(1),
                _ => false,
            })
        })
    }
}

/// Whether the value is not negative for any value of the symbols.
pub(crate) fn not_negative(d: &Dim, bounds: &DimBounds) -> bool {
    d.bounds(bounds).is_ok_and(|(low, _)| low >= 0)
}

/// What is known of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Where it may be present.
    pub support: Support,
    /// Whether no element is negative.
    pub non_negative: bool,
    /// Whether `M[i,j]` depends on i - j alone.
    pub toeplitz: bool,
    /// A bound of the rank of some matrix that agrees with the operator wherever an element is present: of `gram`, masked
    /// or not, the inner length; of `semiseparable` the states. Of an operator that is present everywhere its own rank.
    pub rank: Option<Dim>,
}

impl Default for Structure {
    /// Nothing is known.
    fn default() -> Structure {
        Structure { support: Support::full(), non_negative: false, toeplitz: false, rank: None }
    }
}

impl Structure {
    /// A bound of the operator's own rank, where absent elements are zeros.
    pub fn own_rank(&self) -> Option<Dim> {
        self.rank.clone().filter(|_| self.support.is_full())
    }

    /// Only the support is known.
    pub fn of(support: Support) -> Structure {
        Structure { support, ..Structure::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_most(by: i64) -> Condition {
        Condition::AtMost { by: Dim::constant(by), at: Position::Row }
    }

    fn at_least(by: i64) -> Condition {
        Condition::AtLeast { by: Dim::constant(by), at: Position::Row }
    }

    #[test]
    fn equal_supports_have_equal_terms() {
        let causal = Support::only(at_most(0));
        assert_eq!(causal.intersect(&Support::only(at_most(3))), causal);
        assert_eq!(causal.union(&Support::only(at_most(3))), Support::only(at_most(3)));
        let window = Support::all([at_most(0), at_least(-4)]);
        assert_eq!(causal.intersect(&Support::only(at_least(-4))), window);
        assert_eq!(causal.union(&window), causal);
        assert_eq!(causal.union(&Support::full()), Support::full());
        assert_eq!(causal.intersect(&Support::empty()), Support::empty());
        assert_eq!(causal.transpose().transpose(), causal);
        assert_eq!(Support::diagonal().transpose(), Support::diagonal());
        let t = Dim::symbol("T");
        let first = |n: i64| Support::only(Condition::FirstColumns(t.add(&Dim::constant(n)).unwrap()));
        assert_eq!(first(0).union(&first(2)), first(2));
    }

    #[test]
    fn products_of_bands_are_bands() {
        let n = Dim::symbol("T");
        let none = DimBounds::from([("T".into(), (0, 64))]);
        let product = |a: &Support, b: &Support| a.compose(b, [&n, &n, &n], &none);
        let (causal, strict) = (Support::only(at_most(0)), Support::only(at_most(-1)));
        assert_eq!(product(&causal, &causal), causal);
        assert_eq!(product(&strict, &strict), Support::only(at_most(-2)));
        assert_eq!(product(&Support::diagonal(), &strict), strict);
        let band = |low, high| Support::all([at_least(low), at_most(high)]);
        assert_eq!(product(&band(-2, 1), &band(-1, 3)), band(-3, 4));
        // Up and down again needs a place beyond the end.
        assert!(!product(&band(1, 1), &band(-1, -1)).is_exact());
        // Full times full is full where there is something between.
        assert!(!product(&Support::full(), &Support::full()).is_exact());
        let some = DimBounds::from([("T".into(), (1, 64))]);
        assert!(Support::full().compose(&Support::full(), [&n, &n, &n], &some).is_full());
    }

    #[test]
    fn what_only_the_operator_knows_stays_a_bound() {
        let chosen = Support::all([at_most(0), Condition::Data]);
        assert!(!chosen.is_exact());
        assert_eq!(chosen.bound(), Support::only(at_most(0)));
        assert_eq!(chosen.union(&Support::only(at_most(0))), Support::only(at_most(0)));
        assert!(chosen.below_diagonal(Position::Row, &Dim::constant(5), &Dim::constant(5), &DimBounds::new()));
    }
}
