//! Statements over one iteration space as one kernel.

use super::affine::{Frame, other, var_of};
use super::call::{Argument, Call};
use super::lanes::Forms;
use super::steps::strict;
use super::values::{Here, Key, Order, Values, element_of, key};
use crate::cpu::vkir::{BinaryOp, Builder, Condition, Count, IReg, IntOp, Isa, Op, ReduceOp, VReg, emit};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, Pick, TileId};
use mixc_ir::tile::{Axis, Combine, Extent, Stmt, TileOp, TileProgram, TileType};

/// The iteration space of a statement: its extents and the tile or tensor whose lanes it follows.
pub fn space<'p>(program: &'p TileProgram, stmt: &'p Stmt) -> Option<(&'p Extent, &'p Extent)> {
    let of = |t: TileId| {
        let tile = program.tile(t);
        (&tile.rows, &tile.cols)
    };
    match stmt {
        Stmt::Let { results, op } => match op {
            TileOp::Map(_) | TileOp::Recurrence { .. } => Some(of(results[0])),
            TileOp::Reduce { of: t, .. } | TileOp::Scan { of: t, .. } => Some(of(*t)),
            TileOp::Dot { .. } | TileOp::Solve { .. } | TileOp::TopK { .. } => None,
        },
        Stmt::Store { rows, cols, .. } => Some((rows, cols)),
        Stmt::For { .. } => None,
    }
}

/// What one statement does in every iteration.
enum Step<'p> {
    Map {
        out: TileId,
        value: &'p Expr,
        to: Option<usize>,
    },
    /// Along the inner axis: combined in a register, written after the inner loop.
    Reduce {
        out: usize,
        combine: Combine,
        of: TileId,
        sum: VReg,
        lanes: bool,
    },
    Scan {
        out: TileId,
        combine: Combine,
        of: TileId,
        state: VReg,
        to: Option<usize>,
    },
    Recurrence {
        out: TileId,
        decay: (TileId, Pick),
        input: TileId,
        start: Option<usize>,
        state: VReg,
        to: Option<usize>,
    },
    Store {
        value: &'p Expr,
        to: usize,
    },
}

pub(super) fn identity(combine: Combine) -> Option<f32> {
    match combine {
        Combine::Sum => Some(0.0),
        Combine::Product => Some(1.0),
        Combine::Max => Some(f32::NEG_INFINITY),
        Combine::Min => Some(f32::INFINITY),
        Combine::LogSumExp => None,
    }
}

fn combine_to(b: &mut Builder, combine: Combine, sum: VReg, x: VReg) {
    match combine {
        Combine::Sum | Combine::LogSumExp => b.binary_to(sum, BinaryOp::Add, sum, x),
        Combine::Product => b.binary_to(sum, BinaryOp::Mul, sum, x),
        Combine::Max | Combine::Min => {
            let op = if combine == Combine::Max { BinaryOp::Max } else { BinaryOp::Min };
            let value = strict(b, op, sum, x);
            b.copy_to(sum, value);
        }
    }
}

/// What a group is made of.
pub struct Group<'p> {
    /// The program.
    pub program: &'p TileProgram,
    /// Forms of its tiles.
    pub forms: &'p Forms,
    /// Statements, in order.
    pub stmts: &'p [&'p Stmt],
    /// Results that nothing outside the group reads.
    pub internal: &'p [TileId],
    /// Axis of the lanes.
    pub lane: Axis,
}

/// The kernel of a group, if it fits: with what is the same across the lanes kept in registers, without, or called for one
/// index of the other axis at a time.
pub fn build(group: &Group, isa: Isa, name: &str) -> Option<Call> {
    let whole = Frame { lane: group.lane, by_rows: false };
    let still = still_loads(group);
    let kept = (STILL..=MOST_STILL).contains(&still.len()).then_some((whole, still));
    let plain = [(whole, Vec::new()), (Frame { by_rows: true, ..whole }, Vec::new())];
    kept.into_iter().chain(plain).find_map(|(frame, still)| {
        let call = build_in(group, frame, &still, isa, name)?;
        let fits = isa == Isa::Clif || emit(&call.kernel, isa).is_ok();
        fits.then_some(call)
    })
}

/// Loads that are the same for the whole inner loop when lanes are the outer one: from so many on the taps of a short
/// filter, say, are worth going across the lanes' direction in memory; and how many leave registers for the rest.
const STILL: usize = 4;
const MOST_STILL: usize = 12;

/// The loads whose elements differ along the lanes alone, of tensors that the group does not store to.
fn still_loads(group: &Group) -> Vec<Key> {
    let (lane, across) = (var_of(group.lane), var_of(other(group.lane)));
    let stored = |t| group.stmts.iter().any(|s| matches!(s, Stmt::Store { tensor, .. } if *tensor == t));
    let mut found = Vec::new();
    for stmt in group.stmts {
        let (Stmt::Let { op: TileOp::Map(value), .. } | Stmt::Store { value, .. }) = stmt else { continue };
        value.visit(&mut |e| {
            let Node::Load(l) = e.node() else { return };
            let along = |v| l.index.iter().any(|i| i.mentions(v));
            let still = l.guard.is_none() && along(lane) && !along(across) && !stored(l.tensor);
            if still && !found.contains(&(key(e), 0)) {
                found.push((key(e), 0));
            }
        });
    }
    found
}

fn reversed(stmts: &[&Stmt]) -> bool {
    stmts.iter().any(|s| matches!(s, Stmt::Let { op: TileOp::Scan { reverse: true, .. }, .. }))
}

/// Which loop is inner, if any statement minds; nothing when they want different ones.
fn wanted_order(group: &Group) -> Option<Option<Order>> {
    let across = other(group.lane);
    let mut wanted = None;
    for stmt in group.stmts {
        let want = match stmt {
            Stmt::Let { op: TileOp::Reduce { axis, .. }, .. } if *axis == group.lane => Order::LanesInside,
            Stmt::Let { op: TileOp::Reduce { .. }, .. } => Order::LanesOutside,
            Stmt::Let { op: TileOp::Scan { axis, .. }, .. } if *axis == across => Order::LanesOutside,
            Stmt::Let { op: TileOp::Recurrence { .. }, .. } if across == Axis::Rows => Order::LanesOutside,
            Stmt::Let { op: TileOp::Scan { .. } | TileOp::Recurrence { .. }, .. } => return None,
            _ => continue,
        };
        if wanted.is_some_and(|w| w != want) {
            return None;
        }
        wanted = Some(want);
    }
    Some(wanted)
}

/// Loop counts, in registers where they are not known: there are few of these.
pub(super) struct Counts {
    /// Whole vectors.
    pub full: Count,
    /// Lanes after these; nothing where there are never any.
    pub rest: Option<IReg>,
    /// Vectors with the last, incomplete one.
    pub all: Count,
    /// Turns along the other axis.
    pub across: Count,
}

impl Counts {
    /// The counts of `lanes` lanes, whose number is in a register where it varies, and of `across`.
    pub fn new(b: &mut Builder, lanes: &Extent, n: Option<IReg>, across: Count) -> Counts {
        let width = b.lanes();
        let log2 = width.trailing_zeros() as i8;
        let Some(n) = n else {
            let vectors = Count::from((lanes.cap / width) as i64);
            return Counts { full: vectors, rest: None, all: vectors, across };
        };
        Counts {
            full: b.int_shift(n, -log2).into(),
            rest: Some(b.int_op(IntOp::And, n, width as i32 - 1)),
            all: {
                let up = b.int_add(n, width as i32 - 1);
                b.int_shift(up, -log2).into()
            },
            across,
        }
    }
}

fn build_in(group: &Group, frame: Frame, still: &[Key], isa: Isa, name: &str) -> Option<Call> {
    let program = group.program;
    let (rows, cols) = space(program, group.stmts.first()?)?;
    let (lanes, across) = if frame.lane == Axis::Rows { (rows, cols) } else { (cols, rows) };
    let order = match (wanted_order(group)?, still) {
        (Some(order), _) => order,
        (None, []) => Order::LanesInside,
        (None, _) => Order::LanesOutside,
    };
    if frame.by_rows && order == Order::LanesOutside {
        return None;
    }
    let mut b = Builder::new(name, isa, 0);
    let b = &mut b;
    let mut v = Values::new(program, group.forms, frame, order, (rows.clone(), cols.clone()), None);
    for stmt in group.stmts {
        if let Stmt::Let { results, .. } = stmt {
            v.own.extend(results);
        }
    }
    let width = b.lanes();
    let whole = lanes.is_fixed() && lanes.cap.is_multiple_of(width);
    let n = if whole { None } else { Some(v.arguments.int(b, Argument::Count(lanes.clone()))) };
    let across_count = match (frame.by_rows, across.is_fixed()) {
        (true, _) => Count::from(1),
        (false, true) => Count::from(across.cap as i64),
        (false, false) => Count::from(v.arguments.int(b, Argument::Count(across.clone()))),
    };
    if reversed(group.stmts) {
        if group.stmts.len() > 1 {
            return None;
        }
        let last = match across_count {
            Count::Const(n) => b.int(n - 1),
            Count::Reg(n) => b.int_sub(n, 1),
        };
        v.set_reverse(last);
    }
    let mut made = Vec::new();
    let mut steps = Vec::new();
    for stmt in group.stmts {
        steps.push(prepare(group, b, &mut v, stmt, &mut made, frame)?);
    }
    let counts = Counts::new(b, lanes, n, across_count);
    let first_lane = b.int(0);
    match order {
        Order::LanesOutside => lanes_outside(b, &mut v, &mut steps, &counts, first_lane, still),
        Order::LanesInside => lanes_inside(b, &mut v, &mut steps, &counts, first_lane),
    }
    let each = frame.by_rows.then(|| (var_of(other(frame.lane)), across.clone()));
    let arguments = std::mem::take(&mut v.arguments);
    let mut kernel = std::mem::replace(b, Builder::new("", isa, 0)).finish();
    kernel.args = arguments.ints.len();
    Some(Call { kernel, arguments: arguments.ints, floats: arguments.floats, each })
}

/// Claims what a statement needs.
fn prepare<'p>(
    group: &Group<'p>,
    b: &mut Builder,
    v: &mut Values<'p>,
    stmt: &'p Stmt,
    made: &mut Vec<TileId>,
    frame: Frame,
) -> Option<Step<'p>> {
    let program = group.program;
    let narrow = |t: TileId| program.tile(t).ty == TileType::F32;
    let kept = |t: TileId| !group.internal.contains(&t);
    let whole = (Pick::Row, Pick::Col);
    let same_lane = |t: TileId| {
        group.forms.lane(t) == Some(group.lane) || {
            // A single row or column lies along the lanes whatever it is called.
            let tile = program.tile(t);
            tile.rows.cap == 1 || tile.cols.cap == 1
        }
    };
    match stmt {
        Stmt::Let { results, op } => {
            let out = results[0];
            if !narrow(out) {
                return None;
            }
            match op {
                TileOp::Map(value) => {
                    v.prepare(b, value, made)?;
                    let to = if kept(out) { Some(v.tile_operand(b, out, whole)?) } else { None };
                    made.push(out);
                    Some(Step::Map { out, value, to })
                }
                TileOp::Reduce { combine, axis, of } => {
                    identity(*combine)?;
                    read_tile(b, v, *of, made, narrow)?;
                    let along_lanes = *axis == group.lane;
                    if along_lanes && *combine == Combine::Product {
                        return None;
                    }
                    let picks = if *axis == Axis::Rows { (Pick::Zero, Pick::Col) } else { (Pick::Row, Pick::Zero) };
                    let out = v.tile_operand(b, out, picks)?;
                    v.needs_tail |= along_lanes;
                    Some(Step::Reduce { out, combine: *combine, of: *of, sum: b.vector_register(), lanes: along_lanes })
                }
                TileOp::Scan { combine, of, .. } => {
                    identity(*combine)?;
                    read_tile(b, v, *of, made, narrow)?;
                    let to = if kept(out) { Some(v.tile_operand(b, out, whole)?) } else { None };
                    made.push(out);
                    Some(Step::Scan { out, combine: *combine, of: *of, state: b.vector_register(), to })
                }
                TileOp::Recurrence { decay, input, start } => {
                    if frame.lane != Axis::Cols || !same_lane(*input) {
                        return None;
                    }
                    read_tile(b, v, *input, made, narrow)?;
                    let one_column = program.tile(*decay).cols.cap == 1 && program.tile(*input).cols.cap != 1;
                    let pick = if one_column { Pick::Zero } else { Pick::Col };
                    if !narrow(*decay) {
                        return None;
                    }
                    if made.contains(decay) {
                        if one_column {
                            return None;
                        }
                    } else {
                        v.tile_operand(b, *decay, (Pick::Row, pick))?;
                    }
                    let start = match start {
                        Some(s) if made.contains(s) || !narrow(*s) => return None,
                        Some(s) => Some(v.tile_operand(b, *s, (Pick::Zero, Pick::Col))?),
                        None => None,
                    };
                    let to = if kept(out) { Some(v.tile_operand(b, out, whole)?) } else { None };
                    made.push(out);
                    let state = b.vector_register();
                    Some(Step::Recurrence { out, decay: (*decay, pick), input: *input, start, state, to })
                }
                TileOp::Dot { .. } | TileOp::Solve { .. } | TileOp::TopK { .. } => None,
            }
        }
        Stmt::Store { tensor, index, value, guard, .. } => {
            let dtype = program.slow(*tensor).dtype;
            element_of(dtype).filter(|_| dtype != DType::Bool)?;
            // Rows that a list names twice would be written in an order of the kernel's.
            frame.access(program, *tensor, index)?;
            v.prepare(b, value, made)?;
            let to = v.tensor_operand(b, *tensor, index)?;
            if v.is_same(to) {
                return None;
            }
            if let Some(guard) = guard {
                v.limit(b, to, guard)?;
            }
            Some(Step::Store { value, to })
        }
        Stmt::For { .. } => None,
    }
}

fn read_tile(
    b: &mut Builder,
    v: &mut Values,
    t: TileId,
    made: &[TileId],
    narrow: impl Fn(TileId) -> bool,
) -> Option<()> {
    if made.contains(&t) {
        return Some(());
    }
    if !narrow(t) {
        return None;
    }
    v.tile_operand(b, t, (Pick::Row, Pick::Col)).map(|_| ())
}

fn iteration(b: &mut Builder, v: &mut Values, steps: &mut [Step], here: Here) {
    v.begin();
    let whole = (Pick::Row, Pick::Col);
    for step in steps {
        match step {
            Step::Map { out, value, to } => {
                let x = v.real(b, value, here);
                if let Some(to) = to {
                    v.write(b, *to, x, here);
                }
                v.local.insert(*out, x);
            }
            Step::Reduce { combine, of, sum, lanes, .. } => {
                let mut x = v.tile(b, *of, whole, here);
                if *lanes && let (Some(tail), Some(absent)) = (here.tail, identity(*combine)) {
                    let absent = b.constant(absent);
                    x = b.select(tail.mask, x, absent);
                }
                combine_to(b, *combine, *sum, x);
            }
            Step::Scan { out, combine, of, state, to } => {
                let x = v.tile(b, *of, whole, here);
                combine_to(b, *combine, *state, x);
                let value = b.copy(*state);
                if let Some(to) = to {
                    v.write(b, *to, value, here);
                }
                v.local.insert(*out, value);
            }
            Step::Recurrence { out, decay, input, state, to, .. } => {
                let a = v.tile(b, decay.0, (Pick::Row, decay.1), here);
                let x = v.tile(b, *input, whole, here);
                b.horner(*state, a, x);
                let value = b.copy(*state);
                if let Some(to) = to {
                    v.write(b, *to, value, here);
                }
                v.local.insert(*out, value);
            }
            Step::Store { value, to } => {
                let x = v.real(b, value, here);
                v.write(b, *to, x, here);
            }
        }
    }
}

/// Sets running values to their starts.
fn start(b: &mut Builder, v: &mut Values, steps: &[Step], here: Here) {
    for step in steps {
        match step {
            Step::Reduce { combine, sum: state, .. } | Step::Scan { combine, state, .. } => {
                let first = b.constant(identity(*combine).unwrap_or(0.0));
                b.copy_to(*state, first);
            }
            Step::Recurrence { start, state, .. } => {
                let first = match start {
                    Some(operand) => v.read(b, *operand, here),
                    None => b.constant(0.0),
                };
                b.copy_to(*state, first);
            }
            Step::Map { .. } | Step::Store { .. } => {}
        }
    }
}

/// Writes what was combined along the inner axis.
fn end(b: &mut Builder, v: &mut Values, steps: &[Step], here: Here) {
    for step in steps {
        if let Step::Reduce { out, combine, sum, lanes, .. } = step {
            let value = if *lanes { across_lanes(b, *combine, *sum) } else { *sum };
            v.write(b, *out, value, here);
        }
    }
}

fn across_lanes(b: &mut Builder, combine: Combine, sum: VReg) -> VReg {
    match combine {
        Combine::Max | Combine::Min => {
            let op = if combine == Combine::Max { ReduceOp::Max } else { ReduceOp::Min };
            let value = b.reduce(op, sum);
            // The comparison loses NaN.
            let broken = b.compare(Condition::Ne, sum, sum);
            let (one, zero) = (b.constant(1.0), b.constant(0.0));
            let flags = b.select(broken, one, zero);
            let any = b.reduce(ReduceOp::Max, flags);
            let broken = b.compare(Condition::Gt, any, 0.0);
            let nan = b.constant(f32::NAN);
            b.select(broken, nan, value)
        }
        _ => b.reduce(ReduceOp::Sum, sum),
    }
}

fn lanes_outside(
    b: &mut Builder,
    v: &mut Values,
    steps: &mut [Step],
    counts: &Counts,
    first_lane: IReg,
    still: &[Key],
) {
    let rest = counts.rest.filter(|_| v.needs_tail);
    let mut block = |b: &mut Builder, tail| {
        let here = Here { tail, first_lane, other: first_lane };
        v.enter_inner(b);
        start(b, v, steps, here);
        v.keep(b, still, here);
        b.loop_(counts.across, |b, o| {
            iteration(b, v, steps, Here { tail, first_lane, other: o });
            v.next_inner(b);
        });
        v.enter_inner(b);
        end(b, v, steps, here);
        v.next_outer(b);
        if v.needs_index {
            let width = b.lanes() as i32;
            b.advance(first_lane, width);
        }
    };
    if let Some(rest) = rest {
        b.loop_(counts.full, |b, _| block(b, None));
        b.if_positive(rest, |b| {
            let tail = b.tail(rest);
            block(b, Some(tail));
        });
    } else {
        b.loop_(counts.all, |b, _| block(b, None));
    }
}

fn lanes_inside(b: &mut Builder, v: &mut Values, steps: &mut [Step], counts: &Counts, first_lane: IReg) {
    let rest = counts.rest.filter(|_| v.needs_tail);
    let tail = rest.map(|rest| (rest, b.tail(rest)));
    b.loop_(counts.across, |b, o| {
        let here = |tail| Here { tail, first_lane, other: o };
        start(b, v, steps, here(None));
        v.enter_inner(b);
        if v.needs_index {
            b.push(Op::IntConst { dst: first_lane, value: 0 });
        }
        let step = |b: &mut Builder, v: &mut Values, steps: &mut [Step], tail| {
            iteration(b, v, steps, here(tail));
            v.next_inner(b);
            if v.needs_index {
                let width = b.lanes() as i32;
                b.advance(first_lane, width);
            }
        };
        match tail {
            None => b.loop_(counts.all, |b, _| step(b, v, steps, None)),
            Some((rest, tail)) => {
                b.loop_(counts.full, |b, _| step(b, v, steps, None));
                b.if_positive(rest, |b| step(b, v, steps, Some(tail)));
            }
        }
        end(b, v, steps, here(None));
        v.next_outer(b);
    });
}
