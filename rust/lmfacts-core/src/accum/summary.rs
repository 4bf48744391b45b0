//! Everything kept of one population but its code histogram.

use super::moments::DimMoments;
use super::outliers::{Outlier, Outliers};
use super::sequence_blocks::SequenceBlocks;
use super::site::SiteConfig;
use super::tables::Tables;
use super::token_norms::{Quantities, TokenNorms, quantities_of, set_norms};
use super::unit_sums::UnitSums;
use crate::dtype::Element;
use crate::kernel::{CodeTable, CodeTables, DimSums, Kernels, RowFigures, slot};
use crate::tokens::{Population, TokenBatch};
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'a, E> {
    pub(super) population: Population,
    pub(super) rows: &'a [&'a [E]],
    pub(super) indices: &'a [usize],
}

/// Memory for what an update works with; nothing in it outlives the update.
#[derive(Debug)]
pub(super) struct Scratch {
    dims: DimMoments,
    figures: Vec<RowFigures>,
    norms: Vec<[f64; 2]>,
    tokens: Vec<Quantities>,
    sequences: Vec<i64>,
    norm_codes: Vec<u16>,
}

impl Default for Scratch {
    fn default() -> Self {
        let dims = DimMoments::new(0);
        Self { dims, figures: Vec::new(), norms: Vec::new(), tokens: Vec::new(), sequences: Vec::new(), norm_codes: Vec::new() }
    }
}

/// How the codes of a chunk are counted.
enum Counting<'a, 't> {
    /// All rows into one table.
    Together(&'a mut CodeTable),
    /// All rows into several tables.
    Apart(&'a mut CodeTables),
    /// Each row into the table of its block.
    ByBlock(&'a mut Tables<'t>),
}

impl<'a, 't> Counting<'a, 't> {
    fn of<E: Element>(call: &Call<'_, E>, chunk: &Chunk<'_, E>, tables: &'a mut Tables<'t>) -> Self {
        if tables.by_block(chunk.population) {
            Self::ByBlock(tables)
        } else if has_many_equal(chunk) {
            Self::Apart(tables.apart(chunk.population))
        } else {
            Self::Together(tables.of_sequence(chunk.population, call.tokens.sequence(chunk.indices[0])))
        }
    }

    /// The counters of a code of a row.
    fn of_code<E: Element>(&mut self, population: Population, sequence: i64, code: u16) -> &mut [u32] {
        match self {
            Self::Together(table) => std::slice::from_mut(&mut table[usize::from(code)]),
            Self::Apart(tables) => &mut tables[usize::from(slot::<E>(code))],
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

/// Counts the codes of all rows, adds them to `sums`, and gives the figures of each in `figures`.
fn pass_over<E: Element>(
    call: &Call<'_, E>,
    chunk: &Chunk<'_, E>,
    tables: &mut Tables<'_>,
    sums: &mut [DimSums<E>],
    figures: &mut Vec<RowFigures>,
) {
    let kernels = &call.kernels;
    figures.clear();
    figures.resize(chunk.rows.len(), RowFigures::default());
    kernels.begin(chunk.rows, sums);
    let mut counting = Counting::of(call, chunk, tables);
    match &mut counting {
        Counting::Together(table) => kernels.row_pass(chunk.rows, table, sums, figures),
        Counting::Apart(tables) => kernels.row_pass_apart(chunk.rows, tables, sums, figures),
        Counting::ByBlock(tables) => {
            kernels.row_sums(chunk.rows, sums, figures);
            for (row, &index) in chunk.rows.iter().zip(chunk.indices) {
                kernels.codes(row, tables.of_sequence(chunk.population, call.tokens.sequence(index)));
            }
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
fn has_many_equal<E: Element>(chunk: &Chunk<'_, E>) -> bool {
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

    /// Becomes no tokens of `n_dims` dims under settings that it suits, in the memory that it has.
    pub(super) fn clear(&mut self, n_dims: usize, config: &SiteConfig) {
        self.n_tokens = 0;
        self.dims.clear(n_dims);
        self.norms.clear();
        if let Some(units) = &mut self.units {
            units.clear(n_dims);
        }
        self.outliers.clear(config.k);
        if let Some(blocks) = &mut self.blocks {
            **blocks = SequenceBlocks::default();
        }
    }

    /// Whether it keeps what the settings ask for, and nothing else.
    pub(super) const fn suits(&self, config: &SiteConfig) -> bool {
        self.units.is_some() == config.unit_sums && self.blocks.is_some() == config.blocks
    }

    /// Takes in a chunk, and counts its codes into the tables. `floor` is a magnitude that k values elsewhere have reached already, so
    /// that smaller ones need not be looked at; `sums` is overwritten.
    pub(super) fn update<E: Element>(
        &mut self,
        call: &Call<'_, E>,
        chunk: &Chunk<'_, E>,
        floor: f64,
        tables: &mut Tables<'_>,
        sums: &mut [DimSums<E>],
        scratch: &mut Scratch,
    ) {
        let (kernels, threshold) = (&call.kernels, call.config.threshold);
        let infinity: u64 = E::INFINITY_KEY.into();
        let Scratch { dims, figures, norms, tokens, sequences, norm_codes } = scratch;
        pass_over(call, chunk, tables, sums, figures);
        self.n_tokens += chunk.rows.len() as u64;

        dims.clear(call.rows.n_dims());
        if figures.iter().all(|row| row.absmax < infinity) {
            dims.set_to_finite(kernels, chunk.rows, sums, threshold);
        } else {
            dims.set_to_any(chunk.rows, threshold);
        }
        if self.dims.is_empty() {
            std::mem::swap(&mut self.dims, dims);
        } else {
            self.dims.merge(kernels, dims);
        }

        self.offer_rows(call, chunk, figures, floor);
        if let Some(blocks) = &mut self.blocks {
            for ((row, figures), &index) in chunk.rows.iter().zip(&*figures).zip(chunk.indices) {
                blocks.take_in(row, figures.absmax, call.tokens.place(index));
            }
        }

        if call.config.norms || self.units.is_some() {
            set_norms(chunk.rows, figures, norms);
            let is_finite = |(_, figures): &(_, &RowFigures)| figures.absmax < infinity;
            tokens.clear();
            tokens.extend(norms.iter().zip(&*figures).filter(is_finite).map(|(&norms, _)| quantities_of(norms)));
            if let Some(units) = &mut self.units {
                units.update(kernels, chunk.rows.iter().zip(&*norms).map(|(&row, &[norm, _])| (row, norm)));
            }
            self.norms.update(tokens, norm_codes);
            if let Some(blocks) = &mut self.blocks {
                let finite = chunk.indices.iter().zip(&*figures).filter(|(_, figures)| figures.absmax < infinity);
                sequences.clear();
                sequences.extend(finite.map(|(&index, _)| call.tokens.sequence(index)));
                blocks.update_norms(sequences, tokens);
            }
        }
    }

    /// Offers what the rows have at or above the floor.
    fn offer_rows<E: Element>(&mut self, call: &Call<'_, E>, chunk: &Chunk<'_, E>, figures: &[RowFigures], floor: f64) {
        let key_of = |magnitude: f64| -> u64 { E::narrow(magnitude).key().into() };
        let mut least = key_of(floor.max(self.outliers.floor()));
        for ((row, figures), &index) in chunk.rows.iter().zip(figures).zip(chunk.indices) {
            if figures.absmax < least {
                continue;
            }
            let place = call.tokens.place(index);
            let floor = floor.max(self.outliers.floor());
            // Of many values that tie with the last of a full list, all those that stand after it are passed over together.
            let above = u64::from(self.outliers.turns_down_ties(floor, place.0, place.1));
            let wanted = key_of(floor) + above;
            if figures.absmax >= wanted {
                self.offer(&call.kernels, row, wanted, place);
                least = key_of(floor.max(self.outliers.floor()));
            }
        }
    }

    fn offer<E: Element>(
        &mut self,
        kernels: &Kernels<E>,
        row: &[E],
        wanted: u64,
        (sequence, position, token_id): (i64, i64, i64),
    ) {
        for (index, group) in row.chunks(OFFER_DIMS).enumerate() {
            if kernels.absmax(group).into() < wanted {
                continue;
            }
            for (place, value) in group.iter().enumerate() {
                let key = value.key();
                if key.into() >= wanted && key < E::INFINITY_KEY {
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

    /// Of how many dims.
    pub(super) fn n_dims(&self) -> usize {
        self.dims.n_dims()
    }

    /// Bytes held, but for the norms' codes, of which there are a few hundred.
    pub(super) fn n_bytes(&self) -> usize {
        let units = if self.units.is_some() { 16 * self.dims.n_dims() } else { 0 };
        let blocks = if self.blocks.is_some() { SequenceBlocks::n_bytes() } else { 0 };
        self.dims.n_bytes() + units + self.outliers.n_bytes() + blocks
    }
}
