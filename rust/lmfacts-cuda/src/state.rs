//! From the bytes of a site's state to the named arrays that the CPU's accumulators are restored from.

use std::mem::offset_of;

use lmfacts_core::device::{
    DimMoments, N_BLOCKS, N_CODES, N_MAXIMA, Outlier, Outliers, PopulationCodes, ScalarMoments, SequenceBlocks, TOKEN_QUANTITIES,
    TokenNorms, UnitSums,
};
use lmfacts_core::state::{Arrays, PopulationState};
use lmfacts_core::{Population, SiteState, Statistics};

use crate::layout::{self, MOMENTS_BYTES, Moments, N_TOKEN_GROUPS, OUTLIER_BYTES, SiteLayout};
use crate::own_kernels::OWN;

/// The population's numbers in lists that the kernels keep for both.
const POPULATIONS: [usize; 2] = [0, 1];

/// The number of the tokens that are not the first of sequences.
const REST: usize = 1;

fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk)).collect()
}

fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|&chunk| u32::from_le_bytes(chunk)).collect()
}

fn f64s(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect()
}

/// The bytes of a field that lies there.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..].first_chunk().copied().unwrap_or_else(|| unreachable!("a field lies in its struct"))
}

/// What [`Moments`] say.
fn moments(bytes: &[u8]) -> Vec<ScalarMoments> {
    let (chunks, _) = bytes.as_chunks::<MOMENTS_BYTES>();
    let moments = |chunk: &[u8; MOMENTS_BYTES]| {
        let number = |offset| f64::from_le_bytes(field(chunk, offset));
        match number(offset_of!(Moments, n)) {
            0.0 => ScalarMoments::default(),
            n => ScalarMoments {
                n: n as u64,
                mean: number(offset_of!(Moments, mean)),
                mean_lo: number(offset_of!(Moments, mean_lo)),
                m2: number(offset_of!(Moments, m2)),
                m3: number(offset_of!(Moments, m3)),
                m4: number(offset_of!(Moments, m4)),
                min: number(offset_of!(Moments, min)),
                max: number(offset_of!(Moments, max)),
            },
        }
    };
    chunks.iter().map(moments).collect()
}

/// The outliers among these slots that hold one.
fn outliers(bytes: &[u8], is_kept: impl Fn(usize) -> bool) -> Vec<Outlier> {
    let (chunks, _) = bytes.as_chunks::<OUTLIER_BYTES>();
    let kept = chunks.iter().enumerate().filter(|&(slot, _)| is_kept(slot));
    let outlier = |(_, chunk): (usize, &[u8; OUTLIER_BYTES])| {
        let number = |offset| i64::from_le_bytes(field(chunk, offset));
        Outlier {
            value: f32::from_le_bytes(field(chunk, offset_of!(layout::Outlier, bits))).into(),
            sequence: number(offset_of!(layout::Outlier, sequence)),
            position: number(offset_of!(layout::Outlier, position)),
            dim: number(offset_of!(layout::Outlier, dim)),
            token_id: number(offset_of!(layout::Outlier, token_id)),
        }
    };
    kept.map(outlier).collect()
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
        let found = POPULATIONS.into_iter().flat_map(|population| {
            let list = &section[population * self.config.k * OUTLIER_BYTES..][..self.config.k * OUTLIER_BYTES];
            outliers(list, |slot| slot < counts[population] as usize)
        });
        found.map(|outlier| (outlier.sequence, outlier.position)).collect()
    }

    fn population(&self, state: &[u8], population: usize) -> PopulationState {
        // Of lists that have a part for each population.
        let half = |bytes: &[u8]| -> Vec<u8> {
            let length = bytes.len() / 2;
            bytes[population * length..(population + 1) * length].to_vec()
        };
        let mut arrays = Arrays::default();
        let n_tokens = u64s(&half(self.n_tokens.of(state)));
        self.save_codes(state, population, &mut arrays);

        let dims = moments(&half(self.dim_moments.of(state)));
        let column = |of: fn(&ScalarMoments) -> f64| dims.iter().map(of).collect::<Vec<_>>();
        let columns = [
            column(|dim| dim.mean),
            column(|dim| dim.m2),
            column(|dim| dim.m3),
            column(|dim| dim.m4),
            column(|dim| dim.min),
            column(|dim| dim.max),
        ];
        let counts = u64s(&half(self.dim_counts.of(state)));
        let (n_nonfinite, n_at_least) = counts.split_at(self.n_dims);
        let columns = columns.each_ref().map(Vec::as_slice);
        DimMoments::save_lists(&mut arrays, columns, column(|dim| dim.mean_lo), [n_nonfinite, n_at_least]);

        let groups = moments(&half(self.token_moments.of(state)));
        let (whole, blocks) = groups.split_at(TOKEN_QUANTITIES.len());
        if self.keeps(Statistics::TOKEN_NORMS) {
            TokenNorms::save_parts(&mut arrays, sparse(&u64s(&half(self.norm_codes.of(state)))), whole);
        }
        if self.keeps(Statistics::OUTLIERS) {
            let n_outliers = u32s(self.n_outliers.of(state))[population] as usize;
            Outliers::save_list(&mut arrays, &outliers(&half(self.outliers.of(state)), |slot| slot < n_outliers));
        }
        if self.keeps(Statistics::UNIT_SUMS) {
            UnitSums::save_sums(&mut arrays, f64s(&half(self.unit_sums.of(state))));
        }
        if self.keeps(Statistics::SEQUENCE_BLOCKS) {
            let has = u32s(&half(self.has_maximum.of(state)));
            debug_assert_eq!(has.len(), N_MAXIMA);
            let maxima = outliers(&half(self.maxima.of(state)), |slot| has[slot] != 0);
            SequenceBlocks::save_parts(&mut arrays, n_tokens[1..N_TOKEN_GROUPS].to_vec(), blocks, &maxima);
        }
        for (own, section) in OWN.iter().zip(self.own) {
            if self.keeps(own.statistic) {
                (own.save_state)(section.of(state), &self.config, self.n_dims, Population::ALL[population], &mut arrays);
            }
        }
        PopulationState { n_tokens: n_tokens[0], arrays }
    }

    fn save_codes(&self, state: &[u8], population: usize, arrays: &mut Arrays) {
        let tables = u64s(self.codes.of(state));
        let table = |index: usize| &tables[index * N_CODES..(index + 1) * N_CODES];
        if population != REST || !self.keeps(Statistics::BLOCK_CODES) {
            return PopulationCodes::save_counts(arrays, sparse(table(population)), None);
        }
        let mut whole = vec![0; N_CODES];
        let blocks = (1..=N_BLOCKS).map(|block| {
            for (total, count) in whole.iter_mut().zip(table(block)) {
                *total += count;
            }
            sparse(table(block))
        });
        let blocks: Vec<_> = blocks.collect();
        PopulationCodes::save_counts(arrays, sparse(&whole), Some(&blocks));
    }
}
