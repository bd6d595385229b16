//! The C interface of compiled models: return codes with their texts, and what a header writer must know of a model's
//! functions.
//!
//! For a model `NAME`, objects export `NAME_run`, `NAME_workspace_bytes`, `NAME_strerror` and, unless nothing is bound
//! at run time, `NAME_bind` and `NAME_weights_bytes`.

use mixc_ir::dim::{Dim, Symbol};
use mixc_ir::dtype::DType;
use mixc_ir::lowered::{BufferId, Lowered, Phase, Place};

/// What a call answers other than 0. The code of each is fixed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A null pointer.
    Null,
    /// A pointer that is not aligned.
    Misaligned,
    /// A dim outside its bounds.
    DimOutOfBounds,
    /// A length that is negative, or a division that does not come out.
    BadLength,
    /// Sizes beyond the 64-bit range.
    Overflow,
    /// The workspace is too small.
    WorkspaceTooSmall,
    /// The memory for bound weights is too small.
    WeightsTooSmall,
    /// An id outside its table.
    IdOutOfRange,
    /// The CPU lacks a feature that the code uses.
    CpuUnsupported,
    /// A weight file is not a well-formed safetensors file.
    BadWeightFile,
    /// A weight is in none of the files.
    WeightMissing,
    /// A weight has another element type.
    WeightType,
    /// A weight has another shape.
    WeightShape,
    /// The weights were not bound by this model's bind function.
    NotBound,
}

impl Failure {
    /// Every failure, in the order of the codes.
    pub const ALL: [Failure; 14] = [
        Failure::Null,
        Failure::Misaligned,
        Failure::DimOutOfBounds,
        Failure::BadLength,
        Failure::Overflow,
        Failure::WorkspaceTooSmall,
        Failure::WeightsTooSmall,
        Failure::IdOutOfRange,
        Failure::CpuUnsupported,
        Failure::BadWeightFile,
        Failure::WeightMissing,
        Failure::WeightType,
        Failure::WeightShape,
        Failure::NotBound,
    ];

    /// The code that a call returns: negative.
    pub fn code(self) -> i32 {
        -1 - self as i32
    }

    /// The failure of a code.
    pub fn from_code(code: i32) -> Option<Failure> {
        Failure::ALL.into_iter().find(|f| f.code() == code)
    }

    /// Its name in C, after the prefix.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Null => "NULL",
            Failure::Misaligned => "MISALIGNED",
            Failure::DimOutOfBounds => "DIM_OUT_OF_BOUNDS",
            Failure::BadLength => "BAD_LENGTH",
            Failure::Overflow => "OVERFLOW",
            Failure::WorkspaceTooSmall => "WORKSPACE_TOO_SMALL",
            Failure::WeightsTooSmall => "WEIGHTS_TOO_SMALL",
            Failure::IdOutOfRange => "ID_OUT_OF_RANGE",
            Failure::CpuUnsupported => "CPU_UNSUPPORTED",
            Failure::BadWeightFile => "BAD_WEIGHT_FILE",
            Failure::WeightMissing => "WEIGHT_MISSING",
            Failure::WeightType => "WEIGHT_TYPE",
            Failure::WeightShape => "WEIGHT_SHAPE",
            Failure::NotBound => "NOT_BOUND",
        }
    }

    /// What `NAME_strerror` says.
    pub fn message(self) -> &'static str {
        match self {
            Failure::Null => "a pointer is null",
            Failure::Misaligned => {
                "a pointer is not aligned: tensors to their element, workspace and weights to 64 bytes"
            }
            Failure::DimOutOfBounds => "a dim is outside its bounds",
            Failure::BadLength => "a length computed from the dims is negative or not a whole number",
            Failure::Overflow => "the sizes of the tensors leave the 64-bit range",
            Failure::WorkspaceTooSmall => "the workspace is too small",
            Failure::WeightsTooSmall => "the memory for the weights is too small",
            Failure::IdOutOfRange => "an id is out of range",
            Failure::CpuUnsupported => "the CPU lacks instructions that this code was compiled for",
            Failure::BadWeightFile => "a weight file is not a well-formed safetensors file",
            Failure::WeightMissing => "a weight is in none of the files",
            Failure::WeightType => "a weight has another element type than declared",
            Failure::WeightShape => "a weight has another shape than declared",
            Failure::NotBound => "the weights were not bound by this model",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

/// A tensor of the interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Name in the program.
    pub name: String,
    /// Element type in memory.
    pub dtype: DType,
    /// Lengths of the axes, dense and row-major.
    pub shape: Vec<Dim>,
}

/// The functions of a compiled model.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// Prefix of the symbols.
    pub name: String,
    /// Fields of `NAME_dims`, in order; without any, `NAME_run` takes a `const void *` that may be null.
    pub dims: Vec<Symbol>,
    /// Whether there are `NAME_bind` and `NAME_weights_bytes`, and `NAME_run` takes `weights` after the dims.
    pub binds: bool,
    /// Tensors that are read, after the weights.
    pub params: Vec<Argument>,
    /// Tensors that are written, after those.
    pub results: Vec<Argument>,
}

impl Interface {
    /// The interface of a model; `embedded` when its bound weights are part of the code.
    pub fn of(lowered: &Lowered, embedded: bool) -> Interface {
        let arguments = |ids: &[BufferId]| {
            let argument = |b: &BufferId| {
                let buffer = lowered.buffer(*b);
                Argument { name: buffer.name.clone(), dtype: buffer.dtype, shape: buffer.shape.clone() }
            };
            ids.iter().map(argument).collect()
        };
        Interface {
            name: lowered.name.clone(),
            dims: lowered.dims.iter().map(|d| d.name.clone()).collect(),
            binds: !embedded && needs_binding(lowered),
            params: arguments(&lowered.params),
            results: arguments(&lowered.results),
        }
    }
}

/// Whether anything is made from weights or constants before the first run.
pub fn needs_binding(lowered: &Lowered) -> bool {
    lowered.phase(Phase::Bind).next().is_some()
        || lowered.buffers.iter().any(|b| matches!(b.place, Place::Weight(_) | Place::Bound))
}

/// Whether a weight file is read.
pub fn reads_weights(lowered: &Lowered) -> bool {
    lowered.buffers.iter().any(|b| matches!(b.place, Place::Weight(_)))
}
