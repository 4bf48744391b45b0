//! Memory that updates work in, kept from one call to the next.
//!
//! Hundreds of sites are updated one after the other. Each takes the same few pieces of memory, which are then in the caches still, and
//! once all kinds of sites had their turn, an update on one thread asks the system for next to nothing.

use std::any::Any;
use std::sync::Mutex;

use super::site::SiteConfig;
use super::summary::{Scratch, Summary};
use super::tables::LooseCount;
use crate::dtype::Element;
use crate::kernel::DimSums;
use crate::tokens::Population;

/// What one thread works in.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) scratch: Scratch,
    /// The summaries of its segments, in order.
    pub(super) done: Vec<(Population, Summary)>,
    /// What it counted, but for what went into the site's own tables.
    pub(super) counts: Vec<LooseCount>,
    spare: Vec<Summary>,
    rows: Vec<&'static [u8]>,
    // The room of the last element type.
    room: Option<Box<dyn Any + Send>>,
}

/// Memory whose layout depends on the element type.
#[derive(Debug)]
pub(super) struct Room<E: Element> {
    /// Rows whose values do not lie side by side, put together.
    pub(super) gathered: Vec<E>,
    /// The sums of a chunk.
    pub(super) sums: Vec<DimSums<E>>,
}

/// Bytes of summaries that a thread keeps from one call to the next.
const MOST_BYTES: usize = 1 << 24;

static IDLE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

impl Workspace {
    /// An idle one, or a new one.
    pub(super) fn lend() -> Self {
        IDLE.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or_default()
    }

    /// Keeps it for the next call.
    pub(super) fn give_back(mut self) {
        self.spare.extend(self.done.drain(..).map(|(_, summary)| summary));
        // The last ones, so that sites of many dims do not keep those of other sites out for good.
        let mut n_bytes = 0;
        let fits = |summary: &&Summary| {
            n_bytes += summary.n_bytes();
            n_bytes <= MOST_BYTES
        };
        let n_kept = self.spare.iter().rev().take_while(fits).count();
        self.spare.drain(..self.spare.len() - n_kept);
        if let Ok(mut idle) = IDLE.lock() {
            idle.push(self);
        }
    }

    /// A summary of no tokens.
    pub(super) fn summary(&mut self, n_dims: usize, config: &SiteConfig) -> Summary {
        // One of as many dims need not grow, which would fill it with zeros.
        let suitable = self.spare.iter().rposition(|summary| summary.suits(config) && summary.n_dims() == n_dims);
        let kept = suitable.map(|index| self.spare.remove(index));
        let mut summary = kept.unwrap_or_else(|| Summary::new(0, config));
        summary.clear(n_dims, config);
        summary
    }

    /// An empty list of rows, to be handed back with [`Self::keep_rows`].
    pub(super) fn rows<'a, E: Element>(&mut self) -> Vec<&'a [E]> {
        recycled(std::mem::take(&mut self.rows))
    }

    /// Keeps the list's memory.
    pub(super) fn keep_rows<E: Element>(&mut self, rows: Vec<&[E]>) {
        self.rows = recycled(rows);
    }

    /// Room of any content, to be handed back with [`Self::keep_room`].
    #[expect(clippy::unnecessary_box_returns, reason = "the room stays in the box that it is kept in")]
    pub(super) fn room<E: Element>(&mut self) -> Box<Room<E>> {
        let kept = self.room.take().and_then(|room| room.downcast::<Room<E>>().ok());
        kept.unwrap_or_else(|| Box::new(Room { gathered: Vec::new(), sums: Vec::new() }))
    }

    /// Keeps the room's memory.
    pub(super) fn keep_room<E: Element>(&mut self, room: Box<Room<E>>) {
        self.room = Some(room);
    }
}

/// An empty list in the same memory, of any type and lifetime: a list that is collected from itself stays where it is.
fn recycled<'b, E, F>(mut rows: Vec<&[E]>) -> Vec<&'b [F]> {
    rows.clear();
    rows.into_iter().map(|_| unreachable!("the list is empty")).collect()
}
