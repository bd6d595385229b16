//! What the type rules of layers share: reading `[.., tokens, features]`, comparing dims, and viewing operands at an
//! index of the joined batch dims. Knows no layer.

use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::op::Call;
use crate::reference::Eval;
use crate::tensor::Tensor;
use crate::ty::TensorType;
use std::sync::Arc;

/// The axes of an operand `[lead.., tokens, features]`.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    /// Which operand.
    pub operand: usize,
    /// Batch dims.
    pub lead: &'a [Dim],
    /// Length of the axis before the last.
    pub tokens: &'a Dim,
    /// Length of the last axis.
    pub features: &'a Dim,
}

/// The operands `ks` as `[.., tokens, features]`; a fault for each that has fewer than two axes.
pub fn tokens<'a, const N: usize>(call: &Call<'a>, ks: [usize; N]) -> Result<[Tokens<'a>; N], Vec<Fault>> {
    let mut faults = Vec::new();
    let mut found = Vec::with_capacity(N);
    for k in ks {
        let t = call.tensor(k)?;
        match t.shape.as_slice() {
            [lead @ .., tokens, features] => found.push(Tokens { operand: k, lead, tokens, features }),
            _ => faults.push(Fault::operand(k, format!("expected [.., tokens, features], found {t}"))),
        }
    }
    found.try_into().map_err(|_| faults)
}

/// The dims before the last `tail` of operand `k`, and those; a fault when it has fewer axes.
pub fn split<'a>(call: &Call<'a>, k: usize, tail: usize, expected: &str) -> Result<(&'a [Dim], &'a [Dim]), Vec<Fault>> {
    let t: &'a TensorType = call.tensor(k)?;
    let lead = t.rank().checked_sub(tail);
    let lead = lead.ok_or_else(|| vec![Fault::operand(k, format!("expected {expected}, found {t}"))])?;
    Ok(t.shape.split_at(lead))
}

/// Notes that a dim of operand `k` is not what it must be.
pub fn same(faults: &mut Vec<Fault>, k: usize, what: &str, found: &Dim, expected: &Dim) {
    if found != expected {
        faults.push(Fault::operand(k, format!("{what}: expected {expected}, found {found}")));
    }
}

/// Notes that operand `k`, when given, has not the shape `expected`.
pub fn exactly(faults: &mut Vec<Fault>, call: &Call<'_>, k: usize, expected: &[Dim]) {
    if let Some(t) = call.ty(k).and_then(|t| t.as_tensor())
        && t.shape != expected
    {
        let want = TensorType::new(t.dtype, expected.to_vec());
        faults.push(Fault::operand(k, format!("expected {want}, found {t}")));
    }
}

/// `Ok` when nothing is wrong.
pub fn settle(faults: Vec<Fault>) -> Result<(), Vec<Fault>> {
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Notes that the integer attribute `name`, when it is a number, is below `least`.
pub fn at_least(faults: &mut Vec<Fault>, attrs: &Attrs, name: &'static str, least: i64) {
    if let Some(n) = attrs.int(name).filter(|n| *n < least) {
        faults.push(Fault::attr(name, format!("must be at least {least}, found {n}")));
    }
}

/// The factor of the scores: `scale`, or 1/sqrt(features); a fault when that needs a symbol's value.
pub fn root_scale(attrs: &Attrs, features: &Dim) -> Result<f64, Vec<Fault>> {
    match (attrs.float("scale"), features.as_constant()) {
        (Some(s), _) => Ok(s),
        (None, Some(r)) => Ok(1.0 / (r.max(1) as f64).sqrt()),
        (None, None) => Err(vec![
            Fault::attr("scale", format!("the default 1/sqrt({features}) needs a number of features known here"))
                .help("write `scale = ...`"),
        ]),
    }
}

/// An operand of the reference as equal pieces, one for each index of its batch dims.
pub struct View {
    tensor: Arc<Tensor>,
    lead: usize,
    piece: usize,
}

impl View {
    /// Operand `k`, whose last `tail` axes are a piece.
    pub fn new(e: &Eval<'_>, k: usize, tail: usize) -> Result<View, String> {
        Ok(View::of(e.tensor(k)?, tail))
    }

    /// Operand `k`, if given.
    pub fn optional(e: &Eval<'_>, k: usize, tail: usize) -> Result<Option<View>, String> {
        Ok(e.tensor_if(k)?.map(|t| View::of(t, tail)))
    }

    /// A tensor whose last `tail` axes are a piece.
    pub fn of(tensor: Arc<Tensor>, tail: usize) -> View {
        let lead = tensor.shape.len().saturating_sub(tail);
        let piece = tensor.shape[lead..].iter().product();
        View { tensor, lead, piece }
    }

    /// Length of the `k`-th axis from the end (1 is the last).
    pub fn axis_len(&self, k: usize) -> usize {
        self.tensor.shape[self.tensor.shape.len() - k]
    }

    /// Where the piece for batch index `at` of the joined dims `out` starts.
    pub fn base(&self, out: &[usize], at: &[usize]) -> usize {
        batch::offset(out, at, &self.tensor.shape[..self.lead]) * self.piece
    }

    /// The element at a flat index.
    pub fn at(&self, flat: usize) -> f64 {
        self.tensor.at(flat)
    }
}
