//! What a batch of tokens is, said once and shared by every site of a forward pass.

use crate::error::{Error, Result};

/// The two disjoint populations that statistics are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// Position 0 of each sequence.
    First,
    /// Every other real token.
    Rest,
}

impl Population {
    /// Both, in the order in which states list them.
    pub const ALL: [Self; 2] = [Self::First, Self::Rest];

    /// The name in states and run files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Rest => "rest",
        }
    }
}

/// The tokens behind the rows of a tensor: where each stands, and which are padding.
#[derive(Debug, Clone, Default)]
pub struct TokenBatch {
    sequence: Vec<i64>,
    position: Vec<i64>,
    token_id: Vec<i64>,
    /// The rows of each population, ascending.
    rows: [Vec<usize>; 2],
}

impl TokenBatch {
    /// Describes a batch. All four lists have one entry for each row; what is not `real` is padding and never counted.
    ///
    /// # Errors
    /// `Error::Layout` if the lengths differ or a real token has a negative sequence or position.
    pub fn new(sequence: Vec<i64>, position: Vec<i64>, token_id: Vec<i64>, real: &[bool]) -> Result<Self> {
        let n = sequence.len();
        if position.len() != n || token_id.len() != n || real.len() != n {
            return Err(Error::Layout {
                expected: format!("{n} entries in each list, as in `sequence`"),
                got: format!("{} positions, {} token ids, {} real flags", position.len(), token_id.len(), real.len()),
            });
        }
        if let Some(row) = (0..n).find(|&row| real[row] && (sequence[row] < 0 || position[row] < 0)) {
            return Err(Error::Layout {
                expected: "sequence and position of at least 0".into(),
                got: format!("sequence {}, position {} in row {row}", sequence[row], position[row]),
            });
        }
        let rows_where = |first| (0..n).filter(|&row| real[row] && (position[row] == 0) == first).collect();
        let rows = Population::ALL.map(|population| rows_where(population == Population::First));
        Ok(Self { sequence, position, token_id, rows })
    }

    /// Rows of which nothing is known but that they are real tokens. They are counted among the rest, and their sequence, position
    /// and token id are -1. Accumulators that keep blocks of sequences cannot place them.
    pub fn without_places(n: usize) -> Self {
        Self { sequence: vec![-1; n], position: vec![-1; n], token_id: vec![-1; n], rows: [Vec::new(), (0..n).collect()] }
    }

    /// Rows, padding included.
    pub const fn len(&self) -> usize {
        self.sequence.len()
    }

    /// Whether there are no rows.
    pub const fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    /// Rows that are not padding.
    pub const fn n_real(&self) -> usize {
        let [first, rest] = &self.rows;
        first.len() + rest.len()
    }

    /// The rows of a population, ascending; padding is in none.
    pub fn rows(&self, population: Population) -> &[usize] {
        &self.rows[population as usize]
    }

    /// The sequence of a row.
    pub fn sequence(&self, row: usize) -> i64 {
        self.sequence[row]
    }

    /// Sequence, position and token id of a row.
    pub fn place(&self, row: usize) -> (i64, i64, i64) {
        (self.sequence[row], self.position[row], self.token_id[row])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_and_padding_decide_the_population() {
        let batch = TokenBatch::new(vec![0; 3], vec![-1, 0, 1], vec![7; 3], &[false, true, true]).unwrap();
        assert_eq!(Population::ALL.map(|population| batch.rows(population)), [[1], [2]]);
        assert_eq!((batch.len(), batch.n_real()), (3, 2));
    }

    #[test]
    fn tokens_without_places_are_counted_among_the_rest() {
        let batch = TokenBatch::without_places(2);
        assert_eq!(Population::ALL.map(|population| batch.rows(population).len()), [0, 2]);
        assert_eq!((batch.len(), batch.n_real(), batch.place(1)), (2, 2, (-1, -1, -1)));
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        assert!(TokenBatch::new(vec![0; 2], vec![0; 3], vec![0; 2], &[true; 2]).is_err());
        assert!(TokenBatch::new(vec![0], vec![-1], vec![0], &[true]).is_err());
    }
}
