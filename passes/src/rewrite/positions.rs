//! Masks that are written as comparisons of positions: which rows and columns of a tensor `[.., T, S]` they mark, read off
//! the operations that make it.
//!
//! The last two axes are row i and column j; broadcasting aligns at the end, so an axis means the same all along. What is
//! found is exact: numbers here are small integers, in any type that holds them.

use mixc_ir::attr::Attrs;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::program::{Const, Node, NodeKind, Program, ValueId};
use std::cell::Cell;

/// Which elements of a matrix a tensor marks, as attributes of `mask` that read rows from the start.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A boolean tensor is true there.
    True(Attrs),
    /// A real one is 1 there and 0 elsewhere.
    One(Attrs),
    /// A real one is 0 there and minus infinity elsewhere.
    Zero(Attrs),
    /// Not a mask: a real tensor that is the row less the column.
    Behind,
}

/// Operations looked at for one tensor: a mask takes about ten, and a shared operand is looked at once a use.
const STEPS: u32 = 200;

/// What a value marks, if it is such a mask.
pub fn of(program: &Program, definitions: &[Option<usize>], value: ValueId) -> Option<Positions> {
    let search = Search { program, definitions, left: Cell::new(STEPS) };
    let dtype = program.ty(value).as_tensor()?.dtype;
    let node = search.node(value)?;
    if program.ty(value).dims().len() < 2 {
        return None;
    }
    if dtype == DType::Bool {
        return search.marked(value, false).map(Positions::True);
    }
    if search.position(value) == Some(Number::Plain(Affine { rows: 1, cols: -1, offset: 0 })) {
        return Some(Positions::Behind);
    }
    match (node.op_name()?, node.operands.as_slice()) {
        ("cast", [Some(from)]) => search.marked(*from, false).map(Positions::One),
        ("select", [Some(condition), Some(yes), Some(no)]) => {
            let (yes, no) = (search.number(*yes)?, search.number(*no)?);
            match (yes, no) {
                (1.0, 0.0) => search.marked(*condition, false).map(Positions::One),
                (0.0, 1.0) => search.marked(*condition, true).map(Positions::One),
                (0.0, f64::NEG_INFINITY) => search.marked(*condition, false).map(Positions::Zero),
                (f64::NEG_INFINITY, 0.0) => search.marked(*condition, true).map(Positions::Zero),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `rows * i + cols * j + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Affine {
    rows: i64,
    cols: i64,
    offset: i64,
}

impl Affine {
    fn number(offset: i64) -> Affine {
        Affine { rows: 0, cols: 0, offset }
    }

    fn as_number(self) -> Option<i64> {
        (self.rows == 0 && self.cols == 0).then_some(self.offset)
    }

    fn plus(self, other: Affine) -> Option<Affine> {
        Some(Affine {
            rows: self.rows.checked_add(other.rows)?,
            cols: self.cols.checked_add(other.cols)?,
            offset: self.offset.checked_add(other.offset)?,
        })
    }

    fn times(self, n: i64) -> Option<Affine> {
        Some(Affine {
            rows: self.rows.checked_mul(n)?,
            cols: self.cols.checked_mul(n)?,
            offset: self.offset.checked_mul(n)?,
        })
    }

    fn minus(self, other: Affine) -> Option<Affine> {
        self.plus(other.times(-1)?)
    }

    /// Rows for columns.
    fn exchanged(self) -> Affine {
        Affine { rows: self.cols, cols: self.rows, ..self }
    }
}

/// A number that depends on the position.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    /// As it is.
    Plain(Affine),
    /// Its absolute value.
    Distance(Affine),
    /// The remainder by a number.
    Remainder(Affine, i64),
    /// The quotient by a number, rounded down.
    Quotient(Affine, i64),
}

impl Number {
    fn exchanged(self) -> Number {
        match self {
            Number::Plain(a) => Number::Plain(a.exchanged()),
            Number::Distance(a) => Number::Distance(a.exchanged()),
            Number::Remainder(a, n) => Number::Remainder(a.exchanged(), n),
            Number::Quotient(a, n) => Number::Quotient(a.exchanged(), n),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    AtMost,
    Below,
    Equal,
}

struct Search<'p> {
    program: &'p Program,
    definitions: &'p [Option<usize>],
    left: Cell<u32>,
}

impl<'p> Search<'p> {
    fn node(&self, v: ValueId) -> Option<&'p Node> {
        self.left.set(self.left.get().checked_sub(1)?);
        Some(&self.program.nodes[self.definitions[v.index()]?])
    }

    fn dims(&self, v: ValueId) -> Vec<Dim> {
        self.program.ty(v).dims()
    }

    fn number(&self, v: ValueId) -> Option<f64> {
        let node = self.node(v)?;
        match (&node.kind, node.op_name(), node.operands.as_slice()) {
            (NodeKind::Const(Const::Splat(x)), ..) => Some(*x),
            (_, Some("cast" | "broadcast" | "reshape"), [Some(x)]) => self.number(*x),
            _ => None,
        }
    }

    /// Where a boolean value is true; false, with `not`.
    fn marked(&self, v: ValueId, not: bool) -> Option<Attrs> {
        let node = self.node(v)?;
        let operand = |k: usize| node.operands.get(k).copied().flatten();
        match node.op_name()? {
            "not" => self.marked(operand(0)?, !not),
            "and" if !not => joined(&self.marked(operand(0)?, false)?, &self.marked(operand(1)?, false)?),
            "or" if not => joined(&self.marked(operand(0)?, true)?, &self.marked(operand(1)?, true)?),
            "broadcast" => self.marked(operand(0)?, not).filter(|_| self.keeps_matrix(operand(0), v)),
            "reshape" => self.marked(operand(0)?, not).filter(|_| self.keeps_matrix(operand(0), v)),
            "transpose" => self.marked_transposed(node, operand(0)?, not),
            name => {
                let (x, y) = (self.position(operand(0)?)?, self.position(operand(1)?)?);
                let (comparison, x, y) = match (name, not) {
                    ("le", false) | ("gt", true) => (Comparison::AtMost, x, y),
                    ("lt", false) | ("ge", true) => (Comparison::Below, x, y),
                    ("ge", false) | ("lt", true) => (Comparison::AtMost, y, x),
                    ("gt", false) | ("le", true) => (Comparison::Below, y, x),
                    ("eq", false) | ("ne", true) => (Comparison::Equal, x, y),
                    _ => return None,
                };
                compared(comparison, x, y)
            }
        }
    }

    /// The mask of the transposed matrix: bounds change sides.
    fn marked_transposed(&self, node: &Node, x: ValueId, not: bool) -> Option<Attrs> {
        if !swaps_last_two(node) {
            return None;
        }
        let given = self.marked(x, not)?;
        let mut out = Attrs::new().with_name("align", "start");
        for (name, from) in [("left", "right"), ("right", "left"), ("block", "block"), ("dilation", "dilation")] {
            if let Some(n) = given.int(from) {
                out = out.with_int(name, n);
            }
        }
        Some(out)
    }

    /// Whether the last two axes of `x`, if given, are those of `v`.
    fn keeps_matrix(&self, x: Option<ValueId>, v: ValueId) -> bool {
        let Some(x) = x else { return false };
        let (from, to) = (self.dims(x), self.dims(v));
        from.len() >= 2 && to.len() >= 2 && from[from.len() - 2..] == to[to.len() - 2..]
    }

    fn position(&self, v: ValueId) -> Option<Number> {
        let node = self.node(v)?;
        let operand = |k: usize| node.operands.get(k).copied().flatten();
        let affine = |k: usize| match self.position(operand(k)?)? {
            Number::Plain(a) => Some(a),
            _ => None,
        };
        if let NodeKind::Const(c) = &node.kind {
            return match c {
                Const::Splat(x) if x.fract() == 0.0 && x.abs() < 1e9 => Some(Number::Plain(Affine::number(*x as i64))),
                _ => None,
            };
        }
        // Half types do not hold all positions.
        if self.program.ty(v).as_tensor()?.dtype.is_half() {
            return None;
        }
        match node.op_name()? {
            "iota" => {
                let dims = self.dims(v);
                let axis = node.attrs.int("axis")?;
                let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
                let from_end = dims.len().checked_sub(axis)?;
                Some(Number::Plain(match from_end {
                    _ if dims.get(axis)?.is(1) => Affine::number(0),
                    1 => Affine { rows: 0, cols: 1, offset: 0 },
                    2 => Affine { rows: 1, cols: 0, offset: 0 },
                    _ => return None,
                }))
            }
            "add" => Some(Number::Plain(affine(0)?.plus(affine(1)?)?)),
            "sub" => Some(Number::Plain(affine(0)?.minus(affine(1)?)?)),
            "neg" => Some(Number::Plain(affine(0)?.times(-1)?)),
            "mul" => {
                let (a, b) = (affine(0)?, affine(1)?);
                let (n, rest) = match (a.as_number(), b.as_number()) {
                    (Some(n), _) => (n, b),
                    (_, n) => (n?, a),
                };
                Some(Number::Plain(rest.times(n)?))
            }
            "abs" => Some(Number::Distance(affine(0)?)),
            "mod" => Some(Number::Remainder(affine(0)?, affine(1)?.as_number().filter(|n| *n > 0)?)),
            // Of integers it rounds; those here are not negative, so it rounds down.
            "div" if self.program.ty(v).dtype().is_int() => {
                let (a, n) = (affine(0)?, affine(1)?.as_number().filter(|n| *n > 0)?);
                let not_negative = a.rows >= 0 && a.cols >= 0 && a.offset >= 0;
                not_negative.then_some(Number::Quotient(a, n))
            }
            "floor" => {
                let quotient = self.node(operand(0)?)?;
                let parts = (quotient.op_name(), quotient.operands.as_slice());
                let (Some("div"), [Some(a), Some(n)]) = parts else { return None };
                match (self.position(*a)?, self.position(*n)?) {
                    (Number::Plain(a), Number::Plain(n)) => {
                        Some(Number::Quotient(a, n.as_number().filter(|n| *n > 0)?))
                    }
                    _ => None,
                }
            }
            "cast" => self.position(operand(0)?),
            "broadcast" => {
                let (from, to) = (self.dims(operand(0)?), self.dims(v));
                // An axis that is stretched is one that nothing depends on.
                (from.len() <= to.len()).then(|| self.position(operand(0)?))?
            }
            "transpose" if swaps_last_two(node) => Some(self.position(operand(0)?)?.exchanged()),
            "reshape" => {
                let x = operand(0)?;
                let (from, to) = (self.dims(x), self.dims(v));
                if self.keeps_matrix(Some(x), v) {
                    return self.position(x);
                }
                match (from.as_slice(), to.as_slice()) {
                    ([n], [.., rows, one]) if n == rows && one.is(1) => Some(self.position(x)?.exchanged()),
                    ([n], [.., cols]) if n == cols => self.position(x),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Whether a transposition exchanges the last two axes and nothing else.
fn swaps_last_two(node: &Node) -> bool {
    let Some(mut perm) = node.attrs.ints("perm") else { return false };
    let n = perm.len();
    if n < 2 {
        return false;
    }
    perm.swap(n - 2, n - 1);
    perm.iter().enumerate().all(|(k, p)| p.rem_euclid(n as i64) == k as i64)
}

fn start() -> Attrs {
    Attrs::new().with_name("align", "start")
}

/// The mask of a comparison.
fn compared(comparison: Comparison, x: Number, y: Number) -> Option<Attrs> {
    let strict = i64::from(comparison == Comparison::Below);
    match (x, y, comparison) {
        (Number::Plain(a), Number::Plain(b), _) => {
            let d = a.minus(b)?;
            let upper = at_most(d.plus(Affine::number(strict))?);
            match comparison {
                Comparison::Equal => joined(&upper?, &at_most(d.times(-1)?)?),
                _ => upper,
            }
        }
        (Number::Distance(d), Number::Plain(w), Comparison::AtMost | Comparison::Below) => {
            let w = Affine::number(w.as_number()?.checked_sub(strict)?);
            joined(&at_most(d.minus(w)?)?, &at_most(d.times(-1)?.minus(w)?)?)
        }
        (Number::Remainder(d, n), Number::Plain(zero), Comparison::Equal)
        | (Number::Plain(zero), Number::Remainder(d, n), Comparison::Equal) => {
            let whole = zero.as_number() == Some(0) && d.offset % n == 0;
            let distance = (d.rows, d.cols) == (1, -1) || (d.rows, d.cols) == (-1, 1);
            (whole && distance).then(|| start().with_int("dilation", n))
        }
        (Number::Remainder(a, n), Number::Remainder(b, m), Comparison::Equal) if n == m => {
            rows_and_columns(a, b).then(|| start().with_int("dilation", n))
        }
        (Number::Quotient(a, n), Number::Quotient(b, m), Comparison::Equal) if n == m => {
            rows_and_columns(a, b).then(|| start().with_int("block", n))
        }
        _ => None,
    }
}

/// Whether one is the row and the other the column.
fn rows_and_columns(a: Affine, b: Affine) -> bool {
    let (row, column) = (Affine { rows: 1, cols: 0, offset: 0 }, Affine { rows: 0, cols: 1, offset: 0 });
    (a, b) == (row, column) || (a, b) == (column, row)
}

/// The mask of `d <= 0`, a bound of one position by the other.
fn at_most(d: Affine) -> Option<Attrs> {
    let bound = d.offset.checked_neg()?;
    match (d.rows, d.cols) {
        (-1, 1) => Some(start().with_int("right", bound)),
        (1, -1) => Some(start().with_int("left", bound)),
        _ => None,
    }
}

/// What two masks leave together.
fn joined(x: &Attrs, y: &Attrs) -> Option<Attrs> {
    let mut out = start();
    for name in ["left", "right"] {
        let bound = match (x.int(name), y.int(name)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(bound) = bound {
            out = out.with_int(name, bound);
        }
    }
    for name in ["block", "dilation"] {
        match (x.int(name), y.int(name)) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => {
                if let Some(n) = a.or(b) {
                    out = out.with_int(name, n);
                }
            }
        }
    }
    Some(out)
}
