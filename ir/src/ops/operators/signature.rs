//! What the type rules of several operators share: operand shapes, written types, batch dims, alignment.

use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::Call;
use crate::reference::{Eval, Operator, RefValue, Row};
use crate::ty::{Align, MixType, TensorType, Type};

/// Batch dims and the last `N` dims of tensor operand `k`, which is described as `expected` when it has fewer.
pub(super) fn trailing<'a, const N: usize>(
    call: &Call<'a>,
    k: usize,
    expected: &str,
) -> Result<(&'a [Dim], &'a [Dim; N]), Vec<Fault>> {
    let t = call.tensor(k)?;
    t.shape
        .split_last_chunk::<N>()
        .ok_or_else(|| vec![Fault::operand(k, format!("expected {expected}, found {}", Type::Tensor(t.clone())))])
}

/// An operator over data of type `data`, aligned to the end.
pub(super) fn operator(data: DType, batch: Vec<Dim>, rows: Dim, cols: Dim) -> Vec<Type> {
    vec![Type::Mix(MixType { dtype: data.accumulator(), batch, rows, cols, align: Align::End })]
}

/// The written type of an operator without operands.
pub(super) fn written_operator(call: &Call<'_>) -> Result<MixType, Vec<Fault>> {
    let name = call.op.name;
    let help = format!("write it: `%m = {name} ... : mix f32[T, T]`");
    match call.written_type() {
        None => Err(vec![Fault::result(format!("`{name}` has no operands, so its type must be written")).help(help)]),
        Some(Type::Mix(m)) if matches!(m.dtype, DType::F32 | DType::F64) => Ok(m.clone()),
        Some(Type::Mix(m)) => Err(vec![Fault::result(format!("operators hold f32 or f64, not {}", m.dtype))]),
        Some(t) => Err(vec![Fault::result(format!("`{name}` is a mixing operator, not {t}")).help(help)]),
    }
}

/// As [`written_operator`], with as many rows as columns.
pub(super) fn written_square(call: &Call<'_>) -> Result<MixType, Vec<Fault>> {
    let m = written_operator(call)?;
    if m.rows != m.cols {
        let name = call.op.name;
        return Err(vec![Fault::result(format!("`{name}` has as many rows as columns, not {} x {}", m.rows, m.cols))]);
    }
    Ok(m)
}

/// That tensor operand `k` may be combined with operator values of type `dtype`: half and f32 with f32, f64 with f64.
pub(super) fn fits_values(k: usize, t: &TensorType, dtype: DType) -> Result<(), Vec<Fault>> {
    if t.dtype.accumulator() == dtype {
        return Ok(());
    }
    Err(vec![
        Fault::operand(k, format!("element type {} beside an operator of {dtype}", t.dtype))
            .help(format!("convert it with `cast %x {{to = {dtype}}}`")),
    ])
}

/// The type of operator operand 0 with its batch dims joined with those of tensor operand `k`, which has batch dims
/// only.
pub(super) fn with_batch_tensor(call: &Call<'_>, k: usize) -> Result<Vec<Type>, Vec<Fault>> {
    let (mut m, t) = (call.mix(0)?.clone(), call.tensor(k)?);
    fits_values(k, t, m.dtype)?;
    m.batch = batch::join(&[(0, &m.batch), (k, &t.shape)], true)?;
    Ok(vec![Type::Mix(m)])
}

/// The type of operator operand 0 with its batch dims joined with those of tensor operand `k`, whose last two axes are
/// `[T, S]`, or 1 or missing where `broadcast` allows.
pub(super) fn with_matrix_tensor(
    call: &Call<'_>,
    k: usize,
    [rows, cols]: [&Dim; 2],
    broadcast: bool,
) -> Result<Vec<Type>, Vec<Fault>> {
    let (mut m, t) = (call.mix(0)?.clone(), call.tensor(k)?);
    let lead = t.rank().saturating_sub(2);
    let fits = |own: Option<&Dim>, wide: &Dim| match own {
        None => broadcast,
        Some(d) => d == wide || (broadcast && d.is(1)),
    };
    let mut matrix = t.shape[lead..].iter().rev();
    if !fits(matrix.next(), cols) || !fits(matrix.next(), rows) {
        let how = if broadcast { "broadcasts to" } else { "is" };
        let found = Type::Tensor(t.clone());
        return Err(vec![Fault::operand(
            k,
            format!("expected a tensor that {how} [.., {rows}, {cols}], found {found}"),
        )]);
    }
    m.batch = batch::join(&[(0, &m.batch), (k, &t.shape[..lead])], true)?;
    Ok(vec![Type::Mix(m)])
}

/// Element type and alignment that operator operands 0 and 1 share.
pub(super) fn combined(call: &Call<'_>) -> Result<(DType, Align), Vec<Fault>> {
    let (a, b) = (call.mix(0)?, call.mix(1)?);
    if a.dtype != b.dtype {
        return Err(vec![Fault::operand(1, format!("element types differ: {} and {}", a.dtype, b.dtype))]);
    }
    if a.align != b.align {
        return Err(vec![
            Fault::operand(1, "the operators are aligned differently")
                .help("an operator of `mask_lengths {align}` combines only with operators aligned by the same lengths"),
        ]);
    }
    Ok((a.dtype, a.align))
}

/// The type of the elementwise combination of operator operands 0 and 1.
pub(super) fn elementwise(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let (dtype, align) = combined(call)?;
    let (a, b) = (call.mix(0)?, call.mix(1)?);
    if (&a.rows, &a.cols) != (&b.rows, &b.cols) {
        let (x, y) = (format!("{} x {}", a.rows, a.cols), format!("{} x {}", b.rows, b.cols));
        return Err(vec![Fault::operand(1, format!("shapes differ: {x} and {y}"))]);
    }
    let batch = batch::join(&[(0, &a.batch), (1, &b.batch)], true)?;
    Ok(vec![Type::Mix(MixType { dtype, batch, rows: a.rows.clone(), cols: a.cols.clone(), align })])
}

/// Where a row of a result is: its batch index, number and position.
pub(super) struct Place<'a> {
    /// Batch dims of the result.
    pub out: &'a [usize],
    /// Batch index.
    pub at: &'a [usize],
    /// Row number.
    pub i: usize,
    /// The position i' that masks read.
    pub position: i64,
}

impl Place<'_> {
    /// The flat index of this batch index within an operand with batch dims `shape`.
    pub fn offset(&self, shape: &[usize]) -> usize {
        batch::offset(self.out, self.at, shape)
    }
}

/// The result of an operation that makes each row from the same row of operator operand 0.
pub(super) fn by_row(
    e: &Eval<'_>,
    change: impl Fn(Row, &Place<'_>) -> Row + Send + Sync + 'static,
) -> Result<Vec<RefValue>, String> {
    let m = e.operator(0)?;
    let out = batch_of_result(e)?;
    let like = m.clone();
    e.operator_result(Some(&like), move |at, i| {
        let place = Place { out: &out, at, i, position: m.position_for(&out, at, i) };
        change(m.row_for(&out, at, i), &place)
    })
}

/// Batch dims of the operator that is the result.
pub(super) fn batch_of_result(e: &Eval<'_>) -> Result<Vec<usize>, String> {
    let mut shape = e.result_shape(0)?;
    shape.truncate(shape.len().saturating_sub(2));
    Ok(shape)
}

/// Reads of a tensor that broadcasts to `[.., T, S]`: flat index of (i, j) for a row at `place`.
pub(super) fn matrix_index(shape: &[usize], place: &Place<'_>) -> impl Fn(usize) -> usize + use<> {
    let lead = shape.len().saturating_sub(2);
    let (rows, cols) = match shape[lead..] {
        [] => (1, 1),
        [c] => (1, c),
        [r, c, ..] => (r, c),
    };
    let row = if rows == 1 { 0 } else { place.i };
    let start = (place.offset(&shape[..lead]) * rows + row) * cols;
    move |j| start + if cols == 1 { 0 } else { j }
}

/// The rows of an operator at the batch index last asked for, kept while the matrix is small, for operations that read
/// columns or many rows for one. Larger matrices are computed anew at each reading.
pub(super) struct Rows {
    m: Operator,
    kept: std::sync::Mutex<(usize, Vec<Option<std::sync::Arc<Row>>>)>,
}

/// Elements of the largest matrix that [`Rows`] keeps: 9 bytes each, about 150 MB.
const KEPT_ELEMENTS: usize = 1 << 24;

impl Rows {
    /// Of `m`, none known yet.
    pub fn new(m: Operator) -> Rows {
        Rows { m, kept: std::sync::Mutex::default() }
    }

    /// Row `i` for batch index `at` of the joined dims `out`.
    pub fn row(&self, out: &[usize], at: &[usize], i: usize) -> std::sync::Arc<Row> {
        let compute = || std::sync::Arc::new(self.m.row_for(out, at, i));
        if self.m.rows.saturating_mul(self.m.cols) > KEPT_ELEMENTS {
            return compute();
        }
        let flat = batch::offset(out, at, &self.m.batch);
        // A panic while the lock is held leaves only rows that are whole.
        let lock = || self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (batch, rows) = &*lock()
            && *batch == flat
            && let Some(Some(row)) = rows.get(i)
        {
            return row.clone();
        }
        let row = compute();
        let mut kept = lock();
        if kept.0 != flat || kept.1.is_empty() {
            *kept = (flat, vec![None; self.m.rows]);
        }
        kept.1[i] = Some(row.clone());
        row
    }
}
