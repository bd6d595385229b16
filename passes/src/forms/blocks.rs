//! Block loops over the support of an operator: which key blocks a query block may meet.
//!
//! Read off the support's canonical term. A condition bounds the columns from above or below for the rows of a block;
//! what bounds every region bounds the loop, and a block is left out when no region can meet it.

use crate::lower::lambda::axis_var;
use crate::lower::{Mix, batched, guard_loads};
use mixc_ir::expr::{Binary, COL, Expr, Node, TileId, Var};
use mixc_ir::support::{Condition, Position};
use mixc_ir::tile::TileBuilder;
use mixc_ir::ty::Align;

/// A block of rows: first row, one past the last, both below the number of rows (the block is not empty).
pub struct RowBlock {
    /// First row.
    pub first: Expr,
    /// Last row.
    pub last: Expr,
}

/// The columns that a loop goes over, and the blocks it leaves out.
pub struct Columns {
    /// First column, a multiple of nothing in particular.
    pub from: Expr,
    /// One past the last column.
    pub to: Expr,
}

/// What a condition says about the columns of a block of rows: bounds, where it gives any.
struct Bounds {
    low: Option<Expr>,
    high: Option<Expr>,
}

fn bounds(m: &Mix, c: &Condition, rows: &RowBlock, batch: &[Expr]) -> Bounds {
    let none = Bounds { low: None, high: None };
    let position = |at: &Position, row: &Expr| position_of(m, at, row, batch);
    match c {
        Condition::AtMost { by, at } => {
            Bounds { high: Some(position(at, &rows.last) + Expr::from(by) + Expr::int(1)), ..none }
        }
        Condition::AtLeast { by, at } => Bounds { low: Some(position(at, &rows.first) + Expr::from(by)), ..none },
        Condition::SameBlock { size, at } => {
            let block = |row: &Expr| position(at, row).floor_div(*size);
            Bounds {
                low: Some(block(&rows.first) * Expr::int(*size)),
                high: Some((block(&rows.last) + Expr::int(1)) * Expr::int(*size)),
            }
        }
        Condition::FirstColumns(n) => Bounds { high: Some(Expr::from(n)), ..none },
        Condition::Lengths(n) => Bounds { high: Some(lengths(m, *n, batch)), ..none },
        Condition::Diagonal { rows: p, cols: q } => {
            let block = |row: &Expr| row.clone().floor_div(Expr::from(p));
            Bounds {
                low: Some(block(&rows.first) * Expr::from(q)),
                high: Some((block(&rows.last) + Expr::int(1)) * Expr::from(q)),
            }
        }
        _ => none,
    }
}

fn lengths(m: &Mix, n: mixc_ir::program::ValueId, batch: &[Expr]) -> Expr {
    let Some((_, l)) = m.data.iter().find(|(v, _)| *v == n) else { return Expr::from(&m.ty.cols) };
    // As the language has it: n is clamped to 0..=S.
    batched(l, &m.ty.batch, batch, &[]).max(0).min(Expr::from(&m.ty.cols))
}

fn position_of(m: &Mix, at: &Position, row: &Expr, batch: &[Expr]) -> Expr {
    match at {
        Position::Row => row.clone(),
        Position::End => row.clone() + (Expr::from(&m.ty.cols) - Expr::from(&m.ty.rows)),
        Position::Lengths(n) => row.clone() + (lengths(m, *n, batch) - Expr::from(&m.ty.rows)),
    }
}

/// The columns that rows of a block may meet. Expressions may load data operands (lengths).
pub fn columns(m: &Mix, rows: &RowBlock, batch: &[Expr]) -> Columns {
    let total = Expr::from(&m.ty.cols);
    let (mut from, mut to): (Option<Expr>, Option<Expr>) = (None, None);
    let mut all_low = true;
    let mut all_high = true;
    for region in &m.structure.support.regions {
        let (mut low, mut high): (Option<Expr>, Option<Expr>) = (None, None);
        for c in region {
            let b = bounds(m, c, rows, batch);
            low = join(low, b.low, Expr::max);
            high = join(high, b.high, Expr::min);
        }
        all_low &= low.is_some();
        all_high &= high.is_some();
        from = join(from, low, Expr::min);
        to = join(to, high, Expr::max);
    }
    Columns {
        from: from.filter(|_| all_low).map_or(Expr::int(0), |e| e.max(0)),
        to: to.filter(|_| all_high).map_or(total.clone(), |e| e.min(total)),
    }
}

/// The same for one row and a tile of channels, whose batch indices differ: bounds that differ among them are left out.
pub fn columns_of_channels(m: &Mix, row: &Expr, batch: &[Expr]) -> Columns {
    let rows = RowBlock { first: row.clone(), last: row.clone() };
    let found = columns(m, &rows, batch);
    let alike = |e: Expr, otherwise: Expr| if e.mentions(COL) { otherwise } else { e };
    Columns { from: alike(found.from, Expr::int(0)), to: alike(found.to, Expr::from(&m.ty.cols)) }
}

fn join(a: Option<Expr>, b: Option<Expr>, f: impl Fn(Expr, Expr) -> Expr) -> Option<Expr> {
    match (a, b) {
        (Some(a), Some(b)) => Some(f(a, b)),
        (a, b) => a.or(b),
    }
}

/// Whether the columns `c0..c0+width` can meet the support in these rows; `None` when the loop's range says it all.
pub fn meets(m: &Mix, rows: &RowBlock, batch: &[Expr], c0: &Expr, width: usize) -> Option<Expr> {
    if m.structure.support.regions.len() < 2 {
        return None;
    }
    let mut any = Expr::bool(false);
    for region in &m.structure.support.regions {
        let mut all = Expr::bool(true);
        for c in region {
            let b = bounds(m, c, rows, batch);
            if let Some(low) = b.low {
                all = all.and(low.lt(c0.clone() + Expr::int(width as i64)));
            }
            if let Some(high) = b.high {
                all = all.and(c0.clone().lt(high));
            }
        }
        any = any.or(all);
    }
    Some(any)
}

/// The end of the leading columns whose every element is present for every row of the block, when the support is one
/// region of upper bounds (causal and the like): blocks up to there need no test.
pub fn whole_until(m: &Mix, rows: &RowBlock, batch: &[Expr]) -> Option<Expr> {
    let [region] = m.structure.support.regions.as_slice() else { return None };
    let mut end = Expr::from(&m.ty.cols);
    for c in region {
        end = end.min(match c {
            Condition::AtMost { by, at } => position_of(m, at, &rows.first, batch) + Expr::from(by) + Expr::int(1),
            Condition::FirstColumns(n) => Expr::from(n),
            Condition::Lengths(n) => lengths(m, *n, batch),
            _ => return None,
        });
    }
    Some(end.max(0))
}

/// The end that counts of a block are reckoned from: the loop's own where it is arithmetic on lengths, else the last
/// column (counts may not read tensors; what lies past the loop's end is absent from the support then).
pub fn counted_to(m: &Mix, to: &Expr) -> Expr {
    if super::buffers_of(to).is_empty() { to.clone() } else { Expr::from(&m.ty.cols) }
}

/// An expression over the operator's axes, at a batch index, row and column.
pub fn at(m: &Mix, e: &Expr, batch: &[Expr], row: &Expr, col: &Expr) -> Expr {
    let mut map: Vec<(Var, Expr)> = batch.iter().enumerate().map(|(k, e)| (axis_var(k), e.clone())).collect();
    map.push((axis_var(m.rank()), row.clone()));
    map.push((axis_var(m.rank() + 1), col.clone()));
    e.with_vars(&map)
}

/// The element of an operator at a place, 0 where it is absent.
pub fn element(m: &Mix, batch: &[Expr], row: &Expr, col: &Expr) -> Expr {
    let [value, present] = [&m.value, &m.support].map(|e| at(m, e, batch, row, col));
    Expr::select(present, value, Expr::float(0.0))
}

/// The terms of a conjunction.
pub fn conjunction(e: &Expr, terms: &mut Vec<Expr>) {
    match e.node() {
        Node::Binary(Binary::And, a, b) => {
            conjunction(a, terms);
            conjunction(b, terms);
        }
        Node::Bool(true) => {}
        _ => terms.push(e.clone()),
    }
}

/// The part of the support that is the same for every row, as a condition over the operator's axes: lengths and padding.
/// What such columns hold (a cache past its length) may be anything at all, so it must not even be multiplied by 0.
pub fn key_condition(m: &Mix) -> Expr {
    let mut terms = Vec::new();
    conjunction(&m.support, &mut terms);
    terms.into_iter().filter(|term| !term.mentions(axis_var(m.rank()))).fold(Expr::bool(true), Expr::and)
}

/// The element `e` of a tile whose rows are columns of the operator, here `key`: read only where the condition `keys`
/// over the operator's axes holds, else 0.
pub fn present_rows(m: &Mix, keys: &Expr, batch: &[Expr], key: &Expr, e: Expr) -> Expr {
    if keys.as_bool() == Some(true) {
        return e;
    }
    // A condition that is the same for every row: any row will do.
    let present = at(m, keys, batch, &Expr::int(0), key);
    let read = guard_loads(&e, &present);
    match e.node() {
        Node::Load(l) if l.guard.is_none() => read,
        _ => Expr::select(present, read, Expr::float(0.0)),
    }
}

/// Whether row positions come from lengths.
pub fn aligned_to_lengths(m: &Mix) -> bool {
    matches!(m.ty.align, Align::Lengths(_))
}

/// Steps that a grid point takes where a condition holds.
pub fn once_when(b: &mut TileBuilder, when: Expr, body: impl FnOnce(&mut TileBuilder)) {
    let once = |b: &mut TileBuilder, _: &Expr, _: &[TileId]| {
        body(b);
        Vec::new()
    };
    b.for_blocks(Expr::int(0), Expr::int(1), 1, |_| Some(when), &[], once);
}
