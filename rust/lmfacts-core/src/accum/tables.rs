//! Which table a value's code is counted into.

use super::free_lists::FreeLists;
use super::population_codes::PopulationCodes;
use super::sequence_blocks::{N_BLOCKS, block_of};
use crate::dtype::Element;
use crate::kernel::{CodeTable, CodeTables, N_TABLES, slot};
use crate::tokens::Population;

/// A site's own table, or one that is added to it afterwards.
enum Table<'t> {
    Own(&'t mut CodeTable),
    Spare(Option<Box<CodeTable>>),
}

/// A count that belongs to one of a site's histograms.
#[derive(Debug, Clone, Copy)]
pub(super) struct LooseCount {
    histogram: u16,
    code: u16,
    count: u32,
}

impl LooseCount {
    /// Adds it to its histogram.
    pub(super) fn add_to(self, codes: &mut [PopulationCodes; 2]) {
        let [first, rest] = codes;
        match usize::from(self.histogram).checked_sub(1) {
            None => first.add_announced(0, self.code, self.count),
            Some(histogram) => rest.add_announced(histogram, self.code, self.count),
        }
    }
}

/// Counters that are looked at together: a line of the cache.
const COUNTERS_TOGETHER: usize = 16;

/// Codes whose counters in several tables fill such a line.
const CODES_TOGETHER: usize = COUNTERS_TOGETHER / N_TABLES;

/// Takes all counts out of a table.
fn take_counts(table: &mut CodeTable, histogram: usize, counts: &mut Vec<LooseCount>) {
    for (index, counters) in table.as_chunks_mut::<COUNTERS_TOGETHER>().0.iter_mut().enumerate() {
        if counters.iter().fold(0, |all, counter| all | counter) == 0 {
            continue;
        }
        for (place, counter) in counters.iter_mut().enumerate().filter(|(_, counter)| **counter > 0) {
            let code = (index * COUNTERS_TOGETHER + place) as u16;
            counts.push(LooseCount { histogram: histogram as u16, code, count: std::mem::take(counter) });
        }
    }
}

/// Takes all counts out of several tables.
fn take_sums<E: Element>(tables: &mut CodeTables, histogram: usize, counts: &mut Vec<LooseCount>) {
    for (index, codes) in tables.as_chunks_mut::<CODES_TOGETHER>().0.iter_mut().enumerate() {
        if codes.as_flattened().iter().fold(0, |all, counter| all | counter) == 0 {
            continue;
        }
        for (place, counters) in std::mem::take(codes).iter().enumerate().filter(|(_, counters)| **counters != [0; N_TABLES]) {
            let code = slot::<E>((index * CODES_TOGETHER + place) as u16);
            counts.push(LooseCount { histogram: histogram as u16, code, count: counters.iter().sum() });
        }
    }
}

/// The tables that one thread counts into: one of the first tokens, and one of the others or one of each block of them.
pub(super) struct Tables<'t> {
    tables: [Table<'t>; 1 + N_BLOCKS],
    /// Tables of each population for values of which many are equal.
    interleaved: [Option<Box<CodeTables>>; 2],
    by_block: bool,
    free: &'t FreeLists,
}

impl Table<'_> {
    fn get(&mut self, free: &FreeLists) -> &mut CodeTable {
        match self {
            Table::Own(table) => table,
            Table::Spare(table) => table.get_or_insert_with(|| free.tables.acquire()),
        }
    }
}

impl<'t> Tables<'t> {
    /// The site's own tables, which `n_values` more values are announced to.
    pub(super) fn own(codes: &'t mut [PopulationCodes; 2], n_values: u64, free: &'t FreeLists) -> Self {
        let by_block = codes[Population::Rest as usize].by_block();
        let mut own = codes.iter_mut().flat_map(|codes| codes.tables(n_values));
        let tables = std::array::from_fn(|_| own.next().map_or(Table::Spare(None), Table::Own));
        Self { tables, interleaved: [None, None], by_block, free }
    }

    /// Tables that are taken from the free ones when the first value comes.
    pub(super) fn spare(by_block: bool, free: &'t FreeLists) -> Self {
        Self { tables: std::array::from_fn(|_| Table::Spare(None)), interleaved: [None, None], by_block, free }
    }

    /// The table of the tokens of a population that stand in a sequence.
    pub(super) fn of_sequence(&mut self, population: Population, sequence: i64) -> &mut CodeTable {
        let index = match population {
            Population::First => 0,
            Population::Rest if self.by_block => 1 + block_of(sequence),
            Population::Rest => 1,
        };
        self.tables[index].get(self.free)
    }

    /// Whether each block of a population has its own table.
    pub(super) fn by_block(&self, population: Population) -> bool {
        self.by_block && population == Population::Rest
    }

    /// Tables that count for a population, one that has no blocks, beside its own.
    pub(super) fn interleaved(&mut self, population: Population) -> &mut CodeTables {
        self.interleaved[population as usize].get_or_insert_with(|| self.free.interleaved.acquire())
    }

    /// Takes the counts, of values of that type, out of the spare tables, and releases these. On the thread that counted: its
    /// processor has them at hand, and will have them again for the next call.
    pub(super) fn release<E: Element>(&mut self, counts: &mut Vec<LooseCount>) {
        for (histogram, table) in self.tables.iter_mut().enumerate() {
            if let Table::Spare(spare) = table
                && let Some(mut table) = spare.take()
            {
                take_counts(&mut table, histogram, counts);
                self.free.tables.release(table);
            }
        }
        for (histogram, tables) in self.interleaved.iter_mut().enumerate() {
            let Some(mut tables) = tables.take() else { continue };
            take_sums::<E>(&mut tables, histogram, counts);
            self.free.interleaved.release(tables);
        }
    }
}
