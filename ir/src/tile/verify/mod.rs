//! What a tile program must satisfy before anything else may look at it. [`verify`] lists every violation at once.
//!
//! The checklist:
//!
//! - **Variables.** Grid and loop variables are numbered below `vars`, are not ROW or COL, and are introduced once.
//!   They are read in scope: grid variables everywhere, a loop's in its body. ROW and COL stand in maps and stores only.
//! - **Grid.** Extents are integers over dims alone.
//! - **Tiles.** Caps are 1 to [`MAX_AXIS`], their product at most [`MAX_ELEMENTS`]. Counts are integers over dims and
//!   the variables in scope where the tile is defined, constant ones 0 to the cap. A tile is defined once, read after
//!   that and in its scope: tiles made in a loop's body end with the turn.
//! - **Expressions.** Operands of one operation have one kind, the one that it takes. `arg` does not occur. Loads have
//!   one integer an axis and a boolean guard; of an output a grid point reads back what it stored itself. Tiles are read in maps and stores only; an axis read at ROW
//!   or COL is as long as what is iterated over, an axis read at zero has length 1.
//! - **Maps** give the kind of their tile.
//! - **Dots** have real operands, inner axes of one length, rows of `a`, columns of `b`, and an accumulator of the
//!   result's type and shape.
//! - **Reductions and scans** keep the type; the combination is defined for its kind (`LogSumExp` for reals, `Sum` and
//!   `Product` not for booleans); a reduction's axis has length 1 after, a scan's shape stays.
//! - **Recurrences and solves** are of reals of one type: factors `[rows, cols]` or `[rows, 1]`, the start `[1, cols]`;
//!   the triangle square, as long as the right side has rows.
//! - **Top-k** chooses at least one of reals: two results `[rows, k]`, values of the operand's type and columns in i64.
//!   Every other operation has one result.
//! - **Loops** have positive steps, integer bounds, a boolean condition (loads allowed, tiles not); initial, inside,
//!   next and resulting tiles of a carry agree in type and shape, which does not depend on the loop's variable.
//! - **Stores** write outputs, with one integer an axis, a value of the tensor's kind, integer counts and a boolean
//!   guard. Every output is stored to by some step.
//!
//! Lengths are compared as expressions, and where these differ, by their values at a fixed set of sampled dims and
//! variables: whether accesses stay inside tensors, whether every element is stored exactly once and whether lengths
//! agree at all dims is for the [interpreter](super::interpret) to say.

mod kinds;
mod samples;

use super::{Axis, Carry, Combine, Extent, Matrix, Role, Stmt, Tile, TileOp, TileProgram, TileType};
use crate::expr::{COL, Expr, Kind, ROW, TileId, Var};
use samples::Samples;
use std::collections::BTreeSet;
use std::fmt;

/// Most elements of a tile's axis: far more than any fast memory wants, little enough for 32-bit arithmetic.
pub const MAX_AXIS: usize = 1 << 16;
/// Most elements of a tile: 4 MiB of f32, above every private cache and shared memory.
pub const MAX_ELEMENTS: usize = 1 << 20;

/// A violation of the checklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileProblem {
    /// The step or declaration, by the names it was written with.
    pub at: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for TileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// Where an expression stands, which decides what may occur in it.
#[derive(Clone, Copy, PartialEq)]
enum Place<'a> {
    /// A grid extent: dims alone.
    Grid,
    /// The count of a tile or store: dims and variables.
    Count,
    /// Bounds and condition of a loop: loads as well.
    Bound,
    /// An element of a map or store of these extents: everything.
    Element(&'a Extent, &'a Extent),
}

struct Verifier<'a> {
    program: &'a TileProgram,
    problems: Vec<TileProblem>,
    /// The step being checked.
    at: String,
    /// Variables in scope.
    scope: Vec<Var>,
    /// Variables that were introduced anywhere.
    introduced: BTreeSet<Var>,
    /// Tiles in scope with a value.
    visible: Vec<TileId>,
    /// Tiles that were defined anywhere.
    defined: BTreeSet<TileId>,
    /// Outputs that are stored to.
    stored: BTreeSet<u32>,
    samples: Samples,
}

/// Everything wrong with `program`; nothing when it is valid.
pub fn verify(program: &TileProgram) -> Vec<TileProblem> {
    let mut v = Verifier {
        program,
        problems: Vec::new(),
        at: "grid".into(),
        scope: Vec::new(),
        introduced: BTreeSet::new(),
        visible: Vec::new(),
        defined: BTreeSet::new(),
        stored: BTreeSet::new(),
        samples: Samples::of(program),
    };
    for axis in &program.grid {
        v.expect(&axis.extent, Kind::Int, Place::Grid, "a grid extent");
        v.samples.grid(axis.var, &axis.extent);
    }
    for axis in &program.grid {
        v.introduce(axis.var);
    }
    v.body(&program.body);
    for (k, slow) in program.tensors.iter().enumerate() {
        if slow.role == Role::Output && !v.stored.contains(&(k as u32)) {
            v.at = format!("output `{}`", slow.name);
            v.report("is never stored to");
        }
    }
    v.problems
}

impl<'a> Verifier<'a> {
    fn report(&mut self, what: impl Into<String>) {
        self.problems.push(TileProblem { at: self.at.clone(), what: what.into() });
    }

    fn introduce(&mut self, var: Var) {
        if var == ROW || var == COL || var.0 >= self.program.vars {
            self.report(format!("variable x{} is not a number of the program's own", var.0));
        }
        if !self.introduced.insert(var) {
            self.report(format!("variable x{} is introduced twice", var.0));
        }
        self.scope.push(var);
    }

    fn name(&self, t: TileId) -> String {
        self.program.tiles.get(t.0 as usize).map_or_else(|| format!("t{}", t.0), |t| t.name.clone())
    }

    /// The tile, if it can be read here.
    fn read(&mut self, t: TileId) -> Option<&'a Tile> {
        let tile = self.program.tiles.get(t.0 as usize);
        if tile.is_none() || !self.visible.contains(&t) {
            let name = self.name(t);
            self.report(format!("tile `{name}` has no value here"));
            return None;
        }
        tile
    }

    /// Records the definition of a tile and checks its declaration, which is given back if there is one.
    fn define(&mut self, t: TileId) -> Option<&'a Tile> {
        let Some(tile) = self.program.tiles.get(t.0 as usize) else {
            self.report(format!("there is no tile t{}", t.0));
            return None;
        };
        if !self.defined.insert(t) {
            self.report(format!("tile `{}` is defined twice", tile.name));
        }
        self.visible.push(t);
        self.extent(&tile.rows);
        self.extent(&tile.cols);
        if tile.rows.cap.saturating_mul(tile.cols.cap) > MAX_ELEMENTS {
            self.report(format!("tile `{}` has more than {MAX_ELEMENTS} elements", tile.name));
        }
        Some(tile)
    }

    fn extent(&mut self, e: &Extent) {
        if e.cap == 0 || e.cap > MAX_AXIS {
            self.report(format!("a cap is {}, outside 1..={MAX_AXIS}", e.cap));
        }
        if let Some(n) = e.count.as_int().filter(|&n| usize::try_from(n).map_or(true, |n| n > e.cap)) {
            self.report(format!("a count is {n}, outside 0..={}", e.cap));
        }
        self.expect(&e.count, Kind::Int, Place::Count, "a count");
    }

    fn same(&mut self, a: &Extent, b: &Extent, what: &str) {
        if a.cap != b.cap || !self.samples.equal(a, b) {
            self.report(format!("{what}: {} of {} and {} of {}", a.count, a.cap, b.count, b.cap));
        }
    }

    fn one(&mut self, e: &Extent, what: &str) {
        if e.cap != 1 {
            self.report(format!("{what} has length {}, not 1", e.cap));
        }
    }

    fn typed(&mut self, ty: TileType, expected: TileType, what: &str) {
        if ty != expected {
            self.report(format!("{what} is {ty:?}, not {expected:?}"));
        }
    }

    fn real(&mut self, ty: TileType, what: &str) {
        if ty.kind() != Kind::Float {
            self.report(format!("{what} is {ty:?}, not real"));
        }
    }

    fn body(&mut self, body: &'a [Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Let { results, op } => self.definition(results, op),
                Stmt::For { var, from, to, step, when, carry, body } => {
                    self.at = format!("loop x{}", var.0);
                    self.repeat(*var, (from, to, *step), when.as_ref(), carry, body);
                }
                Stmt::Store { tensor, index, value, rows, cols, guard } => {
                    let Some(slow) = self.program.tensors.get(tensor.0 as usize) else {
                        self.at = "store".into();
                        self.report(format!("there is no tensor m{}", tensor.0));
                        continue;
                    };
                    self.at = format!("store to `{}`", slow.name);
                    if slow.role != Role::Output {
                        self.report("an input is stored to");
                    }
                    self.stored.insert(tensor.0);
                    self.extent(rows);
                    self.extent(cols);
                    let place = Place::Element(rows, cols);
                    self.index(index, slow.shape.len(), place);
                    self.expect(value, TileType::of(slow.dtype).kind(), place, "the value");
                    if let Some(g) = guard {
                        self.expect(g, Kind::Bool, place, "the guard");
                    }
                }
            }
        }
    }

    fn index(&mut self, index: &[Expr], rank: usize, place: Place<'_>) {
        if index.len() != rank {
            self.report(format!("{} indices for {rank} axes", index.len()));
        }
        for e in index {
            self.expect(e, Kind::Int, place, "an index");
        }
    }

    fn repeat(
        &mut self,
        var: Var,
        (from, to, step): (&Expr, &Expr, i64),
        when: Option<&Expr>,
        carry: &[Carry],
        body: &'a [Stmt],
    ) {
        let here = self.at.clone();
        if step <= 0 {
            self.report(format!("the step is {step}"));
        }
        self.expect(from, Kind::Int, Place::Bound, "the first value");
        self.expect(to, Kind::Int, Place::Bound, "the end");
        let init: Vec<Option<&Tile>> = carry.iter().map(|c| self.read(c.init)).collect();
        let (outer, scope) = (self.visible.len(), self.scope.len());
        // Outside the loop's scope: the shape of a carried tile must not know the variable.
        for (c, init) in carry.iter().zip(&init) {
            let inside = self.define(c.inside);
            self.agree(*init, inside, "a carried tile and its initial value");
        }
        let all = self.samples.clone();
        self.introduce(var);
        self.samples.enter(var, from, to, step);
        if let Some(e) = when {
            self.expect(e, Kind::Bool, Place::Bound, "the condition");
        }
        self.body(body);
        self.at = here;
        for c in carry {
            let (next, inside) = (self.read(c.next), self.program.tiles.get(c.inside.0 as usize));
            self.agree(next, inside, "a carried tile and its next value");
        }
        self.samples = all;
        self.scope.truncate(scope);
        self.visible.truncate(outer);
        for (c, init) in carry.iter().zip(&init) {
            let result = self.define(c.result);
            self.agree(*init, result, "a loop's result and its initial value");
        }
    }

    fn agree(&mut self, a: Option<&Tile>, b: Option<&Tile>, what: &str) {
        if let (Some(a), Some(b)) = (a, b) {
            self.typed(a.ty, b.ty, what);
            self.same(&a.rows, &b.rows, what);
            self.same(&a.cols, &b.cols, what);
        }
    }

    fn definition(&mut self, results: &[TileId], op: &TileOp) {
        let first = results.first().copied();
        self.at = format!("tile `{}`", first.map_or_else(String::new, |t| self.name(t)));
        let expected = if matches!(op, TileOp::TopK { .. }) { 2 } else { 1 };
        if results.len() != expected {
            self.report(format!("{} results, {expected} expected", results.len()));
        }
        // Operands first: a definition does not see its own results.
        let declared: Vec<Option<&Tile>> = results.iter().map(|t| self.program.tiles.get(t.0 as usize)).collect();
        if let Some(tile) = declared.first().copied().flatten() {
            self.operation(tile, declared.get(1).copied().flatten(), op);
        }
        for t in results {
            self.define(*t);
        }
    }

    fn matrix(&mut self, m: Matrix) -> Option<(TileType, &'a Extent, &'a Extent)> {
        let tile = self.read(m.tile)?;
        Some(if m.transposed { (tile.ty, &tile.cols, &tile.rows) } else { (tile.ty, &tile.rows, &tile.cols) })
    }

    fn operation(&mut self, tile: &'a Tile, second: Option<&Tile>, op: &TileOp) {
        match op {
            TileOp::Map(e) => {
                self.expect(e, tile.ty.kind(), Place::Element(&tile.rows, &tile.cols), "the map");
            }
            TileOp::Dot { a, b, acc } => {
                let (a, b) = (self.matrix(*a), self.matrix(*b));
                self.real(tile.ty, "the product");
                if let (Some((a_ty, rows, inner)), Some((b_ty, b_inner, cols))) = (a, b) {
                    self.real(a_ty, "the left factor");
                    self.real(b_ty, "the right factor");
                    self.same(inner, b_inner, "the inner lengths differ");
                    self.same(&tile.rows, rows, "the rows are not the left factor's");
                    self.same(&tile.cols, cols, "the columns are not the right factor's");
                }
                if let Some(acc) = acc {
                    let acc = self.read(*acc);
                    self.agree(acc, Some(tile), "the accumulator");
                }
            }
            TileOp::Reduce { combine, axis, of } => {
                let Some(of) = self.read(*of) else { return };
                self.combination(*combine, of.ty, tile.ty);
                let (left, kept, other) = match axis {
                    Axis::Rows => (&tile.rows, &tile.cols, &of.cols),
                    Axis::Cols => (&tile.cols, &tile.rows, &of.rows),
                };
                self.one(left, "the reduced axis");
                self.same(kept, other, "the kept axis");
            }
            TileOp::Scan { combine, of, .. } => {
                let Some(of) = self.read(*of) else { return };
                self.combination(*combine, of.ty, tile.ty);
                self.agree(Some(of), Some(tile), "the scan");
            }
            TileOp::Recurrence { decay, input, start } => {
                self.real(tile.ty, "the recurrence");
                let (decay, input) = (self.read(*decay), self.read(*input));
                self.agree(input, Some(tile), "the addends");
                if let Some(decay) = decay {
                    self.typed(decay.ty, tile.ty, "the factors' type");
                    self.same(&decay.rows, &tile.rows, "the factors' rows");
                    if decay.cols.cap != 1 {
                        self.same(&decay.cols, &tile.cols, "the factors' columns");
                    }
                }
                if let Some(start) = start.and_then(|t| self.read(t)) {
                    self.typed(start.ty, tile.ty, "the start's type");
                    self.one(&start.rows, "the start");
                    self.same(&start.cols, &tile.cols, "the start's columns");
                }
            }
            TileOp::Solve { lower, rhs } => {
                self.real(tile.ty, "the solution");
                let (lower, rhs) = (self.read(*lower), self.read(*rhs));
                self.agree(rhs, Some(tile), "the right side");
                if let Some(lower) = lower {
                    self.typed(lower.ty, tile.ty, "the triangle's type");
                    self.same(&lower.rows, &lower.cols, "the triangle is not square");
                    self.same(&lower.rows, &tile.rows, "the triangle and the right side");
                }
            }
            TileOp::TopK { of } => {
                let of = self.read(*of);
                if tile.cols.cap == 0 {
                    self.report("no element is chosen");
                }
                if let Some(of) = of {
                    self.real(of.ty, "what is chosen from");
                    self.typed(tile.ty, of.ty, "the chosen values");
                    self.same(&tile.rows, &of.rows, "the rows");
                }
                if let Some(second) = second {
                    self.typed(second.ty, TileType::I64, "the chosen columns");
                    self.same(&second.rows, &tile.rows, "the rows of values and columns");
                    self.same(&second.cols, &tile.cols, "the number chosen");
                }
            }
        }
    }

    fn combination(&mut self, combine: Combine, of: TileType, result: TileType) {
        self.typed(result, of, "the combination's type");
        let defined = match of.kind() {
            Kind::Float => true,
            Kind::Int => combine != Combine::LogSumExp,
            Kind::Bool => matches!(combine, Combine::Max | Combine::Min),
        };
        if !defined {
            self.report(format!("{combine:?} of {of:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
