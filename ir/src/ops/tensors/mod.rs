//! Tensor operations: elementwise, products, reductions, norms, layout, gathers, spectra.
//!
//! The **core** are those without an expansion; a back end that runs the core runs them all.

use crate::attr::Attrs;
use crate::dim::{Dim, DimError};
use crate::op::Op;
use crate::ty::Type;

mod axes;
pub mod conv;
mod dft;
pub mod index;
pub mod matmul;
pub mod norms;
pub mod pointwise;
pub mod reduce;
pub mod reshape;
pub mod rope;
pub mod scans;
pub mod slices;
pub mod softmax_axis;
pub mod spectral;
#[cfg(test)]
mod tests;

/// Those that are not elementwise.
const OTHERS: &[&Op] = &[
    &matmul::MATMUL,
    &matmul::LINEAR,
    &matmul::LORA,
    &reduce::REDUCE,
    &scans::CUMSUM,
    &scans::CUMLOGSUMEXP,
    &softmax_axis::SOFTMAX_AXIS,
    &norms::LAYER_NORM,
    &norms::RMS_NORM,
    &norms::L2_NORMALIZE,
    &reshape::RESHAPE,
    &slices::SLICE,
    &slices::CONCAT,
    &slices::SPLIT,
    &slices::PAD,
    &reshape::BROADCAST,
    &slices::REVERSE,
    &reshape::SPLIT_HEADS,
    &reshape::MERGE_HEADS,
    &index::GATHER,
    &index::TAKE,
    &index::ONE_HOT,
    &index::IOTA,
    &index::TOP_K_AXIS,
    &index::ARGMAX,
    &rope::ROPE,
    &rope::SINUSOID,
    &conv::TOKEN_SHIFT,
    &conv::SHORT_CONV,
    &conv::CONV1D,
    &spectral::FFT,
    &spectral::IFFT,
    &spectral::RFFT,
    &spectral::IRFFT,
];

/// Dims that must not be negative at a call of `op`, besides those of its operands and results: where a `slice` starts
/// and ends, how much a `pad` adds, whether there are k elements to keep. A back end that does not check them would
/// read outside a tensor. `types` are the operands'.
pub fn requirements(op: &Op, types: &[Option<&Type>], attrs: &Attrs) -> Result<Vec<Dim>, DimError> {
    let at_least = |name: &str, least: i64| attrs.dim(name).map(|d| d.sub(&Dim::constant(least)));
    match op.name {
        "top_k" => return at_least("k", 0).into_iter().collect(),
        "top_k_tree" => {
            return [("k", 1), ("sink", 0), ("window", 0)].iter().filter_map(|(name, n)| at_least(name, *n)).collect();
        }
        _ => {}
    }
    let Some(Type::Tensor(x)) = types.first().copied().flatten() else { return Ok(Vec::new()) };
    let len = |default: i64| x.axis(attrs.int("axis").unwrap_or(default)).map(|a| &x.shape[a]);
    let one = Dim::constant(1);
    match op.name {
        "slice" => slices::slice_requirements(x, attrs),
        "pad" | "conv1d" => Ok(slices::pad_widths(attrs).into()),
        "token_shift" => Ok(conv::shift_requirements(attrs)),
        // The middle tap of an odd number of them.
        "toeplitz" | "long_conv" if attrs.flag("two_sided") => {
            let taps =
                if op.name == "toeplitz" { Some(x) } else { types.get(1).copied().flatten().and_then(Type::as_tensor) };
            taps.and_then(|h| h.shape.last()).map(|n| n.add(&one)?.div(2)).into_iter().collect()
        }
        "top_k_axis" => match (len(-1), attrs.dim("k")) {
            (Some(n), Some(k)) => Ok(vec![n.sub(k)?]),
            _ => Ok(Vec::new()),
        },
        "argmax" => len(-1).map(|n| n.sub(&one)).into_iter().collect(),
        "irfft" => {
            let n = match attrs.dim("n") {
                Some(n) => Some(n.clone()),
                None => len(-1).map(|m| m.sub(&one)?.scale(2)).transpose()?,
            };
            n.map(|n| n.sub(&one)).into_iter().collect()
        }
        _ => Ok(Vec::new()),
    }
}

/// The operations of this group.
pub static ALL: &[&Op] = &joined();

const fn joined() -> [&'static Op; pointwise::ALL.len() + OTHERS.len()] {
    let mut all = [OTHERS[0]; pointwise::ALL.len() + OTHERS.len()];
    let mut k = 0;
    while k < all.len() {
        all[k] = if k < pointwise::ALL.len() { pointwise::ALL[k] } else { OTHERS[k - pointwise::ALL.len()] };
        k += 1;
    }
    all
}
