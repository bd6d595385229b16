//! What can go wrong when a tile program runs, and where it did.

use crate::expr::Var;
use std::fmt;

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum TileFault {
    /// The number of inputs is not the program's.
    InputCount {
        /// Tensors with the role of an input.
        expected: usize,
        /// Tensors given.
        given: usize,
    },
    /// An input is not of the declared shape or kind.
    Input {
        /// The tensor's name.
        name: String,
        /// Declared lengths at these dims.
        expected: Vec<usize>,
        /// Given lengths.
        given: Vec<usize>,
    },
    /// A dimension has no value or is negative.
    Dim(String),
    /// An element outside the tensor is read.
    LoadOutside {
        /// The tensor's name.
        name: String,
        /// The index.
        index: Vec<i64>,
        /// The tensor's lengths.
        shape: Vec<usize>,
    },
    /// An element outside the tensor is written.
    StoreOutside {
        /// The tensor's name.
        name: String,
        /// The index.
        index: Vec<i64>,
        /// The tensor's lengths.
        shape: Vec<usize>,
    },
    /// An element is written a second time.
    StoredTwice {
        /// The tensor's name.
        name: String,
        /// The index.
        index: Vec<i64>,
    },
    /// An output element is never written.
    NeverStored {
        /// The tensor's name.
        name: String,
        /// Flat index of the first such element.
        first: usize,
        /// How many there are.
        count: usize,
    },
    /// An output is read or an input written.
    WrongRole(String),
    /// A tile's element past its counts is read.
    Absent {
        /// The tile's name.
        name: String,
        /// Row asked for.
        row: usize,
        /// Column asked for.
        col: usize,
        /// Rows and columns present.
        counts: (usize, usize),
    },
    /// A tile is read where it has no value, or defined a second time.
    Undefined(String),
    /// A variable is read where it has no value.
    UnboundVar(Var),
    /// A count is negative or above its cap.
    Count {
        /// The count.
        count: i64,
        /// The cap.
        cap: usize,
    },
    /// Shapes of a tile operation do not fit together.
    Shapes(String),
    /// A value is of the wrong kind.
    Kinds(String),
    /// An element of an output is read that this grid point has not stored.
    NotOwn {
        /// The tensor.
        name: String,
        /// The index.
        index: Vec<i64>,
    },
    /// A solve meets a zero on the diagonal.
    Singular {
        /// The row.
        row: usize,
    },
    /// A loop's step is not positive.
    Step(i64),
    /// An operand of an elementwise operation stands where only values may.
    Argument(usize),
}

impl fmt::Display for TileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileFault::InputCount { expected, given } => write!(f, "{given} inputs are given, {expected} expected"),
            TileFault::Input { name, expected, given } => {
                write!(f, "input `{name}` has shape {given:?} or the wrong kind, expected {expected:?}")
            }
            TileFault::Dim(e) => f.write_str(e),
            TileFault::LoadOutside { name, index, shape } => {
                write!(f, "element {index:?} of `{name}` is read, which has shape {shape:?}")
            }
            TileFault::StoreOutside { name, index, shape } => {
                write!(f, "element {index:?} of `{name}` is written, which has shape {shape:?}")
            }
            TileFault::StoredTwice { name, index } => write!(f, "element {index:?} of `{name}` is written twice"),
            TileFault::NeverStored { name, first, count } => {
                write!(f, "{count} elements of `{name}` are never written, first the one at {first}")
            }
            TileFault::NotOwn { name, index } => {
                write!(f, "element {index:?} of output `{name}` is read, which this grid point has not stored")
            }
            TileFault::WrongRole(name) => write!(f, "`{name}` is an output that is read or an input that is written"),
            TileFault::Absent { name, row, col, counts } => {
                write!(f, "element [{row}, {col}] of tile `{name}` is read, which has {} x {}", counts.0, counts.1)
            }
            TileFault::Undefined(name) => write!(f, "tile `{name}` has no value here or is defined twice"),
            TileFault::UnboundVar(v) => write!(f, "variable x{} has no value here", v.0),
            TileFault::Count { count, cap } => write!(f, "a count is {count}, outside 0..={cap}"),
            TileFault::Shapes(what) | TileFault::Kinds(what) => f.write_str(what),
            TileFault::Singular { row } => write!(f, "the solve has a zero on its diagonal in row {row}"),
            TileFault::Step(n) => write!(f, "a loop's step is {n}"),
            TileFault::Argument(k) => write!(f, "arg{k} stands outside an elementwise operation"),
        }
    }
}

/// A fault and where it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct TileError {
    /// The program.
    pub program: String,
    /// The step: the tile it defines, the tensor it stores to, or the loop.
    pub at: String,
    /// Grid and loop variables that had values, by name.
    pub vars: Vec<(String, i64)>,
    /// What went wrong.
    pub fault: Box<TileFault>,
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile program `{}`", self.program)?;
        if !self.at.is_empty() {
            write!(f, ", {}", self.at)?;
        }
        for (name, n) in &self.vars {
            write!(f, ", {name} = {n}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl std::error::Error for TileError {}
