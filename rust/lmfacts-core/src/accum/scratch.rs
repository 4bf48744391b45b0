//! Memory that updates work in, kept from one call to the next.
//!
//! Hundreds of sites are updated one after the other. Each takes the same few pieces of memory, which are then in the caches still, and
//! once all kinds of sites had their turn, an update on one thread asks the system for next to nothing.

use std::any::Any;

use super::accumulator::Shape;
use super::moments::DimMoments;
use super::population::{Extent, Recorded, Scratches};
use super::tables::LooseCount;
use super::token_norms::Quantities;
use crate::dtype::Element;
use crate::kernel::{DimSums, RowFigures};
use crate::tokens::Population;

/// What one thread works in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) findings: Findings,
    pub(super) of_statistics: Scratches,
    /// What its segments recorded, in order.
    pub(super) done: Vec<(Population, Recorded)>,
    /// What it counted, but for what went into the site's own tables.
    pub(super) counts: Vec<LooseCount>,
    spare: Vec<Recorded>,
    rows: Vec<&'static [u8]>,
    // Of the last element type.
    typed: Option<Box<dyn Any + Send>>,
}

/// What the main pass finds in a chunk.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) moments: DimMoments,
    pub(super) figures: Vec<RowFigures>,
    pub(super) norms: Vec<[f64; 2]>,
    pub(super) quantities: Vec<Quantities>,
}

impl Default for Findings {
    fn default() -> Self {
        Self { moments: DimMoments::new(0), figures: Vec::new(), norms: Vec::new(), quantities: Vec::new() }
    }
}

/// Memory whose layout depends on the element type.
#[derive(Debug)]
pub(super) struct TypedScratch<E: Element> {
    /// Rows whose values are not contiguous, put together.
    pub(super) gathered: Vec<E>,
    /// The sums of a chunk.
    pub(super) sums: Vec<DimSums<E>>,
}

/// Bytes of what segments recorded that a thread keeps from one call to the next.
const MOST_BYTES: usize = 1 << 24;

impl Scratch {
    /// Leaves nothing of a call in it but the memory.
    pub(super) fn clear(&mut self) {
        self.spare.extend(self.done.drain(..).map(|(_, recorded)| recorded));
        // The last ones, so that sites of many dims do not keep those of other sites out for good.
        let mut n_bytes = 0;
        let fits = |recorded: &&Recorded| {
            n_bytes += recorded.n_bytes();
            n_bytes <= MOST_BYTES
        };
        let n_kept = self.spare.iter().rev().take_while(fits).count();
        self.spare.drain(..self.spare.len() - n_kept);
    }

    /// What a segment is to record into: no tokens yet.
    pub(super) fn segment(&mut self, shape: &Shape) -> Recorded {
        // One of as many dims need not grow, which would fill it with zeros.
        let is_suitable = |spare: &Recorded| spare.statistics.suits(shape) && spare.n_dims() == shape.n_dims;
        let suitable = self.spare.iter().rposition(is_suitable);
        let kept = suitable.map(|index| self.spare.remove(index));
        let mut recorded = kept.unwrap_or_else(|| Recorded::new(&Shape { n_dims: 0, ..*shape }, Extent::Segment));
        recorded.clear(shape);
        recorded
    }

    /// An empty list of rows, to be released with [`Self::release_rows`].
    pub(super) fn acquire_rows<'a, E: Element>(&mut self) -> Vec<&'a [E]> {
        recycled(std::mem::take(&mut self.rows))
    }

    /// Keeps the list's memory.
    pub(super) fn release_rows<E: Element>(&mut self, rows: Vec<&[E]>) {
        self.rows = recycled(rows);
    }

    /// Memory of any content, to be released with [`Self::release_typed`].
    #[expect(clippy::unnecessary_box_returns, reason = "the memory stays in the box that it is kept in")]
    pub(super) fn acquire_typed<E: Element>(&mut self) -> Box<TypedScratch<E>> {
        let kept = self.typed.take().and_then(|typed| typed.downcast::<TypedScratch<E>>().ok());
        kept.unwrap_or_else(|| Box::new(TypedScratch { gathered: Vec::new(), sums: Vec::new() }))
    }

    /// Keeps the memory.
    pub(super) fn release_typed<E: Element>(&mut self, typed: Box<TypedScratch<E>>) {
        self.typed = Some(typed);
    }
}

/// An empty list in the same memory, of any type and lifetime: a list that is collected from itself stays where it is.
fn recycled<'b, E, F>(mut rows: Vec<&[E]>) -> Vec<&'b [F]> {
    rows.clear();
    rows.into_iter().map(|_| unreachable!("the list is empty")).collect()
}
