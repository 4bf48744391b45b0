//! From the bytes of a site's state to the numbers that the CPU's accumulators are made of.

use lmfacts_core::{N_BINS, N_BLOCKS, N_CODES, N_MAXIMA, PopulationState, SiteState, TOKEN_QUANTITIES};

use crate::layout::{MOMENTS_BYTES, N_TOKEN_GROUPS, OUTLIER_BYTES, SiteLayout};

/// The population's numbers in lists that the kernels keep for both.
const POPULATIONS: [usize; 2] = [0, 1];

fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk)).collect()
}

fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|&chunk| u32::from_le_bytes(chunk)).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect()
}

/// `Moments` of `kernels/values.cu`; all zeros where there was nothing.
#[derive(Debug, Clone, Copy)]
struct Moments {
    n: f64,
    mean: f64,
    mean_rest: f64,
    powers: [f64; 3],
    min: f64,
    max: f64,
}

impl Moments {
    fn list(bytes: &[u8]) -> Vec<Self> {
        let (chunks, _) = bytes.as_chunks::<MOMENTS_BYTES>();
        chunks
            .iter()
            .map(|chunk| {
                let values = f64s(chunk);
                let empty = values[0] == 0.0;
                Self {
                    n: values[0],
                    mean: values[1],
                    mean_rest: values[2],
                    powers: [values[3], values[4], values[5]],
                    min: if empty { f64::INFINITY } else { values[6] },
                    max: if empty { f64::NEG_INFINITY } else { values[7] },
                }
            })
            .collect()
    }

    fn seven(&self) -> [f64; 7] {
        let [m2, m3, m4] = self.powers;
        [self.n, self.mean, m2, m3, m4, self.min, self.max]
    }
}

/// Values and indices of outliers, as states have them.
fn outliers(bytes: &[u8], is_kept: impl Fn(usize) -> bool) -> (Vec<f64>, Vec<i64>) {
    let (chunks, _) = bytes.as_chunks::<OUTLIER_BYTES>();
    let (mut values, mut index) = (Vec::new(), Vec::new());
    for (_, chunk) in chunks.iter().enumerate().filter(|&(place, _)| is_kept(place)) {
        let bits = u32s(&chunk[4..8])[0];
        values.push(f64::from(f32::from_bits(bits)));
        index.extend(u64s(&chunk[8..]).into_iter().map(|number| number as i64));
    }
    (values, index)
}

fn sparse(counts: &[u64]) -> (Vec<u16>, Vec<u64>) {
    counts.iter().enumerate().filter(|&(_, &count)| count > 0).map(|(code, &count)| (code as u16, count)).unzip()
}

impl SiteLayout {
    /// The state whose bytes these are.
    ///
    /// # Panics
    /// If there are fewer bytes than [`Self::state_bytes`].
    pub fn decode(&self, state: &[u8]) -> SiteState {
        let populations = POPULATIONS.map(|population| self.population(state, population));
        SiteState { config: self.config, layout: Some((self.dtype, self.n_dims)), populations }
    }

    /// How many calls the device has counted.
    ///
    /// # Panics
    /// As [`Self::decode`].
    pub fn n_calls(&self, state: &[u8]) -> u64 {
        u64s(self.n_calls.of(state))[0]
    }

    /// The part of a state that says where the outliers stand: where it starts and how many bytes it has.
    pub const fn places_section(&self) -> (usize, usize) {
        let start = self.outliers.start;
        (start, self.n_outliers.start + self.n_outliers.n_bytes - start)
    }

    /// Sequence and position of each outlier, from the bytes of that part.
    ///
    /// # Panics
    /// If there are fewer bytes than [`Self::places_section`] says.
    pub fn places(&self, section: &[u8]) -> Vec<(i64, i64)> {
        let counts = u32s(&section[self.n_outliers.start - self.outliers.start..]);
        let index = POPULATIONS.into_iter().flat_map(|population| {
            let list = &section[population * self.config.k * OUTLIER_BYTES..][..self.config.k * OUTLIER_BYTES];
            outliers(list, |place| place < counts[population] as usize).1
        });
        index.collect::<Vec<_>>().as_chunks::<4>().0.iter().map(|&[sequence, position, ..]| (sequence, position)).collect()
    }

    fn population(&self, state: &[u8], population: usize) -> PopulationState {
        // Of lists that have a part for each population.
        let half = |bytes: &[u8]| -> Vec<u8> {
            let length = bytes.len() / 2;
            bytes[population * length..(population + 1) * length].to_vec()
        };
        let mut part = PopulationState::default();
        let n_tokens = u64s(&half(self.n_tokens.of(state)));
        part.n_tokens = n_tokens[0];

        self.read_codes(state, population, &mut part);
        (part.norm_codes, part.norm_counts) = sparse(&u64s(&half(self.norm_codes.of(state))));

        let dims = Moments::list(&half(self.dim_moments.of(state)));
        let column = |of: fn(&Moments) -> f64| dims.iter().map(of).collect::<Vec<_>>();
        part.moments = [
            column(|dim| dim.mean),
            column(|dim| dim.powers[0]),
            column(|dim| dim.powers[1]),
            column(|dim| dim.powers[2]),
            column(|dim| dim.min),
            column(|dim| dim.max),
        ]
        .concat();
        part.mean_rests = column(|dim| dim.mean_rest);
        part.dim_counts = u64s(&half(self.dim_counts.of(state)));
        part.unit_sums = f64s(&half(self.unit_sums.of(state)));

        let groups = Moments::list(&half(self.token_moments.of(state)));
        let (whole, blocks) = groups.split_at(TOKEN_QUANTITIES.len());
        let numbers = |moments: &[Moments]| moments.iter().flat_map(Moments::seven).collect();
        let rests = |moments: &[Moments]| moments.iter().map(|moments| moments.mean_rest).collect();
        (part.token_moments, part.token_mean_rests) = (numbers(whole), rests(whole));

        let n_outliers = u32s(self.n_outliers.of(state))[population] as usize;
        (part.outlier_values, part.outlier_index) = outliers(&half(self.outliers.of(state)), |place| place < n_outliers);
        if self.config.blocks {
            part.block_tokens = n_tokens[1..N_TOKEN_GROUPS].to_vec();
            (part.block_token_moments, part.block_token_mean_rests) = (numbers(blocks), rests(blocks));
            let has = u32s(&half(self.has_maximum.of(state)));
            debug_assert_eq!(has.len(), N_MAXIMA);
            (part.maxima_values, part.maxima_index) = outliers(&half(self.maxima.of(state)), |place| has[place] != 0);
        }
        if self.config.detail && population == 1 {
            let bins = u64s(self.dim_bins.of(state));
            debug_assert_eq!(bins.len(), self.n_dims * N_BINS);
            let filled = bins.iter().enumerate().filter(|&(_, &count)| count > 0);
            (part.dim_bins, part.dim_bin_counts) = filled.map(|(bin, &count)| (bin as u32, count)).unzip();
        }
        part
    }

    fn read_codes(&self, state: &[u8], population: usize, part: &mut PopulationState) {
        let tables = u64s(self.codes.of(state));
        let table = |index: usize| &tables[index * N_CODES..(index + 1) * N_CODES];
        if population == 0 || !self.config.detail {
            (part.codes, part.counts) = sparse(table(population));
            return;
        }
        let mut whole = vec![0; N_CODES];
        for block in 1..=N_BLOCKS {
            for (total, count) in whole.iter_mut().zip(table(block)) {
                *total += count;
            }
            let (codes, counts) = sparse(table(block));
            part.block_lengths.push(codes.len() as u64);
            part.block_codes.extend(codes);
            part.block_counts.extend(counts);
        }
        (part.codes, part.counts) = sparse(&whole);
    }
}
