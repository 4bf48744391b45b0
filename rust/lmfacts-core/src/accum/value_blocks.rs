//! Blocks of neighbouring values and the largest of each: what formats cost that give every block a scale of its own.
//!
//! A block is `SIZE` consecutive values of a token; the last one of a row may be shorter. What a value becomes in MXFP4 or NVFP4 depends
//! on it and on the largest magnitude of its block, so that their joint histogram, over all blocks, gives the error of such a format
//! without a second pass. Signs do not matter: the formats have the same numbers on both sides of zero.

use super::accumulator::{Accumulator, Call, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::parallel::{Pool, split};
use crate::state::Arrays;
use crate::tokens::Population;

/// Sixteenths of the powers of two from 2^-20 to 2^20, by which the largest magnitudes of blocks are told apart; what is smaller or larger
/// goes into the first and the last of them.
pub const N_LARGEST: usize = 40 * 16;
const FIRST_EXPONENT: i32 = 127 - 20;

/// The other values of a block: 32nds of the power of two of the largest one and of the four below it, where formats of four bits still
/// tell values apart; quarters of the sixteen below these, of which only the size matters, for where one value is a thousand times the
/// others these make up the error; then all that are smaller. Last the largest one itself, by eighths of its row: of some sites one value
/// is most of the sum of squares.
pub const N_COLUMNS: usize = SMALLER + 1 + 8;
const FINE_OCTAVES: usize = 5;
const COARSE_OCTAVES: usize = 16;
const COARSE: usize = FINE_OCTAVES * 32;
const SMALLER: usize = COARSE + COARSE_OCTAVES * 4;
const ITSELF: usize = SMALLER + 1;

/// Bits of a float32's code below its exponent.
const MANTISSA: u32 = 7;

/// How often each pair of a block's largest magnitude and another of its values occurs. Blocks that hold NaN or infinity, or nothing but
/// zeros, are left out.
#[derive(Debug, Clone)]
pub struct ValueBlocks<const SIZE: usize> {
    /// [`N_COLUMNS`] for each of [`N_LARGEST`].
    counts: Vec<u64>,
}

/// Those of MXFP4 and MXFP8.
pub type BlocksOf32 = ValueBlocks<32>;
/// Those of NVFP4.
pub type BlocksOf16 = ValueBlocks<16>;

/// The row of a magnitude that is the largest of its block, from its code as a float32 without its sign.
const fn row_of(float_code: u16) -> usize {
    let octave = (float_code >> MANTISSA) as i32 - FIRST_EXPONENT;
    if octave < 0 {
        0
    } else if octave >= (N_LARGEST / 16) as i32 {
        N_LARGEST - 1
    } else {
        octave as usize * 16 + (float_code >> (MANTISSA - 4) & 15) as usize
    }
}

/// The column of another value of the block, likewise.
#[inline(always)]
const fn column_of(float_code: u16, largest: u16) -> usize {
    let octaves_below = ((largest >> MANTISSA) - (float_code >> MANTISSA)) as usize;
    if octaves_below < FINE_OCTAVES {
        octaves_below * 32 + (float_code >> (MANTISSA - 5) & 31) as usize
    } else if octaves_below < FINE_OCTAVES + COARSE_OCTAVES {
        COARSE + (octaves_below - FINE_OCTAVES) * 4 + (float_code >> (MANTISSA - 2) & 3) as usize
    } else {
        SMALLER
    }
}

impl<const SIZE: usize> ValueBlocks<SIZE> {
    const NAMES: [&'static str; 3] = match SIZE {
        16 => ["blocks_of_16", "blocks_of_16_cells", "blocks_of_16_counts"],
        32 => ["blocks_of_32", "blocks_of_32_cells", "blocks_of_32_counts"],
        _ => panic!("blocks of this size have no name"),
    };
    const CELLS: &'static str = Self::NAMES[1];
    const COUNTS: &'static str = Self::NAMES[2];

    fn empty() -> Self {
        Self { counts: vec![0; N_LARGEST * N_COLUMNS] }
    }

    fn count_row<E: Element>(&mut self, row: &[E]) {
        const MAGNITUDE: u16 = 0x7fff;
        for block in row.chunks(SIZE) {
            let mut largest = block[0].key();
            for value in &block[1..] {
                largest = largest.max(value.key());
            }
            if largest >= E::INFINITY_KEY || largest.into() == 0 {
                continue;
            }
            let of_largest = E::of_key(largest.into()).float_code() & MAGNITUDE;
            let start = row_of(of_largest) * N_COLUMNS;
            let counts = &mut self.counts[start..start + N_COLUMNS];
            for value in block {
                counts[column_of(value.float_code() & MAGNITUDE, of_largest)] += 1;
            }
            // The largest was counted with the others.
            counts[column_of(of_largest, of_largest)] -= 1;
            counts[ITSELF + usize::from(of_largest & 7)] += 1;
        }
    }

    /// Adds to `arrays` the cells that hold something, as `row x 233 + column`, ascending, and how often each occurs.
    fn save_counts(arrays: &mut Arrays, counts: impl Iterator<Item = u64>) {
        let filled = counts.enumerate().filter(|&(_, count)| count > 0);
        let (cells, counts) = filled.map(|(cell, count)| (cell as u32, count)).unzip();
        arrays.push_list::<u32>(Self::CELLS, cells);
        arrays.push_list::<u64>(Self::COUNTS, counts);
    }
}

impl<const SIZE: usize> Accumulator for ValueBlocks<SIZE> {
    const NAME: &'static str = Self::NAMES[0];

    fn new(_shape: &Shape) -> Self {
        Self::empty()
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_counts(arrays, self.counts.iter().copied());
    }

    fn restore(arrays: &Arrays, _shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let (cells, counts) = (arrays.list::<u32>(Self::CELLS)?, arrays.list::<u64>(Self::COUNTS)?);
        let mut restored = Self::empty();
        let ends = cells.last().is_some_and(|&cell| cell as usize >= restored.counts.len());
        if cells.len() != counts.len() || !cells.is_sorted_by(|a, b| a < b) || ends {
            return Err(Error::State {
                field: Self::CELLS.into(),
                expected: format!("ascending cells below {} with one count each", restored.counts.len()),
                got: format!("{} cells and {} counts", cells.len(), counts.len()),
            });
        }
        for (&cell, &count) in cells.iter().zip(counts) {
            restored.counts[cell as usize] = count;
        }
        Ok(restored)
    }

    fn n_bytes(&self) -> usize {
        size_of_val(self.counts.as_slice())
    }
}

impl<const SIZE: usize> Statistic for ValueBlocks<SIZE> {
    const TAKES_CALLS: bool = true;

    type Scratch = ();

    fn update_call<E: Element>(&mut self, call: &Call<'_, E>, population: Population, pool: &Pool, n_threads: usize) {
        let chosen = call.tokens.rows(population);
        let rows = &call.rows;
        let count = |counts: &mut Self, range: std::ops::Range<usize>| {
            let mut gathered = vec![E::narrow(0.0); if rows.is_contiguous() { 0 } else { rows.n_dims() }];
            for &index in &chosen[range] {
                if rows.is_contiguous() {
                    counts.count_row(rows.slice(index));
                } else {
                    rows.gather(index, &mut gathered);
                    counts.count_row(&gathered);
                }
            }
        };
        let n_workers = n_threads.min(chosen.len() / 64).max(1);
        if n_workers == 1 {
            count(self, 0..chosen.len());
            return;
        }
        // The order of counts leaves no trace in their sums.
        let mut workers: Vec<_> = split(&(0..chosen.len()), n_workers).map(|range| (range, Self::empty())).collect();
        pool.run(&mut workers, |(range, counts)| count(counts, range.clone()));
        for (_, counts) in &workers {
            for (count, more) in self.counts.iter_mut().zip(&counts.counts) {
                *count += more;
            }
        }
    }
}

impl<const SIZE: usize> OnDevice for ValueBlocks<SIZE> {
    const KERNELS: &'static [(&'static str, Blocks)] = &[(Self::NAMES[0], Blocks::DimsAndParts)];

    fn state_bytes(_config: &SiteConfig, _n_dims: usize) -> usize {
        2 * N_LARGEST * N_COLUMNS * size_of::<u64>()
    }

    fn save_state(state: &[u8], _config: &SiteConfig, _n_dims: usize, population: Population, arrays: &mut Arrays) {
        let counts = &state.as_chunks().0[population as usize * N_LARGEST * N_COLUMNS..][..N_LARGEST * N_COLUMNS];
        Self::save_counts(arrays, counts.iter().map(|&count| u64::from_le_bytes(count)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(value: f32) -> u16 {
        (value.abs().to_bits() >> 16) as u16
    }

    fn counted(values: &[f32]) -> Vec<(usize, usize, u64)> {
        let mut blocks = BlocksOf16::empty();
        blocks.count_row(values);
        let filled = blocks.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        filled.map(|(cell, &count)| (cell / N_COLUMNS, cell % N_COLUMNS, count)).collect()
    }

    #[test]
    fn rows_are_sixteenths_of_powers_of_two() {
        assert_eq!((row_of(code(1.0)), row_of(code(1.06)), row_of(code(1.07)), row_of(code(2.0))), (320, 320, 321, 336));
        assert_eq!((row_of(code(2f32.powi(-20))), row_of(code(1e-7)), row_of(code(1e9))), (0, 0, N_LARGEST - 1));
        assert_eq!(row_of(code(2f32.powi(20) - 1.0)), N_LARGEST - 1);
    }

    #[test]
    fn columns_are_32nds_near_the_largest_and_quarters_below() {
        let of = |value: f32| column_of(code(value), code(1.5));
        assert_eq!((of(1.0), of(1.04), of(1.5), of(0.5), of(0.99)), (0, 1, 16, 32, 63));
        assert_eq!((of(2f32.powi(-4)), of(2f32.powi(-4) * 0.99), of(2f32.powi(-5))), (4 * 32, COARSE + 3, COARSE));
        assert_eq!((of(2f32.powi(-20)), of(2f32.powi(-20) * 0.99), of(0.0)), (SMALLER - 4, SMALLER, SMALLER));
    }

    #[test]
    fn a_block_has_one_largest_value_and_the_last_may_be_shorter() {
        let mut values = [0.25_f32; 20];
        (values[3], values[5], values[17]) = (-2.0, 2.0, f32::NAN);
        assert_eq!(counted(&values), [(336, 0, 1), (336, 96, 14), (336, ITSELF, 1)]);
        assert_eq!(counted(&values[..4]), [(336, 96, 3), (336, ITSELF, 1)]);
        assert_eq!(counted(&[0.0; 16]), []);
        assert_eq!(counted(&[f32::INFINITY, 1.0]), []);
    }
}
