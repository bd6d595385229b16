//! A loop over single steps as one kernel: what it carries stays in registers, every row of a tile in one of its own.
//!
//! Recurrences over tokens are such loops: a state of a few rows, and along its columns problems that know nothing of
//! each other. Lanes are outside, turns inside; the rows of all tiles are written out. What is the same for all rows is
//! computed once a turn. A loop that does not fit (loops within, tiles of many rows, too few registers) is left to the
//! general way.

use super::affine::{Frame, varies};
use super::call::{Argument, Call};
use super::group::{Counts, identity};
use super::lanes::Forms;
use super::values::{Here, Order, Values, element_of, key};
use crate::cpu::vkir::{Builder, Count, IReg, Isa, VReg, emit};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, Node, Pick, ROW, TileId, Var};
use mixc_ir::tile::{Axis, Carry, Combine, Extent, Stmt, Tile, TileOp, TileProgram, TileType};
use std::collections::BTreeMap;

/// Most rows that are carried: more leave no registers for the work.
const MOST_CARRIED: usize = 24;
/// Most rows that a turn computes: they are written out.
const MOST_ROWS: usize = 128;

/// Turns from now whose rows are asked for: as long as slow memory takes.
const AHEAD: i32 = 8;

/// One row of a tile: a name of its own in the program of the kernel.
type Row = (TileId, usize);

/// The statements of a turn, row by row. The kernel's rows are the turns.
struct Unrolled<'p> {
    program: TileProgram,
    var: Var,
    from: &'p Expr,
    turns: Extent,
    cols: &'p Extent,
    /// Names of rows.
    names: BTreeMap<Row, TileId>,
    /// The formulas of rows that only one reduction reads, to be part of it.
    inlined: BTreeMap<Row, Expr>,
    /// Tiles of the loop.
    made: Vec<TileId>,
    /// What does not differ from row to row, by the expression that it was.
    same: BTreeMap<usize, Expr>,
}

/// What is done in a turn.
enum Step {
    Row { out: TileId, value: Expr },
    Store { index: Vec<Expr>, value: Expr, guard: Option<Expr>, stmt: usize },
}

impl Step {
    fn reads(&self, t: TileId) -> bool {
        let mut found = false;
        let mut look = |e: &Expr| e.visit(&mut |e| found |= matches!(e.node(), Node::Tile(u, ..) if *u == t));
        match self {
            Step::Row { value, .. } => look(value),
            Step::Store { index, value, guard, .. } => index.iter().chain([value]).chain(guard).for_each(look),
        }
        found
    }
}

impl Unrolled<'_> {
    fn name(&mut self, row: Row) -> TileId {
        if let Some(t) = self.names.get(&row) {
            return *t;
        }
        let cols = self.program.tile(row.0).cols.clone();
        let ty = self.program.tile(row.0).ty;
        self.program.tiles.push(Tile { name: "row".to_owned(), ty, rows: self.turns.clone(), cols });
        let t = TileId(self.program.tiles.len() as u32 - 1);
        self.names.insert(row, t);
        t
    }

    /// An expression at a row, over turns and columns; `None` where it reads tiles across.
    fn at_row(&mut self, e: &Expr, r: usize) -> Option<Expr> {
        let mut fits = true;
        let value = e.rewrite(&mut |e| {
            if !varies(e, Axis::Rows) && !matches!(e.node(), Node::Tile(..) | Node::Var(_)) {
                return Some(match self.same.get(&key(e)) {
                    Some(same) => same.clone(),
                    None => {
                        let same = e.rewrite(&mut |e| self.leaf(e, 0, &mut fits));
                        self.same.insert(key(e), same.clone());
                        same
                    }
                });
            }
            self.leaf(e, r, &mut fits)
        });
        fits.then_some(value)
    }

    fn leaf(&mut self, e: &Expr, r: usize, fits: &mut bool) -> Option<Expr> {
        match e.node() {
            Node::Var(v) if *v == ROW => Some(Expr::int(r as i64)),
            Node::Var(v) if *v == self.var => Some(self.from.clone() + Expr::from(ROW)),
            Node::Tile(t, row, col) => {
                let row = match row {
                    Pick::Row => r,
                    Pick::Zero => 0,
                    Pick::Col => {
                        *fits = false;
                        0
                    }
                };
                if let Some(value) = self.inlined.get(&(*t, row)) {
                    *fits &= *col == Pick::Col;
                    return Some(value.clone());
                }
                let inside = self.made.contains(t);
                *fits &= *col == Pick::Col || (*col == Pick::Zero && !inside);
                let name = self.name((*t, row));
                Some(if inside { Expr::tile(name) } else { Expr::tile_at(name, Pick::Zero, *col) })
            }
            _ => None,
        }
    }

    /// The steps of a turn; `handed_on` are the tiles that the next turn gets.
    fn steps(&mut self, body: &[Stmt], handed_on: &[TileId]) -> Option<Vec<Step>> {
        let readers = |t: TileId| {
            let mut count = 0;
            let mut expr =
                |e: &Expr| e.visit(&mut |e| count += usize::from(matches!(e.node(), Node::Tile(u, ..) if *u == t)));
            for stmt in body {
                match stmt {
                    Stmt::Let { op: TileOp::Map(e), .. } => expr(e),
                    Stmt::Store { index, value, guard, .. } => {
                        index.iter().chain([value]).chain(guard).for_each(&mut expr)
                    }
                    _ => {}
                }
            }
            count
        };
        let mut steps = Vec::new();
        for (k, stmt) in body.iter().enumerate() {
            match stmt {
                Stmt::Let { results, op } => {
                    let out = results[0];
                    let tile = self.program.tile(out).clone();
                    if tile.ty != TileType::F32 || !tile.rows.is_fixed() || tile.cols != *self.cols {
                        return None;
                    }
                    self.made.push(out);
                    match op {
                        TileOp::Map(e) => {
                            let only_reduced =
                                readers(out) == 0 && reductions(body, out) == 1 && !handed_on.contains(&out);
                            for r in 0..tile.rows.cap {
                                let value = self.at_row(e, r)?;
                                if only_reduced {
                                    self.inlined.insert((out, r), value);
                                } else {
                                    steps.push(Step::Row { out: self.name((out, r)), value });
                                }
                            }
                        }
                        TileOp::Reduce { combine, axis: Axis::Rows, of } => {
                            identity(*combine)?;
                            let rows = self.program.tile(*of).rows.clone();
                            let mut whole: Option<Expr> = None;
                            for r in 0..rows.is_fixed().then_some(rows.cap)? {
                                let part = self.at_row(&Expr::tile(*of), r)?;
                                whole = Some(match whole {
                                    Some(whole) => combined(*combine, whole, part)?,
                                    None => part,
                                });
                            }
                            steps.push(Step::Row { out: self.name((out, 0)), value: whole? });
                        }
                        _ => return None,
                    }
                }
                Stmt::Store { index, value, rows, cols, guard, .. } => {
                    if !rows.is_fixed() || cols != self.cols {
                        return None;
                    }
                    for r in 0..rows.cap {
                        let index = index.iter().map(|e| self.at_row(e, r)).collect::<Option<Vec<Expr>>>()?;
                        let guard = match guard {
                            Some(guard) => Some(self.at_row(guard, r)?),
                            None => None,
                        };
                        steps.push(Step::Store { index, value: self.at_row(value, r)?, guard, stmt: k });
                    }
                }
                Stmt::For { .. } => return None,
            }
            if steps.len() > MOST_ROWS {
                return None;
            }
        }
        Some(steps)
    }
}

fn combined(combine: Combine, x: Expr, y: Expr) -> Option<Expr> {
    Some(match combine {
        Combine::Sum => Expr::binary(Binary::Add, x, y),
        Combine::Product => Expr::binary(Binary::Mul, x, y),
        Combine::Max => x.max(y),
        Combine::Min => x.min(y),
        Combine::LogSumExp => return None,
    })
}

/// How many reductions read a tile.
fn reductions(body: &[Stmt], t: TileId) -> usize {
    body.iter().filter(|s| matches!(s, Stmt::Let { op: TileOp::Reduce { of, .. }, .. } if *of == t)).count()
}

/// A row that is carried.
struct Carried {
    init: usize,
    result: usize,
    inside: TileId,
    next: TileId,
    state: VReg,
    /// Number of the step that reads it last.
    last: Option<usize>,
}

/// Rows that a loop carries, if its shape is that of a kernel with lanes along the columns.
pub fn carried_rows(program: &TileProgram, stmt: &Stmt) -> Option<usize> {
    let Stmt::For { step: 1, when: None, carry, body, .. } = stmt else { return None };
    let rows: usize = carry.iter().map(|c| program.tile(c.inside).rows.cap).sum();
    let plain = |s: &Stmt| match s {
        Stmt::Let { op, .. } => matches!(op, TileOp::Map(_) | TileOp::Reduce { axis: Axis::Rows, .. }),
        Stmt::Store { .. } => true,
        Stmt::For { .. } => false,
    };
    (!carry.is_empty() && rows <= MOST_CARRIED && body.iter().all(plain)).then_some(rows)
}

/// The kernel of a loop, with the tiles that only it sees; `None` if the loop does not fit.
pub fn build(program: &TileProgram, forms: &Forms, stmt: &Stmt, isa: Isa) -> Option<(Call, Vec<TileId>)> {
    carried_rows(program, stmt)?;
    let Stmt::For { var, from, to, carry, body, .. } = stmt else { return None };
    let cols = &program.tile(carry.first()?.inside).cols;
    let fits = |t: TileId| {
        let tile = program.tile(t);
        let narrow = tile.ty == TileType::F32 && tile.rows.is_fixed() && tile.cols == *cols;
        narrow && forms.lane(t) == Some(Axis::Cols)
    };
    let all = |c: &Carry| [c.init, c.inside, c.next, c.result].into_iter().all(fits);
    if cols.count.mentions(*var) || !carry.iter().all(all) {
        return None;
    }
    let turns = Extent { cap: u32::MAX as usize, count: to.clone() - from.clone() };
    let made = carry.iter().map(|c| c.inside).collect();
    let (names, inlined, same) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut unrolled = Unrolled { program: program.clone(), var: *var, from, turns, cols, names, inlined, made, same };
    let handed_on: Vec<TileId> = carry.iter().map(|c| c.next).collect();
    let steps = unrolled.steps(body, &handed_on)?;
    let mut links = Vec::new();
    for c in carry {
        for r in 0..program.tile(c.inside).rows.cap {
            let rows = [c.init, c.result, c.inside, c.next].map(|t| unrolled.name((t, r)));
            links.push(rows);
        }
    }
    let within = |t: &TileId| unrolled.made.contains(t);
    if !handed_on.iter().all(within) {
        return None;
    }
    let call = kernel(&unrolled, forms, body, &steps, &links, isa)?;
    (isa == Isa::Clif || emit(&call.kernel, isa).is_ok()).then_some((call, unrolled.made))
}

fn kernel(
    unrolled: &Unrolled,
    forms: &Forms,
    body: &[Stmt],
    steps: &[Step],
    links: &[[TileId; 4]],
    isa: Isa,
) -> Option<Call> {
    let Unrolled { program, turns, cols, names, made, .. } = unrolled;
    let mut b = Builder::new("turns", isa, 0);
    let b = &mut b;
    let frame = Frame { lane: Axis::Cols, by_rows: false };
    let space = (turns.clone(), (*cols).clone());
    let mut v = Values::new(program, forms, frame, Order::LanesOutside, space, None);
    let width = b.lanes();
    let whole = cols.is_fixed() && cols.cap.is_multiple_of(width);
    let n = if whole { None } else { Some(v.arguments.int(b, Argument::Count((*cols).clone()))) };
    let across = match turns.count.as_int() {
        Some(n) => Count::from(n.max(0)),
        None => Count::from(v.arguments.int(b, Argument::Count(turns.clone()))),
    };
    let mut own = Vec::new();
    for (row, name) in names {
        if made.contains(&row.0) {
            own.push(*name);
        } else {
            v.rows_of.insert(*name, *row);
        }
    }
    v.own.clone_from(&own);
    let mut carried = Vec::new();
    for [init, result, inside, next] in links {
        let at = (Pick::Zero, Pick::Col);
        // What another row takes over at the end of the turn is read until then.
        let handed_on = links.iter().any(|[_, _, _, next]| next == inside);
        let last = if handed_on { Some(usize::MAX) } else { steps.iter().rposition(|s| s.reads(*inside)) };
        let (init, result) = (v.tile_operand(b, *init, at)?, v.tile_operand(b, *result, at)?);
        let state = b.vector_register();
        carried.push(Carried { init, result, inside: *inside, next: *next, state, last });
    }
    let mut stores = Vec::new();
    for step in steps {
        match step {
            Step::Row { value, .. } => v.prepare(b, value, &own)?,
            Step::Store { index, value, guard, stmt } => {
                let Stmt::Store { tensor, .. } = &body[*stmt] else { return None };
                let dtype = program.slow(*tensor).dtype;
                element_of(dtype).filter(|_| dtype != DType::Bool)?;
                v.prepare(b, value, &own)?;
                let to = v.tensor_operand(b, *tensor, index)?;
                if v.is_same(to) {
                    return None;
                }
                if let Some(guard) = guard {
                    v.limit(b, to, guard)?;
                }
                stores.push(to);
            }
        }
    }
    let counts = Counts::new(b, cols, n, across);
    lanes(b, &mut v, steps, &stores, &carried, &counts);
    let arguments = std::mem::take(&mut v.arguments);
    let mut kernel = std::mem::replace(b, Builder::new("", isa, 0)).finish();
    kernel.args = arguments.ints.len();
    Some(Call { kernel, arguments: arguments.ints, floats: arguments.floats, each: None })
}

/// The loops: vectors of lanes outside, turns inside.
fn lanes(b: &mut Builder, v: &mut Values, steps: &[Step], stores: &[usize], carried: &[Carried], counts: &Counts) {
    let first_lane = b.int(0);
    let rest = counts.rest.filter(|_| v.needs_tail);
    let mut block = |b: &mut Builder, tail| {
        let here = |other: IReg| Here { tail, first_lane, other };
        v.enter_inner(b);
        for c in carried {
            let first = v.read(b, c.init, here(first_lane));
            b.copy_to(c.state, first);
        }
        b.loop_(counts.across, |b, o| {
            turn(b, v, steps, stores, carried, here(o));
            v.next_inner(b);
        });
        for c in carried {
            v.write(b, c.result, c.state, here(first_lane));
        }
        v.next_outer(b);
        if v.needs_index {
            let width = b.lanes() as i32;
            b.advance(first_lane, width);
        }
    };
    match rest {
        Some(rest) => {
            b.loop_(counts.full, |b, _| block(b, None));
            b.if_positive(rest, |b| {
                let tail = b.tail(rest);
                block(b, Some(tail));
            });
        }
        None => b.loop_(counts.all, |b, _| block(b, None)),
    }
}

fn turn(b: &mut Builder, v: &mut Values, steps: &[Step], stores: &[usize], carried: &[Carried], here: Here) {
    v.begin();
    v.prefetch(b, AHEAD);
    for c in carried {
        v.local.insert(c.inside, c.state);
    }
    let mut stores = stores.iter();
    let mut taken = vec![false; carried.len()];
    for (k, step) in steps.iter().enumerate() {
        match step {
            Step::Row { out, value } => {
                let x = v.real(b, value, here);
                // A carried row takes its next value as soon as its last one has been read: there are few registers.
                let mut name = None;
                for (c, taken) in carried.iter().zip(&mut taken) {
                    if c.next == *out && c.last.is_none_or(|last| last <= k) && name.is_none() {
                        b.copy_to(c.state, x);
                        *taken = true;
                        name = Some(c.state);
                    }
                }
                let kept = |b: &mut Builder| {
                    let is_state = carried.iter().any(|c| c.state == x);
                    if is_state { b.copy(x) } else { x }
                };
                let value = name.unwrap_or_else(|| kept(b));
                v.local.insert(*out, value);
            }
            Step::Store { value, .. } => {
                let x = v.real(b, value, here);
                if let Some(to) = stores.next() {
                    v.write(b, *to, x, here);
                }
            }
        }
    }
    // The others take theirs at once.
    let left: Vec<(VReg, VReg)> = carried
        .iter()
        .zip(taken)
        .filter(|(_, taken)| !taken)
        .filter_map(|(c, _)| Some((c.state, b.copy(*v.local.get(&c.next)?))))
        .collect();
    for (state, next) in left {
        b.copy_to(state, next);
    }
}
