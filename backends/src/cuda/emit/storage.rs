//! Where tiles lie: in the shared memory of a block of threads, or, where that is full, in scratch memory of the block.
//!
//! Tiles that are never live together share bytes. A carried tile has one place for its whole loop; what starts it and
//! what is handed on are made right there where nobody needs the old value any more, and copied otherwise.

use mixc_ir::expr::{Expr, Node, Pick, TileId};
use mixc_ir::tile::{Carry, Stmt, TileOp, TileProgram};
use std::collections::BTreeMap;

/// Bytes to which every tile is aligned: the widest load, and what matrix loads from shared memory need.
const ALIGNMENT: usize = 16;

/// The memory of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Shared memory.
    Shared,
    /// Scratch memory of the block, in slow memory.
    Scratch,
}

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which memory.
    pub level: Level,
    /// First byte.
    pub offset: usize,
    /// Length.
    pub bytes: usize,
}

/// Places of all tiles of a program.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    places: Vec<Place>,
    pitches: Vec<usize>,
    /// Bytes of shared memory.
    pub shared_bytes: usize,
    /// Bytes of scratch memory of a block.
    pub scratch_bytes: usize,
}

impl Storage {
    /// Where a tile lies. Tiles of one place are one after the other in it.
    pub fn place(&self, t: TileId) -> Place {
        self.places[t.0 as usize]
    }

    /// Elements from a row to the next.
    pub fn pitch(&self, t: TileId) -> usize {
        self.pitches[t.0 as usize]
    }

    /// Whether two tiles lie in one place.
    pub fn same(&self, a: TileId, b: TileId) -> bool {
        self.place(a) == self.place(b)
    }
}

/// Moments of a program in the order of its text: each step has one, a loop one at its start and one at its end.
#[derive(Default)]
struct Moments {
    /// When each tile is made.
    made: BTreeMap<TileId, usize>,
    /// When each tile is read: as it is at the element under construction alone, or in any other way.
    uses: BTreeMap<TileId, Vec<Use>>,
    /// First and last moment of every loop.
    loops: Vec<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Use {
    at: usize,
    in_place: bool,
}

/// The tiles that an expression reads, and whether each is read at the present row and column.
pub fn tiles_of(e: &Expr, f: &mut dyn FnMut(TileId, Pick, Pick)) {
    e.visit(&mut |n| {
        if let Node::Tile(t, row, col) = n.node() {
            f(*t, *row, *col);
        }
    });
}

impl Moments {
    fn uses(&mut self, t: TileId, at: usize, in_place: bool) {
        self.uses.entry(t).or_default().push(Use { at, in_place });
    }

    fn walk(&mut self, body: &[Stmt], now: &mut usize) {
        for stmt in body {
            let at = *now;
            *now += 1;
            match stmt {
                Stmt::Let { results, op } => {
                    match op {
                        TileOp::Map(e) => tiles_of(e, &mut |t, row, col| {
                            self.uses(t, at, (row, col) == (Pick::Row, Pick::Col));
                        }),
                        TileOp::Dot { a, b, acc } => {
                            self.uses(a.tile, at, false);
                            self.uses(b.tile, at, false);
                            acc.iter().for_each(|t| self.uses(*t, at, true));
                        }
                        TileOp::Reduce { of, .. } | TileOp::Scan { of, .. } | TileOp::TopK { of, .. } => {
                            self.uses(*of, at, false);
                        }
                        TileOp::Recurrence { decay, input, start } => {
                            [*decay, *input].into_iter().chain(*start).for_each(|t| self.uses(t, at, false));
                        }
                        TileOp::Solve { lower, rhs } => {
                            [*lower, *rhs].into_iter().for_each(|t| self.uses(t, at, false))
                        }
                    }
                    results.iter().for_each(|t| {
                        self.made.insert(*t, at);
                    });
                }
                Stmt::Store { value, index, guard, .. } => {
                    for e in index.iter().chain([value]).chain(guard) {
                        tiles_of(e, &mut |t, _, _| self.uses(t, at, false));
                    }
                }
                Stmt::For { carry, body, .. } => {
                    for c in carry {
                        self.uses(c.init, at, true);
                        self.made.insert(c.inside, at);
                    }
                    self.walk(body, now);
                    let end = *now;
                    *now += 1;
                    for c in carry {
                        self.uses(c.next, end, true);
                        self.made.insert(c.result, end);
                    }
                    self.loops.push((at, end));
                }
            }
        }
    }

    /// Until when a tile is needed: through the end of every loop that reads it in its body and does not make it there.
    fn last(&self, t: TileId) -> usize {
        let made = self.made.get(&t).copied().unwrap_or(0);
        let uses = self.uses.get(&t).map_or(&[][..], Vec::as_slice);
        let through = |at: usize| {
            let around = self.loops.iter().filter(|(from, to)| made < *from && *from < at && at < *to);
            around.map(|(_, to)| *to).max().unwrap_or(at).max(at)
        };
        uses.iter().map(|u| through(u.at)).max().unwrap_or(made)
    }

    /// Whether `t` is last read at `at`, and there at the element under construction alone.
    fn consumed(&self, t: TileId, at: usize) -> bool {
        let uses = self.uses.get(&t).map_or(&[][..], Vec::as_slice);
        self.last(t) == at && uses.iter().filter(|u| u.at == at).all(|u| u.in_place)
    }
}

/// Tiles that share a place, as sets joined step by step.
struct Classes {
    of: Vec<usize>,
}

impl Classes {
    fn find(&self, t: TileId) -> usize {
        let mut k = t.0 as usize;
        while self.of[k] != k {
            k = self.of[k];
        }
        k
    }

    fn join(&mut self, a: TileId, b: TileId) {
        let (a, b) = (self.find(a), self.find(b));
        self.of[a.max(b)] = a.min(b);
    }
}

/// The steps by which the tile handed on is made out of the carried one, each in the place of the one before.
fn chain(program: &TileProgram, moments: &Moments, carry: &Carry, body: &[Stmt]) -> Option<Vec<TileId>> {
    let mut steps = vec![carry.next];
    loop {
        let now = *steps.last()?;
        if now == carry.inside {
            return Some(steps);
        }
        let at = moments.made.get(&now).copied()?;
        let fits = |t: TileId| {
            let (a, b) = (program.tile(t), program.tile(now));
            moments.consumed(t, at) && (a.ty, a.rows.cap, a.cols.cap) == (b.ty, b.rows.cap, b.cols.cap)
        };
        let maker = body.iter().find_map(|s| match s {
            Stmt::Let { results, op } if results.contains(&now) => match op {
                TileOp::Map(e) => {
                    let mut found = Vec::new();
                    tiles_of(e, &mut |t, _, _| found.push(t));
                    found.retain(|t| fits(*t));
                    let before = found.iter().find(|t| **t == carry.inside).or(found.first()).copied();
                    Some(before)
                }
                TileOp::Dot { a, b, acc } => Some(acc.filter(|acc| fits(*acc) && *acc != a.tile && *acc != b.tile)),
                _ => Some(None),
            },
            Stmt::For { carry: inner, .. } => {
                inner.iter().find(|c| c.result == now).map(|c| starts_in_place(moments, c, inner).then_some(c.init))
            }
            _ => None,
        });
        steps.push(maker??);
    }
}

/// Whether a loop may carry on in the place of what it starts with: nobody else reads that.
fn starts_in_place(moments: &Moments, carry: &Carry, all: &[Carry]) -> bool {
    let Some(at) = moments.made.get(&carry.inside).copied() else { return false };
    let once = all.iter().filter(|c| c.init == carry.init).count() == 1;
    once && moments.uses.get(&carry.init).is_some_and(|uses| uses.iter().all(|u| u.at <= at)) && {
        // Read again in a later turn of a loop around: the value must stay.
        moments.last(carry.init) == at
    }
}

fn join_carries(program: &TileProgram, moments: &Moments, body: &[Stmt], classes: &mut Classes) {
    for stmt in body {
        let Stmt::For { carry, body, .. } = stmt else { continue };
        for c in carry {
            classes.join(c.inside, c.result);
            if starts_in_place(moments, c, carry) {
                classes.join(c.init, c.inside);
            }
            // What is handed on twice cannot lie in two places.
            let once = carry.iter().filter(|other| other.next == c.next).count() == 1;
            if let Some(steps) = chain(program, moments, c, body).filter(|_| once) {
                steps.iter().for_each(|t| classes.join(*t, c.inside));
            }
        }
        join_carries(program, moments, body, classes);
    }
}

struct Class {
    first: usize,
    last: usize,
    bytes: usize,
    members: Vec<TileId>,
}

/// Places for the tiles of `program` in at most `limit` bytes of shared memory, the small ones first.
pub fn place(program: &TileProgram, limit: usize) -> Storage {
    let mut moments = Moments::default();
    let mut now = 0;
    moments.walk(&program.body, &mut now);
    let mut classes = Classes { of: (0..program.tiles.len()).collect() };
    join_carries(program, &moments, &program.body, &mut classes);
    let bytes = |t: TileId| {
        let tile = program.tile(t);
        (tile.rows.cap * tile.cols.cap * tile.ty.bytes()).next_multiple_of(ALIGNMENT)
    };
    let mut all: BTreeMap<usize, Class> = BTreeMap::new();
    for k in 0..program.tiles.len() {
        let t = TileId(k as u32);
        let (first, last) = (moments.made.get(&t).copied().unwrap_or(0), moments.last(t));
        let class = all.entry(classes.find(t)).or_insert(Class { first, last, bytes: 0, members: Vec::new() });
        class.first = class.first.min(first);
        class.last = class.last.max(last);
        class.bytes = class.bytes.max(bytes(t));
        class.members.push(t);
    }
    let mut order: Vec<Class> = all.into_values().collect();
    order.sort_by_key(|c| c.bytes);
    let mut storage = Storage {
        places: vec![Place { level: Level::Shared, offset: 0, bytes: 0 }; program.tiles.len()],
        pitches: program.tiles.iter().map(|t| t.cols.cap).collect(),
        ..Storage::default()
    };
    let mut placed: Vec<(Place, usize, usize)> = Vec::new();
    for class in &order {
        let lowest = |level: Level| {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|(p, first, last)| p.level == level && *first <= class.last && class.first <= *last)
                .map(|(p, ..)| (p.offset, p.offset + p.bytes))
                .collect();
            taken.sort_unstable();
            let mut at = 0;
            for (from, to) in taken {
                if from >= at + class.bytes {
                    break;
                }
                at = at.max(to);
            }
            at
        };
        let mut place = Place { level: Level::Shared, offset: lowest(Level::Shared), bytes: class.bytes };
        if place.offset + place.bytes > limit {
            place = Place { level: Level::Scratch, offset: lowest(Level::Scratch), bytes: class.bytes };
        }
        let used = match place.level {
            Level::Shared => &mut storage.shared_bytes,
            Level::Scratch => &mut storage.scratch_bytes,
        };
        *used = (*used).max(place.offset + place.bytes);
        placed.push((place, class.first, class.last));
        class.members.iter().for_each(|t| storage.places[t.0 as usize] = place);
    }
    storage
}
