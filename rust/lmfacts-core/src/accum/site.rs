//! `SiteAccumulator`: all statistics of one site, taken in one pass.
//!
//! A call's rows of each population are cut by index into segments, and these into chunks, whose moments are taken about one pivot. A
//! segment is summarized on one thread, and the summaries are merged in order of index. Which thread took which segment leaves no trace
//! in the result.

use std::ops::Range;

use super::codes::CodeHistogram;
use super::dim_histograms::DimHistograms;
use super::sequence_blocks::N_BLOCKS;
use super::site_state::{SiteState, block_codes, population_state, summary_from};
use super::summary::{Call, Chunk, Summary};
use super::tables::Tables;
use super::workspace::{Room, Workspace};
use crate::dtype::{Bf16, Dtype, Element, F8E4M3, F8E5M2, F16};
use crate::error::{Error, Result};
use crate::kernel::{DimSums, Kernels, Level};
use crate::parallel::{IeeeMode, Pool, split};
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

/// What is to be recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "switches that do not depend on each other")]
pub struct SiteConfig {
    /// Outliers to keep in each population.
    pub k: usize,
    /// Magnitude at or above which values are counted, dim by dim.
    pub threshold: f64,
    /// Whether to keep the sums that the mean cosine needs.
    pub unit_sums: bool,
    /// Whether to keep the tokens' norms.
    pub norms: bool,
    /// Whether to keep tokens and norms by blocks of sequences, and the largest values of the first sequences.
    pub blocks: bool,
    /// Whether to keep, for all tokens but the first of sequences, the codes by blocks of sequences and a histogram of each dim.
    pub detail: bool,
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self { k: 64, threshold: 6.0, unit_sums: false, norms: true, blocks: false, detail: false }
    }
}

/// The statistics of one site.
#[derive(Debug, Clone)]
pub struct SiteAccumulator {
    config: SiteConfig,
    level: Level,
    seen: Option<Seen>,
}

/// What the first update fixed, and all that was recorded since.
#[derive(Debug, Clone)]
struct Seen {
    dtype: Dtype,
    n_dims: usize,
    // Of the first tokens, then of each block of the others, or of all of these.
    codes: Vec<CodeHistogram>,
    summaries: [Summary; 2],
    dim_histograms: Option<DimHistograms>,
}

impl Seen {
    /// Adds what a thread brings back, and keeps its workspace for the next call.
    fn merge<E: Element>(&mut self, kernels: &Kernels<E>, mut workspace: Workspace) {
        for (population, summary) in &mut workspace.done {
            self.summaries[*population as usize].merge(kernels, summary);
        }
        for loose in workspace.counts.drain(..) {
            self.codes[usize::from(loose.histogram)].add_announced(loose.code, loose.count);
        }
        workspace.give_back();
    }
}

/// Bytes of a chunk: so many that what is done once a chunk hardly counts, so few that its rows are found in a cache when they are read
/// again.
const CHUNK_BYTES: usize = 1 << 22;

/// Rows of a chunk; a function of the shape and the type alone.
pub(super) fn chunk_rows<E: Element>(n_dims: usize) -> usize {
    (CHUNK_BYTES / size_of::<E>() / n_dims.max(1)).clamp(8, 256)
}

/// How the rows of a population are cut into segments; a function of their number and of that of the dims alone.
#[derive(Debug, Clone, Copy)]
struct Cut {
    population: Population,
    n_rows: usize,
    segment_rows: usize,
}

impl Cut {
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
    workspace: Workspace,
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
        Ok(Self { config, level, seen: None })
    }

    /// What is recorded.
    pub const fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// Type and number of dims, once known.
    pub fn layout(&self) -> Option<(Dtype, usize)> {
        self.seen.as_ref().map(|seen| (seen.dtype, seen.n_dims))
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.seen.as_ref().map_or(0, |seen| {
            seen.codes.iter().map(CodeHistogram::n_bytes).sum::<usize>()
                + seen.summaries.iter().map(Summary::n_bytes).sum::<usize>()
                + seen.dim_histograms.as_ref().map_or(0, DimHistograms::n_bytes)
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
        let seen = self.seen_mut(E::DTYPE, n_dims)?;

        // The first tokens are few. They fall to the first worker, whose tables need not be emptied afterwards.
        let cuts = Population::ALL.map(|population| Cut::new(population, tokens, n_dims));
        let n_segments = cuts.iter().map(|cut| cut.n_segments()).sum();
        let segment = |index: usize| match index.checked_sub(cuts[0].n_segments()) {
            None => cuts[0].segment(index),
            Some(index) => cuts[1].segment(index),
        };
        let segment_rows = cuts[0].segment_rows.max(cuts[1].segment_rows);
        let n_workers = if rows.n_rows() * n_dims < PARALLEL_VALUES { 1 } else { pool.n_threads() };
        let most_per_turn = (u32::MAX as usize / (segment_rows * n_dims)).max(1);
        let per_turn = (n_workers * SEGMENTS_PER_TURN).min(most_per_turn);
        for start in (0..n_segments).step_by(per_turn) {
            let turn = start..n_segments.min(start + per_turn);
            let floors = [seen.summaries[0].outliers.floor(), seen.summaries[1].outliers.floor()];
            let n_values = (turn.len() * segment_rows * n_dims) as u64;
            let by_block = seen.codes.len() > 2;
            let mut own = Some(Tables::own(&mut seen.codes, n_values));
            let worker = |segments| Worker {
                segments,
                tables: own.take().unwrap_or_else(|| Tables::lent(by_block)),
                workspace: Workspace::lend(),
            };
            let work = |worker: &mut Worker<'_>| {
                for index in worker.segments.clone() {
                    let segment = segment(index);
                    let floor = floors[segment.population as usize];
                    summarize(&call, &segment, floor, &mut worker.tables, &mut worker.workspace);
                }
                worker.tables.give_back::<E>(&mut worker.workspace.counts);
            };
            match n_workers.min(turn.len()) {
                1 => {
                    let mut alone = { worker }(turn);
                    pool.run(std::slice::from_mut(&mut alone), work);
                    let Worker { workspace, .. } = alone;
                    seen.merge(&call.kernels, workspace);
                }
                n => {
                    let mut workers: Vec<_> = split(&turn, n).map(worker).collect();
                    pool.run(&mut workers, work);
                    let workspaces: Vec<_> = workers.into_iter().map(|worker| worker.workspace).collect();
                    for workspace in workspaces {
                        seen.merge(&call.kernels, workspace);
                    }
                }
            }
        }
        if let Some(histograms) = &mut seen.dim_histograms {
            histograms.update(&rows, tokens.rows(Population::Rest), pool, n_workers);
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

    fn seen_mut(&mut self, dtype: Dtype, n_dims: usize) -> Result<&mut Seen> {
        let config = self.config;
        let seen = self.seen.get_or_insert_with(|| Seen {
            dtype,
            n_dims,
            codes: vec![CodeHistogram::default(); n_code_histograms(&config)],
            summaries: [Summary::new(n_dims, &config), Summary::new(n_dims, &config)],
            dim_histograms: config.detail.then(|| DimHistograms::new(n_dims)),
        });
        if seen.dtype != dtype {
            return Err(Error::Dtype { expected: format!("{}, as before", seen.dtype), got: dtype.to_string() });
        }
        if seen.n_dims != n_dims {
            return Err(Error::Layout { expected: format!("{} dims, as before", seen.n_dims), got: n_dims.to_string() });
        }
        Ok(seen)
    }

    /// Takes in all that another accumulator recorded.
    ///
    /// # Errors
    /// `Error::Merge` if the settings, types or numbers of dims differ. Nothing has changed then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let _mode = IeeeMode::enter();
        let differ = |what, expected: String, got: String| {
            if expected == got { Ok(()) } else { Err(Error::Merge { what, expected, got }) }
        };
        differ("k", self.config.k.to_string(), other.config.k.to_string())?;
        differ("threshold", self.config.threshold.to_string(), other.config.threshold.to_string())?;
        differ("unit_sums", self.config.unit_sums.to_string(), other.config.unit_sums.to_string())?;
        differ("blocks", self.config.blocks.to_string(), other.config.blocks.to_string())?;
        differ("detail", self.config.detail.to_string(), other.config.detail.to_string())?;
        let Some(theirs) = &other.seen else { return Ok(()) };
        if let Some(ours) = &self.seen {
            differ("dtype", ours.dtype.to_string(), theirs.dtype.to_string())?;
            differ("number of dims", ours.n_dims.to_string(), theirs.n_dims.to_string())?;
        }
        // How moments are merged does not depend on the element type.
        let kernels = self.kernels::<f32>()?;
        let ours = self.seen_mut(theirs.dtype, theirs.n_dims)?;
        for (codes, more) in ours.codes.iter_mut().zip(&theirs.codes) {
            codes.merge(more);
        }
        for (summary, more) in ours.summaries.iter_mut().zip(&theirs.summaries) {
            summary.merge(&kernels, &mut more.clone());
        }
        if let (Some(histograms), Some(more)) = (&mut ours.dim_histograms, &theirs.dim_histograms) {
            histograms.merge(more);
        }
        Ok(())
    }

    /// Sequence and position of the outliers that stand in this sequence or a later one; some more than once.
    pub fn outlier_places_from(&self, sequence: i64) -> Vec<(i64, i64)> {
        let summaries = self.seen.iter().flat_map(|seen| &seen.summaries);
        summaries.flat_map(|summary| summary.outliers.places_from(sequence)).collect()
    }

    /// All that was recorded, as plain numbers.
    pub fn state(&self) -> SiteState {
        let populations = match &self.seen {
            None => Default::default(),
            Some(seen) => {
                let (first, rest) = seen.codes.split_at(1);
                let mut states = [population_state(first, &seen.summaries[0]), population_state(rest, &seen.summaries[1])];
                if let Some(histograms) = &seen.dim_histograms {
                    (states[1].dim_bins, states[1].dim_bin_counts) = histograms.sparse();
                }
                states
            }
        };
        SiteState { config: self.config, layout: self.layout(), populations }
    }

    /// The accumulator that gave this state.
    ///
    /// # Errors
    /// `Error::State` if the parts do not fit together; `Error::Setting` as in [`Self::new`].
    pub fn from_state(state: &SiteState) -> Result<Self> {
        let mut accumulator = Self::new(state.config)?;
        if let Some((dtype, n_dims)) = state.layout {
            let refused = |field: String, expected: String, got: String| Error::State { field, expected, got };
            if n_dims == 0 || n_dims > MAX_DIMS {
                return Err(refused("n_dims".into(), format!("between 1 and {MAX_DIMS}"), n_dims.to_string()));
            }
            let restore = |population: Population| {
                let part = &state.populations[population as usize];
                let by_block = state.config.detail && population == Population::Rest;
                let summary = summary_from(part, n_dims, &state.config)
                    .map_err(|(field, expected, got)| refused(format!("{}/{field}", population.name()), expected, got))?;
                let codes =
                    if by_block { block_codes(part)? } else { vec![CodeHistogram::from_sparse(&part.codes, &part.counts)?] };
                Ok((codes, summary))
            };
            let ((mut codes, first), (rest_codes, rest)) = (restore(Population::First)?, restore(Population::Rest)?);
            codes.extend(rest_codes);
            let mut dim_histograms = None;
            if state.config.detail {
                let part = &state.populations[Population::Rest as usize];
                dim_histograms = DimHistograms::from_sparse(n_dims, &part.dim_bins, &part.dim_bin_counts);
                if dim_histograms.is_none() {
                    let got = format!("{} bins and {} counts", part.dim_bins.len(), part.dim_bin_counts.len());
                    return Err(refused("rest/dim_bins".into(), "ascending bins with one count each".into(), got));
                }
            }
            accumulator.seen = Some(Seen { dtype, n_dims, codes, summaries: [first, rest], dim_histograms });
        }
        Ok(accumulator)
    }
}

/// Summarizes the rows of a segment, chunk by chunk.
fn summarize<E: Element>(call: &Call<'_, E>, segment: &Segment, floor: f64, tables: &mut Tables<'_>, workspace: &mut Workspace) {
    let all = &call.rows;
    let n_dims = all.n_dims();
    let chunk_rows = chunk_rows::<E>(n_dims);
    let mut summary = workspace.summary(n_dims, &call.config);
    let mut room = workspace.room::<E>();
    let Room { gathered, sums } = &mut *room;
    gathered.resize(if all.side_by_side() { 0 } else { chunk_rows * n_dims }, E::narrow(0.0));
    sums.resize(DimSums::<E>::n_groups(n_dims), DimSums::default());
    for indices in call.tokens.rows(segment.population)[segment.range.clone()].chunks(chunk_rows) {
        let mut rows = workspace.rows();
        if all.side_by_side() {
            rows.extend(indices.iter().map(|&index| all.slice(index)));
        } else {
            for (&index, out) in indices.iter().zip(gathered.chunks_exact_mut(n_dims)) {
                all.gather(index, out);
            }
            rows.extend(gathered.chunks_exact(n_dims).take(indices.len()));
        }
        let chunk = Chunk { population: segment.population, rows: &rows, indices };
        summary.update(call, &chunk, floor, tables, sums, &mut workspace.scratch);
        workspace.keep_rows(rows);
    }
    workspace.keep_room(room);
    workspace.done.push((segment.population, summary));
}

/// One histogram of the codes of the first tokens, and one of the others or of each block of them.
const fn n_code_histograms(config: &SiteConfig) -> usize {
    1 + if config.detail { N_BLOCKS } else { 1 }
}
