//! The histogram of 16-bit codes.

use crate::error::{Error, Result};
use crate::kernel::{CodeTable, CodeTables, N_CODES};

/// Counts for each of the 65,536 codes.
///
/// Counting goes into 32-bit counters (256 KiB, half of what 64 bits would take); before one of them could wrap, all are moved into
/// 64-bit counters, which most streams never need.
#[derive(Debug, Clone, Default)]
pub struct CodeHistogram {
    recent: Option<Box<CodeTable>>,
    n_recent: u64,
    folded: Option<Box<[u64; N_CODES]>>,
}

#[allow(clippy::unnecessary_box_returns)] // half a megabyte belongs on the heap
fn zeros<T: Copy + Default>() -> Box<[T; N_CODES]> {
    vec![T::default(); N_CODES].into_boxed_slice().try_into().unwrap_or_else(|_| unreachable!("the length is N_CODES"))
}

impl CodeHistogram {
    /// A table with nothing in it.
    pub fn zeroed_table() -> Box<CodeTable> {
        zeros()
    }

    /// Several tables with nothing in them.
    pub(crate) fn zeroed_tables() -> Box<CodeTables> {
        zeros()
    }

    /// The counters to count `n_incoming` more values into.
    ///
    /// # Panics
    /// If `n_incoming` alone could make a 32-bit counter wrap.
    pub fn table(&mut self, n_incoming: u64) -> &mut CodeTable {
        assert!(u32::try_from(n_incoming).is_ok(), "at most 2^32 - 1 values at a time");
        if self.n_recent + n_incoming > u64::from(u32::MAX) {
            self.fold();
        }
        self.n_recent += n_incoming;
        self.recent.get_or_insert_with(zeros)
    }

    /// Adds the counts of a table and sets it to zero. An earlier call of `table` must have announced its values.
    pub fn drain_table(&mut self, table: &mut CodeTable) {
        for (count, more) in self.table(0).iter_mut().zip(table) {
            *count += std::mem::take(more);
        }
    }

    /// Adds to a code's count. An earlier call of `table` must have announced the values.
    pub(super) fn add_announced(&mut self, code: u16, count: u32) {
        self.table(0)[usize::from(code)] += count;
    }

    fn fold(&mut self) {
        if let Some(recent) = &mut self.recent {
            let folded = self.folded.get_or_insert_with(zeros);
            for (total, count) in folded.iter_mut().zip(recent.iter_mut()) {
                *total += u64::from(std::mem::take(count));
            }
        }
        self.n_recent = 0;
    }

    /// Adds all counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        let (codes, counts) = other.sparse();
        self.add_sparse(&codes, &counts);
    }

    fn add_sparse(&mut self, codes: &[u16], counts: &[u64]) {
        let n: u64 = counts.iter().sum();
        if u32::try_from(self.n_recent + n).is_ok() {
            let table = self.table(n);
            for (&code, &count) in codes.iter().zip(counts) {
                table[usize::from(code)] += count as u32;
            }
        } else {
            let folded = self.folded.get_or_insert_with(zeros);
            for (&code, &count) in codes.iter().zip(counts) {
                folded[usize::from(code)] += count;
            }
        }
    }

    /// The codes that occur, ascending, and how often each does.
    pub fn sparse(&self) -> (Vec<u16>, Vec<u64>) {
        let count_of = |code: usize| {
            self.recent.as_ref().map_or(0, |table| u64::from(table[code])) + self.folded.as_ref().map_or(0, |table| table[code])
        };
        (0..N_CODES).map(|code| (code as u16, count_of(code))).filter(|&(_, count)| count > 0).unzip()
    }

    /// The histogram with those counts.
    ///
    /// # Errors
    /// `Error::State` if the lists differ in length or the codes do not ascend.
    pub fn from_sparse(codes: &[u16], counts: &[u64]) -> Result<Self> {
        if codes.len() != counts.len() || !codes.is_sorted_by(|a, b| a < b) {
            return Err(Error::State {
                field: "codes".into(),
                expected: "ascending codes with one count each".into(),
                got: format!("{} codes and {} counts", codes.len(), counts.len()),
            });
        }
        let mut histogram = Self::default();
        histogram.add_sparse(codes, counts);
        Ok(histogram)
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.recent.as_ref().map_or(0, |_| size_of::<CodeTable>())
            + self.folded.as_ref().map_or(0, |_| size_of::<[u64; N_CODES]>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_do_not_wrap() {
        let almost = u64::from(u32::MAX) - 1;
        let mut histogram = CodeHistogram::from_sparse(&[7], &[almost]).unwrap();
        for _ in 0..3 {
            histogram.table(1)[7] += 1;
        }
        assert_eq!(histogram.sparse(), (vec![7], vec![almost + 3]));
        let twice = histogram.clone();
        histogram.merge(&twice);
        assert_eq!(histogram.sparse().1, [2 * (almost + 3)]);
    }

    #[test]
    fn an_unordered_or_lopsided_state_is_refused() {
        assert!(CodeHistogram::from_sparse(&[7, 7], &[1, 1]).is_err());
        assert!(CodeHistogram::from_sparse(&[7], &[]).is_err());
    }
}
