//! The tokens of a site in eight groups of sequences, and the largest value of each of the first sequences.
//!
//! How much a statistic varies from text to text is asked of groups of sequences, not of values: values of one sequence depend on each
//! other. A sequence belongs to the block that its index leaves when divided by [`N_BLOCKS`], however the text is cut into calls.

use super::moments::ScalarMoments;
use super::outliers::Outlier;
use super::token_norms::{Quantities, TOKEN_QUANTITIES, TokenMoments, moments_of};
use crate::dtype::Element;

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
    /// Takes in a token and the values of its row, whose largest magnitude of all has the key `absmax`.
    pub(super) fn take_in<E: Element>(&mut self, row: &[E], absmax: u64, place: (i64, i64, i64)) {
        self.n_tokens[block_of(place.0)] += 1;
        self.update_maximum(row, absmax, place);
    }

    /// Takes in the quantities of finite tokens, which stand in these sequences.
    pub(super) fn update_norms(&mut self, sequences: &[i64], mut tokens: &[Quantities]) {
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

    /// Merges other tokens.
    pub(super) fn merge(&mut self, other: &Self) {
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

    /// Tokens of each block.
    pub fn n_tokens(&self) -> &[u64] {
        &self.n_tokens
    }

    /// The moments of each quantity of each block, seven numbers each.
    pub fn to_values(&self) -> Vec<f64> {
        self.moments.iter().flatten().flat_map(|moments| moments.to_values()).collect()
    }

    /// What rounding took from those means.
    pub fn mean_rests(&self) -> Vec<f64> {
        self.moments.iter().flatten().map(|moments| moments.mean_rest).collect()
    }

    /// The largest values, in order of their sequences.
    pub fn maxima(&self) -> impl Iterator<Item = &Outlier> {
        self.maxima.iter().flatten()
    }

    /// What `n_tokens`, `to_values`, `mean_rests` and `maxima` gave, or none if they do not fit.
    pub fn from_values(n_tokens: &[u64], values: &[f64], mean_rests: &[f64], maxima: &[Outlier]) -> Option<Self> {
        let (groups, []) = values.as_chunks::<7>() else { return None };
        if groups.len() != N_BLOCKS * TOKEN_QUANTITIES.len() || mean_rests.len() != groups.len() {
            return None;
        }
        let mut blocks = Self { n_tokens: n_tokens.try_into().ok()?, ..Self::default() };
        for ((moments, &group), &rest) in blocks.moments.iter_mut().flatten().zip(groups).zip(mean_rests) {
            *moments = ScalarMoments::from_values(group, rest);
        }
        for found in maxima {
            let slot = blocks.maxima.get_mut(usize::try_from(found.sequence).ok()?)?;
            if slot.replace(*found).is_some() {
                return None;
            }
        }
        Some(blocks)
    }

    /// Bytes held.
    pub const fn n_bytes() -> usize {
        size_of::<Self>()
    }
}

/// Keeps the one that comes first in the order of outliers.
fn keep_first(slot: &mut Option<Outlier>, found: Outlier) {
    if slot.is_none_or(|known| found < known) {
        *slot = Some(found);
    }
}
