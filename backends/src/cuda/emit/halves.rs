//! Which dots run on tensor cores: those of half-precision data, whose products are then exact.

use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node, TileId, Unary};
use mixc_ir::tile::{Matrix, Stmt, TileOp, TileProgram, TileType};

/// How a dot multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// In the type of the tiles.
    Plain,
    /// bf16 factors, f32 sums.
    Bf16,
    /// f16 factors, f32 sums.
    F16,
    /// Where the left side is half-precision data and the right is not: the right side in two parts of eleven
    /// significant bits each, so that nothing is lost that f32 sums would keep.
    SplitRight,
    /// The same with the left side in two parts.
    SplitLeft,
}

/// Whether an f64 number is one of the half type.
fn holds(dtype: DType, x: f64) -> bool {
    x.is_nan() || dtype.round(x) == x
}

/// Whether every value of `e` is one of the half type; `read` tells whether any is read from memory.
fn exact(program: &TileProgram, e: &Expr, dtype: DType, read: &mut bool) -> bool {
    match e.node() {
        Node::Float(x) => holds(dtype, *x),
        Node::Load(l) => {
            *read = true;
            program.slow(l.tensor).dtype == dtype && (l.guard.is_none() || holds(dtype, l.fill))
        }
        Node::Round(d, _) => {
            *read = true;
            *d == dtype
        }
        Node::Select(_, a, b) => exact(program, a, dtype, read) && exact(program, b, dtype, read),
        Node::Unary(Unary::Neg | Unary::Abs, a) => exact(program, a, dtype, read),
        Node::Tile(t, ..) => {
            let found = made_of(program, *t, dtype);
            *read |= found;
            found
        }
        _ => false,
    }
}

/// Whether a tile holds data of the half type, in each of its elements; constants alone are no such data.
fn made_of(program: &TileProgram, t: TileId, dtype: DType) -> bool {
    let mut found = false;
    program.for_each_stmt(&mut |s| {
        if let Stmt::Let { results, op: TileOp::Map(e) } = s
            && results.contains(&t)
        {
            let mut read = false;
            found = exact(program, e, dtype, &mut read) && read;
        }
    });
    found
}

/// How the product of two tiles is computed.
pub fn product(program: &TileProgram, a: Matrix, b: Matrix) -> Product {
    if [a, b].iter().any(|m| program.tile(m.tile).ty != TileType::F32) {
        return Product::Plain;
    }
    let both = |dtype| [a, b].map(|m| made_of(program, m.tile, dtype));
    match (both(DType::BF16), both(DType::F16)) {
        ([true, true], _) => Product::Bf16,
        (_, [true, true]) => Product::F16,
        ([true, _], _) | (_, [true, _]) => Product::SplitRight,
        ([_, true], _) | (_, [_, true]) => Product::SplitLeft,
        _ => Product::Plain,
    }
}
