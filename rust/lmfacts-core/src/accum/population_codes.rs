//! The codes of a population's values: one histogram, or one for each block of sequences.

use super::accumulator::{Accumulator, Shape};
use super::codes::CodeHistogram;
use super::sequence_blocks::N_BLOCKS;
use crate::config::Statistics;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::{CodeTable, Kernels};
use crate::state::Arrays;
use crate::tokens::Population;

/// The name, among the settings of a site, of keeping codes by blocks of sequences.
pub(super) const BY_BLOCK: &str = "block_codes";

const CODES: &str = "codes";
const COUNTS: &str = "counts";
const BLOCK_LENGTHS: &str = "block_lengths";
const BLOCK_CODES: &str = "block_codes";
const BLOCK_COUNTS: &str = "block_counts";

/// The codes that occur, ascending, and how often each does.
type Sparse = (Vec<u16>, Vec<u64>);

/// How often each code occurs.
#[derive(Debug, Clone)]
pub struct PopulationCodes {
    // One, or one for each block of sequences.
    histograms: Vec<CodeHistogram>,
}

impl PopulationCodes {
    /// Whether the codes of this population are kept by blocks of sequences.
    pub(super) fn is_by_block(shape: &Shape) -> bool {
        shape.config.statistics.contains(Statistics::BLOCK_CODES) && shape.population == Population::Rest
    }

    /// Whether there is a histogram for each block of sequences.
    pub(super) const fn by_block(&self) -> bool {
        self.histograms.len() > 1
    }

    /// The tables to count `n_incoming` more values into.
    pub(super) fn tables(&mut self, n_incoming: u64) -> impl Iterator<Item = &mut CodeTable> {
        self.histograms.iter_mut().map(move |histogram| histogram.table(n_incoming))
    }

    /// Adds to a code's count in one of the histograms, for values that an earlier call of `tables` has announced.
    pub(super) fn add_announced(&mut self, histogram: usize, code: u16, count: u32) {
        self.histograms[histogram].add_announced(code, count);
    }

    /// Adds to `arrays` the codes of a population, and those of each block of sequences where they are kept.
    pub fn save_counts(arrays: &mut Arrays, (codes, counts): Sparse, blocks: Option<&[Sparse]>) {
        arrays.push_list(CODES, codes);
        arrays.push_list(COUNTS, counts);
        if let Some(blocks) = blocks {
            arrays.push_list(BLOCK_LENGTHS, blocks.iter().map(|(codes, _)| codes.len() as u64).collect());
            arrays.push_list(BLOCK_CODES, blocks.iter().flat_map(|(codes, _)| codes).copied().collect());
            arrays.push_list(BLOCK_COUNTS, blocks.iter().flat_map(|(_, counts)| counts).copied().collect());
        }
    }
}

impl Accumulator for PopulationCodes {
    const NAME: &'static str = CODES;

    fn new(shape: &Shape) -> Self {
        let n_histograms = if Self::is_by_block(shape) { N_BLOCKS } else { 1 };
        Self { histograms: vec![CodeHistogram::default(); n_histograms] }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for (histogram, more) in self.histograms.iter_mut().zip(&other.histograms) {
            histogram.merge(more);
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        if let [only] = &self.histograms[..] {
            return Self::save_counts(arrays, only.sparse(), None);
        }
        let mut whole = CodeHistogram::default();
        for block in &self.histograms {
            whole.merge(block);
        }
        let blocks: Vec<_> = self.histograms.iter().map(CodeHistogram::sparse).collect();
        Self::save_counts(arrays, whole.sparse(), Some(&blocks));
    }

    fn restore(arrays: &Arrays, shape: &Shape, n_tokens: u64) -> Result<Self> {
        let (codes, counts) = (arrays.list::<u16>(CODES)?, arrays.list::<u64>(COUNTS)?);
        // In 128 bits: numbers that were made up must not wrap into ones that fit.
        let n_values: u128 = counts.iter().map(|&count| u128::from(count)).sum();
        if n_values != u128::from(n_tokens) * shape.n_dims as u128 {
            let expected = format!("{n_tokens} tokens x {} dims in all", shape.n_dims);
            return Err(Error::State { field: COUNTS.into(), expected, got: n_values.to_string() });
        }
        let whole = CodeHistogram::from_sparse(codes, counts)?;
        if !Self::is_by_block(shape) {
            return Ok(Self { histograms: vec![whole] });
        }
        let histograms = restore_blocks(arrays)?;
        let mut sum = CodeHistogram::default();
        for block in &histograms {
            sum.merge(block);
        }
        if sum.sparse() != whole.sparse() {
            let expected = "those of blocks that add up to the population's counts".into();
            return Err(Error::State { field: BLOCK_COUNTS.into(), expected, got: "others".into() });
        }
        Ok(Self { histograms })
    }

    fn n_bytes(&self) -> usize {
        self.histograms.iter().map(CodeHistogram::n_bytes).sum()
    }
}

fn restore_blocks(arrays: &Arrays) -> Result<Vec<CodeHistogram>> {
    let lengths = arrays.table::<u64, 1>(BLOCK_LENGTHS, [N_BLOCKS])?;
    let (codes, counts) = (arrays.list::<u16>(BLOCK_CODES)?, arrays.list::<u64>(BLOCK_COUNTS)?);
    let total = lengths.iter().try_fold(0u64, |sum, &length| sum.checked_add(length));
    if total != Some(codes.len() as u64) || counts.len() != codes.len() {
        return Err(Error::State {
            field: BLOCK_CODES.into(),
            expected: format!("{N_BLOCKS} lists of codes with one count each"),
            got: format!("{} codes and {} counts", codes.len(), counts.len()),
        });
    }
    let mut start = 0;
    let ranges = lengths.iter().map(|&length| {
        let range = start..start + length as usize;
        start = range.end;
        range
    });
    ranges.map(|range| CodeHistogram::from_sparse(&codes[range.clone()], &counts[range])).collect()
}
