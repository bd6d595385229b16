//! Where tiles lie in fast memory: one block of scratch a slice of the grid, tiles that are never live together sharing
//! bytes, and a loop's carried tile built in place where the step that makes its next value allows it.

use super::vector::{Item, ItemWork};
use mixc_ir::expr::{Expr, Node, Pick, TileId};
use mixc_ir::tile::{Stmt, TileOp, TileProgram};

/// Bytes that every tile is aligned to: a cache line and a vector register.
const ALIGNMENT: usize = 64;

/// The order of a tile's elements in fast memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes from a row to the next.
    pub row_stride: usize,
    /// Bytes from a column to the next.
    pub col_stride: usize,
    /// Bytes in all.
    pub bytes: usize,
}

/// Where a tile lies. Two tiles at one offset are one piece of memory, of one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the scratch memory.
    pub offset: usize,
    /// Order of the elements.
    pub layout: Layout,
}

/// The scratch memory of a program.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// Of each tile; `None` for tiles that take no memory.
    pub places: Vec<Option<Place>>,
    /// Bytes in all, a multiple of [`ALIGNMENT`].
    pub bytes: usize,
}

/// Time is counted in steps of two a statement: a statement at `k` writes its results from `2k` on and reads its
/// operands until `2k + 1`, so that results and operands overlap unless they are merged on purpose.
type Interval = (usize, usize);

struct Loop {
    begin: usize,
    end: usize,
}

struct Lives {
    clock: usize,
    open: Vec<usize>,
    loops: Vec<Loop>,
    /// Loops (by number) open at the definition, and intervals, of each tile.
    defined_in: Vec<Vec<usize>>,
    intervals: Vec<Vec<Interval>>,
    /// Tiles read last, to be closed when all loops are known: (tile, time, loops open at the time).
    uses: Vec<(TileId, usize, Vec<usize>)>,
    carried: Vec<(TileId, TileId)>,
    allowed: Vec<Allowed>,
}

fn matrix_tiles(e: &Expr, found: &mut Vec<TileId>) {
    e.visit(&mut |e| {
        if let Node::Tile(t, ..) = e.node() {
            found.push(*t);
        }
    });
}

/// The tiles that an operation reads.
pub fn operands(op: &TileOp) -> Vec<TileId> {
    let mut tiles = Vec::new();
    match op {
        TileOp::Map(e) => matrix_tiles(e, &mut tiles),
        TileOp::Dot { a, b, acc } => {
            tiles.extend([a.tile, b.tile]);
            tiles.extend(acc);
        }
        TileOp::Reduce { of, .. } | TileOp::Scan { of, .. } | TileOp::TopK { of, .. } => tiles.push(*of),
        TileOp::Recurrence { decay, input, start } => {
            tiles.extend([*decay, *input]);
            tiles.extend(start);
        }
        TileOp::Solve { lower, rhs } => tiles.extend([*lower, *rhs]),
    }
    tiles
}

/// The tiles from outside that a loop of plain statements reads.
fn read_inside(stmt: &Stmt) -> Vec<TileId> {
    let Stmt::For { from, to, carry, body, .. } = stmt else { return Vec::new() };
    let mut read: Vec<TileId> = carry.iter().map(|c| c.init).collect();
    let mut made: Vec<TileId> = carry.iter().map(|c| c.inside).collect();
    [from, to].into_iter().for_each(|e| matrix_tiles(e, &mut read));
    for stmt in body {
        match stmt {
            Stmt::Let { results, op } => {
                made.extend(results);
                read.extend(operands(op));
            }
            Stmt::Store { index, value, guard, rows, cols, .. } => {
                let all = index.iter().chain([value, &rows.count, &cols.count]).chain(guard);
                all.for_each(|e| matrix_tiles(e, &mut read));
            }
            Stmt::For { .. } => {}
        }
    }
    read.retain(|t| !made.contains(t));
    read
}

/// Tiles that a statement reads at the element of the iteration alone, and those that it reads elsewhere too.
fn elementwise(program: &TileProgram, stmt: &Stmt) -> (Vec<TileId>, Vec<TileId>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut expr = |e: &Expr| {
        e.visit(&mut |e| match e.node() {
            Node::Tile(t, Pick::Row, Pick::Col) => good.push(*t),
            Node::Tile(t, ..) => bad.push(*t),
            _ => {}
        });
    };
    match stmt {
        Stmt::Let { op: TileOp::Map(e), .. } => expr(e),
        Stmt::Store { index, value, guard, .. } => index.iter().chain([value]).chain(guard).for_each(expr),
        Stmt::Let { op: TileOp::Reduce { of, .. } | TileOp::Scan { of, .. }, .. } => good.push(*of),
        Stmt::Let { op: TileOp::Recurrence { decay, input, start }, .. } => {
            good.push(*input);
            let whole = program.tile(*decay).cols.cap == program.tile(*input).cols.cap;
            if whole {
                good.push(*decay)
            } else {
                bad.push(*decay)
            }
            bad.extend(start);
        }
        Stmt::Let { op, .. } => bad.extend(operands(op)),
        Stmt::For { .. } => {}
    }
    (good, bad)
}

/// Operands whose elements are read no later than the result's element at the same place is written, and nowhere else:
/// the result may take their memory.
fn replaceable(program: &TileProgram, op: &TileOp) -> Vec<TileId> {
    let all = operands(op);
    let once = |t: TileId| all.iter().filter(|&&u| u == t).count() == 1;
    match op {
        TileOp::Map(e) => {
            let mut good = Vec::new();
            let mut bad = Vec::new();
            e.visit(&mut |e| match e.node() {
                Node::Tile(t, Pick::Row, Pick::Col) => good.push(*t),
                Node::Tile(t, ..) => bad.push(*t),
                _ => {}
            });
            good.retain(|t| !bad.contains(t));
            good.dedup();
            good
        }
        TileOp::Dot { acc: Some(acc), .. } if once(*acc) => vec![*acc],
        TileOp::Scan { of, .. } => vec![*of],
        TileOp::Recurrence { input, decay, .. } => {
            let mut good = Vec::new();
            if once(*input) {
                good.push(*input);
            }
            // A decay of one column is read again for every column.
            if once(*decay) && program.tile(*decay).cols.cap == program.tile(*input).cols.cap {
                good.push(*decay);
            }
            good
        }
        TileOp::Solve { rhs, lower } if rhs != lower => vec![*rhs],
        _ => Vec::new(),
    }
}

impl Lives {
    fn define(&mut self, t: TileId, at: usize) {
        self.defined_in[t.0 as usize] = self.open.clone();
        self.intervals[t.0 as usize].push((2 * at, 2 * at + 1));
    }

    fn use_(&mut self, t: TileId, at: usize) {
        self.uses.push((t, 2 * at + 1, self.open.clone()));
    }

    /// The two tiles may share a place although they overlap in this one statement.
    fn allow(&mut self, a: TileId, b: TileId, at: usize) {
        self.allowed.push(Allowed { a, b, at: (2 * at, 2 * at + 1) });
    }

    fn expr(&mut self, e: &Expr, at: usize) {
        let mut tiles = Vec::new();
        matrix_tiles(e, &mut tiles);
        for t in tiles {
            self.use_(t, at);
        }
    }

    fn walk(&mut self, program: &TileProgram, items: &[Item]) {
        for item in items {
            let at = self.clock;
            self.clock += 1;
            for stmt in &item.stmts {
                self.statement(program, item, stmt, at);
            }
            if let (true, ItemWork::Group(_)) = (item.stmts.len() > 1, &item.work) {
                self.group(program, &item.stmts, at);
            }
        }
    }

    /// In a group, a result may take the place of what is read at the same element alone, and by then already.
    fn group(&mut self, program: &TileProgram, stmts: &[&Stmt], at: usize) {
        let reads: Vec<(Vec<TileId>, Vec<TileId>)> = stmts.iter().map(|s| elementwise(program, s)).collect();
        for (m, stmt) in stmts.iter().enumerate() {
            let Stmt::Let { results, op } = stmt else { continue };
            if matches!(op, TileOp::Reduce { .. }) {
                continue;
            }
            for t in reads[..=m].iter().flat_map(|(good, _)| good) {
                let made = stmts.iter().any(|s| matches!(s, Stmt::Let { results, .. } if results.contains(t)));
                if !made && reads.iter().all(|(_, bad)| !bad.contains(t)) {
                    self.allow(*t, results[0], at);
                }
            }
        }
    }

    fn statement(&mut self, program: &TileProgram, item: &Item, stmt: &Stmt, at: usize) {
        {
            match stmt {
                Stmt::Let { results, op } => {
                    for t in operands(op) {
                        self.use_(t, at);
                    }
                    for t in results {
                        self.define(*t, at);
                    }
                    if item.stmts.len() == 1 {
                        for t in replaceable(program, op) {
                            self.allow(t, results[0], at);
                        }
                    }
                }
                Stmt::Store { index, value, guard, rows, cols, .. } => {
                    for e in index.iter().chain([value, &rows.count, &cols.count]).chain(guard) {
                        self.expr(e, at);
                    }
                }
                Stmt::For { carry, .. } if matches!(item.work, ItemWork::Turns(_)) => {
                    let read = read_inside(stmt);
                    for t in &read {
                        self.use_(*t, at);
                    }
                    for c in carry {
                        self.define(c.result, at);
                        // The start is read before the result is written, lanes by lanes, and nowhere else.
                        if read.iter().filter(|t| **t == c.init).count() == 1 {
                            self.allow(c.init, c.result, at);
                        }
                    }
                }
                Stmt::For { from, to, when, carry, .. } => {
                    for e in [from, to] {
                        self.expr(e, at);
                    }
                    for c in carry {
                        self.use_(c.init, at);
                    }
                    let number = self.loops.len();
                    self.loops.push(Loop { begin: at, end: at });
                    self.open.push(number);
                    if let Some(when) = when {
                        self.expr(when, at);
                    }
                    for c in carry {
                        self.define(c.inside, at);
                    }
                    if let ItemWork::Loop(inner) = &item.work {
                        self.walk(program, inner);
                    }
                    let end = self.clock;
                    self.clock += 1;
                    self.loops[number].end = end;
                    for c in carry {
                        self.use_(c.next, end);
                    }
                    self.open.pop();
                    for c in carry {
                        // The place of the carried tile is written again at the end of a turn.
                        self.intervals[c.inside.0 as usize].push((2 * end, 2 * end + 1));
                        self.define(c.result, end);
                        self.allow(c.init, c.inside, at);
                        for (a, b) in [(c.inside, c.next), (c.inside, c.result), (c.next, c.result)] {
                            self.allow(a, b, end);
                        }
                        self.carried.extend([(c.inside, c.next), (c.inside, c.result)]);
                    }
                }
            }
        }
    }

    /// Turns uses into intervals: a tile read inside a loop that it was defined outside of lives to the loop's end.
    fn close(&mut self) {
        for (t, time, open) in std::mem::take(&mut self.uses) {
            let defined_in = &self.defined_in[t.0 as usize];
            let outer = open.iter().find(|l| !defined_in.contains(l));
            let until = match outer {
                Some(&l) => 2 * self.loops[l].end + 1,
                None => time,
            };
            let life = &mut self.intervals[t.0 as usize];
            match life.first_mut() {
                Some(first) => first.1 = first.1.max(until),
                None => life.push((0, until)),
            }
        }
        debug_assert!(self.loops.iter().all(|l| l.begin <= l.end));
    }
}

/// Two tiles that may overlap within an interval although they share a place.
struct Allowed {
    a: TileId,
    b: TileId,
    at: Interval,
}

/// Tiles joined into one place each.
struct Classes {
    parent: Vec<usize>,
    members: Vec<Vec<usize>>,
    lives: Vec<Vec<Interval>>,
    layouts: Vec<Option<Layout>>,
}

impl Classes {
    fn root(&self, mut k: usize) -> usize {
        while self.parent[k] != k {
            k = self.parent[k];
        }
        k
    }

    /// Intervals of a whole class.
    fn life(&self, root: usize) -> impl Iterator<Item = Interval> {
        self.members[root].iter().flat_map(|&m| self.lives[m].iter().copied())
    }

    /// Joins two classes when their tiles overlap in nothing but what is allowed.
    fn join(&mut self, a: TileId, b: TileId, allowed: &[Allowed]) {
        let (a, b) = (self.root(a.0 as usize), self.root(b.0 as usize));
        if a == b || self.layouts[a].is_none() || self.layouts[a] != self.layouts[b] {
            return;
        }
        for &x in &self.members[a] {
            for &y in &self.members[b] {
                for &(from_x, to_x) in &self.lives[x] {
                    for &(from_y, to_y) in &self.lives[y] {
                        let (from, to) = (from_x.max(from_y), to_x.min(to_y));
                        // Whoever takes the place over does so when the other is read for the last time.
                        let fine = allowed.iter().any(|w| {
                            let (p, q) = (w.a.0 as usize, w.b.0 as usize);
                            let last = if p == x { to_x } else { to_y };
                            ((p, q) == (x, y) || (p, q) == (y, x)) && w.at.0 <= from && last <= w.at.1
                        });
                        if from <= to && !fine {
                            return;
                        }
                    }
                }
            }
        }
        self.parent[b] = a;
        let more = std::mem::take(&mut self.members[b]);
        self.members[a].extend(more);
    }
}

impl Storage {
    /// Places the tiles of `program`; those without a layout take no memory.
    pub fn plan(program: &TileProgram, items: &[Item], layouts: Vec<Option<Layout>>) -> Storage {
        let n = program.tiles.len();
        let mut lives = Lives {
            clock: 0,
            open: Vec::new(),
            loops: Vec::new(),
            defined_in: vec![Vec::new(); n],
            intervals: vec![Vec::new(); n],
            uses: Vec::new(),
            carried: Vec::new(),
            allowed: Vec::new(),
        };
        lives.walk(program, items);
        lives.close();
        let mut classes = Classes {
            parent: (0..n).collect(),
            members: (0..n).map(|k| vec![k]).collect(),
            lives: lives.intervals,
            layouts,
        };
        // Carried tiles first: a copy a turn costs more than a few bytes of scratch.
        for (a, b) in lives.carried {
            classes.join(a, b, &lives.allowed);
        }
        for wish in &lives.allowed {
            classes.join(wish.a, wish.b, &lives.allowed);
        }
        place(&classes)
    }
}

/// Offsets by first fit, large classes first.
fn place(classes: &Classes) -> Storage {
    let n = classes.parent.len();
    let mut roots: Vec<(usize, usize)> = (0..n)
        .filter(|&k| classes.parent[k] == k && classes.life(k).next().is_some())
        .filter_map(|k| classes.layouts[k].map(|l| (k, l.bytes.div_ceil(ALIGNMENT) * ALIGNMENT)))
        .collect();
    roots.sort_by_key(|&(k, bytes)| (std::cmp::Reverse(bytes), k));
    let meet = |a: usize, b: usize| classes.life(a).any(|x| classes.life(b).any(|y| x.0.max(y.0) <= x.1.min(y.1)));
    let mut placed: Vec<(usize, usize, usize)> = Vec::new();
    let mut offsets = vec![None; n];
    let mut total = 0;
    for (k, bytes) in roots {
        let mut busy: Vec<(usize, usize)> =
            placed.iter().filter(|p| meet(p.0, k)).map(|&(_, from, to)| (from, to)).collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (from, to) in busy {
            if offset + bytes <= from {
                break;
            }
            offset = offset.max(to);
        }
        placed.push((k, offset, offset + bytes));
        offsets[k] = Some(offset);
        total = total.max(offset + bytes);
    }
    let places = (0..n)
        .map(|k| {
            let root = classes.root(k);
            Some(Place { offset: offsets[root]?, layout: classes.layouts[k]? })
        })
        .collect();
    Storage { places, bytes: total }
}
