//! Everything kept of one population but its code histogram.

use super::moments::DimMoments;
use super::outliers::{Outlier, Outliers};
use super::sequence_blocks::{SequenceBlocks, block_of};
use super::site::{SiteConfig, Table};
use super::token_norms::{TokenNorms, norms_of};
use super::unit_sums::UnitSums;
use crate::dtype::Element;
use crate::kernel::Kernels;
use crate::tokens::TokenBatch;
use crate::view::Rows;

/// Dims that are passed over together where none of them can be an outlier.
const OFFER_DIMS: usize = 256;

/// Moments, norms, unit sums and outliers of a set of tokens.
#[derive(Debug, Clone)]
pub struct Summary {
    pub(super) n_tokens: u64,
    pub(super) dims: DimMoments,
    pub(super) norms: TokenNorms,
    pub(super) units: Option<UnitSums>,
    pub(super) outliers: Outliers,
    pub(super) blocks: Option<Box<SequenceBlocks>>,
}

/// What is the same for all rows of a call.
#[derive(Debug)]
pub(super) struct Call<'a, E: Element> {
    pub(super) kernels: Kernels<E>,
    pub(super) config: SiteConfig,
    pub(super) rows: Rows<'a, E>,
    pub(super) tokens: &'a TokenBatch,
}

/// Some rows of one population, with the index each has in its batch.
#[derive(Debug)]
pub(super) struct Chunk<'a, E> {
    pub(super) rows: Vec<&'a [E]>,
    pub(super) indices: Vec<usize>,
}

impl<E> Chunk<'_, E> {
    pub(super) const fn new() -> Self {
        Self { rows: Vec::new(), indices: Vec::new() }
    }
}

impl Summary {
    /// No tokens.
    pub fn new(n_dims: usize, config: &SiteConfig) -> Self {
        Self {
            n_tokens: 0,
            dims: DimMoments::new(n_dims),
            norms: TokenNorms::default(),
            units: config.unit_sums.then(|| UnitSums::new(n_dims)),
            outliers: Outliers::new(config.k),
            blocks: config.blocks.then(Box::default),
        }
    }

    /// Takes in a chunk, and counts its codes into the table of each token's block, or the only one. `scratch` is overwritten. `floor` is a magnitude that k values elsewhere
    /// have reached already, so that smaller ones need not be looked at.
    pub(super) fn update<E: Element>(
        &mut self,
        call: &Call<'_, E>,
        chunk: &Chunk<'_, E>,
        floor: f64,
        tables: &mut [Table<'_>],
        scratch: &mut DimMoments,
    ) {
        let (kernels, threshold) = (&call.kernels, call.config.threshold);
        let absmax: Vec<_> = chunk.rows.iter().map(|row| kernels.absmax(row)).collect();
        let finite: Vec<_> = absmax.iter().map(|&key| key < E::INFINITY_KEY).collect();
        self.n_tokens += chunk.rows.len() as u64;

        if finite.iter().all(|&row| row) {
            scratch.set_to_finite(kernels, &chunk.rows, threshold);
        } else {
            scratch.set_to_any(&chunk.rows, threshold);
        }
        self.dims.merge(kernels, scratch);

        let mut norms = Vec::with_capacity(chunk.rows.len());
        for ((&row, &finite), (&absmax, &index)) in chunk.rows.iter().zip(&finite).zip(absmax.iter().zip(&chunk.indices)) {
            let place = call.tokens.place(index);
            let table = tables[if tables.len() > 1 { block_of(place.0) } else { 0 }].get();
            if finite {
                kernels.codes(row, table);
                if call.config.norms || self.units.is_some() {
                    let of_row = norms_of(row, kernels.row_sums(row));
                    if let Some(units) = &mut self.units {
                        units.update(kernels, row, of_row.0);
                    }
                    norms.push((place.0, of_row));
                }
            } else {
                for value in row {
                    table[usize::from(value.code_of_any())] += 1;
                }
            }
            let floor = E::narrow(floor.max(self.outliers.floor())).key();
            if !finite || absmax >= floor {
                self.offer(kernels, row, floor, place);
            }
            if let Some(blocks) = &mut self.blocks {
                blocks.update_maximum(row, absmax, place);
            }
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.count(chunk.indices.iter().map(|&index| call.tokens.place(index).0));
            blocks.update_norms(&norms);
        }
        self.norms.update(norms.iter().map(|&(_, norm)| norm));
    }

    fn offer<E: Element>(
        &mut self,
        kernels: &Kernels<E>,
        row: &[E],
        floor: E::Key,
        (sequence, position, token_id): (i64, i64, i64),
    ) {
        for (index, group) in row.chunks(OFFER_DIMS).enumerate() {
            if kernels.absmax(group) < floor {
                continue;
            }
            for (place, value) in group.iter().enumerate() {
                let key = value.key();
                if key >= floor && key < E::INFINITY_KEY {
                    let dim = (index * OFFER_DIMS + place) as i64;
                    self.outliers.offer(Outlier { value: value.widen(), sequence, position, dim, token_id });
                }
            }
        }
    }

    /// Merges other tokens of the same site.
    pub(super) fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self) {
        self.n_tokens += other.n_tokens;
        self.dims.merge(kernels, &mut other.dims);
        self.norms.merge(&other.norms);
        if let (Some(units), Some(more)) = (&mut self.units, &other.units) {
            units.merge(more);
        }
        if let (Some(blocks), Some(more)) = (&mut self.blocks, &other.blocks) {
            blocks.merge(more);
        }
        self.outliers.merge(&other.outliers);
    }

    /// Bytes held, but for the norms' codes, of which there are a few hundred.
    pub(super) fn n_bytes(&self) -> usize {
        let units = if self.units.is_some() { 16 * self.dims.n_dims() } else { 0 };
        let blocks = if self.blocks.is_some() { SequenceBlocks::n_bytes() } else { 0 };
        self.dims.n_bytes() + units + self.outliers.n_bytes() + blocks
    }
}
