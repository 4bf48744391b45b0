//! The main pass over a chunk of rows: codes, sums, moments of dims, norms. What else is kept takes in what it found.

use super::accumulator::{Accumulator, BLOCK_ROWS, Call, Chunk};
use super::population::Recorded;
use super::scratch::{Findings, Scratch};
use super::tables::Tables;
use super::token_norms::{quantities_of, set_norms};
use crate::dtype::Element;
use crate::kernel::{CodeTable, CodeTables, DimSums, RowFigures, slot};
use crate::tokens::Population;

/// Some rows of one population, with the index each has in its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkRows<'a, E> {
    pub(super) population: Population,
    pub(super) rows: &'a [&'a [E]],
    pub(super) indices: &'a [usize],
}

/// How the codes of a chunk are counted.
enum Counting<'a, 't> {
    /// All rows into one table.
    Together(&'a mut CodeTable),
    /// All rows into several tables.
    Interleaved(&'a mut CodeTables),
    /// Each row into the table of its block.
    ByBlock(&'a mut Tables<'t>),
}

impl<'a, 't> Counting<'a, 't> {
    fn of<E: Element>(call: &Call<'_, E>, chunk: &ChunkRows<'_, E>, tables: &'a mut Tables<'t>) -> Self {
        if tables.by_block(chunk.population) {
            Self::ByBlock(tables)
        } else if has_many_equal(chunk) {
            Self::Interleaved(tables.interleaved(chunk.population))
        } else {
            Self::Together(tables.of_sequence(chunk.population, call.tokens.sequence(chunk.indices[0])))
        }
    }

    /// The counters of a code of a row.
    fn of_code<E: Element>(&mut self, population: Population, sequence: i64, code: u16) -> &mut [u32] {
        match self {
            Self::Together(table) => std::slice::from_mut(&mut table[usize::from(code)]),
            Self::Interleaved(tables) => &mut tables[usize::from(slot::<E>(code))],
            Self::ByBlock(tables) => std::slice::from_mut(&mut tables.of_sequence(population, sequence)[usize::from(code)]),
        }
    }

    /// Moves the NaN of a row, counted under the codes that their bits give, to the codes where they belong.
    fn move_nan<E: Element>(&mut self, row: &[E], population: Population, sequence: i64) {
        for value in row.iter().filter(|value| value.key() > E::INFINITY_KEY) {
            let counters = self.of_code::<E>(population, sequence, value.code());
            if let Some(counter) = counters.iter_mut().find(|counter| **counter > 0) {
                *counter -= 1;
                self.of_code::<E>(population, sequence, value.code_of_any())[0] += 1;
            }
        }
    }
}

/// Counts the codes of all rows, adds them to `sums`, finds the figures of each, and in which blocks the largest values came.
fn pass_over<E: Element>(
    call: &Call<'_, E>,
    chunk: &ChunkRows<'_, E>,
    tables: &mut Tables<'_>,
    sums: &mut [DimSums<E>],
    findings: &mut Findings,
) {
    let kernels = &call.kernels;
    let figures = &mut findings.figures;
    figures.clear();
    figures.resize(chunk.rows.len(), RowFigures::default());
    kernels.begin(chunk.rows, sums);
    let mut counting = Counting::of(call, chunk, tables);
    let needs_blocks = call.config.statistics.need_blocks();
    // The sums go on from block to block, so that they are the same.
    let rows_at_once = if needs_blocks { BLOCK_ROWS } else { chunk.rows.len().max(1) };
    for (block, (rows, figures)) in chunk.rows.chunks(rows_at_once).zip(figures.chunks_mut(rows_at_once)).enumerate() {
        match &mut counting {
            Counting::Together(table) => kernels.row_pass(rows, table, sums, figures),
            Counting::Interleaved(tables) => kernels.row_pass_interleaved(rows, tables, sums, figures),
            Counting::ByBlock(_) => kernels.row_sums(rows, sums, figures),
        }
        if needs_blocks {
            kernels.mark_largest(block as u32, sums);
        }
    }
    if let Counting::ByBlock(tables) = &mut counting {
        for (row, &index) in chunk.rows.iter().zip(chunk.indices) {
            kernels.codes(row, tables.of_sequence(chunk.population, call.tokens.sequence(index)));
        }
    }
    for ((row, &index), figures) in chunk.rows.iter().zip(chunk.indices).zip(figures) {
        if figures.absmax > E::INFINITY_KEY.into() {
            counting.move_nan(row, chunk.population, call.tokens.sequence(index));
        }
    }
}

/// Values of a chunk that are looked at before it is counted, and how many equal ones among them are many. Of values that are spread as
/// activations mostly are, hardly ever more than two are equal.
const SAMPLE: usize = 64;
const MANY_EQUAL: usize = 5;

/// Whether many values of the chunk are equal, as zeros are after a ReLU.
fn has_many_equal<E: Element>(chunk: &ChunkRows<'_, E>) -> bool {
    let row = chunk.rows[chunk.rows.len() / 2];
    if chunk.rows.len() * row.len() < SAMPLE * SAMPLE {
        return false;
    }
    let (mut codes, mut n) = ([0; SAMPLE], 0);
    for (code, value) in codes.iter_mut().zip(row.iter().step_by(row.len().div_ceil(SAMPLE))) {
        *code = value.code();
        n += 1;
    }
    let codes = &mut codes[..n];
    codes.sort_unstable();
    codes.chunk_by(|a, b| a == b).any(|equal| equal.len() >= MANY_EQUAL)
}

impl Recorded {
    /// Takes in a chunk, and counts its codes into the tables. `before` is what the site had recorded before the segments that are
    /// summarized now; `sums` is overwritten.
    pub(super) fn update<E: Element>(
        &mut self,
        call: &Call<'_, E>,
        chunk: &ChunkRows<'_, E>,
        before: &Self,
        tables: &mut Tables<'_>,
        sums: &mut [DimSums<E>],
        scratch: &mut Scratch,
    ) {
        let kernels = &call.kernels;
        let Scratch { findings, of_statistics, .. } = scratch;
        pass_over(call, chunk, tables, sums, findings);
        let Findings { moments, figures, norms, quantities } = findings;
        self.n_tokens += chunk.rows.len() as u64;

        moments.clear(call.rows.n_dims());
        let is_finite = figures.iter().all(Chunk::<E>::is_finite);
        if is_finite {
            moments.set_to_finite(kernels, chunk.rows, sums, call.config.threshold);
        } else {
            moments.set_to_any(chunk.rows, call.config.threshold);
        }

        norms.clear();
        quantities.clear();
        if call.config.statistics.need_norms() {
            set_norms(chunk.rows, figures, norms);
            let finite = norms.iter().zip(&*figures).filter(|(_, figures)| Chunk::<E>::is_finite(figures));
            quantities.extend(finite.map(|(&norms, _)| quantities_of(norms)));
        }
        let found = Chunk {
            kernels,
            rows: chunk.rows,
            indices: chunk.indices,
            tokens: call.tokens,
            figures,
            moments,
            blocks: (is_finite && call.config.statistics.need_blocks()).then_some(&*sums),
            norms,
            quantities,
        };
        self.statistics.update(&found, &before.statistics, of_statistics);

        // Last, since the first chunk's moments need not be copied.
        if self.moments.is_empty() {
            std::mem::swap(&mut self.moments, moments);
        } else {
            self.moments.merge(kernels, moments);
        }
    }
}
