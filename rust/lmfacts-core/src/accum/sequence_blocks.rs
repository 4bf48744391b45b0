//! The tokens of a site in eight groups of sequences, and the largest value of each of the first sequences.
//!
//! How much a statistic varies from text to text is asked of groups of sequences, not of values: values of one sequence depend on each
//! other. A sequence belongs to the block that its index leaves when divided by [`N_BLOCKS`], however the text is cut into calls.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::moments::ScalarMoments;
use super::outliers::Outlier;
use super::token_norms::{Quantities, TOKEN_QUANTITIES, TokenMoments, moments_of};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::state::Arrays;

const TOKENS: &str = "block_tokens";
const MOMENTS: &str = "block_token_moments";
const MEAN_LO: &str = "block_token_mean_rests";
const MAXIMA_VALUES: &str = "maxima_values";
const MAXIMA_INDEX: &str = "maxima_index";

/// Groups of sequences.
pub const N_BLOCKS: usize = 8;

/// Sequences, from the first, whose largest value is kept.
pub const N_MAXIMA: usize = 64;

/// The block of a sequence.
pub(super) const fn block_of(sequence: i64) -> usize {
    sequence.rem_euclid(N_BLOCKS as i64) as usize
}

/// Tokens and the moments of their norms for each block, and the largest values of the first sequences.
#[derive(Debug, Clone)]
pub struct SequenceBlocks {
    n_tokens: [u64; N_BLOCKS],
    moments: [TokenMoments; N_BLOCKS],
    maxima: [Option<Outlier>; N_MAXIMA],
}

impl Default for SequenceBlocks {
    fn default() -> Self {
        Self { n_tokens: [0; N_BLOCKS], moments: Default::default(), maxima: [None; N_MAXIMA] }
    }
}

impl SequenceBlocks {
    /// Takes in the quantities of finite tokens, which stand in these sequences.
    fn update_norms(&mut self, sequences: &[i64], mut tokens: &[Quantities]) {
        for of_sequence in sequences.chunk_by(|a, b| a == b) {
            let of_block;
            (of_block, tokens) = tokens.split_at(of_sequence.len());
            for (moments, more) in self.moments[block_of(of_sequence[0])].iter_mut().zip(&moments_of(of_block)) {
                moments.merge(more);
            }
        }
    }

    /// Looks for the largest finite magnitude of a row, whose largest of all has the key `absmax`.
    fn update_maximum<E: Element>(&mut self, row: &[E], absmax: u64, (sequence, position, token_id): (i64, i64, i64)) {
        let Some(slot) = usize::try_from(sequence).ok().and_then(|index| self.maxima.get_mut(index)) else { return };
        let mut wanted = absmax;
        if absmax >= E::INFINITY_KEY.into() {
            let finite = row.iter().map(|value| value.key()).filter(|&key| key < E::INFINITY_KEY).max();
            let Some(largest) = finite else { return };
            wanted = largest.into();
        }
        if slot.is_some_and(|known| E::narrow(known.value).key().into() > wanted) {
            return;
        }
        if let Some(dim) = row.iter().position(|value| value.key().into() == wanted) {
            let found = Outlier { value: row[dim].widen(), sequence, position, dim: dim as i64, token_id };
            keep_first(slot, found);
        }
    }

    /// Adds to `arrays` the tokens of each block, the moments of each quantity of each block, and the largest values in order of their
    /// sequences.
    pub fn save_parts(arrays: &mut Arrays, n_tokens: Vec<u64>, moments: &[ScalarMoments], maxima: &[Outlier]) {
        arrays.push_list(TOKENS, n_tokens);
        let values = moments.iter().flat_map(|moments| moments.to_values()).collect();
        arrays.push_table(MOMENTS, [N_BLOCKS, TOKEN_QUANTITIES.len(), 7], values);
        let mean_lo = moments.iter().map(|moments| moments.mean_lo).collect();
        arrays.push_table(MEAN_LO, [N_BLOCKS, TOKEN_QUANTITIES.len()], mean_lo);
        Outlier::save(arrays, MAXIMA_VALUES, MAXIMA_INDEX, maxima);
    }
}

impl Accumulator for SequenceBlocks {
    const NAME: &'static str = "sequence_blocks";

    fn new(_shape: &Shape) -> Self {
        Self::default()
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for (count, more) in self.n_tokens.iter_mut().zip(&other.n_tokens) {
            *count += more;
        }
        for (moments, more) in self.moments.iter_mut().flatten().zip(other.moments.iter().flatten()) {
            moments.merge(more);
        }
        for (slot, found) in self.maxima.iter_mut().zip(&other.maxima) {
            if let Some(found) = found {
                keep_first(slot, *found);
            }
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        let maxima: Vec<_> = self.maxima.iter().flatten().copied().collect();
        Self::save_parts(arrays, self.n_tokens.to_vec(), self.moments.as_flattened(), &maxima);
    }

    fn restore(arrays: &Arrays, _shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let n_quantities = TOKEN_QUANTITIES.len();
        let mut blocks = Self::default();
        blocks.n_tokens.copy_from_slice(arrays.table::<u64, 1>(TOKENS, [N_BLOCKS])?);
        let values = arrays.table::<f64, 3>(MOMENTS, [N_BLOCKS, n_quantities, 7])?.as_chunks::<7>().0;
        let mean_lo = arrays.table::<f64, 2>(MEAN_LO, [N_BLOCKS, n_quantities])?;
        for ((moments, &values), &mean_lo) in blocks.moments.as_flattened_mut().iter_mut().zip(values).zip(mean_lo) {
            *moments = ScalarMoments::from_values(values, mean_lo);
        }
        for found in Outlier::restore(arrays, MAXIMA_VALUES, MAXIMA_INDEX)? {
            let slot = usize::try_from(found.sequence).ok().and_then(|index| blocks.maxima.get_mut(index));
            if slot.is_none_or(|slot| slot.replace(found).is_some()) {
                let expected = format!("one place for each sequence, of the first {N_MAXIMA}");
                return Err(Error::State { field: MAXIMA_INDEX.into(), expected, got: format!("sequence {}", found.sequence) });
            }
        }
        Ok(blocks)
    }

    fn n_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Statistic for SequenceBlocks {
    const NEEDS_NORMS: bool = true;

    /// The sequences of a chunk's finite tokens.
    type Scratch = Vec<i64>;

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, _recorded: &Self, sequences: &mut Vec<i64>) {
        for (row, figures, index) in chunk.iter() {
            let place = chunk.tokens.place(index);
            self.n_tokens[block_of(place.0)] += 1;
            self.update_maximum(row, figures.absmax, place);
        }
        sequences.clear();
        sequences.extend(chunk.finite_indices().map(|index| chunk.tokens.sequence(index)));
        self.update_norms(sequences, chunk.quantities);
    }
}

/// Keeps the one that comes first in the order of outliers.
fn keep_first(slot: &mut Option<Outlier>, found: Outlier) {
    if slot.is_none_or(|known| found < known) {
        *slot = Some(found);
    }
}
