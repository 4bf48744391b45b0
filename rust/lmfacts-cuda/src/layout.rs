//! Where in a site's buffers each of its arrays lies.

use lmfacts_core::device::{DeviceCall, N_BLOCKS, N_CODES, N_MAXIMA, TOKEN_QUANTITIES};
use lmfacts_core::{Dtype, SiteConfig, Statistics};

use crate::Limits;
use crate::own_kernels::OWN;
use crate::twins::twin;

twin! {
    /// The moments of a list of numbers; all zeros where there were none.
    struct Moments as Moments {
        n: f64,
        mean: f64,
        mean_lo: f64,
        m2: f64,
        m3: f64,
        m4: f64,
        min: f64,
        max: f64,
    }
}

twin! {
    /// An outlier: the key of its magnitude, its bits as a float32, and its place.
    struct Outlier as Outlier {
        key: u32,
        bits: u32,
        sequence: i64,
        position: i64,
        dim: i64,
        token_id: i64,
    }
}

/// Bytes of [`Moments`].
pub(crate) const MOMENTS_BYTES: usize = size_of::<Moments>();
/// Bytes of [`Outlier`].
pub(crate) const OUTLIER_BYTES: usize = size_of::<Outlier>();
/// Numbers that a part of the rows gives for a dim.
pub(crate) const N_PARTIALS: usize = 12;
/// Blocks of `dims` that run on a multiprocessor at once.
pub(crate) const DIMS_BLOCKS: usize = 4;
/// The whole population, and its blocks of sequences.
pub(crate) const N_TOKEN_GROUPS: usize = 1 + N_BLOCKS;
/// Candidates that a call may note; more than the collecting kernel ever gives.
const LEAST_CANDIDATES: usize = 4096;

/// A part of a buffer: where it starts and how many bytes it has. None at all for what was not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    pub(crate) start: usize,
    pub(crate) n_bytes: usize,
}

impl Section {
    /// Its address in a buffer that lies there; null if it is empty.
    pub(crate) const fn at(self, buffer: usize) -> usize {
        if self.n_bytes == 0 { 0 } else { buffer + self.start }
    }

    pub(crate) fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start..self.start + self.n_bytes]
    }
}

/// Places sections one after the other, each at a multiple of 16 bytes.
#[derive(Debug)]
struct Cursor(usize);

impl Cursor {
    const fn take(&mut self, n_bytes: usize) -> Section {
        let section = Section { start: self.0, n_bytes };
        self.0 += n_bytes.next_multiple_of(16);
        section
    }
}

/// The buffers of a site: its state, which must be zeros at first, and scratch memory, which may hold anything.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteLayout {
    pub(crate) config: SiteConfig,
    pub(crate) dtype: Dtype,
    pub(crate) n_dims: usize,
    pub(crate) codes: Section,
    pub(crate) norm_codes: Section,
    pub(crate) dim_moments: Section,
    pub(crate) dim_counts: Section,
    pub(crate) unit_sums: Section,
    pub(crate) token_moments: Section,
    pub(crate) n_tokens: Section,
    pub(crate) n_calls: Section,
    pub(crate) outliers: Section,
    pub(crate) n_outliers: Section,
    pub(crate) maxima: Section,
    pub(crate) has_maximum: Section,
    /// Of each statistic with kernels of its own.
    pub(crate) own: [Section; OWN.len()],
    state_bytes: usize,
}

/// The scratch memory of a call.
#[derive(Debug)]
pub(crate) struct ScratchLayout {
    pub(crate) quantities: Section,
    pub(crate) blocks: Section,
    pub(crate) row_inverses: Section,
    pub(crate) row_maxima: Section,
    pub(crate) partials: Section,
    pub(crate) candidates: Section,
    pub(crate) n_candidates: Section,
    pub(crate) contenders: Section,
    /// Of each statistic with kernels of its own.
    pub(crate) own: [Section; OWN.len()],
    pub(crate) n_parts: usize,
    pub(crate) n_splits: usize,
    pub(crate) n_candidate_slots: usize,
    pub(crate) n_bytes: usize,
}

impl SiteLayout {
    /// The layout for values of a type and a number of dims.
    pub fn new(config: SiteConfig, dtype: Dtype, n_dims: usize) -> Self {
        let mut cursor = Cursor(0);
        let keeps = |statistic| config.statistics.contains(statistic);
        let n_tables = 1 + if keeps(Statistics::BLOCK_CODES) { N_BLOCKS } else { 1 };
        let only_if = |wanted: bool, n_bytes: usize| if wanted { n_bytes } else { 0 };
        let mut layout = Self {
            config,
            dtype,
            n_dims,
            codes: cursor.take(n_tables * N_CODES * 8),
            norm_codes: cursor.take(2 * N_CODES * 8),
            dim_moments: cursor.take(2 * n_dims * MOMENTS_BYTES),
            dim_counts: cursor.take(2 * 2 * n_dims * 8),
            unit_sums: cursor.take(only_if(keeps(Statistics::UNIT_SUMS), 2 * 2 * n_dims * 8)),
            token_moments: cursor.take(2 * N_TOKEN_GROUPS * TOKEN_QUANTITIES.len() * MOMENTS_BYTES),
            n_tokens: cursor.take(2 * N_TOKEN_GROUPS * 8),
            n_calls: cursor.take(8),
            outliers: cursor.take(2 * config.k * OUTLIER_BYTES),
            n_outliers: cursor.take(2 * 4),
            maxima: cursor.take(only_if(keeps(Statistics::SEQUENCE_BLOCKS), 2 * N_MAXIMA * OUTLIER_BYTES)),
            has_maximum: cursor.take(only_if(keeps(Statistics::SEQUENCE_BLOCKS), 2 * N_MAXIMA * 4)),
            own: OWN.map(|own| cursor.take(only_if(keeps(own.statistic), (own.state_bytes)(&config, n_dims)))),
            state_bytes: 0,
        };
        layout.state_bytes = cursor.0;
        layout
    }

    /// Whether the site keeps a statistic.
    pub(crate) const fn keeps(&self, statistic: Statistics) -> bool {
        self.config.statistics.contains(statistic)
    }

    /// Bytes of the state.
    pub const fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// Bytes of scratch memory that a call with so many rows needs.
    pub fn scratch_bytes(&self, n_rows: usize, limits: Limits) -> usize {
        self.scratch(n_rows, limits).n_bytes
    }

    pub(crate) fn scratch(&self, n_rows: usize, limits: Limits) -> ScratchLayout {
        let n_collectors = limits.n_multiprocessors as usize;
        let n_candidate_slots = (n_collectors * self.config.k).max(LEAST_CANDIDATES);
        // As many blocks as run at once, of 128 dims and at least 128 rows each; some more would have to wait for the others.
        let n_dim_blocks = self.n_dims.div_ceil(128);
        let n_splits = (DIMS_BLOCKS * n_collectors / n_dim_blocks).min(n_rows.div_ceil(128)).max(1);
        // Four blocks for each multiprocessor, of 32 dims and at least 64 rows each.
        let n_parts = (4 * n_collectors).div_ceil(self.n_dims.div_ceil(32)).clamp(1, n_rows.div_ceil(64).max(1));
        let call = DeviceCall { config: self.config, n_dims: self.n_dims, n_rows, n_parts };
        let mut cursor = Cursor(0);
        let mut scratch = ScratchLayout {
            quantities: cursor.take(TOKEN_QUANTITIES.len() * n_rows * 8),
            blocks: cursor.take(n_rows * 4),
            row_inverses: cursor.take(n_rows * 8),
            row_maxima: cursor.take(n_rows * 8),
            partials: cursor.take(2 * n_splits * N_PARTIALS * self.n_dims * 8),
            candidates: cursor.take(2 * n_candidate_slots * 8),
            n_candidates: cursor.take(2 * 4),
            contenders: cursor.take(2 * 2 * self.config.k * OUTLIER_BYTES),
            own: OWN.map(|own| cursor.take(if self.keeps(own.statistic) { (own.scratch_bytes)(&call) } else { 0 })),
            n_parts,
            n_splits,
            n_candidate_slots,
            n_bytes: 0,
        };
        scratch.n_bytes = cursor.0;
        scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_follow_each_other_and_end_with_the_buffer() {
        let config = SiteConfig { k: 3, statistics: Statistics::ALL, ..SiteConfig::default() };
        let layout = SiteLayout::new(config, Dtype::Bf16, 5);
        let sections = [
            layout.codes,
            layout.norm_codes,
            layout.dim_moments,
            layout.dim_counts,
            layout.unit_sums,
            layout.token_moments,
            layout.n_tokens,
            layout.n_calls,
            layout.outliers,
            layout.n_outliers,
            layout.maxima,
            layout.has_maximum,
        ];
        let mut end = 0;
        for section in sections.into_iter().chain(layout.own) {
            assert!(section.start >= end && section.start.is_multiple_of(16) && section.n_bytes > 0);
            end = section.start + section.n_bytes;
        }
        assert!(layout.state_bytes() >= end && layout.state_bytes() < end + 16);
    }

    #[test]
    fn what_was_not_asked_for_has_no_address() {
        let layout = SiteLayout::new(SiteConfig::default(), Dtype::F32, 5);
        assert_eq!((layout.unit_sums.at(4096), layout.maxima.at(4096)), (0, 0));
        assert!(layout.own.iter().all(|own| own.at(4096) == 0));
        assert_eq!(layout.codes.at(4096), 4096);
    }
}
