//! Sums of each dim by blocks of sequences: how much what is said of single dims varies from text to text.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::device::{Blocks, DeviceCall, OnDevice};
use super::sequence_blocks::{N_BLOCKS, block_of};
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::Result;
use crate::kernel::{Kernels, TILE_ROWS, UnitRow};
use crate::state::Arrays;
use crate::tokens::Population;

const TOKENS: &str = "block_dim_tokens";
const SUMS: &str = "block_dim_sums";

/// Sums of a dim in a block: of its values, of their squares, of the entries of the tokens' unit vectors.
const N_SUMS: usize = 3;

/// For each block of sequences its finite tokens, those of them that have a direction, and the sums of each dim over them.
///
/// Sums of powers about zero are enough here: from them come mean squares, and means whose error is compared with the root mean square.
#[derive(Debug, Clone)]
pub struct DimBlocks {
    n_dims: usize,
    n_tokens: [u64; N_BLOCKS],
    n_directed: [u64; N_BLOCKS],
    /// Block after block; of a block, sum after sum.
    sums: Vec<f64>,
}

impl DimBlocks {
    /// Adds rows of one block.
    fn add_tile<E: Element>(&mut self, kernels: &Kernels<E>, block: usize, tile: &[UnitRow<'_, E>]) {
        if tile.is_empty() {
            return;
        }
        let of_block = &mut self.sums[block * N_SUMS * self.n_dims..][..N_SUMS * self.n_dims];
        let (sums, later) = of_block.split_at_mut(self.n_dims);
        let (squares, units) = later.split_at_mut(self.n_dims);
        kernels.block_sums(tile, sums, squares, units);
        self.n_tokens[block] += tile.len() as u64;
        self.n_directed[block] += tile.iter().filter(|(_, inverse_norm)| *inverse_norm > 0.0).count() as u64;
    }

    /// Adds to `arrays` the finite tokens of each block, then those that have a direction, and the three sums of each block, dim by dim;
    /// `sums` has them block after block.
    fn save_parts(arrays: &mut Arrays, n_tokens: Vec<u64>, sums: &[f64], n_dims: usize) {
        arrays.push_table(TOKENS, [2, N_BLOCKS], n_tokens);
        let of = |sum: usize, block: usize| &sums[(block * N_SUMS + sum) * n_dims..][..n_dims];
        let by_sum = (0..N_SUMS).flat_map(|sum| (0..N_BLOCKS).flat_map(move |block| of(sum, block))).copied().collect();
        arrays.push_table(SUMS, [N_SUMS, N_BLOCKS, n_dims], by_sum);
    }
}

impl Accumulator for DimBlocks {
    const NAME: &'static str = "dim_blocks";

    fn new(shape: &Shape) -> Self {
        let n_dims = shape.n_dims;
        Self { n_dims, n_tokens: [0; N_BLOCKS], n_directed: [0; N_BLOCKS], sums: vec![0.0; N_BLOCKS * N_SUMS * n_dims] }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        let of_dims = N_SUMS * self.n_dims;
        for block in (0..N_BLOCKS).filter(|&block| other.n_tokens[block] > 0) {
            self.n_tokens[block] += other.n_tokens[block];
            self.n_directed[block] += other.n_directed[block];
            let range = block * of_dims..(block + 1) * of_dims;
            for (sum, more) in self.sums[range.clone()].iter_mut().zip(&other.sums[range]) {
                *sum += more;
            }
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_parts(arrays, [self.n_tokens, self.n_directed].concat(), &self.sums, self.n_dims);
    }

    fn restore(arrays: &Arrays, shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let n_dims = shape.n_dims;
        let mut restored = Self::new(shape);
        let (n_tokens, n_directed) = arrays.table::<u64, 2>(TOKENS, [2, N_BLOCKS])?.split_at(N_BLOCKS);
        restored.n_tokens.copy_from_slice(n_tokens);
        restored.n_directed.copy_from_slice(n_directed);
        let by_sum = arrays.table::<f64, 3>(SUMS, [N_SUMS, N_BLOCKS, n_dims])?;
        for (index, of_dims) in by_sum.chunks_exact(n_dims).enumerate() {
            let (sum, block) = (index / N_BLOCKS, index % N_BLOCKS);
            restored.sums[(block * N_SUMS + sum) * n_dims..][..n_dims].copy_from_slice(of_dims);
        }
        Ok(restored)
    }

    fn n_bytes(&self) -> usize {
        size_of_val(self.sums.as_slice())
    }
}

impl Statistic for DimBlocks {
    const NEEDS_NORMS: bool = true;

    type Scratch = ();

    /// Single tokens of the first population are no text to vary.
    fn is_of(population: Population) -> bool {
        population == Population::Rest
    }

    fn clear(&mut self, shape: &Shape) {
        let of_dims = N_SUMS * self.n_dims;
        if self.n_dims == shape.n_dims {
            // Few of the blocks were written to: those of the sequences of a segment.
            for block in (0..N_BLOCKS).filter(|&block| self.n_tokens[block] > 0) {
                self.sums[block * of_dims..][..of_dims].fill(0.0);
            }
        } else {
            self.n_dims = shape.n_dims;
            self.sums.clear();
            self.sums.resize(N_BLOCKS * N_SUMS * shape.n_dims, 0.0);
        }
        (self.n_tokens, self.n_directed) = ([0; N_BLOCKS], [0; N_BLOCKS]);
    }

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, _recorded: &Self, _scratch: &mut ()) {
        let (mut tile, mut n): ([UnitRow<'_, E>; TILE_ROWS], usize) = ([(&[], 0.0); TILE_ROWS], 0);
        let mut block = 0;
        for ((row, figures, index), &[norm, _]) in chunk.iter().zip(chunk.norms) {
            if !Chunk::<E>::is_finite(figures) {
                continue;
            }
            let of_row = block_of(chunk.tokens.sequence(index));
            if n == TILE_ROWS || of_row != block {
                self.add_tile(chunk.kernels, block, &tile[..n]);
                n = 0;
            }
            block = of_row;
            let inverse_norm = 1.0 / norm;
            tile[n] = (row, if inverse_norm.is_finite() { inverse_norm } else { 0.0 });
            n += 1;
        }
        self.add_tile(chunk.kernels, block, &tile[..n]);
    }
}

/// Bytes before what the parts found: how many parts there are.
const SCRATCH_HEAD: usize = 16;
/// Bytes of a part's counts of rows: two for each block, of each of eight warps.
const COUNTS_BYTES: usize = 8 * 2 * N_BLOCKS * size_of::<u32>();

impl OnDevice for DimBlocks {
    const KERNELS: &'static [(&'static str, Blocks)] =
        &[("dim_blocks", Blocks::DimsAndParts), ("join_dim_blocks", Blocks::DimsAndPopulations)];

    /// The sums, block after block, and both numbers of tokens of each.
    fn state_bytes(_config: &SiteConfig, n_dims: usize) -> usize {
        N_BLOCKS * N_SUMS * n_dims * size_of::<f64>() + 2 * N_BLOCKS * size_of::<u64>()
    }

    fn scratch_bytes(call: &DeviceCall) -> usize {
        SCRATCH_HEAD + call.n_parts * (COUNTS_BYTES + N_BLOCKS * N_SUMS * call.n_dims * size_of::<f64>())
    }

    fn save_state(state: &[u8], _config: &SiteConfig, n_dims: usize, population: Population, arrays: &mut Arrays) {
        if Self::is_of(population) {
            let words = state.as_chunks::<8>().0;
            let (sums, tokens) = words[..N_BLOCKS * (N_SUMS * n_dims + 2)].split_at(N_BLOCKS * N_SUMS * n_dims);
            let sums: Vec<_> = sums.iter().map(|&sum| f64::from_le_bytes(sum)).collect();
            let n_tokens = tokens.iter().map(|&count| u64::from_le_bytes(count)).collect();
            Self::save_parts(arrays, n_tokens, &sums, n_dims);
        }
    }
}
