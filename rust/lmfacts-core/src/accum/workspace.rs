//! Memory that updates work in, kept from one call to the next.
//!
//! Hundreds of sites are updated one after the other. Each takes the same few pieces of memory, which are then in the caches still, and
//! once all kinds of sites had their turn, an update on one thread asks the system for next to nothing.

use std::any::Any;
use std::sync::Mutex;

use super::site::SiteConfig;
use super::summary::{Chunk, Scratch, Summary};
use crate::dtype::Element;

/// What one thread works in.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) scratch: Scratch,
    /// The summaries of its segments, in order.
    pub(super) done: Vec<[Summary; 2]>,
    spare: Vec<[Summary; 2]>,
    chunks: [Chunk<'static, u8>; 2],
    // Rows of the last element type that had to be gathered.
    gathered: Option<Box<dyn Any + Send>>,
}

/// Rows whose values do not lie side by side, put together.
pub(super) struct Gathered<E>(pub(super) Vec<E>);

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
        self.spare.append(&mut self.done);
        let mut n_bytes = 0;
        self.spare.retain(|summaries| {
            n_bytes += summaries.iter().map(Summary::n_bytes).sum::<usize>();
            n_bytes <= MOST_BYTES
        });
        if let Ok(mut idle) = IDLE.lock() {
            idle.push(self);
        }
    }

    /// Two summaries of no tokens.
    pub(super) fn summaries(&mut self, n_dims: usize, config: &SiteConfig) -> [Summary; 2] {
        let suitable = self.spare.iter().rposition(|summaries| summaries[0].suits(config));
        let kept = suitable.map(|index| self.spare.swap_remove(index));
        let mut summaries = kept.unwrap_or_else(|| [Summary::new(0, config), Summary::new(0, config)]);
        for summary in &mut summaries {
            summary.clear(n_dims, config);
        }
        summaries
    }

    /// Two empty chunks, to be handed back with [`Self::keep_chunks`].
    pub(super) fn chunks<'a, E: Element>(&mut self) -> [Chunk<'a, E>; 2] {
        std::mem::take(&mut self.chunks).map(Chunk::recycle)
    }

    /// Keeps the chunks' memory.
    pub(super) fn keep_chunks<E: Element>(&mut self, chunks: [Chunk<'_, E>; 2]) {
        self.chunks = chunks.map(Chunk::recycle);
    }

    /// Room for `n` values, of any content, to be handed back with [`Self::keep_gathered`].
    #[expect(clippy::unnecessary_box_returns, reason = "the rows stay in the box that they are kept in")]
    pub(super) fn gathered<E: Element>(&mut self, n: usize) -> Box<Gathered<E>> {
        let kept = self.gathered.take().and_then(|rows| rows.downcast::<Gathered<E>>().ok());
        let mut rows = kept.unwrap_or_else(|| Box::new(Gathered(Vec::new())));
        rows.0.resize(n, E::narrow(0.0));
        rows
    }

    /// Keeps the rows' memory.
    pub(super) fn keep_gathered<E: Element>(&mut self, rows: Box<Gathered<E>>) {
        self.gathered = Some(rows);
    }
}
