//! Sentences of different lengths as one rectangular batch.

/// The inputs of the encoder, each `[rows, tokens]` row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Sentences.
    pub rows: usize,
    /// Tokens of the longest sentence.
    pub tokens: usize,
    /// Token ids; short rows are filled with the padding token.
    pub input_ids: Vec<i64>,
    /// 1 where a token belongs to the sentence, 0 where it is padding.
    pub attention_mask: Vec<i64>,
    /// 0 throughout: every row is a single sentence, not a pair.
    pub token_type_ids: Vec<i64>,
}

/// Pads every sentence's ids at the end with `padding`, to the longest of them.
pub fn pad(sentences: &[Vec<i64>], padding: i64) -> Batch {
    let tokens = sentences.iter().map(Vec::len).max().unwrap_or(0);
    let fill = |row: &[i64], value| std::iter::repeat_n(value, tokens - row.len());
    let input_ids = sentences.iter().flat_map(|row| row.iter().copied().chain(fill(row, padding)));
    let attention_mask = sentences.iter().flat_map(|row| row.iter().map(|_| 1).chain(fill(row, 0)));
    Batch {
        rows: sentences.len(),
        tokens,
        input_ids: input_ids.collect(),
        attention_mask: attention_mask.collect(),
        token_type_ids: vec![0; sentences.len() * tokens],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_rows_are_padded_and_masked() {
        let batch = pad(&[vec![101, 7, 102], vec![101, 7, 8, 9, 102], vec![101, 102]], 4);
        assert_eq!((batch.rows, batch.tokens), (3, 5));
        assert_eq!(batch.input_ids, [101, 7, 102, 4, 4, 101, 7, 8, 9, 102, 101, 102, 4, 4, 4]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(batch.token_type_ids, [0; 15]);
    }

    #[test]
    fn no_sentence_is_an_empty_batch() {
        let batch = pad(&[], 0);
        assert_eq!((batch.rows, batch.tokens, batch.input_ids.len()), (0, 0, 0));
    }
}
