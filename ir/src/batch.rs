//! Broadcasting over batch dims, the same rule for operators, `apply` and layers: missing leading dims count as 1; each
//! is equal, 1, or, for the last one, a divisor of the greatest, so that head h reads group `h / (H/Hg)`.

use crate::diag::Fault;
use crate::dim::Dim;

/// The batch dims that all of `shapes` (operand index, dims) broadcast to.
///
/// `grouped`: whether the last batch dim may be a divisor (operations with heads, or several batch dims).
pub fn join(shapes: &[(usize, &[Dim])], grouped: bool) -> Result<Vec<Dim>, Vec<Fault>> {
    let rank = shapes.iter().map(|(_, s)| s.len()).max().unwrap_or(0);
    let mut out = vec![Dim::constant(1); rank];
    for (axis, out_dim) in out.iter_mut().enumerate() {
        let last = axis + 1 == rank && grouped;
        let dims = || {
            shapes.iter().filter_map(move |(k, s)| {
                let lead = rank - s.len();
                (axis >= lead).then(|| (*k, &s[axis - lead]))
            })
        };
        // The greatest constant, or the symbolic one: everything else must be equal to it, 1, or divide it.
        let widest = dims()
            .map(|(_, d)| d)
            .max_by(|a, b| match (a.as_constant(), b.as_constant()) {
                (Some(x), Some(y)) if x == 1 || y == 1 => (x != 1).cmp(&(y != 1)),
                (Some(x), Some(y)) => x.cmp(&y),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => std::cmp::Ordering::Equal,
            })
            .cloned()
            .unwrap_or_else(|| Dim::constant(1));
        for (k, d) in dims() {
            let divides = match (d.as_constant(), widest.as_constant()) {
                (Some(a), Some(b)) => last && a > 0 && b % a == 0,
                _ => false,
            };
            if *d != widest && !d.is(1) && !divides {
                let rule = if last { "equal, 1, or a divisor of it" } else { "equal or 1" };
                return Err(vec![
                    Fault::operand(k, format!("batch dim {d} does not fit {widest}"))
                        .help(format!("batch dims must be {rule}; missing leading ones count as 1")),
                ]);
            }
        }
        *out_dim = widest;
    }
    Ok(out)
}

/// The flat index, within an operand whose batch dims are `shape`, of batch index `at` of the joined dims `out`.
pub fn offset(out: &[usize], at: &[usize], shape: &[usize]) -> usize {
    let lead = out.len() - shape.len();
    let mut flat = 0;
    for (k, &n) in shape.iter().enumerate() {
        let (wide, i) = (out[lead + k], at[lead + k]);
        let own = if n == wide {
            i
        } else if n <= 1 {
            0
        } else {
            i / (wide / n)
        };
        flat = flat * n + own;
    }
    flat
}

/// Calls `f` with every index of `shape`, row-major (once with no index for a scalar).
pub fn for_each(shape: &[usize], mut f: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut at = vec![0; shape.len()];
    loop {
        f(&at);
        let Some(k) = (0..shape.len()).rev().find(|&k| at[k] + 1 < shape[k]) else { return };
        at[k] += 1;
        at[k + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|&n| Dim::constant(n)).collect()
    }

    #[test]
    fn groups_and_missing_dims_broadcast() {
        let (q, k, one) = (dims(&[3, 8]), dims(&[2]), dims(&[1, 1]));
        assert_eq!(join(&[(0, &q), (1, &k), (2, &one)], true).unwrap(), q);
        assert!(join(&[(0, &q), (1, &k)], false).is_err());
        assert!(join(&[(0, &q), (1, &dims(&[3]))], true).is_err());
        assert_eq!(offset(&[3, 8], &[2, 5], &[2]), 1);
        assert_eq!(offset(&[3, 8], &[2, 5], &[3, 1]), 2);
        assert_eq!(offset(&[3, 8], &[2, 5], &[3, 8]), 21);
    }
}
