//! A coarse histogram of each dim.
//!
//! 256 bins for each dim: four for each power of two from 2^-16 to 2^16 and either sign; what is smaller or larger goes into the first
//! and last of its sign. A bin is a union of codes, so that a dim can be taken out of the histogram of all codes afterwards.

use super::accumulator::{Accumulator, Call, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::parallel::{Pool, split};
use crate::state::Arrays;
use crate::tokens::Population;
use crate::view::Rows;

const BINS: &str = "dim_bins";
const COUNTS: &str = "dim_bin_counts";

/// Bins of a dim: those of positive values by magnitude, then those of negative ones.
pub const N_BINS: usize = 256;

/// Dims whose counters are written to together: a cache line of float32 values.
const DIMS_AT_A_TIME: usize = 16;
/// Rows whose values are counted together.
const ROWS_AT_A_TIME: usize = 64;

const BINS_OF_A_SIGN: i32 = 128;
/// The first bin's place among quarters of powers of two: 2^-16, as the exponent field of a float32 has it.
const FIRST_QUARTER: i32 = (127 - 16) * 4;
/// Bits of a float32's code below its quarter.
const BELOW_QUARTER: u32 = 5;
/// Quarters of the powers of two of either sign that float32 has.
const N_QUARTERS: usize = 1 << (16 - BELOW_QUARTER);

/// The bin of a value, from the upper half of the float32 that is nearest to it toward zero.
pub(super) const fn bin_of(float_code: u16) -> usize {
    BIN_OF_QUARTER[(float_code >> BELOW_QUARTER) as usize] as usize
}

/// The bin of each quarter of either sign.
static BIN_OF_QUARTER: [u8; N_QUARTERS] = {
    let mut bins = [0; N_QUARTERS];
    let mut quarter = 0;
    while quarter < N_QUARTERS {
        bins[quarter] = compute_bin((quarter << BELOW_QUARTER) as u16);
        quarter += 1;
    }
    bins
};

/// What [`bin_of`] looks up.
const fn compute_bin(float_code: u16) -> u8 {
    let quarter = ((float_code & 0x7fff) >> BELOW_QUARTER) as i32 - FIRST_QUARTER;
    let of_sign = if quarter < 0 {
        0
    } else if quarter >= BINS_OF_A_SIGN {
        BINS_OF_A_SIGN - 1
    } else {
        quarter
    };
    (of_sign + (float_code >> 15) as i32 * BINS_OF_A_SIGN) as u8
}

/// Counts of finite values, dim by dim.
#[derive(Debug, Clone)]
pub struct DimHistograms {
    // 32-bit counters, moved to 64 bits before one of them could wrap.
    recent: Vec<u32>,
    n_recent: u64,
    folded: Option<Vec<u64>>,
}

/// Counts the finite values of a row, each in the bins of its dim.
fn count<E: Element>(values: &[E], counts: &mut [[u32; N_BINS]]) {
    let is_finite = |value: &E| value.key() < E::INFINITY_KEY;
    if let Ok(values) = <&[E; DIMS_AT_A_TIME]>::try_from(values)
        && let Ok(counts) = <&mut [[u32; N_BINS]; DIMS_AT_A_TIME]>::try_from(&mut *counts)
        && values.iter().all(is_finite)
    {
        // So many that their number is known, of which none need be left out.
        let float_codes = values.map(Element::float_code);
        for (counts, float_code) in counts.iter_mut().zip(float_codes) {
            counts[bin_of(float_code)] += 1;
        }
    } else {
        for (value, counts) in values.iter().zip(counts).filter(|(value, _)| is_finite(value)) {
            counts[bin_of(value.float_code())] += 1;
        }
    }
}

impl DimHistograms {
    /// Nothing counted.
    pub fn new(n_dims: usize) -> Self {
        Self { recent: vec![0; n_dims * N_BINS], n_recent: 0, folded: None }
    }

    /// Counts the chosen rows.
    fn count_rows<E: Element>(&mut self, rows: &Rows<'_, E>, chosen: &[usize], pool: &Pool, n_threads: usize) {
        self.reserve(chosen.len() as u64);
        let n_dims = rows.n_dims();
        let mut rest = self.recent.as_mut_slice();
        let mut workers = Vec::with_capacity(n_threads);
        for dims in split(&(0..n_dims), n_threads.min(n_dims)) {
            let (counts, later) = rest.split_at_mut(dims.len() * N_BINS);
            rest = later;
            workers.push((dims, counts));
        }
        pool.run(&mut workers, |(dims, counts)| {
            let mut gathered = vec![E::narrow(0.0); n_dims];
            // Some rows at a time, which stay in the second-level cache, and of them a few dims, whose counters stay in the first. Rows
            // that have to be put together are taken whole.
            let (n_rows, n_together) = if rows.is_contiguous() { (ROWS_AT_A_TIME, DIMS_AT_A_TIME) } else { (1, n_dims) };
            for tile in chosen.chunks(n_rows) {
                if rows.is_contiguous() {
                    // In the order of memory, in which the processor fetches ahead.
                    for &row in tile {
                        for value in rows.slice(row)[dims.clone()].iter().step_by(DIMS_AT_A_TIME) {
                            std::hint::black_box(value.key());
                        }
                    }
                } else {
                    rows.gather(tile[0], &mut gathered);
                }
                for (start, counts) in dims.clone().step_by(n_together).zip(counts.chunks_mut(n_together * N_BINS)) {
                    let group = start..start + counts.len() / N_BINS;
                    let counts = counts.as_chunks_mut().0;
                    for &row in tile {
                        let values = if rows.is_contiguous() { rows.slice(row) } else { &gathered };
                        count(&values[group.clone()], counts);
                    }
                }
            }
        });
    }

    fn reserve(&mut self, n_incoming: u64) {
        if self.n_recent + n_incoming > u64::from(u32::MAX) {
            let folded = self.folded.get_or_insert_with(|| vec![0; self.recent.len()]);
            for (total, count) in folded.iter_mut().zip(&mut self.recent) {
                *total += u64::from(std::mem::take(count));
            }
            self.n_recent = 0;
        }
        self.n_recent += n_incoming;
    }

    fn count(&self, index: usize) -> u64 {
        u64::from(self.recent[index]) + self.folded.as_ref().map_or(0, |folded| folded[index])
    }

    fn add(&mut self, counts: &[u64]) {
        let most = counts.iter().copied().max().unwrap_or(0);
        if u32::try_from(most).is_ok() {
            self.reserve(most);
            for (count, &more) in self.recent.iter_mut().zip(counts) {
                *count += more as u32;
            }
        } else {
            let folded = self.folded.get_or_insert_with(|| vec![0; counts.len()]);
            for (total, more) in folded.iter_mut().zip(counts) {
                *total += more;
            }
        }
    }

    /// Adds to `arrays` the bins that hold a value, as `dim x 256 + bin`, ascending, and how many each holds.
    fn save_counts(arrays: &mut Arrays, counts: impl Iterator<Item = u64>) {
        let filled = counts.enumerate().filter(|&(_, count)| count > 0);
        let (bins, counts) = filled.map(|(bin, count)| (bin as u32, count)).unzip();
        arrays.push_list::<u32>(BINS, bins);
        arrays.push_list::<u64>(COUNTS, counts);
    }
}

impl Accumulator for DimHistograms {
    const NAME: &'static str = "dim_histograms";

    fn new(shape: &Shape) -> Self {
        Self::new(shape.n_dims)
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        let counts: Vec<u64> = (0..other.recent.len()).map(|index| other.count(index)).collect();
        self.add(&counts);
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_counts(arrays, (0..self.recent.len()).map(|index| self.count(index)));
    }

    fn restore(arrays: &Arrays, shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let (bins, counts) = (arrays.list::<u32>(BINS)?, arrays.list::<u64>(COUNTS)?);
        let mut histograms = Self::new(shape.n_dims);
        let mut all = vec![0; histograms.recent.len()];
        if bins.len() != counts.len()
            || !bins.is_sorted_by(|a, b| a < b)
            || bins.last().is_some_and(|&bin| bin as usize >= all.len())
        {
            return Err(Error::State {
                field: BINS.into(),
                expected: format!("ascending bins of {} dims with one count each", shape.n_dims),
                got: format!("{} bins and {} counts", bins.len(), counts.len()),
            });
        }
        for (&bin, &count) in bins.iter().zip(counts) {
            all[bin as usize] = count;
        }
        histograms.add(&all);
        Ok(histograms)
    }

    fn n_bytes(&self) -> usize {
        4 * self.recent.len() + self.folded.as_ref().map_or(0, |folded| 8 * folded.len())
    }
}

impl Statistic for DimHistograms {
    const TAKES_CALLS: bool = true;

    type Scratch = ();

    fn is_of(population: Population) -> bool {
        population == Population::Rest
    }

    fn update_call<E: Element>(&mut self, call: &Call<'_, E>, population: Population, pool: &Pool, n_threads: usize) {
        self.count_rows(&call.rows, call.tokens.rows(population), pool, n_threads);
    }
}

impl OnDevice for DimHistograms {
    const KERNELS: &'static [(&'static str, Blocks)] = &[("dim_histograms", Blocks::DimsAndParts)];

    fn state_bytes(_config: &SiteConfig, n_dims: usize) -> usize {
        n_dims * N_BINS * size_of::<u64>()
    }

    fn save_state(state: &[u8], _config: &SiteConfig, _n_dims: usize, population: Population, arrays: &mut Arrays) {
        if Self::is_of(population) {
            Self::save_counts(arrays, state.as_chunks().0.iter().map(|&count| u64::from_le_bytes(count)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(value: f32) -> usize {
        bin_of((value.to_bits() >> 16) as u16)
    }

    #[test]
    fn bins_are_quarters_of_powers_of_two() {
        assert_eq!(bin(1.0), 64);
        assert_eq!((bin(1.24), bin(1.25), bin(1.99), bin(2.0)), (64, 65, 67, 68));
        assert_eq!((bin(-1.0), bin(-1.25)), (128 + 64, 128 + 65));
        assert_eq!((bin(0.0), bin(1e-30), bin(-0.0), bin(-1e-30)), (0, 0, 128, 128));
        assert_eq!((bin(65535.0), bin(65536.0), bin(1e38), bin(-1e38)), (127, 127, 127, 255));
    }

    #[test]
    fn counters_do_not_wrap() {
        let mut histograms = DimHistograms::new(1);
        histograms.reserve(u64::from(u32::MAX));
        histograms.recent[3] = u32::MAX;
        histograms.reserve(5);
        histograms.recent[3] = 5;
        assert_eq!(histograms.count(3), u64::from(u32::MAX) + 5);
    }
}
