//! What a statistic has to be able to do.
//!
//! A site's main pass counts the codes of its values and takes the moments of its dims, for each population. Every other statistic is a
//! type of its own in a file of its own, which takes in what the main pass has found in a chunk of rows, or whole calls. `mod.rs` lists
//! them; nothing else knows their names or what they hold.

use std::fmt::Debug;

use super::moments::DimMoments;
use super::token_norms::Quantities;
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::Result;
use crate::kernel::{DimSums, Kernels, RowFigures};
use crate::parallel::Pool;
use crate::state::Arrays;
use crate::tokens::{Population, TokenBatch};
use crate::view::Rows;

/// What an accumulator is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) config: SiteConfig,
    pub(super) population: Population,
    pub(super) n_dims: usize,
}

/// What is the same for all rows of a call.
#[derive(Debug)]
pub(super) struct Call<'a, E: Element> {
    pub(super) kernels: Kernels<E>,
    pub(super) config: SiteConfig,
    pub(super) rows: Rows<'a, E>,
    pub(super) tokens: &'a TokenBatch,
}

/// Rows of a block, among which the largest value of a dim is looked for again.
pub(super) const BLOCK_ROWS: usize = 64;

/// Some rows of one population, with what the main pass found in them.
#[derive(Debug)]
pub(super) struct Chunk<'a, E: Element> {
    pub(super) kernels: &'a Kernels<E>,
    /// The values.
    pub(super) rows: &'a [&'a [E]],
    /// The index that each has in its batch.
    pub(super) indices: &'a [usize],
    /// The batch: sequence, position and token id of an index.
    pub(super) tokens: &'a TokenBatch,
    /// The largest magnitude, the sum and the sum of squares of each.
    pub(super) figures: &'a [RowFigures],
    /// The moments of every dim in these rows alone, with its smallest and largest value.
    pub(super) moments: &'a DimMoments,
    /// Sums that say in which block of [`BLOCK_ROWS`] rows the largest magnitude of each dim comes first; none if some value is not
    /// finite, or no statistic needs blocks.
    pub(super) blocks: Option<&'a [DimSums<E>]>,
    /// The norm of each, before and after centering; empty unless a statistic needs norms.
    pub(super) norms: &'a [[f64; 2]],
    /// The quantities of those that are finite; empty as well.
    pub(super) quantities: &'a [Quantities],
}

impl<'a, E: Element> Chunk<'a, E> {
    /// Whether all values of a row are finite.
    pub(super) fn is_finite(figures: &RowFigures) -> bool {
        figures.absmax < E::INFINITY_KEY.into()
    }

    /// The rows that are finite, as their indices in the batch: those that have quantities.
    pub(super) fn finite_indices(&self) -> impl Iterator<Item = usize> {
        self.indices.iter().zip(self.figures).filter(|(_, figures)| Self::is_finite(figures)).map(|(&index, _)| index)
    }

    /// Each row with its figures and its index in the batch.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a [E], &'a RowFigures, usize)> {
        self.rows.iter().zip(self.figures).zip(self.indices).map(|((&row, figures), &index)| (row, figures, index))
    }
}

/// What is recorded of one population, and can be merged, stored and restored. `mod.rs` has the laws.
pub(super) trait Accumulator: Sized + Clone + Debug + Send + Sync {
    /// Its name, among the settings of a site.
    const NAME: &'static str;

    /// Nothing recorded.
    fn new(shape: &Shape) -> Self;

    /// Takes in what another one of the same shape recorded, which may be left in any state.
    fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self);

    /// Adds what was recorded to `arrays`.
    fn save(&self, arrays: &mut Arrays);

    /// What `save` gave.
    ///
    /// # Errors
    /// `Error::State` if an array is missing, has another shape or contradicts the others.
    fn restore(arrays: &Arrays, shape: &Shape, n_tokens: u64) -> Result<Self>;

    /// Bytes held that grow with the dims or the settings.
    fn n_bytes(&self) -> usize;
}

/// An accumulator beside the main pass.
pub(super) trait Statistic: Accumulator {
    /// Whether the norms of tokens are to be computed for it.
    const NEEDS_NORMS: bool = false;

    /// Whether it looks for the largest values of dims again, and wants to know in which block.
    const NEEDS_BLOCKS: bool = false;

    /// Whether it takes whole calls, with all threads, instead of chunks. Others are kept once for each segment of a call as well, and
    /// merged in the segments' order.
    const TAKES_CALLS: bool = false;

    /// Memory to work in, one for each thread, kept from call to call. Its content means nothing.
    type Scratch: Debug + Default + Send;

    /// Whether a population has it, where the site is to keep it.
    fn is_of(_population: Population) -> bool {
        true
    }

    /// Becomes as new, in the memory that it has.
    fn clear(&mut self, shape: &Shape) {
        *self = Self::new(shape);
    }

    /// Takes in a chunk. `recorded` is what the site had recorded before the segments that are summarized now: what these need not look
    /// for again.
    fn update<E: Element>(&mut self, _chunk: &Chunk<'_, E>, _recorded: &Self, _scratch: &mut Self::Scratch) {}

    /// Takes in a population's rows of a call.
    fn update_call<E: Element>(&mut self, _call: &Call<'_, E>, _population: Population, _pool: &Pool, _n_threads: usize) {}
}
