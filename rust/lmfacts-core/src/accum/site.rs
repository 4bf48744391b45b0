//! `SiteAccumulator`: all statistics of one site, taken in one pass.
//!
//! A call's rows of each population are divided by index into segments, and these into chunks, whose moments are taken about one pivot. A
//! segment is summarized on one thread, and the summaries are merged in order of index. Which thread took which segment leaves no trace
//! in the result.

use std::ops::Range;

use super::accumulator::{Accumulator, Call, Shape};
use super::free_lists::FreeLists;
use super::main_pass::ChunkRows;
use super::moments::DimMoments;
use super::outliers::Outliers;
use super::population::{Extent, Recorded};
use super::population_codes::PopulationCodes;
use super::scratch::{Scratch, TypedScratch};
use super::tables::Tables;
use crate::config::SiteConfig;
use crate::dtype::{Bf16, Dtype, Element, F8E4M3, F8E5M2, F16};
use crate::error::{Error, Result};
use crate::kernel::{DimSums, Kernels, Level};
use crate::parallel::{IeeeMode, Pool, split};
use crate::state::{PopulationState, SiteState};
use crate::tokens::{Population, TokenBatch};
use crate::view::BufferView;

/// Values of a segment that is worth its merging.
const SEGMENT_VALUES: usize = 1 << 19;
/// So many segments keep the threads of most machines busy alike.
const MAX_SEGMENTS: usize = 64;
/// Segments that a thread takes before the summaries are merged.
const SEGMENTS_PER_TURN: usize = 8;
/// Below this many values a call is not worth a second thread.
const PARALLEL_VALUES: usize = 1 << 17;
/// So many dims that 32-bit counters hold any segment.
const MAX_DIMS: usize = 1 << 24;

/// The statistics of one site.
#[derive(Debug, Clone)]
pub struct SiteAccumulator {
    config: SiteConfig,
    level: Level,
    recorded: Option<Site>,
}

/// What the first update fixed, and all that was recorded since.
#[derive(Debug, Clone)]
struct Site {
    dtype: Dtype,
    n_dims: usize,
    codes: [PopulationCodes; 2],
    populations: [Recorded; 2],
}

impl Site {
    fn new(config: SiteConfig, dtype: Dtype, n_dims: usize) -> Self {
        let shapes = shapes(config, n_dims);
        let populations = shapes.map(|shape| Recorded::new(&shape, Extent::Site));
        Self { dtype, n_dims, codes: shapes.map(|shape| PopulationCodes::new(&shape)), populations }
    }

    /// Adds what a thread brings back, and releases its memory.
    fn merge_thread<E: Element>(&mut self, kernels: &Kernels<E>, mut scratch: Scratch, free: &FreeLists) {
        for (population, recorded) in &mut scratch.done {
            self.populations[*population as usize].merge(kernels, recorded);
        }
        for loose in scratch.counts.drain(..) {
            loose.add_to(&mut self.codes);
        }
        scratch.clear();
        free.scratches.release(scratch);
    }
}

/// The shapes of both populations' accumulators.
fn shapes(config: SiteConfig, n_dims: usize) -> [Shape; 2] {
    Population::ALL.map(|population| Shape { config, population, n_dims })
}

/// Bytes of a chunk: so many that what is done once a chunk hardly counts, so few that its rows are found in a cache when they are read
/// again.
const CHUNK_BYTES: usize = 1 << 22;

/// Rows of a chunk; a function of the shape and the type alone.
pub(super) fn chunk_rows<E: Element>(n_dims: usize) -> usize {
    (CHUNK_BYTES / size_of::<E>() / n_dims.max(1)).clamp(8, 256)
}

/// How the rows of a population are divided into segments; a function of their number and of that of the dims alone.
#[derive(Debug, Clone, Copy)]
struct Partition {
    population: Population,
    n_rows: usize,
    segment_rows: usize,
}

impl Partition {
    /// The number of segments is a power of two, so that two, four or eight threads have the same to do.
    fn new(population: Population, tokens: &TokenBatch, n_dims: usize) -> Self {
        let n_rows = tokens.rows(population).len();
        let n_values = n_rows * n_dims;
        let for_threads = if n_values < PARALLEL_VALUES { 1 } else { 2 };
        let n_segments = n_values.div_ceil(SEGMENT_VALUES).next_power_of_two().clamp(for_threads, MAX_SEGMENTS);
        // So few values that 32-bit counters hold several segments.
        let segment_rows = n_rows.div_ceil(n_segments).min(u32::MAX as usize / 8 / n_dims).max(1);
        Self { population, n_rows, segment_rows }
    }

    const fn n_segments(self) -> usize {
        self.n_rows.div_ceil(self.segment_rows)
    }

    fn segment(self, index: usize) -> Segment {
        let start = index * self.segment_rows;
        Segment { population: self.population, range: start..self.n_rows.min(start + self.segment_rows) }
    }
}

/// Some rows of a population, counted among its own.
struct Segment {
    population: Population,
    range: Range<usize>,
}

/// What a thread needs for its share, and what it brings back. The first counts into the site's own tables, the others into tables
/// that are added to them.
struct Worker<'t> {
    segments: Range<usize>,
    tables: Tables<'t>,
    scratch: Scratch,
}

impl SiteAccumulator {
    /// An empty accumulator, at the level in use.
    ///
    /// # Errors
    /// `Error::Setting` if the threshold is negative or NaN, or the level was set to one that does not exist.
    pub fn new(config: SiteConfig) -> Result<Self> {
        Self::at_level(config, Level::selected()?)
    }

    /// An empty accumulator whose updates use the kernels of `level`.
    ///
    /// # Errors
    /// `Error::Setting` as in [`Self::new`], and if this processor lacks the level.
    pub fn at_level(config: SiteConfig, level: Level) -> Result<Self> {
        if config.threshold.is_nan() || config.threshold < 0.0 {
            return Err(Error::Setting {
                setting: "threshold",
                expected: "a magnitude of at least 0".into(),
                got: config.threshold.to_string(),
            });
        }
        if !level.is_available() {
            return Err(Error::Setting {
                setting: "level",
                expected: "a level that this processor has".into(),
                got: level.to_string(),
            });
        }
        Ok(Self { config, level, recorded: None })
    }

    /// What is recorded.
    pub const fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// Type and number of dims, once known.
    pub fn layout(&self) -> Option<(Dtype, usize)> {
        self.recorded.as_ref().map(|site| (site.dtype, site.n_dims))
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.recorded.as_ref().map_or(0, |site| {
            site.codes.iter().map(Accumulator::n_bytes).sum::<usize>()
                + site.populations.iter().map(Recorded::n_bytes).sum::<usize>()
        })
    }

    /// Takes in a tensor whose leading axes are the batch's tokens. After an error nothing has changed.
    ///
    /// # Errors
    /// `Error::Layout` if the shape does not fit the batch or the number of dims seen before; `Error::Dtype` if the type differs
    /// from the one seen before.
    pub fn update(&mut self, view: &BufferView<'_>, tokens: &TokenBatch, pool: &Pool) -> Result<()> {
        let _mode = IeeeMode::enter();
        match view.dtype() {
            Dtype::F64 => self.update_as::<f64>(view, tokens, pool),
            Dtype::F32 => self.update_as::<f32>(view, tokens, pool),
            Dtype::Bf16 => self.update_as::<Bf16>(view, tokens, pool),
            Dtype::F16 => self.update_as::<F16>(view, tokens, pool),
            Dtype::F8E4M3 => self.update_as::<F8E4M3>(view, tokens, pool),
            Dtype::F8E5M2 => self.update_as::<F8E5M2>(view, tokens, pool),
        }
    }

    fn update_as<E: Element>(&mut self, view: &BufferView<'_>, tokens: &TokenBatch, pool: &Pool) -> Result<()> {
        let rows = view.rows::<E>(tokens.len())?;
        let n_dims = rows.n_dims();
        if n_dims == 0 || n_dims > MAX_DIMS {
            return Err(Error::Layout { expected: format!("between 1 and {MAX_DIMS} dims"), got: n_dims.to_string() });
        }
        let call = Call { kernels: self.kernels::<E>()?, config: self.config, rows, tokens };
        let shapes = shapes(self.config, n_dims);
        let site = self.site_mut(E::DTYPE, n_dims)?;

        // The first tokens are few. They fall to the first worker, whose tables need not be emptied afterwards.
        let partitions = Population::ALL.map(|population| Partition::new(population, tokens, n_dims));
        let n_segments = partitions.iter().map(|partition| partition.n_segments()).sum();
        let segment = |index: usize| match index.checked_sub(partitions[0].n_segments()) {
            None => partitions[0].segment(index),
            Some(index) => partitions[1].segment(index),
        };
        let segment_rows = partitions[0].segment_rows.max(partitions[1].segment_rows);
        let n_workers = if rows.n_rows() * n_dims < PARALLEL_VALUES { 1 } else { pool.n_threads() };
        let most_per_turn = (u32::MAX as usize / (segment_rows * n_dims)).max(1);
        let per_turn = (n_workers * SEGMENTS_PER_TURN).min(most_per_turn);
        let free = pool.free_lists();
        for start in (0..n_segments).step_by(per_turn) {
            let turn = start..n_segments.min(start + per_turn);
            let n_values = (turn.len() * segment_rows * n_dims) as u64;
            let by_block = site.codes[Population::Rest as usize].by_block();
            let mut own = Some(Tables::own(&mut site.codes, n_values, free));
            let worker = |segments| Worker {
                segments,
                tables: own.take().unwrap_or_else(|| Tables::spare(by_block, free)),
                scratch: free.scratches.acquire(),
            };
            let before = &site.populations;
            let work = |worker: &mut Worker<'_>| {
                for index in worker.segments.clone() {
                    let segment = segment(index);
                    let population = segment.population as usize;
                    let summary = (&shapes[population], &before[population]);
                    summarize(&call, &segment, summary, &mut worker.tables, &mut worker.scratch);
                }
                worker.tables.release::<E>(&mut worker.scratch.counts);
            };
            match n_workers.min(turn.len()) {
                1 => {
                    let mut alone = { worker }(turn);
                    pool.run(std::slice::from_mut(&mut alone), work);
                    let Worker { scratch, .. } = alone;
                    site.merge_thread(&call.kernels, scratch, free);
                }
                n => {
                    let mut workers: Vec<_> = split(&turn, n).map(worker).collect();
                    pool.run(&mut workers, work);
                    let scratches: Vec<_> = workers.into_iter().map(|worker| worker.scratch).collect();
                    for scratch in scratches {
                        site.merge_thread(&call.kernels, scratch, free);
                    }
                }
            }
        }
        for (population, recorded) in Population::ALL.into_iter().zip(&mut site.populations) {
            recorded.statistics.update_call(&call, population, pool, n_workers);
        }
        Ok(())
    }

    fn kernels<E: Element>(&self) -> Result<Kernels<E>> {
        Kernels::at(self.level).ok_or_else(|| Error::Setting {
            setting: "level",
            expected: "a level that this processor has".into(),
            got: self.level.to_string(),
        })
    }

    fn site_mut(&mut self, dtype: Dtype, n_dims: usize) -> Result<&mut Site> {
        let config = self.config;
        let site = self.recorded.get_or_insert_with(|| Site::new(config, dtype, n_dims));
        if site.dtype != dtype {
            return Err(Error::Dtype { expected: format!("{}, as before", site.dtype), got: dtype.to_string() });
        }
        if site.n_dims != n_dims {
            return Err(Error::Layout { expected: format!("{} dims, as before", site.n_dims), got: n_dims.to_string() });
        }
        Ok(site)
    }

    /// Takes in all that another accumulator recorded.
    ///
    /// # Errors
    /// `Error::Merge` if the settings, types or numbers of dims differ. Nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let _mode = IeeeMode::enter();
        if let Some((what, expected, got)) = self.config.difference(&other.config) {
            return Err(Error::Merge { what, expected, got });
        }
        let Some(theirs) = &other.recorded else { return Ok(()) };
        if let Some(ours) = &self.recorded {
            let differ = |what, expected: String, got: String| {
                if expected == got { Ok(()) } else { Err(Error::Merge { what, expected, got }) }
            };
            differ("dtype", ours.dtype.to_string(), theirs.dtype.to_string())?;
            differ("number of dims", ours.n_dims.to_string(), theirs.n_dims.to_string())?;
        }
        // How accumulators are merged does not depend on the element type.
        let kernels = self.kernels::<f32>()?;
        let ours = self.site_mut(theirs.dtype, theirs.n_dims)?;
        let Site { codes, populations, .. } = theirs.clone();
        for (codes, mut more) in ours.codes.iter_mut().zip(codes) {
            codes.merge(&kernels, &mut more);
        }
        for (recorded, mut more) in ours.populations.iter_mut().zip(populations) {
            recorded.merge(&kernels, &mut more);
        }
        Ok(())
    }

    /// Sequence and position of the outliers that stand in this sequence or a later one; some more than once.
    pub fn outlier_places_from(&self, sequence: i64) -> Vec<(i64, i64)> {
        let populations = self.recorded.iter().flat_map(|site| &site.populations);
        let outliers = populations.filter_map(|recorded| recorded.statistics.outliers());
        outliers.flat_map(|outliers: &Outliers| outliers.places_from(sequence)).collect()
    }

    /// The moments of the dims of a population, once there are any.
    pub(super) fn dim_moments(&self, population: Population) -> Option<&DimMoments> {
        self.recorded.as_ref().map(|site| &site.populations[population as usize].moments)
    }

    /// All that was recorded, as named arrays.
    pub fn state(&self) -> SiteState {
        let mut populations: [PopulationState; 2] = Default::default();
        if let Some(site) = &self.recorded {
            for ((state, codes), recorded) in populations.iter_mut().zip(&site.codes).zip(&site.populations) {
                state.n_tokens = recorded.n_tokens;
                codes.save(&mut state.arrays);
                recorded.save(&mut state.arrays);
            }
        }
        SiteState { config: self.config, layout: self.layout(), populations }
    }

    /// The accumulator that gave this state.
    ///
    /// # Errors
    /// `Error::State` if the parts do not fit together; `Error::Setting` as in [`Self::new`].
    pub fn from_state(state: &SiteState) -> Result<Self> {
        let mut accumulator = Self::new(state.config)?;
        let Some((dtype, n_dims)) = state.layout else { return Ok(accumulator) };
        if n_dims == 0 || n_dims > MAX_DIMS {
            let expected = format!("between 1 and {MAX_DIMS}");
            return Err(Error::State { field: "n_dims".into(), expected, got: n_dims.to_string() });
        }
        let restore = |shape: Shape| {
            let PopulationState { n_tokens, arrays } = &state.populations[shape.population as usize];
            let codes = PopulationCodes::restore(arrays, &shape, *n_tokens);
            let both =
                codes.and_then(|codes| Ok((codes, Recorded::restore(&state.populations[shape.population as usize], &shape)?)));
            both.map_err(|error| error.in_population(shape.population.name()))
        };
        let [first, rest] = shapes(state.config, n_dims).map(restore);
        let ((first_codes, first), (rest_codes, rest)) = (first?, rest?);
        accumulator.recorded = Some(Site { dtype, n_dims, codes: [first_codes, rest_codes], populations: [first, rest] });
        Ok(accumulator)
    }
}

/// Summarizes the rows of a segment, chunk by chunk. `before` is what the site had recorded before.
fn summarize<E: Element>(
    call: &Call<'_, E>,
    segment: &Segment,
    (shape, before): (&Shape, &Recorded),
    tables: &mut Tables<'_>,
    scratch: &mut Scratch,
) {
    let all = &call.rows;
    let n_dims = all.n_dims();
    let chunk_rows = chunk_rows::<E>(n_dims);
    let mut recorded = scratch.segment(shape);
    let mut typed = scratch.acquire_typed::<E>();
    let TypedScratch { gathered, sums } = &mut *typed;
    gathered.resize(if all.is_contiguous() { 0 } else { chunk_rows * n_dims }, E::narrow(0.0));
    sums.resize(DimSums::<E>::n_groups(n_dims), DimSums::default());
    for indices in call.tokens.rows(segment.population)[segment.range.clone()].chunks(chunk_rows) {
        let mut rows = scratch.acquire_rows();
        if all.is_contiguous() {
            rows.extend(indices.iter().map(|&index| all.slice(index)));
        } else {
            for (&index, out) in indices.iter().zip(gathered.chunks_exact_mut(n_dims)) {
                all.gather(index, out);
            }
            rows.extend(gathered.chunks_exact(n_dims).take(indices.len()));
        }
        let chunk = ChunkRows { population: segment.population, rows: &rows, indices };
        recorded.update(call, &chunk, before, tables, sums, scratch);
        scratch.release_rows(rows);
    }
    scratch.release_typed(typed);
    scratch.done.push((segment.population, recorded));
}
