//! Integer expressions as linear functions of the lane and of the other axis, and addresses made of them.

use mixc_ir::dim::Dim;
use mixc_ir::expr::{Binary, COL, Expr, Node, Pick, ROW, SlowId, TileId, Var};
use mixc_ir::tile::{Axis, TileProgram, TileType};

/// The variable that counts along an axis.
pub fn var_of(axis: Axis) -> Var {
    match axis {
        Axis::Rows => ROW,
        Axis::Cols => COL,
    }
}

/// The other axis.
pub fn other(axis: Axis) -> Axis {
    match axis {
        Axis::Rows => Axis::Cols,
        Axis::Cols => Axis::Rows,
    }
}

/// Whether the value of an expression differs along an axis: by the variable, or by a tile read along it.
pub fn varies(e: &Expr, axis: Axis) -> bool {
    let pick = if axis == Axis::Rows { Pick::Row } else { Pick::Col };
    let mut found = false;
    e.visit(&mut |e| match e.node() {
        Node::Var(v) => found |= *v == var_of(axis),
        Node::Tile(_, row, col) => found |= *row == pick || *col == pick,
        _ => {}
    });
    found
}

/// Which axis is lanes, and whether the other one is counted outside the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Consecutive elements along this axis share a vector.
    pub lane: Axis,
    /// The kernel is called for one index of the other axis at a time.
    pub by_rows: bool,
}

/// `lane * l + other * o + rest`.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Factor of the lane index.
    pub lane: i64,
    /// Factor of the other index; 0 when that is counted outside the kernel.
    pub other: i64,
    /// What the kernel is given.
    pub rest: Expr,
}

impl Frame {
    /// The expression as a linear function, if it is one.
    pub fn affine(self, e: &Expr) -> Option<Affine> {
        let (lane, rest) = e.linear_in(var_of(self.lane))?;
        if self.by_rows {
            return (!varies(&rest, self.lane)).then_some(Affine { lane, other: 0, rest });
        }
        let (across, rest) = rest.linear_in(var_of(other(self.lane)))?;
        let fixed = !varies(&rest, Axis::Rows) && !varies(&rest, Axis::Cols);
        fixed.then_some(Affine { lane, other: across, rest })
    }

    /// Whether the expression has one value in the whole kernel.
    pub fn is_fixed(self, e: &Expr) -> bool {
        !varies(e, self.lane) && (self.by_rows || !varies(e, other(self.lane)))
    }
}

/// An element's place in a tensor: strides in elements along the two axes, and the index at the origin.
#[derive(Clone, Debug)]
pub struct Access {
    /// Elements from a lane to the next.
    pub lane: Expr,
    /// Elements along the other axis.
    pub other: Expr,
    /// Index at the origin, one expression an axis.
    pub origin: Vec<Expr>,
}

/// Integers of a tile, one for each index of the other axis, that a linear function takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The tile.
    pub tile: TileId,
    /// Where it is read.
    pub picks: (Pick, Pick),
}

/// The variable that stands for an integer of a tile.
const LISTED: Var = Var(u32::MAX);

impl Frame {
    /// A linear function that may take up a tile's integers besides, times a factor.
    pub fn listed(self, program: &TileProgram, e: &Expr) -> Option<(Affine, Option<(Listed, i64)>)> {
        if let Some(affine) = self.affine(e) {
            return Some((affine, None));
        }
        let pick = |axis: Axis| if axis == Axis::Rows { Pick::Row } else { Pick::Col };
        let (mut found, mut others) = (None, self.by_rows);
        e.visit(&mut |n| {
            if let Node::Tile(t, row, col) = n.node() {
                let picks = (*row, *col);
                let has = |axis| picks.0 == pick(axis) || picks.1 == pick(axis);
                let tile = Listed { tile: *t, picks };
                let fits = program.tile(*t).ty == TileType::I64 && has(other(self.lane)) && !has(self.lane);
                others |= !fits || found.is_some_and(|known| known != tile);
                found = Some(tile);
            }
        });
        let listed = found.filter(|_| !others)?;
        let plain = e.rewrite(&mut |n| matches!(n.node(), Node::Tile(..)).then(|| Expr::from(LISTED)));
        let (factor, rest) = plain.linear_in(LISTED)?;
        Some((self.affine(&rest)?, Some((listed, factor))))
    }
}

/// The product of dims, as an expression.
fn product(dims: &[Dim]) -> Expr {
    dims.iter().fold(Expr::int(1), |p, d| p * Expr::from(d))
}

impl Frame {
    /// The access of an index, if it is linear.
    pub fn access(self, program: &TileProgram, tensor: SlowId, index: &[Expr]) -> Option<Access> {
        let (access, listed) = self.listed_access(program, tensor, index)?;
        listed.is_none().then_some(access)
    }

    /// The access of an index that is linear, or so but for the integers of one tile: these, and the elements that one
    /// of them counts for. A row of a table is read this way.
    pub fn listed_access(
        self,
        program: &TileProgram,
        tensor: SlowId,
        index: &[Expr],
    ) -> Option<(Access, Option<(Listed, Expr)>)> {
        let shape = &program.slow(tensor).shape;
        let mut access = Access { lane: Expr::int(0), other: Expr::int(0), origin: Vec::new() };
        let mut listed: Option<(Listed, Expr)> = None;
        for (k, e) in index.iter().enumerate() {
            let (affine, along) = self.listed(program, e)?;
            let stride = product(&shape[k + 1..]);
            if let Some((tile, factor)) = along {
                let part = Expr::int(factor) * stride.clone();
                listed = match listed {
                    None => Some((tile, part)),
                    Some((known, sum)) if known == tile => Some((tile, sum + part)),
                    Some(_) => return None,
                };
            }
            access.lane = access.lane + Expr::int(affine.lane) * stride.clone();
            access.other = access.other + Expr::int(affine.other) * stride;
            access.origin.push(affine.rest);
        }
        Some((access, listed))
    }
}

/// An integer expression as another one plus a constant, taken from its sums, differences and products with constants.
pub fn apart(e: &Expr) -> (Expr, i64) {
    let whole = (e.clone(), 0);
    match e.node() {
        Node::Int(n) => (Expr::int(0), *n),
        Node::Binary(Binary::Add, x, y) => {
            let ((x, m), (y, n)) = (apart(x), apart(y));
            m.checked_add(n).map_or(whole, |n| (x + y, n))
        }
        Node::Binary(Binary::Sub, x, y) => {
            let ((x, m), (y, n)) = (apart(x), apart(y));
            m.checked_sub(n).map_or(whole, |n| (x - y, n))
        }
        Node::Binary(Binary::Mul, x, y) => {
            let (x, factor) = match (x.as_int(), y.as_int()) {
                (_, Some(n)) => (x, n),
                (Some(n), _) => (y, n),
                _ => return whole,
            };
            let (x, m) = apart(x);
            m.checked_mul(factor).map_or(whole, |n| (x * Expr::int(factor), n))
        }
        _ => whole,
    }
}

impl Access {
    /// The constant part of the place, in elements, taken out of the origin: accesses that differ by a constant have
    /// one origin then.
    pub fn displaced(mut self, shape: &[Dim]) -> (Access, i64) {
        let mut displacement = 0i64;
        for (k, e) in self.origin.iter_mut().enumerate() {
            let (rest, n) = apart(e);
            let elements = product(&shape[k + 1..]).as_int().and_then(|stride| stride.checked_mul(n));
            if let Some(sum) = elements.and_then(|n| displacement.checked_add(n)) {
                (*e, displacement) = (rest, sum);
            }
        }
        (self, displacement)
    }
}
