//! The root-mean-square norm over the heads and features of a token together (no gain, eps 1e-6), which follows
//! attention without a denominator.

use super::steps::{Step, shape};
use crate::attr::Attrs;
use crate::program::{Builder, ValueId};
use crate::tensor::Tensor;

/// Added to the mean square, inside the root.
const EPS: f64 = 1e-6;

/// The norm of `y [.., H, T, d]`, or of `[T, d]` as of one head.
pub fn expand(b: &mut Builder, y: ValueId) -> Step {
    let axes = shape(b, y);
    let eps = Attrs::new().with_float("eps", EPS);
    let Some(heads) = axes.len().checked_sub(3).map(|k| axes[k].clone()) else {
        return b.op("rms_norm", &[y], eps);
    };
    let merged = b.op("merge_heads", &[y], Attrs::new())?;
    let normed = b.op("rms_norm", &[merged], eps)?;
    b.op("split_heads", &[normed], Attrs::new().with_dim("heads", heads))
}

/// The norm of `[.., H, T, d]` values.
pub fn evaluate(y: &Tensor) -> Tensor {
    let n = y.shape.len();
    let (tokens, width) = (y.shape[n - 2], y.shape[n - 1]);
    let heads = if n > 2 { y.shape[n - 3] } else { 1 };
    let place = |outer: usize, h: usize, t: usize, p: usize| ((outer * heads + h) * tokens + t) * width + p;
    let mut out = vec![0.0; y.len()];
    let size = heads * tokens * width;
    for outer in 0..y.len().checked_div(size).unwrap_or(0) {
        for t in 0..tokens {
            let all = || (0..heads).flat_map(|h| (0..width).map(move |p| (h, p)));
            let mean = all().map(|(h, p)| y.at(place(outer, h, t, p)).powi(2)).sum::<f64>() / (heads * width) as f64;
            let factor = 1.0 / (mean + EPS).sqrt();
            for (h, p) in all() {
                let k = place(outer, h, t, p);
                out[k] = y.at(k) * factor;
            }
        }
    }
    Tensor::floats(&y.shape, out)
}
