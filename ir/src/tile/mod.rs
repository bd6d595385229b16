//! Tile programs: how an algorithm runs, without saying on what machine.
//!
//! A program is a grid of independent points; each runs block loops over tiles `[rows, cols]`. Axes are logical: which
//! becomes lanes, registers or warps, what is staged or swizzled, is each back end's choice. Grid points never
//! communicate; a form that needs two phases is two programs joined by a tensor.
//!
//! Rules (checked by [`verify`]): a tile is defined once and before use; elements past a tile's counts are absent and
//! never read; loads and stores stay inside their tensors wherever their guards hold; two grid points never store to
//! the same element, and of an output a grid point may read back what it has stored itself, nothing else.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::expr::{Expr, SlowId, TileId, Var};

/// The role of a tensor of a tile program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Read only.
    Input,
    /// Written: every element exactly once over the whole grid.
    Output,
}

/// A tensor in slow memory, dense, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// Name, for printing.
    pub name: String,
    /// Element type in memory. Loads widen halves to f32, stores round.
    pub dtype: DType,
    /// Lengths of the axes.
    pub shape: Vec<Dim>,
    /// Read or written.
    pub role: Role,
}

/// The element type a tile is computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileType {
    /// 32-bit real.
    F32,
    /// 64-bit real.
    F64,
    /// 64-bit integer.
    I64,
    /// Boolean.
    Bool,
}

impl TileType {
    /// The tile type that elements of `dtype` are computed in.
    pub fn of(dtype: DType) -> TileType {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => TileType::F32,
            DType::F64 => TileType::F64,
            DType::I32 | DType::I64 => TileType::I64,
            DType::Bool => TileType::Bool,
        }
    }

    /// The kind of its elements as expressions.
    pub fn kind(self) -> crate::expr::Kind {
        match self {
            TileType::F32 | TileType::F64 => crate::expr::Kind::Float,
            TileType::I64 => crate::expr::Kind::Int,
            TileType::Bool => crate::expr::Kind::Bool,
        }
    }

    /// Bytes of an element in fast memory.
    pub fn bytes(self) -> usize {
        match self {
            TileType::F32 => 4,
            TileType::F64 | TileType::I64 => 8,
            TileType::Bool => 1,
        }
    }
}

/// The length of a tile's axis: at most `cap`, here and now `count`.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// Most elements; a constant of the program.
    pub cap: usize,
    /// Elements present: an integer expression over grid, loop variables and dims, 0 to `cap`.
    pub count: Expr,
}

impl Extent {
    /// Always `n` elements.
    pub fn fixed(n: usize) -> Extent {
        Extent { cap: n, count: Expr::int(n as i64) }
    }

    /// The part of a length `total` that a block of `cap` starting at `start` covers.
    pub fn block(cap: usize, start: Expr, total: Expr) -> Extent {
        Extent { cap, count: (total - start).min(cap as i64).max(0) }
    }

    /// Whether every element is always present.
    pub fn is_fixed(&self) -> bool {
        self.count.as_int() == Some(self.cap as i64)
    }
}

/// A tile: a small matrix in fast memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// Name, for printing.
    pub name: String,
    /// Element type.
    pub ty: TileType,
    /// First axis.
    pub rows: Extent,
    /// Second axis.
    pub cols: Extent,
}

/// A tile read by a matrix operation, as it is or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Which tile.
    pub tile: TileId,
    /// Whether its transpose is meant.
    pub transposed: bool,
}

impl From<TileId> for Matrix {
    fn from(tile: TileId) -> Matrix {
        Matrix { tile, transposed: false }
    }
}

impl Matrix {
    /// The transpose of a tile.
    pub fn transposed(tile: TileId) -> Matrix {
        Matrix { tile, transposed: true }
    }
}

/// How a reduction or scan combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combine {
    /// Sum; of nothing 0.
    Sum,
    /// Product; of nothing 1.
    Product,
    /// Maximum; of nothing minus infinity (integers: the least), false.
    Max,
    /// Minimum; of nothing plus infinity (integers: the greatest), true.
    Min,
    /// log of the sum of exponentials, with a running maximum; of nothing minus infinity. Reals.
    LogSumExp,
}

/// An axis of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Along the rows: a reduction leaves `[1, cols]`.
    Rows,
    /// Along the columns: a reduction leaves `[rows, 1]`.
    Cols,
}

/// What defines a tile (or several).
#[derive(Clone, Debug, PartialEq)]
pub enum TileOp {
    /// Every element from an expression over [`ROW`](crate::expr::ROW), [`COL`](crate::expr::COL), variables, tensor
    /// elements and tiles. Loading is a map of a tensor element.
    Map(Expr),
    /// `acc + a b`, summed in the result's type. What lies above the diagonal of a triangle
    /// ([`lower_triangular`](TileProgram::lower_triangular)) may or may not be multiplied: only zeros of something
    /// infinite tell the difference.
    Dot {
        /// `[rows, k]`.
        a: Matrix,
        /// `[k, cols]`.
        b: Matrix,
        /// Added to the product.
        acc: Option<TileId>,
    },
    /// Combines along an axis.
    Reduce {
        /// How.
        combine: Combine,
        /// Along which axis.
        axis: Axis,
        /// What.
        of: TileId,
    },
    /// Running combination along an axis, inclusive.
    Scan {
        /// How.
        combine: Combine,
        /// Along which axis.
        axis: Axis,
        /// From the end to the start.
        reverse: bool,
        /// What.
        of: TileId,
    },
    /// Affine recurrence along the rows: `h[t] = decay[t] * h[t-1] + input[t]`, every column by itself, `h[-1]` from
    /// `start` `[1, cols]` or 0. `decay` is `[rows, cols]` or `[rows, 1]`.
    Recurrence {
        /// Factors.
        decay: TileId,
        /// Addends.
        input: TileId,
        /// State before the first row.
        start: Option<TileId>,
    },
    /// Solution X of `L X = B`, L lower triangular `[n, n]` without zeros on its diagonal (above it nothing is read).
    Solve {
        /// L.
        lower: TileId,
        /// B, `[n, cols]`.
        rhs: TileId,
    },
    /// The greatest of each row in falling order, ties to the lower column: two results of the same extents, values and
    /// columns (i64), with as many columns as are chosen. Past a row's own count: minus infinity and -1.
    TopK {
        /// What.
        of: TileId,
    },
}

/// A tile handed from one turn of a loop to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// Its value before the first turn.
    pub init: TileId,
    /// Its name inside the body (defined by the loop).
    pub inside: TileId,
    /// Its value at the end of the body.
    pub next: TileId,
    /// Its value after the last turn (defined by the loop).
    pub result: TileId,
}

/// A step of a program.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// Defines tiles.
    Let {
        /// One result, or two for [`TileOp::TopK`].
        results: Vec<TileId>,
        /// From what.
        op: TileOp,
    },
    /// `for var in from..to step step`, in order.
    For {
        /// The loop's variable.
        var: Var,
        /// First value.
        from: Expr,
        /// End, exclusive.
        to: Expr,
        /// Positive constant.
        step: i64,
        /// Turns for which this is false are left out.
        when: Option<Expr>,
        /// Tiles handed on.
        carry: Vec<Carry>,
        /// Body.
        body: Vec<Stmt>,
    },
    /// Stores `value` for every row and column of the extents.
    Store {
        /// Where.
        tensor: SlowId,
        /// One integer expression an axis, over ROW, COL and variables.
        index: Vec<Expr>,
        /// What; converted and rounded to the tensor's element type.
        value: Expr,
        /// Rows that are stored.
        rows: Extent,
        /// Columns that are stored.
        cols: Extent,
        /// Where false, nothing is stored.
        guard: Option<Expr>,
    },
}

/// A grid axis: its points are independent.
#[derive(Clone, Debug, PartialEq)]
pub struct GridAxis {
    /// The variable.
    pub var: Var,
    /// Name, for printing.
    pub name: String,
    /// Number of points: an integer expression over dims.
    pub extent: Expr,
}

/// A tile program.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TileProgram {
    /// Name, for printing and symbols.
    pub name: String,
    /// Tensors in slow memory.
    pub tensors: Vec<Slow>,
    /// Independent points.
    pub grid: Vec<GridAxis>,
    /// Tiles.
    pub tiles: Vec<Tile>,
    /// Steps.
    pub body: Vec<Stmt>,
    /// Number of variables in use, [`ROW`](crate::expr::ROW) and [`COL`](crate::expr::COL) counted.
    pub vars: u32,
    /// The numbers that shaped it, by name: what the tuner turns.
    pub knobs: Vec<(String, i64)>,
}

impl TileProgram {
    /// A tile's data.
    pub fn tile(&self, t: TileId) -> &Tile {
        &self.tiles[t.0 as usize]
    }

    /// A tensor's data.
    pub fn slow(&self, s: SlowId) -> &Slow {
        &self.tensors[s.0 as usize]
    }
}

mod build;
pub mod cost;
#[doc(hidden)]
pub mod examples;
mod interp;
mod narrow;
mod print;
mod triangular;
mod verify;
mod walk;
pub use build::TileBuilder;
pub use cost::{Cost, cost};
pub use interp::{Rounding, TileError, TileFault, interpret};
pub use verify::{MAX_AXIS, MAX_ELEMENTS, TileProblem, verify};
