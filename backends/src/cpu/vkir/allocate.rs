//! Assignment of virtual registers to machine registers: liveness over the loop tree, then one linear scan a class.
//!
//! Never spills: a kernel that needs more registers than there are is refused, and the caller tries a smaller tile.
//! A register lives in one interval, from its first to its last mention, widened to every loop that it enters or
//! leaves.

use super::EmitError;
use super::ir::{Count, Isa, Kernel, Node, Op, Source, UnaryOp};
use super::references::{Access, AnyReg, references};
use std::collections::BTreeMap;

/// Scratch registers that an operation's expansion needs besides its operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TempCounts {
    pub ints: usize,
    pub vectors: usize,
    pub masks: usize,
}

/// Machine registers of the scratch values of one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Temps {
    pub ints: Vec<u8>,
    pub vectors: Vec<u8>,
    pub masks: Vec<u8>,
}

/// The assignment, indexed by virtual register; `u8::MAX` where a virtual register is never mentioned.
#[derive(Debug)]
pub(super) struct Assignment {
    pub ints: Vec<u8>,
    pub vectors: Vec<u8>,
    /// Vector registers on AVX2.
    pub masks: Vec<u8>,
    /// By position (see [`Positions`]).
    pub temps: BTreeMap<u32, Temps>,
    /// Constants kept in otherwise unused vector registers for the whole kernel.
    pub constants: Vec<(u32, u8)>,
    /// Integer machine registers that are written.
    pub used_ints: Vec<u8>,
    /// Loops, by position of their start, whose body reads the counter.
    pub counted_up: BTreeMap<u32, bool>,
}

/// Encodings of the integer registers in the order of preference: the argument pointer's first, the callee-saved last,
/// the stack pointer never.
pub(super) const INT_ORDER: [u8; 15] = [7, 0, 1, 2, 6, 8, 9, 10, 11, 3, 5, 12, 13, 14, 15];

#[derive(Clone, Copy, Debug)]
struct LoopSpan {
    parent: usize,
    depth: usize,
    start: u32,
    end: u32,
}

#[derive(Clone, Debug)]
struct Life {
    first: u32,
    last: u32,
    owner: usize,
    /// Whether the first mention is a write in the owner's own body.
    defined_in_owner: bool,
    first_is_write: bool,
    first_loop: usize,
    writes: u32,
    loops: Vec<usize>,
}

/// Positions are numbered in program order, two to a step: operands are read at the even one, results written at the
/// odd one. A loop's start and end are steps too.
struct Walk<'a> {
    isa: Isa,
    loops: Vec<LoopSpan>,
    current: usize,
    step: u32,
    ints: Vec<Option<Life>>,
    vectors: Vec<Option<Life>>,
    masks: Vec<Option<Life>>,
    temps: Vec<(u32, TempCounts)>,
    constants: BTreeMap<u32, u64>,
    reads_of_counter: Vec<bool>,
    temp_counts: &'a dyn Fn(&Op) -> TempCounts,
}

fn common_loop(loops: &[LoopSpan], mut a: usize, mut b: usize) -> usize {
    while a != b {
        if loops[a].depth >= loops[b].depth {
            a = loops[a].parent;
        } else {
            b = loops[b].parent;
        }
    }
    a
}

impl Walk<'_> {
    fn mention(&mut self, register: AnyReg, access: Access) -> Result<(), EmitError> {
        let current = self.current;
        let (table, id) = match register {
            AnyReg::Int(r) => (&mut self.ints, r.0),
            AnyReg::Vector(r) => (&mut self.vectors, r.0),
            AnyReg::Mask(r) => (&mut self.masks, r.0),
        };
        let slot = table.get_mut(id as usize).ok_or(EmitError::Malformed("a register outside the kernel's counts"))?;
        let at = match access {
            Access::Use | Access::Update | Access::DefineEarly => 2 * self.step,
            Access::Define => 2 * self.step + 1,
        };
        let end = if access == Access::Use { at } else { 2 * self.step + 1 };
        match slot {
            None => {
                let writes = matches!(access, Access::Define | Access::DefineEarly);
                if !writes {
                    return Err(EmitError::Malformed("a register is read before it is written"));
                }
                *slot = Some(Life {
                    first: at,
                    last: end,
                    owner: current,
                    defined_in_owner: true,
                    first_is_write: writes,
                    first_loop: current,
                    writes: 1,
                    loops: vec![current],
                });
            }
            Some(life) => {
                life.writes += u32::from(access != Access::Use);
                life.first = life.first.min(at);
                life.last = life.last.max(end);
                life.owner = common_loop(&self.loops, life.owner, current);
                life.defined_in_owner = life.first_is_write && life.first_loop == life.owner;
                if !life.loops.contains(&current) {
                    life.loops.push(current);
                }
            }
        }
        if let (AnyReg::Int(r), Access::Use | Access::Update) = (register, access)
            && let Some(read) = self.reads_of_counter.get_mut(r.0 as usize)
        {
            *read = true;
        }
        Ok(())
    }

    fn constant(&mut self, bits: u32) {
        let depth = self.loops[self.current].depth;
        if depth > 0 {
            let weight = 8u64.saturating_pow(depth.min(8) as u32);
            let total = self.constants.entry(bits).or_default();
            *total = total.saturating_add(weight);
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), EmitError> {
        for node in nodes {
            match node {
                Node::Op(op) => {
                    let mut failed = Ok(());
                    let isa = self.isa;
                    references(op, isa, &mut |register, access| {
                        if failed.is_ok() {
                            failed = self.mention(register, access);
                        }
                    });
                    failed?;
                    match op {
                        Op::Binary { b: Source::Const(bits), .. }
                        | Op::Fma { b: Source::Const(bits), .. }
                        | Op::Compare { b: Source::Const(bits), .. }
                        | Op::Const { bits, .. } => self.constant(*bits),
                        Op::Unary { op: UnaryOp::Neg, .. } => self.constant(0x8000_0000),
                        Op::Unary { op: UnaryOp::Abs, .. } => self.constant(0x7fff_ffff),
                        _ => {}
                    }
                    let counts = (self.temp_counts)(op);
                    if counts != TempCounts::default() {
                        self.temps.push((self.step, counts));
                    }
                    self.step += 1;
                }
                Node::Loop { count, counter, body } => {
                    let start = self.step;
                    if let Count::Reg(register) = count {
                        self.mention(AnyReg::Int(*register), Access::Use)?;
                    }
                    let outer = self.current;
                    let depth = self.loops[outer].depth + 1;
                    self.loops.push(LoopSpan { parent: outer, depth, start, end: start });
                    let this = self.loops.len() - 1;
                    self.mention(AnyReg::Int(*counter), Access::DefineEarly)?;
                    self.step += 1;
                    self.current = this;
                    self.nodes(body)?;
                    self.current = outer;
                    self.loops[this].end = self.step;
                    // the counter is stepped and compared at the end
                    self.mention(AnyReg::Int(*counter), Access::Define)?;
                    if let Count::Reg(register) = count {
                        self.mention(AnyReg::Int(*register), Access::DefineEarly)?;
                    }
                    self.step += 1;
                }
            }
        }
        Ok(())
    }
}

/// Start and end of a register's interval, both inclusive.
fn interval(life: &Life, loops: &[LoopSpan]) -> (u32, u32) {
    let (mut first, mut last) = (life.first, life.last);
    let mut widen = |l: &LoopSpan| {
        first = first.min(2 * l.start);
        last = last.max(2 * l.end + 1);
    };
    for &inner in &life.loops {
        let mut l = inner;
        while l != life.owner {
            widen(&loops[l]);
            l = loops[l].parent;
        }
    }
    if !life.defined_in_owner {
        // the first write is conditional: the value may come from any earlier round of any loop around
        let mut l = life.owner;
        loop {
            widen(&loops[l]);
            if l == 0 {
                break;
            }
            l = loops[l].parent;
        }
    }
    (first, last)
}

/// What one interval is for.
#[derive(Clone, Copy, Debug)]
enum Holder {
    Register(u32),
    Mask(u32),
    Temp(u32),
}

struct Interval {
    first: u32,
    last: u32,
    holder: Holder,
}

/// Gives each interval the first register of `order` that is free; reports each choice. Returns which were used.
fn scan(
    mut intervals: Vec<Interval>,
    order: &[u8],
    class: &'static str,
    chosen: &mut dyn FnMut(Holder, u8),
) -> Result<Vec<u8>, EmitError> {
    intervals.sort_by_key(|i| (i.first, i.last));
    let mut busy_until: Vec<Option<u32>> = vec![None; order.len()];
    let mut used = vec![false; order.len()];
    for interval in &intervals {
        let free = busy_until.iter().position(|busy| busy.is_none_or(|last| last < interval.first));
        let Some(free) = free else { return Err(EmitError::OutOfRegisters(class)) };
        busy_until[free] = Some(interval.last);
        used[free] = true;
        chosen(interval.holder, order[free]);
    }
    Ok(order.iter().zip(&used).filter(|(_, used)| **used).map(|(register, _)| *register).collect())
}

/// Assigns machine registers to everything in `kernel`. `temp_counts` says what scratch an operation needs.
pub(super) fn allocate(
    kernel: &Kernel,
    isa: Isa,
    temp_counts: &dyn Fn(&Op) -> TempCounts,
) -> Result<Assignment, EmitError> {
    let mut walk = Walk {
        isa,
        loops: vec![LoopSpan { parent: 0, depth: 0, start: 1, end: 1 }],
        current: 0,
        step: 1,
        ints: vec![None; kernel.ints as usize],
        vectors: vec![None; kernel.vectors as usize],
        masks: vec![None; kernel.masks as usize],
        temps: Vec::new(),
        constants: BTreeMap::new(),
        reads_of_counter: vec![false; kernel.ints as usize],
        temp_counts,
    };
    walk.nodes(&kernel.body)?;
    walk.loops[0].end = walk.step;
    let collect = |table: &[Option<Life>], holder: &dyn Fn(u32) -> Holder| -> Vec<Interval> {
        let mut intervals = Vec::new();
        for (id, life) in table.iter().enumerate() {
            if let Some(life) = life {
                let (first, last) = interval(life, &walk.loops);
                intervals.push(Interval { first, last, holder: holder(id as u32) });
            }
        }
        intervals
    };
    let mut int_intervals = collect(&walk.ints, &Holder::Register);
    let mut vector_intervals = collect(&walk.vectors, &Holder::Register);
    let mut mask_intervals = collect(&walk.masks, &Holder::Mask);
    // the argument pointer: slot 0 is live from the entry to the last argument read
    if let Some(last) = last_argument_read(&kernel.body, &mut 1) {
        let in_loop = walk.loops.iter().skip(1).filter(|l| l.start <= last && last <= l.end).map(|l| l.end).max();
        let last = 2 * in_loop.unwrap_or(last);
        int_intervals.push(Interval { first: 0, last, holder: Holder::Temp(0) });
    }
    for (step, counts) in &walk.temps {
        let temp = || Interval { first: 2 * step, last: 2 * step + 1, holder: Holder::Temp(*step) };
        int_intervals.extend((0..counts.ints).map(|_| temp()));
        vector_intervals.extend((0..counts.vectors).map(|_| temp()));
        mask_intervals.extend((0..counts.masks).map(|_| temp()));
    }
    let mut assignment = Assignment {
        ints: vec![u8::MAX; kernel.ints as usize],
        vectors: vec![u8::MAX; kernel.vectors as usize],
        masks: vec![u8::MAX; kernel.masks as usize],
        temps: BTreeMap::new(),
        constants: Vec::new(),
        used_ints: Vec::new(),
        counted_up: BTreeMap::new(),
    };
    assignment.used_ints = scan(int_intervals, &INT_ORDER, "integer", &mut |holder, register| match holder {
        Holder::Register(id) => assignment.ints[id as usize] = register,
        Holder::Temp(step) => assignment.temps.entry(step).or_default().ints.push(register),
        Holder::Mask(_) => {}
    })?;
    let vector_order: Vec<u8> = (0..isa.vector_registers() as u8).collect();
    if isa == Isa::Avx2 {
        vector_intervals.append(&mut mask_intervals);
    }
    let used = scan(vector_intervals, &vector_order, "vector", &mut |holder, register| match holder {
        Holder::Register(id) => assignment.vectors[id as usize] = register,
        Holder::Mask(id) => assignment.masks[id as usize] = register,
        Holder::Temp(step) => assignment.temps.entry(step).or_default().vectors.push(register),
    })?;
    // k0 cannot be a write mask
    scan(mask_intervals, &[1, 2, 3, 4, 5, 6, 7], "mask", &mut |holder, register| match holder {
        Holder::Mask(id) => assignment.masks[id as usize] = register,
        Holder::Temp(step) => assignment.temps.entry(step).or_default().masks.push(register),
        Holder::Register(_) => {}
    })?;
    let mut wanted: Vec<(u32, u64)> = walk.constants.into_iter().collect();
    wanted.sort_by_key(|&(bits, weight)| (std::cmp::Reverse(weight), bits));
    let free = vector_order.iter().filter(|register| !used.contains(register));
    assignment.constants = wanted.iter().map(|&(bits, _)| bits).zip(free.copied()).collect();
    share_constants(&kernel.body, &walk.vectors, &mut assignment);
    mark_counters(&kernel.body, &mut 1, &walk.reads_of_counter, &mut assignment.counted_up);
    Ok(assignment)
}

/// Lets registers that only ever hold a constant be the machine register that keeps it.
fn share_constants(nodes: &[Node], lives: &[Option<Life>], assignment: &mut Assignment) {
    for node in nodes {
        match node {
            Node::Op(Op::Const { dst, bits }) => {
                let once = lives[dst.0 as usize].as_ref().is_some_and(|life| life.writes == 1);
                let kept = assignment.constants.iter().find(|(held, _)| held == bits);
                if let (true, Some(&(_, register))) = (once, kept) {
                    assignment.vectors[dst.0 as usize] = register;
                }
            }
            Node::Op(_) => {}
            Node::Loop { body, .. } => share_constants(body, lives, assignment),
        }
    }
}

fn last_argument_read(nodes: &[Node], step: &mut u32) -> Option<u32> {
    let mut last = None;
    for node in nodes {
        match node {
            Node::Op(op) => {
                if matches!(op, Op::Arg { .. }) {
                    last = Some(*step);
                }
                *step += 1;
            }
            Node::Loop { body, .. } => {
                *step += 1;
                last = last_argument_read(body, step).or(last);
                *step += 1;
            }
        }
    }
    last
}

fn mark_counters(nodes: &[Node], step: &mut u32, read: &[bool], counted_up: &mut BTreeMap<u32, bool>) {
    for node in nodes {
        match node {
            Node::Op(_) => *step += 1,
            Node::Loop { counter, body, .. } => {
                counted_up.insert(*step, read[counter.0 as usize]);
                *step += 1;
                mark_counters(body, step, read, counted_up);
                *step += 1;
            }
        }
    }
}
