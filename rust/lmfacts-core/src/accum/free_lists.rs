//! Pieces of memory that nobody uses at the moment.
//!
//! A pool of threads owns them: they go when it goes, and what one pool's calls need keeps nothing from another's.

use std::fmt;
use std::sync::Mutex;

use super::codes::CodeHistogram;
use super::scratch::Scratch;
use crate::kernel::{CodeTable, CodeTables};

/// What the updates of a pool work in, kept from one call to the next.
#[derive(Debug)]
pub(crate) struct FreeLists {
    pub(super) scratches: FreeList<Scratch>,
    /// With nothing in them.
    pub(super) tables: FreeList<Box<CodeTable>>,
    /// With nothing in them as well.
    pub(super) interleaved: FreeList<Box<CodeTables>>,
}

impl Default for FreeLists {
    fn default() -> Self {
        Self {
            // No more than were in use at a time.
            scratches: FreeList::new(usize::MAX, Scratch::default),
            // 8 MiB of each.
            tables: FreeList::new(32, CodeHistogram::zeroed_table),
            interleaved: FreeList::new(8, CodeHistogram::zeroed_tables),
        }
    }
}

/// Pieces of one kind.
pub(super) struct FreeList<T> {
    free: Mutex<Vec<T>>,
    most: usize,
    make: fn() -> T,
}

impl<T> FreeList<T> {
    const fn new(most: usize, make: fn() -> T) -> Self {
        Self { free: Mutex::new(Vec::new()), most, make }
    }

    /// The piece that was released last, or a new one.
    pub(super) fn acquire(&self) -> T {
        self.free.lock().ok().and_then(|mut free| free.pop()).unwrap_or_else(self.make)
    }

    /// Keeps a piece for the next [`Self::acquire`], unless there are enough of them.
    pub(super) fn release(&self, piece: T) {
        if let Ok(mut free) = self.free.lock()
            && free.len() < self.most
        {
            free.push(piece);
        }
    }
}

impl<T> fmt::Debug for FreeList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_free = self.free.lock().map_or(0, |free| free.len());
        f.debug_struct("FreeList").field("n_free", &n_free).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_released_last_comes_back_first_and_what_is_too_much_goes() {
        let list = FreeList::new(2, || 0);
        for piece in [1, 2, 3] {
            list.release(piece);
        }
        assert_eq!([list.acquire(), list.acquire(), list.acquire()], [2, 1, 0]);
    }
}
