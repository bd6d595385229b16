//! The reference interpreter: every operation's meaning in f64, operators by rows, never a whole T x T matrix.
//!
//! It is the oracle of all rules, lowerings and back ends, so it shares nothing with them but the operations' own
//! definitions, and prefers being obvious to being fast.

use crate::attr::Attrs;
use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::tensor::Tensor;
use crate::ty::Type;
use std::sync::Arc;

mod interpret;
mod rows;
pub use interpret::{Weights, interpret, interpret_rows, kind_of};
#[cfg(test)]
pub(crate) use interpret::{step, values_of};
pub use rows::Rows;

/// A row of an operator: values, 0 outside the support, and the support.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// M[i, 0..S].
    pub values: Vec<f64>,
    /// Whether (i, j) is in the support.
    pub present: Vec<bool>,
}

impl Row {
    /// From a function: `None` outside the support.
    pub fn from_fn(cols: usize, mut f: impl FnMut(usize) -> Option<f64>) -> Row {
        let mut row = Row { values: vec![0.0; cols], present: vec![false; cols] };
        for j in 0..cols {
            if let Some(x) = f(j) {
                row.values[j] = x;
                row.present[j] = true;
            }
        }
        row
    }

    /// Every present value replaced.
    pub fn map(mut self, mut f: impl FnMut(usize, f64) -> f64) -> Row {
        for j in 0..self.values.len() {
            if self.present[j] {
                self.values[j] = f(j, self.values[j]);
            }
        }
        self
    }

    /// Only where `keep` holds.
    pub fn restrict(mut self, mut keep: impl FnMut(usize) -> bool) -> Row {
        for j in 0..self.values.len() {
            if self.present[j] && !keep(j) {
                self.present[j] = false;
                self.values[j] = 0.0;
            }
        }
        self
    }

    /// Columns that are present, with their values.
    pub fn entries(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.values.iter().zip(&self.present).enumerate().filter(|(_, (_, p))| **p).map(|(j, (x, _))| (j, *x))
    }
}

/// Gives row i of the matrix at a batch index (of the operator's own batch dims).
pub type RowFn = dyn Fn(&[usize], usize) -> Row + Send + Sync;

/// A mixing operator as a function of rows.
#[derive(Clone)]
pub struct Operator {
    /// Batch dims.
    pub batch: Vec<usize>,
    /// T.
    pub rows: usize,
    /// S.
    pub cols: usize,
    /// Lengths `n` that alignment reads, when it is not the end: within 0..=S, of a shape that broadcasts to the batch
    /// dims.
    pub lengths: Option<Arc<Tensor>>,
    /// The rows.
    pub row: Arc<RowFn>,
}

impl Operator {
    /// Row i for batch index `at` of the joined dims `out`, by the broadcasting rule.
    pub fn row_for(&self, out: &[usize], at: &[usize], i: usize) -> Row {
        let flat = crate::batch::offset(out, at, &self.batch);
        (self.row)(&unflatten(flat, &self.batch), i)
    }

    /// [`Operator::position`] for batch index `at` of the joined dims `out`.
    pub fn position_for(&self, out: &[usize], at: &[usize], i: usize) -> i64 {
        self.position(&unflatten(crate::batch::offset(out, at, &self.batch), &self.batch), i)
    }

    /// The row position i' that masks read, for a batch index of this operator's own dims.
    pub fn position(&self, at: &[usize], i: usize) -> i64 {
        match &self.lengths {
            None => i as i64 + self.cols as i64 - self.rows as i64,
            Some(n) => i as i64 + n.get(crate::batch::offset(&self.batch, at, &n.shape)).as_int() - self.rows as i64,
        }
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator {:?} {}x{}", self.batch, self.rows, self.cols)
    }
}

/// The multi-index of a flat one.
pub fn unflatten(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for k in (0..shape.len()).rev() {
        at[k] = flat % shape[k].max(1);
        flat /= shape[k].max(1);
    }
    at
}

/// A value of the reference interpreter.
#[derive(Clone, Debug)]
pub enum RefValue {
    /// A tensor.
    Tensor(Arc<Tensor>),
    /// An operator.
    Operator(Operator),
}

impl From<Tensor> for RefValue {
    fn from(t: Tensor) -> RefValue {
        RefValue::Tensor(Arc::new(t))
    }
}

/// A call with values in place of types.
pub struct Eval<'a> {
    /// Operands.
    pub operands: Vec<Option<&'a RefValue>>,
    /// Operand types.
    pub types: Vec<Option<&'a Type>>,
    /// Attributes.
    pub attrs: &'a Attrs,
    /// Result types.
    pub results: Vec<&'a Type>,
    /// Values of the symbols.
    pub dims: &'a DimValues,
    /// Rows of the only result that are asked for: an operation may leave the others anything.
    pub rows: Rows,
}

impl Eval<'_> {
    /// Whether operand k is given.
    pub fn has(&self, k: usize) -> bool {
        self.operands.get(k).copied().flatten().is_some()
    }

    /// The tensor operand k.
    pub fn tensor(&self, k: usize) -> Result<Arc<Tensor>, String> {
        match self.operands.get(k).copied().flatten() {
            Some(RefValue::Tensor(t)) => Ok(t.clone()),
            other => Err(format!("operand {k} is not a tensor: {other:?}")),
        }
    }

    /// The tensor operand k, if given.
    pub fn tensor_if(&self, k: usize) -> Result<Option<Arc<Tensor>>, String> {
        if self.has(k) { self.tensor(k).map(Some) } else { Ok(None) }
    }

    /// The operator operand k.
    pub fn operator(&self, k: usize) -> Result<Operator, String> {
        match self.operands.get(k).copied().flatten() {
            Some(RefValue::Operator(m)) => Ok(m.clone()),
            other => Err(format!("operand {k} is not an operator: {other:?}")),
        }
    }

    /// The value of a dim.
    pub fn dim(&self, d: &Dim) -> Result<usize, String> {
        let n = d.eval(self.dims).map_err(|e| e.to_string())?;
        usize::try_from(n).map_err(|_| format!("dimension {d} is {n}"))
    }

    /// The value of an integer or dim attribute.
    pub fn attr_dim(&self, name: &str) -> Result<Option<i64>, String> {
        self.attrs.dim(name).map(|d| d.eval(self.dims).map_err(|e| e.to_string())).transpose()
    }

    /// Lengths of result k.
    pub fn result_shape(&self, k: usize) -> Result<Vec<usize>, String> {
        self.results[k].dims().iter().map(|d| self.dim(d)).collect()
    }

    /// Element type of result k.
    pub fn result_dtype(&self, k: usize) -> DType {
        self.results[k].dtype()
    }

    /// An operator result: batch dims, rows and columns from the result's type, rows from `row`, position as in the
    /// operand that it was made from (`None`: aligned to the end).
    pub fn operator_result(
        &self,
        like: Option<&Operator>,
        row: impl Fn(&[usize], usize) -> Row + Send + Sync + 'static,
    ) -> Result<Vec<RefValue>, String> {
        let shape = self.result_shape(0)?;
        let (batch, matrix) = shape.split_at(shape.len() - 2);
        Ok(vec![RefValue::Operator(Operator {
            batch: batch.to_vec(),
            rows: matrix[0],
            cols: matrix[1],
            lengths: like.and_then(|m| m.lengths.clone()),
            row: Arc::new(row),
        })])
    }
}
