//! Real and boolean expressions over one vector of elements.
//!
//! Used in two passes: `prepare` finds out whether an expression fits and claims what it needs outside the loops
//! (pointers, strides, arguments); `real` and `condition` then write the steps of one iteration.

use super::affine::{Affine, Frame, Listed, apart, other, var_of};
use super::call::{Argument, Arguments, FloatArgument};
use super::lanes::{Forms, TileForm};
use super::lists::{List, Row};
use crate::cpu::vkir::{Addr, BinaryOp, Builder, Element, IReg, IntOp, IntSource, Op, Scale, Tail, VReg};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Compare, Expr, Kind, Node, Pick, SlowId, TileId};
use mixc_ir::tile::{Axis, Extent, TileProgram, TileType};
use std::collections::BTreeMap;

/// A number of bytes, known here or only at the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A constant.
    Fixed(i32),
    /// In a register.
    Register(IReg),
}

/// How the lanes of an operand lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// Side by side.
    Contiguous,
    /// One element for all lanes.
    Same,
    /// At a distance.
    Strided(IReg),
}

/// A condition on lanes as a number of first lanes: `lane * l + other * o + rest + constant < 0`, lane 0 or 1.
#[derive(Clone, Debug)]
struct Limit {
    lane: i64,
    other: i64,
    /// Shared by conditions that differ in the constant: there are few registers.
    rest: IReg,
    constant: i32,
    /// A list's integers, by its number, times a factor.
    listed: Option<(usize, i32)>,
}

/// A place in memory that moves along with the loops.
#[derive(Clone, Debug)]
pub struct Operand {
    base: IReg,
    element: Element,
    lie: Lie,
    /// Bytes from the base.
    displacement: i32,
    /// Number of the inner offset, if the inner loop moves it.
    offset: Option<usize>,
    limits: Vec<Limit>,
    pub(super) fill: f64,
    /// Whether lanes past the count may be touched.
    padded: bool,
}

/// A pointer that operands at constant distances share.
#[derive(Clone, Debug)]
struct Base {
    /// Where it starts.
    start: IReg,
    /// How it moves after the inner loop.
    outer: Step,
    now: IReg,
}

/// A linear function of the position in vector registers.
#[derive(Clone, Debug)]
pub(super) struct Position {
    base: VReg,
    pub(super) now: VReg,
    outer: f32,
    inner: f32,
}

/// Which loop is the inner one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lanes outside, the other axis inside: reductions and recurrences along the other axis.
    LanesOutside,
    /// The other axis outside.
    LanesInside,
}

/// Limits of positions: sums of them stay exact in f32.
const EXACT: i64 = 1 << 22;

/// An expression by its address, and in which way a tile is read.
pub type Key = (usize, u8);

/// What an iteration needs to know of its lanes.
#[derive(Clone, Copy)]
pub struct Here {
    /// The last, incomplete vector.
    pub tail: Option<Tail>,
    /// Index of the first lane; written only where some guard needs it.
    pub first_lane: IReg,
    /// Index along the other axis.
    pub other: IReg,
}

/// The values of a group of statements.
pub struct Values<'p> {
    /// The program.
    pub program: &'p TileProgram,
    pub(super) forms: &'p Forms,
    pub(super) frame: Frame,
    pub(super) order: Order,
    pub(super) reverse: Option<IReg>,
    space: (Extent, Extent),
    /// Arguments claimed.
    pub arguments: Arguments,
    pub(super) operands: Vec<Operand>,
    pub(super) operand_of: BTreeMap<Key, usize>,
    /// Values that are the same in every iteration of the inner loop.
    kept: BTreeMap<Key, VReg>,
    offsets: Vec<(Step, IReg)>,
    bases: Vec<Base>,
    pub(super) lists: Vec<List>,
    pub(super) rows: Vec<Row>,
    pub(super) positions: Vec<Position>,
    pub(super) position_of: BTreeMap<usize, usize>,
    pub(super) float_of: BTreeMap<usize, usize>,
    /// Values of tiles that the group makes, in this iteration.
    pub local: BTreeMap<TileId, VReg>,
    pub(super) now: BTreeMap<Key, VReg>,
    /// Whether the last vector must be cut.
    pub needs_tail: bool,
    /// Tiles that the group makes: addresses and positions cannot depend on them.
    pub own: Vec<TileId>,
    /// Names for single rows of tiles in memory.
    pub rows_of: BTreeMap<TileId, (TileId, usize)>,
    /// Whether positions are needed as integers.
    pub needs_index: bool,
}

pub(super) fn key(e: &Expr) -> usize {
    std::ptr::from_ref(e.node()) as usize
}

pub(super) fn has_tiles(e: &Expr) -> bool {
    let mut found = false;
    e.visit(&mut |e| found |= matches!(e.node(), Node::Tile(..)));
    found
}

/// The element of a tensor type that vectors load and store.
pub fn element_of(dtype: DType) -> Option<Element> {
    match dtype {
        DType::F32 => Some(Element::F32),
        DType::F16 => Some(Element::F16),
        DType::BF16 => Some(Element::Bf16),
        DType::Bool => Some(Element::U8),
        DType::F64 | DType::I32 | DType::I64 => None,
    }
}

impl<'p> Values<'p> {
    /// Nothing yet. `reverse` holds the length of the other axis less one when that is run through backwards.
    pub fn new(
        program: &'p TileProgram,
        forms: &'p Forms,
        frame: Frame,
        order: Order,
        space: (Extent, Extent),
        reverse: Option<IReg>,
    ) -> Values<'p> {
        Values {
            program,
            forms,
            frame,
            order,
            reverse,
            space,
            arguments: Arguments::default(),
            operands: Vec::new(),
            operand_of: BTreeMap::new(),
            kept: BTreeMap::new(),
            offsets: Vec::new(),
            bases: Vec::new(),
            lists: Vec::new(),
            rows: Vec::new(),
            positions: Vec::new(),
            position_of: BTreeMap::new(),
            float_of: BTreeMap::new(),
            local: BTreeMap::new(),
            now: BTreeMap::new(),
            needs_tail: false,
            own: Vec::new(),
            rows_of: BTreeMap::new(),
            needs_index: false,
        }
    }

    /// Tells that the other axis is run through from the end; `last` is its length less one.
    pub fn set_reverse(&mut self, last: IReg) {
        self.reverse = Some(last);
    }

    /// Kind of an expression.
    pub fn kind(&self, e: &Expr) -> Kind {
        e.kind(&|n| match n {
            Node::Load(l) => crate::cpu::element::kind_of(self.program.slow(l.tensor).dtype),
            Node::Tile(t, ..) => self.program.tile(*t).ty.kind(),
            _ => Kind::Float,
        })
    }

    fn reads_own(&self, e: &Expr) -> bool {
        let mut found = false;
        e.visit(&mut |e| {
            if let Node::Tile(t, ..) = e.node() {
                found |= self.own.contains(t);
            }
        });
        found
    }

    fn cap(&self, axis: Axis) -> i64 {
        let extent = if axis == Axis::Rows { &self.space.0 } else { &self.space.1 };
        extent.cap as i64
    }

    /// A number of bytes as a step.
    fn step(&mut self, b: &mut Builder, bytes: &Expr) -> Option<Step> {
        match bytes.as_int() {
            Some(n) => i32::try_from(n).ok().map(Step::Fixed),
            None => Some(Step::Register(self.arguments.int(b, Argument::Int(bytes.clone())))),
        }
    }

    /// An operand from its base and its strides in bytes along the lanes and the other axis.
    fn operand(
        &mut self,
        b: &mut Builder,
        (start, displacement): (IReg, i32),
        element: Element,
        (lane, across): (Expr, Expr),
        padded: bool,
        listed: Option<(Listed, Expr)>,
    ) -> Option<usize> {
        let width = b.lanes() as i64;
        let lie = match lane.as_int() {
            Some(0) => Lie::Same,
            Some(n) if n == element.bytes() as i64 => Lie::Contiguous,
            Some(n) => Lie::Strided(b.int(n)),
            None => Lie::Strided(self.arguments.int(b, Argument::Int(lane.clone()))),
        };
        let per_vector = match lie {
            Lie::Same => Step::Fixed(0),
            Lie::Contiguous => Step::Fixed((width * element.bytes() as i64) as i32),
            Lie::Strided(_) => self.step(b, &(lane * Expr::int(width)))?,
        };
        let mut per_other = if self.frame.by_rows { Step::Fixed(0) } else { self.step(b, &across)? };
        if self.reverse.is_some() {
            let Step::Fixed(n) = per_other else { return None };
            per_other = Step::Fixed(n.checked_neg()?);
        }
        let (outer, inner) = match self.order {
            Order::LanesOutside => (per_vector, per_other),
            Order::LanesInside => (per_other, per_vector),
        };
        let base = match (listed, self.reverse, per_other) {
            (Some((of, stride)), ..) => {
                let stride = self.step(b, &stride)?;
                self.listed_row(b, start, outer, of, stride)?
            }
            // Backwards the start depends on the other axis's step too.
            (None, Some(last), Step::Fixed(back)) => {
                let now = b.int_copy(start);
                let end = b.int_mul(last, back.checked_neg()?);
                b.advance(now, end);
                self.bases.push(Base { start, outer, now });
                now
            }
            (None, ..) => self.base(b, start, outer),
        };
        let offset = if inner == Step::Fixed(0) {
            None
        } else {
            match self.offsets.iter().position(|(step, _)| *step == inner) {
                Some(k) => Some(k),
                None => {
                    let register = b.int(0);
                    self.offsets.push((inner, register));
                    Some(self.offsets.len() - 1)
                }
            }
        };
        if lie != Lie::Same && !padded {
            self.needs_tail = true;
        }
        self.operands.push(Operand { base, element, lie, displacement, offset, limits: Vec::new(), fill: 0.0, padded });
        Some(self.operands.len() - 1)
    }

    /// The operand of a tile read at chosen coordinates.
    pub fn tile_operand(&mut self, b: &mut Builder, t: TileId, picks: (Pick, Pick)) -> Option<usize> {
        let id = (t.0 as usize, 1 + 3 * pick_number(picks.0) + pick_number(picks.1));
        if let Some(known) = self.operand_of.get(&id) {
            return Some(*known);
        }
        let (t, first_row) = self.rows_of.get(&t).copied().unwrap_or((t, 0));
        let (tile, form) = (self.program.tile(t), &self.forms.tiles[t.0 as usize]);
        let element = match tile.ty {
            TileType::F32 => Element::F32,
            TileType::Bool => Element::U8,
            TileType::F64 | TileType::I64 => return None,
        };
        let (row, col) = self.forms.strides(self.program, t);
        let stride = |axis: Axis| {
            let wanted = if axis == Axis::Rows { Pick::Row } else { Pick::Col };
            let of = |pick: Pick, bytes: i64| if pick == wanted { bytes } else { 0 };
            of(picks.0, row) + of(picks.1, col)
        };
        let (lane, across) = (stride(self.frame.lane), stride(other(self.frame.lane)));
        let padded = matches!(form, TileForm::Lanes(_)) && lane == 4;
        let base = if self.frame.by_rows && across != 0 {
            // The row is chosen by the caller's loop.
            let index = Expr::from(var_of(other(self.frame.lane))) * Expr::int(across);
            let tile = self.arguments.int(b, Argument::Tile(t));
            let offset = self.arguments.int(b, Argument::Int(index));
            b.int_add(tile, offset)
        } else {
            self.arguments.int(b, Argument::Tile(t))
        };
        let displacement = i32::try_from(first_row as i64 * row).ok()?;
        let strides = (Expr::int(lane), Expr::int(across));
        let operand = self.operand(b, (base, displacement), element, strides, padded, None)?;
        self.operand_of.insert(id, operand);
        Some(operand)
    }

    /// A pointer that moves with the outer loop.
    pub(super) fn base(&mut self, b: &mut Builder, start: IReg, outer: Step) -> IReg {
        if let Some(known) = self.bases.iter().find(|base| base.start == start && base.outer == outer) {
            return known.now;
        }
        let now = b.int_copy(start);
        self.bases.push(Base { start, outer, now });
        now
    }

    /// The operand of a tensor's element.
    pub fn tensor_operand(&mut self, b: &mut Builder, tensor: SlowId, index: &[Expr]) -> Option<usize> {
        let element = element_of(self.program.slow(tensor).dtype)?;
        if index.iter().any(|e| self.reads_own(e)) {
            return None;
        }
        let (access, listed) = self.frame.listed_access(self.program, tensor, index)?;
        let (near, displacement) = access.clone().displaced(&self.program.slow(tensor).shape);
        let displacement = displacement.checked_mul(element.bytes() as i64).and_then(|n| i32::try_from(n).ok());
        // Too far for an instruction: a pointer of its own.
        let (access, displacement) = displacement.map_or((access, 0), |n| (near, n));
        let bytes = |e: Expr| e * Expr::int(element.bytes() as i64);
        let base = self.arguments.int(b, Argument::Address(tensor, access.origin.clone()));
        let listed = listed.map(|(of, elements)| (of, bytes(elements)));
        self.operand(b, (base, displacement), element, (bytes(access.lane), bytes(access.other)), false, listed)
    }

    /// Restricts an operand to where a condition holds.
    pub fn limit(&mut self, b: &mut Builder, operand: usize, guard: &Expr) -> Option<()> {
        if let Node::Binary(Binary::And, x, y) = guard.node() {
            self.limit(b, operand, x)?;
            return self.limit(b, operand, y);
        }
        if self.reverse.is_some() || self.reads_own(guard) {
            return None;
        }
        let limit = if self.frame.is_fixed(guard) && !has_tiles(guard) {
            // -1 where it holds: below 0.
            let rest = Expr::select(guard.clone(), Expr::int(-1), Expr::int(0));
            Limit { lane: 0, other: 0, rest: self.arguments.int(b, Argument::Int(rest)), constant: 0, listed: None }
        } else {
            let Node::Compare(op, x, y) = guard.node() else { return None };
            if self.kind(x) != Kind::Int || self.kind(y) != Kind::Int {
                return None;
            }
            let (x, y) = (x.clone(), y.clone());
            let below = match op {
                Compare::Lt => x - y,
                Compare::Le => x - y - Expr::int(1),
                Compare::Gt => y - x,
                Compare::Ge => y - x - Expr::int(1),
                Compare::Eq | Compare::Ne => return None,
            };
            let (Affine { lane, other, rest }, along) = self.frame.listed(self.program, &below)?;
            let listed = match along {
                Some((of, factor)) => Some((self.list(b, of)?, i32::try_from(factor).ok()?)),
                None => None,
            };
            if !(0..=1).contains(&lane) || i32::try_from(other).is_err() {
                return None;
            }
            self.needs_index |= lane == 1;
            let (near, n) = apart(&rest);
            let (rest, constant) = i32::try_from(n).map_or((rest, 0), |n| (near, n));
            Limit { lane, other, rest: self.arguments.int(b, Argument::Int(rest)), constant, listed }
        };
        self.operands[operand].limits.push(limit);
        Some(())
    }

    pub(super) fn position(&mut self, b: &mut Builder, id: usize, affine: Affine, clamp: bool) -> Option<()> {
        if self.position_of.contains_key(&id) {
            return Some(());
        }
        if self.reverse.is_some() {
            return None;
        }
        let Affine { lane, other: across, rest } = affine;
        if self.reads_own(&rest) {
            return None;
        }
        let size = |n: i64, axis: Axis| n.checked_abs().and_then(|n| n.checked_mul(self.cap(axis).max(64)));
        let reach = size(lane, self.frame.lane)?.checked_add(size(across, other(self.frame.lane))?)?;
        if reach >= EXACT {
            return None;
        }
        let float = if clamp { FloatArgument::Clamped(rest, EXACT) } else { FloatArgument::Int(rest) };
        let float = self.arguments.float(float);
        let start = self.arguments.broadcast(b, float);
        let base = if lane == 0 {
            start
        } else {
            let iota = b.iota();
            let scaled = b.mul(iota, lane as f32);
            b.add(start, scaled)
        };
        let per_vector = (lane * b.lanes() as i64) as f32;
        let (outer, inner) = match self.order {
            Order::LanesOutside => (per_vector, across as f32),
            Order::LanesInside => (across as f32, per_vector),
        };
        let now = if inner == 0.0 { base } else { b.vector_register() };
        self.positions.push(Position { base, now, outer, inner });
        self.position_of.insert(id, self.positions.len() - 1);
        Some(())
    }

    /// Before the inner loop.
    pub fn enter_inner(&mut self, b: &mut Builder) {
        for (_, register) in &self.offsets {
            b.push(Op::IntConst { dst: *register, value: 0 });
        }
        self.enter_lists(b);
        for p in &self.positions {
            if p.inner != 0.0 {
                b.copy_to(p.now, p.base);
            }
        }
    }

    /// After an iteration of the inner loop.
    pub fn next_inner(&mut self, b: &mut Builder) {
        for (step, register) in &self.offsets {
            advance(b, *register, *step);
        }
        for p in &self.positions {
            if p.inner != 0.0 {
                b.binary_to(p.now, BinaryOp::Add, p.now, p.inner);
            }
        }
    }

    /// After an iteration of the outer loop.
    pub fn next_outer(&mut self, b: &mut Builder) {
        for base in &self.bases {
            advance(b, base.now, base.outer);
        }
        for p in &self.positions {
            if p.outer != 0.0 {
                b.binary_to(p.base, BinaryOp::Add, p.base, p.outer);
            }
        }
    }

    /// Before the steps of one iteration.
    pub fn begin(&mut self) {
        self.now.clone_from(&self.kept);
        self.local.clear();
    }

    /// Reads what the inner loop does not move before it, of the loads `still`.
    pub fn keep(&mut self, b: &mut Builder, still: &[Key], here: Here) {
        self.kept.clear();
        for id in still {
            let Some(k) = self.operand_of.get(id).copied() else { continue };
            if self.operands[k].offset.is_none() && self.operands[k].limits.is_empty() {
                let value = self.read(b, k, here);
                self.kept.insert(*id, value);
            }
        }
    }

    fn address(&self, operand: &Operand) -> Addr {
        let address = Addr::new(operand.base).offset(operand.displacement);
        match operand.offset {
            Some(k) => address.indexed(self.offsets[k].1, Scale::One),
            None => address,
        }
    }

    /// Asks for what operands that lie side by side will be some turns of the inner loop from now, where a turn goes a
    /// line or further: such steps are too long for the processor to foresee, and one that crosses a line all the more.
    /// Steps of many pages are of few turns; what they ask for may lie in no memory, which takes long to find out.
    pub fn prefetch(&self, b: &mut Builder, turns: i32) {
        const LINE: i32 = 64;
        const FAR: i32 = 1 << 16;
        for operand in &self.operands {
            let Some(k) = operand.offset.filter(|_| operand.lie == Lie::Contiguous) else { continue };
            let Step::Fixed(step) = self.offsets[k].0 else { continue };
            let Some(ahead) = step.checked_mul(turns).filter(|_| (LINE..=FAR).contains(&step.abs())) else { continue };
            let bytes = (b.lanes() * operand.element.bytes()) as i32;
            let address = self.address(operand).offset(ahead);
            b.prefetch(address);
            b.prefetch(address.offset(bytes - 1));
        }
    }

    /// What of a limit is the same for all lanes.
    fn below(&self, b: &mut Builder, limit: &Limit, here: Here) -> IReg {
        let mut below = limit.rest;
        if limit.constant != 0 {
            below = b.int_add(below, limit.constant);
        }
        if limit.other != 0 {
            let part = b.int_mul(here.other, limit.other as i32);
            below = b.int_add(part, below);
        }
        if let Some((list, factor)) = limit.listed {
            let part = b.int_mul(self.lists[list].now, factor);
            below = b.int_add(part, below);
        }
        below
    }

    /// How many of the first lanes an operand has, where that is limited.
    pub(super) fn lanes_of(&self, b: &mut Builder, operand: &Operand, here: Here) -> Option<Tail> {
        if operand.limits.is_empty() {
            return here.tail;
        }
        let log2 = b.lanes().trailing_zeros() as i8;
        let mut count: Option<IReg> = here.tail.map(|t| t.count);
        for limit in &operand.limits {
            let below = self.below(b, limit, here);
            let n = if limit.lane == 1 {
                let sum = b.int_add(below, here.first_lane);
                let zero = b.int(0);
                b.int_sub(zero, sum)
            } else {
                let zero = b.int(0);
                let n = b.int_sub(zero, below);
                let n = b.int_max(n, 0);
                let n = b.int_min(n, 1);
                b.int_shift(n, log2)
            };
            count = Some(match count {
                Some(c) => b.int_op(IntOp::Min, c, IntSource::Reg(n)),
                None => n,
            });
        }
        count.map(|c| b.tail(c))
    }

    /// Where all limits of an operand are the same for every lane: a number that is positive where they hold. An access
    /// is then left out as a whole; masked ones outside a tensor's pages, though they do not fault, take very long.
    fn holds(&self, b: &mut Builder, operand: &Operand, here: Here) -> Option<IReg> {
        if operand.limits.is_empty() || operand.limits.iter().any(|l| l.lane != 0) {
            return None;
        }
        let mut count: Option<IReg> = None;
        for limit in &operand.limits {
            let below = self.below(b, limit, here);
            let zero = b.int(0);
            let n = b.int_sub(zero, below);
            count = Some(match count {
                Some(c) => b.int_op(IntOp::Min, c, IntSource::Reg(n)),
                None => n,
            });
        }
        count
    }

    pub(super) fn read(&mut self, b: &mut Builder, k: usize, here: Here) -> VReg {
        let mut operand = self.operands[k].clone();
        if let Some(holds) = self.holds(b, &operand, here) {
            operand.limits.clear();
            let value = b.vector_register();
            let fill = b.constant(operand.fill as f32);
            b.copy_to(value, fill);
            b.if_positive(holds, |b| {
                let read = self.read_operand(b, &operand, here);
                b.copy_to(value, read);
            });
            return value;
        }
        self.read_operand(b, &operand, here)
    }

    fn read_operand(&self, b: &mut Builder, operand: &Operand, here: Here) -> VReg {
        let address = self.address(operand);
        let tail = if operand.padded { None } else { self.lanes_of(b, operand, here) };
        let value = match operand.lie {
            Lie::Contiguous => b.load_as(address, operand.element, tail),
            Lie::Strided(stride) => b.load_strided(address, stride, operand.element, tail.map(|t| t.count)),
            Lie::Same if operand.limits.is_empty() => b.broadcast(address, operand.element),
            Lie::Same => {
                let zero = b.int(0);
                b.load_strided(address, zero, operand.element, tail.map(|t| t.count))
            }
        };
        match tail {
            Some(tail) if operand.fill != 0.0 && !operand.limits.is_empty() => {
                let fill = b.constant(operand.fill as f32);
                b.select(tail.mask, value, fill)
            }
            _ => value,
        }
    }

    /// Writes a vector to an operand.
    pub fn write(&mut self, b: &mut Builder, k: usize, value: VReg, here: Here) {
        let mut operand = self.operands[k].clone();
        if let Some(holds) = self.holds(b, &operand, here) {
            operand.limits.clear();
            b.if_positive(holds, |b| self.write_operand(b, &operand, value, here));
        } else {
            self.write_operand(b, &operand, value, here);
        }
    }

    fn write_operand(&self, b: &mut Builder, operand: &Operand, value: VReg, here: Here) {
        let address = self.address(operand);
        let tail = if operand.padded { None } else { self.lanes_of(b, operand, here) };
        match operand.lie {
            Lie::Contiguous => b.store_as(value, address, operand.element, tail),
            Lie::Strided(stride) => {
                b.store_strided(value, address, stride, operand.element, tail.map(|t| t.count));
            }
            Lie::Same => b.store_lane(value, address, operand.element),
        }
    }

    /// Whether an operand is one element for all lanes.
    pub fn is_same(&self, k: usize) -> bool {
        self.operands[k].lie == Lie::Same
    }
}

pub(super) fn pick_number(p: Pick) -> u8 {
    match p {
        Pick::Row => 0,
        Pick::Col => 1,
        Pick::Zero => 2,
    }
}

fn advance(b: &mut Builder, register: IReg, step: Step) {
    match step {
        Step::Fixed(0) => {}
        Step::Fixed(n) => b.advance(register, n),
        Step::Register(n) => b.advance(register, n),
    }
}
