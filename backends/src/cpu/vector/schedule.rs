//! The order of work: statements grouped into kernels, everything else one by one.

use super::affine::Frame;
use super::call::Call;
use super::group::{self, Group, space};
use super::inner::{self, InnerProduct};
use super::lanes::{Forms, TileForm};
use super::product::{self, Product};
use super::solve::{self, Solve};
use super::transpose::{self, Transpose};
use super::turn::lanes_of;
use super::turns;
use crate::cpu::storage::operands;
use crate::cpu::vkir::Isa;
use mixc_ir::expr::{Expr, Node, TileId};
use mixc_ir::tile::{Axis, Carry, Role, Stmt, TileOp, TileProgram};
use std::collections::BTreeSet;

/// Statements with what is done for them.
#[derive(Debug)]
pub struct Item<'p> {
    /// In order.
    pub stmts: Vec<&'p Stmt>,
    /// How.
    pub work: ItemWork<'p>,
}

/// How an item's statements are done.
#[derive(Debug)]
pub enum ItemWork<'p> {
    /// One kernel for all.
    Group(Call),
    /// A matrix product.
    Product(Product),
    /// A product of few rows along the summed axis.
    InnerProduct(InnerProduct),
    /// A tile moved to the other lane axis.
    Transpose(Transpose),
    /// A triangular system.
    Solve(Solve),
    /// Element by element.
    Scalar,
    /// Nothing is done: the tile is read where it lies.
    InPlace,
    /// A loop over more work.
    Loop(Vec<Item<'p>>),
    /// A loop as one kernel, what it carries in registers.
    Turns(Call),
}

struct Scheduler<'p, 'f> {
    program: &'p TileProgram,
    forms: &'f mut Forms,
    isa: Isa,
    /// Tiles that are 0 above the diagonal.
    triangles: BTreeSet<TileId>,
    /// Statements that read a tile; a carried tile counts as read by many.
    readers: Vec<usize>,
    available: Vec<bool>,
    reads_outputs: bool,
}

/// Tiles that a statement reads, once each.
fn reads(stmt: &Stmt) -> Vec<TileId> {
    let mut tiles = match stmt {
        Stmt::Let { op, .. } => operands(op),
        Stmt::Store { index, value, guard, .. } => {
            let mut tiles = Vec::new();
            for e in index.iter().chain([value]).chain(guard) {
                tiles_of(e, &mut tiles);
            }
            tiles
        }
        Stmt::For { from, to, when, .. } => {
            let mut tiles = Vec::new();
            for e in [from, to].into_iter().chain(when) {
                tiles_of(e, &mut tiles);
            }
            tiles
        }
    };
    tiles.sort_unstable();
    tiles.dedup();
    tiles
}

fn tiles_of(e: &Expr, tiles: &mut Vec<TileId>) {
    e.visit(&mut |e| {
        if let Node::Tile(t, ..) = e.node() {
            tiles.push(*t);
        }
    });
}

/// More readers than any tile has.
const MANY: usize = 1 << 20;

fn count_readers(body: &[Stmt], readers: &mut [usize]) {
    for stmt in body {
        for t in reads(stmt) {
            readers[t.0 as usize] += 1;
        }
        if let Stmt::For { carry, body, .. } = stmt {
            for Carry { init, inside, next, result } in carry {
                for t in [init, inside, next, result] {
                    readers[t.0 as usize] += MANY;
                }
            }
            count_readers(body, readers);
        }
    }
}

/// Arranges the work of a prepared program. Tiles that only a kernel sees lose their memory.
pub fn schedule<'p>(program: &'p TileProgram, forms: &mut Forms, isa: Isa) -> Vec<Item<'p>> {
    let mut readers = vec![0; program.tiles.len()];
    count_readers(&program.body, &mut readers);
    let mut reads_outputs = false;
    program.for_each_expr(&mut |e| {
        e.visit(&mut |e| {
            if let Node::Load(load) = e.node() {
                reads_outputs |= program.slow(load.tensor).role == Role::Output;
            }
        });
    });
    let available = vec![false; program.tiles.len()];
    let triangles = program.lower_triangular();
    let mut scheduler = Scheduler { program, forms, isa, triangles, readers, available, reads_outputs };
    scheduler.body(&program.body)
}

impl<'p> Scheduler<'p, '_> {
    fn body(&mut self, body: &'p [Stmt]) -> Vec<Item<'p>> {
        let mut done = vec![false; body.len()];
        let mut items = Vec::new();
        for i in 0..body.len() {
            if done[i] {
                continue;
            }
            done[i] = true;
            let stmt = &body[i];
            let item = match stmt {
                Stmt::For { carry, .. } if let Some((call, inside)) = self.turns(stmt) => {
                    for t in inside {
                        self.forms.tiles[t.0 as usize] = TileForm::Register;
                    }
                    for c in carry {
                        self.available[c.result.0 as usize] = true;
                    }
                    Item { stmts: vec![stmt], work: ItemWork::Turns(call) }
                }
                Stmt::For { carry, body, .. } => {
                    for c in carry {
                        self.available[c.inside.0 as usize] = true;
                    }
                    let inner = self.body(body);
                    for c in carry {
                        self.available[c.result.0 as usize] = true;
                    }
                    Item { stmts: vec![stmt], work: ItemWork::Loop(inner) }
                }
                Stmt::Let { results, op: TileOp::Map(_) } if self.in_place(results[0]) => {
                    Item { stmts: vec![stmt], work: ItemWork::InPlace }
                }
                // Made where it is stored.
                Stmt::Store { value, .. } if matches!(value.node(), Node::Tile(t, ..) if self.in_place(*t)) => {
                    Item { stmts: vec![stmt], work: ItemWork::InPlace }
                }
                Stmt::Let { op: TileOp::Dot { .. }, .. } => {
                    let inner = inner::build(self.program, self.forms, stmt, self.isa).map(ItemWork::InnerProduct);
                    let product = || {
                        product::build(self.program, self.forms, &self.triangles, stmt, self.isa).map(ItemWork::Product)
                    };
                    let work = inner.or_else(product).unwrap_or(ItemWork::Scalar);
                    Item { stmts: vec![stmt], work }
                }
                Stmt::Let { op: TileOp::Solve { .. }, .. } => {
                    let work = match solve::build(self.program, self.forms, stmt, self.isa) {
                        Some(solve) => ItemWork::Solve(solve),
                        None => ItemWork::Scalar,
                    };
                    Item { stmts: vec![stmt], work }
                }
                _ if self.transposes(stmt) => match transpose::build(self.program, self.forms, stmt, self.isa) {
                    Some(transpose) => Item { stmts: vec![stmt], work: ItemWork::Transpose(transpose) },
                    None => self.group(body, i, &mut done),
                },
                _ => self.group(body, i, &mut done),
            };
            for stmt in &item.stmts {
                if let Stmt::Let { results, .. } = stmt {
                    for t in results {
                        self.available[t.0 as usize] = true;
                    }
                }
            }
            items.push(item);
        }
        items
    }

    /// A loop as one kernel, with the tiles that only it sees.
    fn turns(&self, stmt: &'p Stmt) -> Option<(Call, Vec<TileId>)> {
        if self.reads_outputs { None } else { turns::build(self.program, self.forms, stmt, self.isa) }
    }

    fn in_place(&self, t: TileId) -> bool {
        matches!(self.forms.tiles[t.0 as usize], TileForm::Slow { .. })
    }

    fn transposes(&self, stmt: &Stmt) -> bool {
        transpose::source(self.forms, stmt).is_some()
    }

    /// The lane axis of a statement's iteration space.
    fn lane(&self, stmt: &Stmt) -> Option<Axis> {
        match stmt {
            Stmt::Let { results, op } => match op {
                TileOp::Reduce { of, .. } | TileOp::Scan { of, .. } => self.forms.lane(*of),
                _ => self.forms.lane(results[0]),
            },
            Stmt::Store { tensor, index, value, rows, cols, .. } => {
                // As the tiles that it reads whole lie, else as the tensor does.
                let mut lane = None;
                lanes_of(value, self.forms, self.program, &mut lane);
                lane.or_else(|| {
                    let contiguous = |lane: Axis| {
                        let frame = Frame { lane, by_rows: false };
                        let by_rows = Frame { lane, by_rows: true };
                        let access = frame
                            .access(self.program, *tensor, index)
                            .or_else(|| by_rows.access(self.program, *tensor, index));
                        access.is_some_and(|a| a.lane.as_int() == Some(1))
                    };
                    let along = [Axis::Cols, Axis::Rows].into_iter().find(|a| contiguous(*a));
                    along.or(Some(if rows.cap > cols.cap { Axis::Rows } else { Axis::Cols }))
                })
            }
            Stmt::For { .. } => None,
        }
    }

    fn build(&self, stmts: &[&'p Stmt], lane: Axis) -> Option<(Call, Vec<TileId>)> {
        let internal = self.internal(stmts);
        let group = Group { program: self.program, forms: self.forms, stmts, internal: &internal, lane };
        Some((group::build(&group, self.isa, "group")?, internal))
    }

    /// Results that only the group reads.
    fn internal(&self, stmts: &[&'p Stmt]) -> Vec<TileId> {
        let mut internal = Vec::new();
        for stmt in stmts {
            if let Stmt::Let { results, op } = stmt
                && !matches!(op, TileOp::Reduce { .. })
            {
                let t = results[0];
                let inside = stmts.iter().filter(|s| reads(s).contains(&t)).count();
                if inside == self.readers[t.0 as usize] && inside > 0 {
                    internal.push(t);
                }
            }
        }
        internal
    }

    fn group(&mut self, body: &'p [Stmt], first: usize, done: &mut [bool]) -> Item<'p> {
        let stmt = &body[first];
        let scalar = Item { stmts: vec![stmt], work: ItemWork::Scalar };
        let (Some(space_of), Some(lane)) = (space(self.program, stmt), self.lane(stmt)) else { return scalar };
        let mut stmts = vec![stmt];
        let Some(mut best) = self.build(&stmts, lane) else { return scalar };
        for j in first + 1..body.len() {
            let next = &body[j];
            if matches!(next, Stmt::For { .. }) {
                break;
            }
            let joins = !done[j]
                && space(self.program, next) == Some(space_of)
                && (self.lane(next) == Some(lane) || matches!(next, Stmt::Store { .. }))
                && !self.transposes(next)
                && self.ready(next, &stmts)
                && !self.uses_reduction(next, &stmts);
            if joins {
                stmts.push(next);
                match self.build(&stmts, lane) {
                    Some(built) => {
                        best = built;
                        done[j] = true;
                        continue;
                    }
                    None => {
                        stmts.pop();
                    }
                }
            }
            if self.reads_outputs {
                break;
            }
        }
        let (call, internal) = best;
        for t in internal {
            self.forms.tiles[t.0 as usize] = TileForm::Register;
        }
        Item { stmts, work: ItemWork::Group(call) }
    }

    /// Whether everything that a statement reads is there already, or made by the group.
    fn ready(&self, stmt: &Stmt, group: &[&Stmt]) -> bool {
        reads(stmt).iter().all(|t| {
            self.available[t.0 as usize]
                || group.iter().any(|s| matches!(s, Stmt::Let { results, .. } if results.contains(t)))
        })
    }

    fn uses_reduction(&self, stmt: &Stmt, group: &[&Stmt]) -> bool {
        let tiles = reads(stmt);
        group
            .iter()
            .any(|s| matches!(s, Stmt::Let { results, op: TileOp::Reduce { .. } } if tiles.contains(&results[0])))
    }
}
