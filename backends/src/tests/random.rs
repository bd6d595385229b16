//! Random tile programs: every operation, element types mixed, lengths odd, prime, one and zero.

use crate::cpu::vkir::tests::Rng;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, COL, Compare, Expr, Pick, ROW, SlowId, TileId, Unary};
use mixc_ir::tile::{Axis, Combine, Extent, Matrix, TileBuilder, TileProgram, TileType};

/// A tile with the numbers of its extents in [`Writer::extents`].
#[derive(Clone, Copy)]
struct Known {
    tile: TileId,
    ty: TileType,
    rows: usize,
    cols: usize,
}

struct Writer<'r> {
    b: TileBuilder,
    rng: &'r mut Rng,
    extents: Vec<Extent>,
    tiles: Vec<Known>,
    reals: SlowId,
    ints: SlowId,
    bools: SlowId,
    start: Expr,
}

const PARTS: usize = 3;

fn t() -> Dim {
    Dim::symbol("T")
}

/// Tensors are `[T + 56, 96]`, so that every tile of at most 40 rows and columns may be read at any block.
fn shape() -> [Dim; 2] {
    [t().add(&Dim::constant(56)).unwrap(), Dim::constant(96)]
}

impl Writer<'_> {
    fn find(&mut self, ty: TileType, rows: usize, cols: usize) -> Option<TileId> {
        let fitting: Vec<TileId> =
            self.tiles.iter().filter(|k| (k.ty, k.rows, k.cols) == (ty, rows, cols)).map(|k| k.tile).collect();
        if fitting.is_empty() { None } else { Some(self.rng.pick(&fitting)) }
    }

    fn add(&mut self, tile: TileId, ty: TileType, rows: usize, cols: usize) -> TileId {
        self.tiles.push(Known { tile, ty, rows, cols });
        tile
    }

    fn load(&mut self, tensor: SlowId) -> Expr {
        let column = match self.rng.below(4) {
            0 => Expr::from(COL) * Expr::int(2),
            1 => Expr::int(39) - Expr::from(COL),
            _ => Expr::from(COL) + Expr::int(3),
        };
        let row = match self.rng.below(3) {
            0 => Expr::from(ROW),
            1 => self.start.clone() + Expr::from(ROW),
            _ => Expr::int(5),
        };
        let index = vec![row.clone(), column.clone()];
        match self.rng.below(3) {
            0 => {
                let shifted = vec![row.clone() - Expr::int(2), column];
                Expr::load_if(tensor, shifted, row.ge(2), 0.5)
            }
            1 => {
                let guard = Expr::from(COL).lt(4).and(Expr::from(ROW).modulo(2).equals(0));
                Expr::load_if(tensor, index, guard, 1.0)
            }
            _ => Expr::load(tensor, index),
        }
    }

    /// A read of rows that a tile of integers names, or of elements down a column.
    fn listed(&mut self, rows: usize, cols: usize) -> Expr {
        let (r, c, one) = (self.extents[rows].clone(), self.extents[cols].clone(), Extent::fixed(1));
        let factor = self.rng.pick(&[7, -5, 1]);
        let number = |along: Expr| (along * Expr::int(factor) + self.start.clone()).modulo(61) - Expr::int(3);
        let (at, place) = if self.rng.below(3) > 0 {
            let at = self.b.map("at", TileType::I64, &r, &one, number(Expr::from(ROW)));
            (Expr::tile_at(at, Pick::Row, Pick::Zero), Expr::from(COL) + Expr::int(3))
        } else {
            let at = self.b.map("at", TileType::I64, &one, &c, number(Expr::from(COL)));
            (Expr::tile_at(at, Pick::Zero, Pick::Col), Expr::from(ROW))
        };
        let inside = Expr::int(0).le(at.clone()).and(at.clone().lt(56));
        let fill = self.rng.pick(&[0.0, 0.5]);
        match self.rng.below(3) {
            0 => Expr::load(self.reals, vec![at.max(0).min(55), place]),
            1 => Expr::load_if(self.reals, vec![at * Expr::int(1), place], inside, fill),
            _ => {
                let more = Expr::from(ROW).lt(9);
                Expr::load_if(self.reals, vec![at, place], inside.and(more), fill)
            }
        }
    }

    fn leaf(&mut self, ty: TileType, rows: usize, cols: usize) -> Expr {
        let choices =
            [(rows, cols, Pick::Row, Pick::Col), (rows, 0, Pick::Row, Pick::Zero), (0, cols, Pick::Zero, Pick::Col)];
        if self.rng.below(3) > 0 {
            let (r, c, pr, pc) = self.rng.pick(&choices);
            if let Some(tile) = self.find(ty, r, c) {
                return Expr::tile_at(tile, pr, pc);
            }
        }
        match ty {
            TileType::F32 | TileType::F64 if self.rng.below(4) == 0 => self.listed(rows, cols),
            TileType::F32 | TileType::F64 => self.load(self.reals),
            TileType::I64 => match self.rng.below(3) {
                0 => Expr::from(ROW) * Expr::int(3) - Expr::from(COL),
                1 => Expr::from(&t()) - self.start.clone(),
                _ => self.load(self.ints),
            },
            TileType::Bool => self.load(self.bools),
        }
    }

    fn real(&mut self, ty: TileType, rows: usize, cols: usize, depth: usize) -> Expr {
        if depth == 0 {
            return self.leaf(ty, rows, cols);
        }
        let a = self.real(ty, rows, cols, depth - 1);
        match self.rng.below(16) {
            0 => a.apply(Unary::Tanh),
            1 => a.apply(Unary::Sigmoid),
            2 => a.apply(Unary::Sin),
            3 => a.apply(Unary::Cos),
            4 => (-a.apply(Unary::Abs)).apply(Unary::Exp),
            5 => a.apply(Unary::Erf),
            6 => (a.apply(Unary::Abs) + Expr::float(0.5)).apply(Unary::Log),
            7 => (a.apply(Unary::Abs)).apply(Unary::Log1p),
            8 => (a.apply(Unary::Abs) + Expr::float(0.25)).apply(Unary::Rsqrt),
            9 => {
                let c = self.condition(rows, cols);
                let b = self.real(ty, rows, cols, depth - 1);
                Expr::select(c, a, b)
            }
            10 => {
                let b = self.real(ty, rows, cols, depth - 1);
                a.max(b)
            }
            11 => {
                let b = self.real(ty, rows, cols, depth - 1);
                let c = b.apply(Unary::Abs) + Expr::float(1.0);
                a / c
            }
            12 => {
                let base = a.apply(Unary::Abs) + Expr::float(0.5);
                Expr::binary(Binary::Pow, base, Expr::float(1.5))
            }
            13 => a.clone().apply(Unary::Tanh) - Expr::float(0.25) * a,
            14 => (a * Expr::float(0.5)).apply(Unary::Expm1).apply(Unary::Tanh),
            _ => {
                let b = self.leaf(ty, rows, cols);
                a * b * Expr::float(0.5) + Expr::float(0.125)
            }
        }
    }

    fn int(&mut self, rows: usize, cols: usize, depth: usize) -> Expr {
        let a = self.leaf(TileType::I64, rows, cols);
        if depth == 0 {
            return a;
        }
        let b = self.int(rows, cols, depth - 1);
        match self.rng.below(9) {
            0 => a.floor_div(b),
            1 => a.modulo(b),
            2 => a.modulo(5),
            3 => a.floor_div(-3),
            4 => a.floor_div(4) + b,
            5 => a.min(b),
            6 => Expr::binary(Binary::Pow, a.modulo(7), b.modulo(6)),
            7 => a.apply(Unary::Sign) * b,
            _ => a * b.modulo(11),
        }
    }

    fn condition(&mut self, rows: usize, cols: usize) -> Expr {
        let a = self.int(rows, cols, 1);
        let compare = self.rng.pick(&[Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge]);
        let c = Expr::compare(compare, a, Expr::from(COL));
        match self.rng.below(3) {
            0 => c.and(self.leaf(TileType::Bool, rows, cols)),
            1 => !c,
            _ => c,
        }
    }

    fn value(&mut self, ty: TileType, rows: usize, cols: usize) -> Expr {
        match ty {
            TileType::F32 | TileType::F64 => {
                let depth = self.rng.below(3);
                self.real(ty, rows, cols, depth)
            }
            TileType::I64 => self.int(rows, cols, 2),
            TileType::Bool => self.condition(rows, cols),
        }
    }

    fn map(&mut self, ty: TileType, rows: usize, cols: usize) -> TileId {
        let value = self.value(ty, rows, cols);
        let (r, c) = (self.extents[rows].clone(), self.extents[cols].clone());
        let tile = self.b.map("map", ty, &r, &c, value);
        self.add(tile, ty, rows, cols)
    }

    fn tile(&mut self, ty: TileType, rows: usize, cols: usize) -> TileId {
        match self.find(ty, rows, cols) {
            Some(tile) if self.rng.below(3) > 0 => tile,
            _ => self.map(ty, rows, cols),
        }
    }

    fn step(&mut self, nesting: usize) {
        let n = self.extents.len();
        let (rows, cols) = (self.rng.below(n), self.rng.below(n));
        let real = self.rng.pick(&[TileType::F32, TileType::F32, TileType::F32, TileType::F64]);
        let ty = self.rng.pick(&[real, real, TileType::I64, TileType::Bool]);
        match self.rng.below(10) {
            0 | 1 => {
                self.map(ty, rows, cols);
            }
            2 | 3 => {
                let inner = self.rng.below(n);
                let (ta, tb) = (self.rng.below(2) == 1, self.rng.below(2) == 1);
                let a = if ta { self.tile(real, inner, rows) } else { self.tile(real, rows, inner) };
                let b = if tb { self.tile(real, cols, inner) } else { self.tile(real, inner, cols) };
                let acc = if self.rng.below(2) == 1 { Some(self.tile(real, rows, cols)) } else { None };
                let matrix = |tile, transposed| Matrix { tile, transposed };
                let tile = self.b.dot("dot", real, matrix(a, ta), matrix(b, tb), acc);
                self.add(tile, real, rows, cols);
                // Keeps values of order one.
                let (r, c) = (self.extents[rows].clone(), self.extents[cols].clone());
                let small = self.b.map("small", real, &r, &c, Expr::tile(tile) * Expr::float(0.125));
                self.tiles.pop();
                self.add(small, real, rows, cols);
            }
            4 | 5 => {
                let of = self.tile(ty, rows, cols);
                let axis = self.rng.pick(&[Axis::Rows, Axis::Cols]);
                let combine = match ty {
                    TileType::F32 | TileType::F64 => self.rng.pick(&[Combine::Sum, Combine::LogSumExp]),
                    TileType::I64 => self.rng.pick(&[Combine::Sum, Combine::Max, Combine::Min, Combine::Product]),
                    TileType::Bool => self.rng.pick(&[Combine::Max, Combine::Min]),
                };
                if self.rng.below(2) == 1 {
                    let tile = self.b.reduce("reduce", combine, axis, of);
                    // Of nothing these are infinite.
                    if combine == Combine::Sum || !matches!(ty, TileType::F32 | TileType::F64) {
                        match axis {
                            Axis::Rows => self.add(tile, ty, 0, cols),
                            Axis::Cols => self.add(tile, ty, rows, 0),
                        };
                    }
                } else {
                    let reverse = self.rng.below(2) == 1;
                    let tile = self.b.scan("scan", combine, axis, reverse, of);
                    self.add(tile, ty, rows, cols);
                }
            }
            6 => {
                let value = self.value(real, rows, cols);
                let (r, c) = (self.extents[rows].clone(), self.extents[cols].clone());
                let decay = self.b.map("decay", real, &r, &c, value.apply(Unary::Sigmoid));
                let input = self.tile(real, rows, cols);
                let start = if self.rng.below(2) == 1 { Some(self.tile(real, 0, cols)) } else { None };
                let tile = self.b.recurrence("recurrence", decay, input, start);
                self.add(tile, real, rows, cols);
            }
            7 => {
                let value = self.value(real, rows, rows).apply(Unary::Tanh) * Expr::float(0.25);
                let diagonal = Expr::from(ROW).equals(Expr::from(COL));
                let value = Expr::select(diagonal, Expr::float(1.5), value);
                let r = self.extents[rows].clone();
                let lower = self.b.map("lower", real, &r, &r, value);
                let rhs = self.tile(real, rows, cols);
                let tile = self.b.solve("solve", lower, rhs);
                self.add(tile, real, rows, cols);
            }
            8 => {
                // Few different values: ties.
                let value = self.int(rows, cols, 1).modulo(5).to_float();
                let (re, ce) = (self.extents[rows].clone(), self.extents[cols].clone());
                let of = self.b.map("ties", TileType::F32, &re, &ce, value);
                let (values, columns) = self.b.top_k("top", of, &Extent::fixed(3));
                let r = self.extents[rows].clone();
                let three = Extent::fixed(3);
                let sum = Expr::tile(values).max(Expr::float(-9.0)).to_int() + Expr::tile(columns) * Expr::int(10);
                let tile = self.b.map("top_sum", TileType::I64, &r, &three, sum);
                let one = self.b.reduce("top_all", Combine::Sum, Axis::Cols, tile);
                self.add(one, TileType::I64, rows, 0);
            }
            _ if nesting > 0 => self.loop_(nesting),
            _ => {
                self.map(ty, rows, cols);
            }
        }
    }

    fn loop_(&mut self, nesting: usize) {
        let n = self.extents.len();
        let kinds: Vec<(TileType, usize, usize)> = (0..2 + self.rng.below(2))
            .map(|k| {
                // The first two have one shape, so that they can change places.
                let ty = if k < 2 { TileType::F32 } else { self.rng.pick(&[TileType::F32, TileType::I64]) };
                if k < 2 { (ty, n - 1, n - 1) } else { (ty, self.rng.below(n), self.rng.below(n)) }
            })
            .collect();
        let init: Vec<TileId> = kinds.iter().map(|&(ty, r, c)| self.tile(ty, r, c)).collect();
        let skip = self.rng.below(2) == 1;
        let swap = self.rng.below(3);
        let turns = if self.rng.below(2) == 1 { Expr::from(&t()).min(9) } else { Expr::int(self.rng.below(6) as i64) };
        let outer = self.tiles.clone();
        let mut extents = std::mem::take(&mut self.extents);
        let (reals, ints, bools, start) = (self.reals, self.ints, self.bools, self.start.clone());
        let rng = &mut *self.rng;
        let builder = std::mem::replace(&mut self.b, TileBuilder::new(""));
        let mut builder = builder;
        let results = builder.for_blocks(
            Expr::int(0),
            turns,
            2,
            |i| skip.then(|| i.clone().modulo(3).lt(2)),
            &init,
            |b, i, inside| {
                let taken = std::mem::replace(b, TileBuilder::new(""));
                let mut w = Writer {
                    b: taken,
                    rng,
                    extents: std::mem::take(&mut extents),
                    tiles: outer.clone(),
                    reals,
                    ints,
                    bools,
                    start: start + i.clone(),
                };
                for (&tile, &(ty, r, c)) in inside.iter().zip(&kinds) {
                    w.add(tile, ty, r, c);
                }
                for _ in 0..2 + w.rng.below(3) {
                    w.step(nesting - 1);
                }
                let next = kinds
                    .iter()
                    .enumerate()
                    .map(|(k, &(ty, r, c))| match (swap, k) {
                        (0, 0) => inside[1],
                        (0, 1) => inside[0],
                        (1, 0) => {
                            let (re, ce) = (w.extents[r].clone(), w.extents[c].clone());
                            w.b.map("next", ty, &re, &ce, Expr::tile(inside[0]) * Expr::float(0.5) + Expr::float(0.25))
                        }
                        _ => w.tile(ty, r, c),
                    })
                    .collect();
                extents = std::mem::take(&mut w.extents);
                *b = w.b;
                next
            },
        );
        self.b = builder;
        self.extents = extents;
        for (tile, (ty, r, c)) in results.into_iter().zip(kinds) {
            self.add(tile, ty, r, c);
        }
    }
}

/// A random program with a dim `T`: three inputs, one result.
pub fn random_program(rng: &mut Rng) -> TileProgram {
    let mut b = TileBuilder::new("random");
    let reals = rng.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16, DType::F64]);
    let ints = rng.pick(&[DType::I32, DType::I64]);
    let reals = b.input("reals", reals, &shape());
    let ints = b.input("ints", ints, &shape());
    let bools = b.input("bools", DType::Bool, &shape());
    let block = 2 + rng.below(39);
    let points = Expr::from(&t()).ceil_div(block as i64);
    let i = b.grid("i", points) * Expr::int(block as i64);
    let length = Expr::from(&t());
    let wide = 1 + rng.below(40);
    let extents = vec![
        Extent::fixed(1),
        Extent::fixed(wide),
        Extent { cap: 38, count: length.clone().modulo(39) },
        Extent::block(block, i.clone(), length.clone()),
    ];
    let mut w = Writer { b, rng, extents, tiles: Vec::new(), reals, ints, bools, start: Expr::int(0) };
    for _ in 0..4 + w.rng.below(5) {
        w.step(2);
    }
    // Everything that is left goes into one result.
    let rows = Extent::block(block, i.clone(), length);
    let mut value = Expr::float(0.0);
    for k in w.tiles.clone() {
        if k.rows == 0 && k.cols == 0 {
            let one = Expr::tile_at(k.tile, Pick::Zero, Pick::Zero);
            let one = match k.ty {
                TileType::F32 | TileType::F64 => one,
                _ => one.to_int().modulo(17).to_float(),
            };
            value = value * Expr::float(0.5) + one;
        }
    }
    // Sums over whole tiles, which may be empty, of the last ones made.
    let last: Vec<Known> = w.tiles.iter().rev().take(PARTS).copied().collect();
    for k in last {
        let tile = match k.ty {
            TileType::F32 | TileType::F64 => k.tile,
            _ => {
                let (r, c) = (w.extents[k.rows].clone(), w.extents[k.cols].clone());
                let real = Expr::tile(k.tile).to_int().modulo(29).to_float() * Expr::float(0.0625);
                w.b.map("real", TileType::F32, &r, &c, real)
            }
        };
        let row = w.b.reduce("row", Combine::Sum, Axis::Rows, tile);
        let all = w.b.reduce("all", Combine::Sum, Axis::Cols, row);
        value = value * Expr::float(0.5) + Expr::tile_at(all, Pick::Zero, Pick::Zero);
    }
    let dtype = w.rng.pick(&[DType::F32, DType::F64, DType::F32]);
    let out = w.b.output("out", dtype, &[t(), Dim::constant(3)]);
    let value = value + Expr::from(COL).to_float();
    w.b.store(out, vec![i + Expr::from(ROW), Expr::from(COL)], value, &rows, &Extent::fixed(3));
    w.b.finish()
}
