//! From one vector a token to one vector a sentence, and how alike two of those are.
//!
//! As the model was trained: the mean over the sentence's own tokens, scaled to length 1, so that the inner product of
//! two embeddings is their cosine. Sums are taken in f64, in the order of the tokens.

/// Below this length a vector is divided by it instead of by its own length: a zero vector stays zero.
const SHORTEST: f64 = 1e-12;

/// The unit embedding of every row: `hidden` is `[rows, tokens, features]`, `mask` `[rows, tokens]` with 0 for padding.
/// A row without a token has the zero vector. Slices that do not fit together are an error that names their lengths.
pub fn embeddings(hidden: &[f32], mask: &[i64], rows: usize) -> Result<Vec<Vec<f32>>, String> {
    if rows == 0 || mask.is_empty() {
        return Ok(vec![Vec::new(); rows]);
    }
    if !mask.len().is_multiple_of(rows) || !hidden.len().is_multiple_of(mask.len()) {
        let (values, positions) = (hidden.len(), mask.len());
        return Err(format!("{values} hidden values do not belong to {rows} rows with {positions} positions"));
    }
    let (tokens, features) = (mask.len() / rows, hidden.len() / mask.len());
    if features == 0 {
        return Ok(vec![Vec::new(); rows]);
    }
    let of_row = |(hidden, mask): (&[f32], &[i64])| {
        let mut sum = vec![0f64; features];
        for (vector, _) in hidden.chunks_exact(features).zip(mask).filter(|&(_, &present)| present != 0) {
            sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        // the mean's divisor cancels in the scaling to length 1
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(SHORTEST);
        sum.iter().map(|value| (value / length) as f32).collect()
    };
    Ok(hidden.chunks_exact(tokens * features).zip(mask.chunks_exact(tokens)).map(of_row).collect())
}

/// The cosine of every pair of unit embeddings, `[rows][rows]`.
pub fn similarities(embeddings: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    embeddings.iter().map(|a| embeddings.iter().map(|b| cosine(a, b)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count() {
        let hidden = [3.0, 0.0, 1.0, 4.0, 99.0, 99.0, 0.0, -2.0, 99.0, 99.0, 99.0, 99.0];
        let rows = embeddings(&hidden, &[1, 1, 0, 1, 0, 0], 2).unwrap();
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!(rows[0].iter().all(|value| (value - half).abs() < 1e-7), "{rows:?}");
        assert_eq!(rows[1], [0.0, -1.0]);
        let cosines = similarities(&rows);
        assert!((cosines[0][0] - 1.0).abs() < 1e-6 && (cosines[0][1] + f64::from(half)).abs() < 1e-6, "{cosines:?}");
        assert_eq!(cosines[0][1], cosines[1][0]);
    }

    #[test]
    fn a_row_of_padding_is_zero() {
        assert_eq!(embeddings(&[1.0, 2.0], &[0], 1).unwrap(), [[0.0, 0.0]]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_rejected() {
        assert!(embeddings(&[1.0; 7], &[1, 1, 1], 1).is_err());
        assert!(embeddings(&[1.0; 6], &[1, 1, 1], 2).is_err());
        assert_eq!(embeddings(&[], &[], 0).unwrap(), Vec::<Vec<f32>>::new());
        assert_eq!(embeddings(&[], &[1], 1).unwrap(), [Vec::<f32>::new()]);
    }
}
