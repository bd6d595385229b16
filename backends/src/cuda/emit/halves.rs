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
    /// Factors of eleven significant bits, f32 sums: where one side is half-precision data (of which nothing is lost)
    /// and the other was computed from such.
    Tf32,
}

/// Whether an f64 number is one of the half type.
fn holds(dtype: DType, x: f64) -> bool {
    x.is_nan() || dtype.round(x) == x
}

/// Whether every value of `e` is one of the half type.
fn exact(program: &TileProgram, e: &Expr, dtype: DType) -> bool {
    match e.node() {
        Node::Float(x) => holds(dtype, *x),
        Node::Load(l) => program.slow(l.tensor).dtype == dtype && (l.guard.is_none() || holds(dtype, l.fill)),
        Node::Round(d, _) => *d == dtype,
        Node::Select(_, a, b) => exact(program, a, dtype) && exact(program, b, dtype),
        Node::Unary(Unary::Neg | Unary::Abs, a) => exact(program, a, dtype),
        Node::Tile(t, ..) => made_of(program, *t, dtype),
        _ => false,
    }
}

/// Whether every element of a tile is one of the half type.
fn made_of(program: &TileProgram, t: TileId, dtype: DType) -> bool {
    let mut found = false;
    program.for_each_stmt(&mut |s| {
        if let Stmt::Let { results, op: TileOp::Map(e) } = s
            && results.contains(&t)
        {
            found = exact(program, e, dtype);
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
        ([true, _] | [_, true], _) | (_, [true, _] | [_, true]) => Product::Tf32,
        _ => Product::Plain,
    }
}
