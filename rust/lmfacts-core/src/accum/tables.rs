//! Which table a value's code is counted into.

use super::codes::CodeHistogram;
use super::sequence_blocks::{N_BLOCKS, block_of};
use crate::kernel::CodeTable;
use crate::tokens::{Population, TokenBatch};

/// A site's own table, or one that is added to it afterwards.
enum Table<'t> {
    Own(&'t mut CodeTable),
    Lent(Option<Box<CodeTable>>),
}

/// The tables that one thread counts into: one of the first tokens, and one of the others or one of each block of them.
pub(super) struct Tables<'t> {
    tables: [Table<'t>; 1 + N_BLOCKS],
    by_block: bool,
}

impl<'t> Tables<'t> {
    /// The histograms' own tables, which `n_values` more values are announced to.
    pub(super) fn own(codes: &'t mut [CodeHistogram], n_values: u64) -> Self {
        let by_block = codes.len() > 2;
        let mut codes = codes.iter_mut();
        let tables = std::array::from_fn(|_| codes.next().map_or(Table::Lent(None), |codes| Table::Own(codes.table(n_values))));
        Self { tables, by_block }
    }

    /// Tables that are taken from the spare ones when the first value comes.
    pub(super) fn lent(by_block: bool) -> Self {
        Self { tables: std::array::from_fn(|_| Table::Lent(None)), by_block }
    }

    /// The table of a token of the batch, which is not padding.
    pub(super) fn of_token(&mut self, tokens: &TokenBatch, row: usize) -> &mut CodeTable {
        let index = match tokens.population(row) {
            Some(Population::First) => 0,
            _ if self.by_block => 1 + block_of(tokens.place(row).0),
            _ => 1,
        };
        match &mut self.tables[index] {
            Table::Own(table) => table,
            Table::Lent(table) => table.get_or_insert_with(CodeHistogram::lend),
        }
    }

    /// The tables that were lent, with the index of the histogram each belongs to.
    pub(super) fn into_lent(self) -> impl Iterator<Item = (usize, Box<CodeTable>)> {
        self.tables.into_iter().enumerate().filter_map(|(index, table)| match table {
            Table::Lent(Some(table)) => Some((index, table)),
            _ => None,
        })
    }
}
