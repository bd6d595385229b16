//! The two kinds of values: tensors and mixing operators.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::program::ValueId;
use std::fmt;

/// A dense tensor `[d0, d1, ...]`; no dims is a scalar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Lengths of the axes, outermost first.
    pub shape: Vec<Dim>,
}

/// Which row position `i'` a mask, `alibi` or `decay` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Align {
    /// `i' = i + S - T`: the last row meets the last column.
    #[default]
    End,
    /// `i' = i + n[b] - T` with the lengths `n` of `mask_lengths {align}`.
    Lengths(ValueId),
}

/// A mixing operator: a structured `rows x cols` matrix for every batch index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MixType {
    /// Type of the values: f32, or f64 over f64 data.
    pub dtype: DType,
    /// Leading dims.
    pub batch: Vec<Dim>,
    /// T: output tokens.
    pub rows: Dim,
    /// S: input tokens.
    pub cols: Dim,
    /// The row position that masks read.
    pub align: Align,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A mixing operator.
    Mix(MixType),
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: Vec<Dim>) -> TensorType {
        TensorType { dtype, shape }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The axis that a possibly negative `axis` attribute names, or `None` when there is no such axis.
    pub fn axis(&self, axis: i64) -> Option<usize> {
        let rank = self.rank() as i64;
        let axis = if axis < 0 { axis.checked_add(rank)? } else { axis };
        (0..rank).contains(&axis).then_some(axis as usize)
    }
}

impl Type {
    /// A tensor type.
    pub fn tensor(dtype: DType, shape: Vec<Dim>) -> Type {
        Type::Tensor(TensorType::new(dtype, shape))
    }

    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            Type::Mix(_) => None,
        }
    }

    /// The operator type, if it is one.
    pub fn as_mix(&self) -> Option<&MixType> {
        match self {
            Type::Tensor(_) => None,
            Type::Mix(m) => Some(m),
        }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Type::Tensor(t) => t.dtype,
            Type::Mix(m) => m.dtype,
        }
    }

    /// All dims: of an operator, batch then rows then columns.
    pub fn dims(&self) -> Vec<Dim> {
        match self {
            Type::Tensor(t) => t.shape.clone(),
            Type::Mix(m) => m.batch.iter().chain([&m.rows, &m.cols]).cloned().collect(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.as_mix().is_some() { "mix " } else { "" };
        write!(f, "{prefix}{}[", self.dtype())?;
        for (i, d) in self.dims().iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Type::Tensor(self.clone()).fmt(f)
    }
}
