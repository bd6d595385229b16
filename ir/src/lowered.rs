//! A lowered model: tile programs over buffers, in order. What the passes hand to a back end.
//!
//! Steps of the bind phase depend on weights and constants alone and run once; steps of the run phase run at every
//! call. The memory plan says where temporaries lie; the back end and the checker read the same plan.

use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::program::DimItem;
use crate::tile::TileProgram;

/// A buffer of a [`Lowered`] model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

impl BufferId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a buffer's memory comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// The caller's k-th argument tensor.
    Param(usize),
    /// The caller's k-th result tensor.
    Result(usize),
    /// A stored weight, by name: read in the bind phase alone, straight from the weight file.
    Weight(String),
    /// Written numbers, row-major, in the buffer's element type when read: part of the code.
    Constant(Vec<f64>),
    /// Made by the bind phase and kept with the bound weights.
    Bound,
    /// Made and used within one phase, in the caller's workspace.
    Temporary,
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// For printing.
    pub name: String,
    /// Element type in memory.
    pub dtype: DType,
    /// Lengths of the axes; dense, row-major.
    pub shape: Vec<Dim>,
    /// Where its memory comes from.
    pub place: Place,
}

impl Buffer {
    /// Bytes under these values of the symbols; `None` when they leave the 64-bit range or a dim is negative.
    pub fn bytes(&self, dims: &DimValues) -> Option<u64> {
        let mut bytes = self.dtype.bytes() as u64;
        for d in &self.shape {
            bytes = bytes.checked_mul(u64::try_from(d.eval(dims).ok()?).ok()?)?;
        }
        Some(bytes)
    }
}

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Once, from weights and constants.
    Bind,
    /// At every call.
    Run,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Runs a tile program; one buffer for each of its tensors.
    Run {
        /// The program.
        program: TileProgram,
        /// Buffers, in the order of the program's tensors.
        buffers: Vec<BufferId>,
        /// Which algorithm it is part of, a name of the catalogue of forms; for reports only.
        form: String,
        /// The value of the source program that it computes (part of); for reports only.
        site: String,
    },
    /// Fails the call with the code for ids when an element of the integer buffer is not in `0..below`.
    CheckIds {
        /// Integers.
        ids: BufferId,
        /// Exclusive bound.
        below: Dim,
    },
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// What.
    pub action: Action,
}

/// A lowered model.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Lowered {
    /// The model's name: a C identifier, prefix of every symbol.
    pub name: String,
    /// Symbols with bounds, in the order of the ABI.
    pub dims: Vec<DimItem>,
    /// Dims that must come out at the call: divisions exact, values not negative.
    pub must_hold: Vec<Dim>,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Buffers of the parameters, in order.
    pub params: Vec<BufferId>,
    /// Buffers of the results, in order.
    pub results: Vec<BufferId>,
    /// Steps, bind phase first.
    pub steps: Vec<Step>,
    /// Where temporaries lie in the workspace, for each phase.
    pub plan: MemoryPlan,
}

impl Lowered {
    /// A buffer's data.
    pub fn buffer(&self, b: BufferId) -> &Buffer {
        &self.buffers[b.index()]
    }

    /// The steps of a phase.
    pub fn phase(&self, phase: Phase) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |s| s.phase == phase)
    }
}

/// Where temporaries lie: each in a slot; slots lie one after another. A slot is as long as the longest buffer it holds
/// at the call's lengths, so the plan holds for every value of the symbols; buffers of one slot are never live together.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MemoryPlan {
    /// Buffers of each slot, of the run phase.
    pub run: Vec<Vec<BufferId>>,
    /// Buffers of each slot, of the bind phase.
    pub bind: Vec<Vec<BufferId>>,
}

/// Alignment of every slot, bound weight and workspace, in bytes: a cache line and a vector register.
pub const ALIGNMENT: u64 = 64;

/// Bytes rounded up to [`ALIGNMENT`].
pub fn aligned(bytes: u64) -> u64 {
    bytes.div_ceil(ALIGNMENT) * ALIGNMENT
}
