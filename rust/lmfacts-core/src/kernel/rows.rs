//! The pass over whole rows: the codes of all values, the sums of every row, and the sums of powers of every dim.
//!
//! Counting a code loads and stores a counter, which occupies other units of a processor than arithmetic does, so all of it is done in
//! one loop. It takes a few rows side by side and goes along them: a group's sums are then loaded and stored once for all of these
//! rows, a row's own sums stay in registers from end to end, and memory is read in the order in which the processor fetches ahead.
//! Where there are too few registers for both, a row's own sums are taken in a loop of their own just before: reading a row again
//! from the first cache costs less than a store of each of its sums in every group. The order of additions is the same.
//!
//! **Moments.** A chunk of rows is summed about a pivot for each dim, and its sums are turned into central moments. The pivot is the
//! mean of every [`PIVOT_STEP`]th row of the chunk. Whatever the data, that mean lies within `sqrt(PIVOT_STEP - 1)` standard deviations
//! of the mean of all the rows (Cauchy-Schwarz on the sampled and the left-out rows), so turning sums about it into central moments
//! cancels less than three of the sixteen digits. No choice made at the start of a stream can spoil what comes later.

use super::generic::{central, fold_lanes, sum_lanes};
use super::{CodeTable, CodeTables, MomentRows, N_TABLES, RowFigures, prefetch, slots};
use crate::dtype::{Element, GROUP};

/// Every how many rows one is used for the pivot.
pub(crate) const PIVOT_STEP: usize = 32;

/// Rows that are added to the pivots together.
const PIVOT_ROWS: usize = 8;

/// Rows whose figures are added up together.
const FOLD_ROWS: usize = 8;

/// Rows up to so many bytes are fetched while those before them are added: where rows are short, the processor's own fetching ahead
/// has hardly begun when a row ends. Along longer ones it does better alone.
const FETCHED_BYTES: usize = 8192;

/// Lines of a longer row that are fetched before its turn comes.
const LINES_AHEAD: usize = 4;

/// Rows of which the values that reached a threshold are counted together.
const COUNTED_ROWS: usize = 8;

/// Groups that a bit each is kept of.
const MASK_GROUPS: usize = u64::BITS as usize;

/// Bytes of a line on most processors.
const CACHE_LINE: usize = 64;

/// Sums over the rows of a chunk, of a group of dims.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct DimSums<E: Element> {
    pivot: [f64; GROUP],
    t1: [f64; GROUP],
    t2: [f64; GROUP],
    t3: [f64; GROUP],
    t4: [f64; GROUP],
    min: [E::Ordered; GROUP],
    max: [E::Ordered; GROUP],
    /// The largest magnitude when blocks were last marked, and the block where it came first.
    largest: [E::Ordered; GROUP],
    blocks: [u32; GROUP],
}

impl<E: Element> Default for DimSums<E> {
    fn default() -> Self {
        let zero = [0.0; GROUP];
        Self {
            pivot: zero,
            t1: zero,
            t2: zero,
            t3: zero,
            t4: zero,
            min: [E::LARGEST; GROUP],
            max: [E::SMALLEST; GROUP],
            largest: [E::SMALLEST; GROUP],
            blocks: [0; GROUP],
        }
    }
}

impl<E: Element> DimSums<E> {
    /// How many groups rows of that many dims have; the last may not be full.
    pub const fn n_groups(n_dims: usize) -> usize {
        n_dims.div_ceil(GROUP)
    }

    /// In which of the blocks that were marked the largest magnitude of a dim came first.
    pub(crate) fn block_of_largest(sums: &[Self], dim: usize) -> usize {
        sums[dim / GROUP].blocks[dim % GROUP] as usize
    }

    /// Some lanes of the group, from `first` on.
    #[inline(always)]
    fn part<const LANES: usize>(&self, first: usize) -> PartSums<E, LANES> {
        PartSums {
            pivot: part_of(&self.pivot, first),
            t1: part_of(&self.t1, first),
            t2: part_of(&self.t2, first),
            t3: part_of(&self.t3, first),
            t4: part_of(&self.t4, first),
            min: part_of(&self.min, first),
            max: part_of(&self.max, first),
        }
    }

    /// Sets these lanes, but for the pivot, which never changes.
    #[inline(always)]
    fn set_part<const LANES: usize>(&mut self, first: usize, part: &PartSums<E, LANES>) {
        self.t1[first..first + LANES].copy_from_slice(&part.t1);
        self.t2[first..first + LANES].copy_from_slice(&part.t2);
        self.t3[first..first + LANES].copy_from_slice(&part.t3);
        self.t4[first..first + LANES].copy_from_slice(&part.t4);
        self.min[first..first + LANES].copy_from_slice(&part.min);
        self.max[first..first + LANES].copy_from_slice(&part.max);
    }
}

#[inline(always)]
fn part_of<T: Copy, const LANES: usize>(list: &[T; GROUP], first: usize) -> [T; LANES] {
    std::array::from_fn(|lane| list[first + lane])
}

/// As many lanes of a group's sums as a level's registers hold.
struct PartSums<E: Element, const LANES: usize> {
    pivot: [f64; LANES],
    t1: [f64; LANES],
    t2: [f64; LANES],
    t3: [f64; LANES],
    t4: [f64; LANES],
    min: [E::Ordered; LANES],
    max: [E::Ordered; LANES],
}

impl<E: Element, const LANES: usize> PartSums<E, LANES> {
    #[inline(always)]
    fn add(&mut self, lane: usize, value: E, x: f64) {
        let ordered = value.ordered();
        self.min[lane] = if ordered < self.min[lane] { ordered } else { self.min[lane] };
        self.max[lane] = if ordered > self.max[lane] { ordered } else { self.max[lane] };
        let y = x - self.pivot[lane];
        let y2 = y * y;
        self.t1[lane] += y;
        self.t2[lane] += y2;
        self.t3[lane] += y2 * y;
        self.t4[lane] += y2 * y2;
    }
}

/// The figures of a row, lane by lane.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct RowLanes<E: Element> {
    sum: [f64; GROUP],
    square: [f64; GROUP],
    largest: [E::Key; GROUP],
}

impl<E: Element> RowLanes<E> {
    #[inline(always)]
    fn zero() -> Self {
        Self { sum: [0.0; GROUP], square: [0.0; GROUP], largest: [E::Key::default(); GROUP] }
    }

    #[inline(always)]
    fn add(&mut self, lane: usize, value: E, x: f64) {
        self.largest[lane] = self.largest[lane].max(value.key());
        self.sum[lane] += x;
        self.square[lane] += x * x;
    }
}

/// Where codes are counted.
pub(super) trait Counters {
    /// Whether they are counted at all.
    const COUNTS: bool = true;
    /// Where the counters of codes stand, up to four in a word.
    #[inline(always)]
    fn slots<E: Element>(codes: u64) -> u64 {
        codes
    }
    /// Counts a value, whose code's counters stand there, in this lane of its group.
    fn count_at(&mut self, lane: usize, slot: u16);
}

impl Counters for CodeTable {
    #[inline(always)]
    fn count_at(&mut self, _lane: usize, slot: u16) {
        self[usize::from(slot)] += 1;
    }
}

/// A counter that grows by one again and again waits each time for its last value to be stored. Several tables, of which neighbouring
/// lanes use different ones, let equal neighbours go on side by side.
impl Counters for CodeTables {
    #[inline(always)]
    fn slots<E: Element>(codes: u64) -> u64 {
        slots::<E>(codes)
    }
    #[inline(always)]
    fn count_at(&mut self, lane: usize, slot: u16) {
        self[usize::from(slot)][lane % N_TABLES] += 1;
    }
}

/// Nowhere.
impl Counters for () {
    const COUNTS: bool = false;
    #[inline(always)]
    fn count_at(&mut self, _lane: usize, _slot: u16) {}
}

/// Begins the sums of a chunk: all are empty, and the pivots are the mean of every [`PIVOT_STEP`]th row.
#[inline(always)]
pub(super) fn begin<E: Element>(rows: &[&[E]], sums: &mut [DimSums<E>]) {
    sums.fill(DimSums::default());
    // A few at a time: rows that lie far apart are then fetched side by side, and do not drive each other out of the cache.
    for rows in rows.chunks(PIVOT_ROWS * PIVOT_STEP) {
        for (index, sums) in sums.iter_mut().enumerate() {
            let mut pivot = sums.pivot;
            for row in rows.iter().step_by(PIVOT_STEP) {
                let rest = &row[index * GROUP..];
                if let Some(group) = rest.first_chunk::<GROUP>() {
                    for lane in 0..GROUP {
                        pivot[lane] += group[lane].widen();
                    }
                } else {
                    for (pivot, value) in pivot.iter_mut().zip(rest) {
                        *pivot += value.widen();
                    }
                }
            }
            sums.pivot = pivot;
        }
    }
    let n_sampled = rows.len().div_ceil(PIVOT_STEP) as f64;
    for sums in sums {
        sums.pivot = sums.pivot.map(|sum| sum / n_sampled);
    }
}

/// Adds rows to the sums of the dims, counts their codes, and sets their figures.
///
/// `ROWS` go side by side. `LANES` of a group's sums are in registers at a time; where they are fewer than a group has, a row's own sums
/// are taken separately.
#[inline(always)]
pub(super) fn row_pass<E: Element, const ROWS: usize, const LANES: usize, C: Counters>(
    rows: &[&[E]],
    counters: &mut C,
    sums: &mut [DimSums<E>],
    figures: &mut [RowFigures],
) {
    assert_eq!(rows.len(), figures.len(), "each row has its figures");
    for (index, figures) in figures.chunks_mut(FOLD_ROWS).enumerate() {
        let (tile, ahead) = rows[index * FOLD_ROWS..].split_at(figures.len());
        let mut lanes = [RowLanes::zero(); FOLD_ROWS];
        let (together, singles) = tile.as_chunks::<ROWS>();
        let (lanes_together, lanes_of_singles) = lanes.split_at_mut(together.len() * ROWS);
        for (index, (rows, lanes)) in together.iter().zip(lanes_together.as_chunks_mut::<ROWS>().0).enumerate() {
            let next = together.get(index + 1).map_or(&ahead[..ahead.len().min(ROWS)], |rows| rows);
            add_rows::<E, ROWS, LANES, C>(rows, next, counters, sums, lanes);
        }
        for (row, lanes) in singles.iter().zip(lanes_of_singles) {
            add_rows::<E, 1, GROUP, C>(std::array::from_ref(row), &[], counters, sums, std::array::from_mut(lanes));
        }
        fold_rows(&lanes[..tile.len()], figures);
    }
}

/// As `row_pass`, without codes.
#[inline(always)]
pub(super) fn row_sums<E: Element, const ROWS: usize, const LANES: usize>(
    rows: &[&[E]],
    sums: &mut [DimSums<E>],
    figures: &mut [RowFigures],
) {
    row_pass::<E, ROWS, LANES, ()>(rows, &mut (), sums, figures);
}

/// Adds up to four rows side by side, and asks for those that come next.
#[inline(always)]
fn add_rows<E: Element, const ROWS: usize, const LANES: usize, C: Counters>(
    rows: &[&[E]; ROWS],
    next: &[&[E]],
    counters: &mut C,
    sums: &mut [DimSums<E>],
    lanes: &mut [RowLanes<E>; ROWS],
) {
    const { assert!(ROWS == 1 || ROWS == 2 || ROWS == 4, "the rows are written out below") };
    const { assert!(LANES == GROUP || 2 * LANES == GROUP, "the parts of a group are written out below") };
    let n = rows[0].len() / GROUP;
    let (whole, last) = sums.split_at_mut(n);
    let groups: [&[[E; GROUP]]; ROWS] = rows.map(|row| &row.as_chunks().0[..n]);
    let mut own = *lanes;
    if LANES < GROUP {
        for row in 0..ROWS {
            own[row] = row_lanes(groups[row]);
        }
    }
    // Were it known that a group is read twice, the codes would be taken lane by lane out of vectors.
    let nothing = std::hint::black_box(0);
    let groups_a_line = const { CACHE_LINE / size_of::<E>() / GROUP };
    let ahead: [*const E; ROWS] = std::array::from_fn(|row| next.get(row).unwrap_or(&rows[row]).as_ptr());
    let n_fetched = if size_of_val(rows[0]) <= FETCHED_BYTES { n } else { LINES_AHEAD * groups_a_line };
    for (index, kept) in whole.iter_mut().enumerate() {
        if index % groups_a_line == 0 && index < n_fetched {
            for row in ahead {
                prefetch(row.wrapping_add(index * GROUP));
            }
        }
        let again = |row: usize| rows[row].as_chunks().0.get(index + nothing);
        let current = groups.map(|groups| &groups[index]);
        add_part::<E, ROWS, LANES>(current, 0, kept, &mut own);
        count_codes(again(0), counters);
        if ROWS > 1 {
            count_codes(again(1), counters);
        }
        if LANES < GROUP {
            add_part::<E, ROWS, LANES>(current, LANES, kept, &mut own);
        }
        if ROWS > 2 {
            count_codes(again(2), counters);
            count_codes(again(3), counters);
        }
    }
    *lanes = own;
    let Some(last) = last.first_mut() else { return };
    let mut sums = last.part::<GROUP>(0);
    for (row, lanes) in rows.iter().zip(lanes) {
        for (lane, &value) in row[n * GROUP..].iter().enumerate() {
            if C::COUNTS {
                counters.count_at(lane, C::slots::<E>(value.code().into()) as u16);
            }
            let x = value.widen();
            lanes.add(lane, value, x);
            sums.add(lane, value, x);
        }
    }
    last.set_part(0, &sums);
}

/// The figures of the whole groups of a row.
#[inline(always)]
fn row_lanes<E: Element>(groups: &[[E; GROUP]]) -> RowLanes<E> {
    let mut lanes = RowLanes::zero();
    for group in groups {
        for (lane, &value) in group.iter().enumerate() {
            lanes.add(lane, value, value.widen());
        }
    }
    lanes
}

/// Adds a group of each row to some of the group's lanes.
#[inline(always)]
fn add_part<E: Element, const ROWS: usize, const LANES: usize>(
    groups: [&[E; GROUP]; ROWS],
    first: usize,
    kept: &mut DimSums<E>,
    own: &mut [RowLanes<E>; ROWS],
) {
    let mut sums = kept.part::<LANES>(first);
    // A loop over the rows would be kept as one, with everything in memory.
    add_lanes(groups[0], first, &mut sums, &mut own[0]);
    if ROWS > 1 {
        add_lanes(groups[1], first, &mut sums, &mut own[1]);
    }
    if ROWS > 2 {
        add_lanes(groups[2], first, &mut sums, &mut own[2]);
        add_lanes(groups[3], first, &mut sums, &mut own[3]);
    }
    kept.set_part(first, &sums);
}

#[inline(always)]
fn add_lanes<E: Element, const LANES: usize>(
    group: &[E; GROUP],
    first: usize,
    sums: &mut PartSums<E, LANES>,
    own: &mut RowLanes<E>,
) {
    for lane in 0..LANES {
        let value = group[first + lane];
        let x = value.widen();
        if LANES == GROUP {
            own.add(lane, value, x);
        }
        sums.add(lane, value, x);
    }
}

#[inline(always)]
fn count_codes<E: Element, C: Counters>(group: Option<&[E; GROUP]>, counters: &mut C) {
    if C::COUNTS
        && let Some(group) = group
    {
        E::each_code(group, C::slots::<E>, |lane, slot| counters.count_at(lane, slot));
    }
}

/// Adds up the lanes of rows.
#[inline(always)]
fn fold_rows<E: Element>(lanes: &[RowLanes<E>], out: &mut [RowFigures]) {
    for (lanes, out) in lanes.iter().zip(out) {
        // Each list stands for itself: knowing where the others are, the compiler would gather across rows or quantities.
        let RowLanes { sum, square, largest } = lanes;
        *out = RowFigures {
            absmax: fold_lanes(*std::hint::black_box(largest), Ord::max).into(),
            sum: sum_lanes(*std::hint::black_box(sum)),
            square: sum_lanes(*std::hint::black_box(square)),
        };
    }
}

/// The central moments that the sums of `n_rows` finite rows give.
#[inline(always)]
pub(super) fn moments_of<E: Element>(n_rows: usize, sums: &[DimSums<E>], out: &mut MomentRows<'_>) {
    let n = n_rows as f64;
    for (index, sums) in sums.iter().enumerate() {
        let (mut mean, mut mean_lo) = ([0.0; GROUP], [0.0; GROUP]);
        let (mut m2, mut m3, mut m4) = ([0.0; GROUP], [0.0; GROUP], [0.0; GROUP]);
        let (mut min, mut max) = ([0.0; GROUP], [0.0; GROUP]);
        for lane in 0..GROUP {
            let powers = [sums.t1[lane], sums.t2[lane], sums.t3[lane], sums.t4[lane]];
            ([mean[lane], mean_lo[lane]], [m2[lane], m3[lane], m4[lane]]) = central(n, sums.pivot[lane], powers);
            // Adding zero turns -0 into +0: which of two zeros came first must not show.
            min[lane] = sums.min[lane].into() + 0.0;
            max[lane] = sums.max[lane].into() + 0.0;
        }
        set_group(out.mean, index, &mean);
        set_group(out.mean_lo, index, &mean_lo);
        set_group(out.m2, index, &m2);
        set_group(out.m3, index, &m3);
        set_group(out.m4, index, &m4);
        set_group(out.min, index, &min);
        set_group(out.max, index, &max);
    }
}

/// Sets a group of a list, whose last group may not be full.
#[inline(always)]
fn set_group(list: &mut [f64], index: usize, values: &[f64; GROUP]) {
    let rest = &mut list[index * GROUP..];
    if let Some(group) = rest.first_chunk_mut() {
        *group = *values;
    } else {
        rest.copy_from_slice(&values[..rest.len()]);
    }
}

/// Adds to `n_at_least` how often |x| reached the threshold, dim by dim, in the rows that gave these sums.
#[inline(always)]
pub(super) fn count_reached<E: Element>(rows: &[&[E]], threshold: f64, sums: &[DimSums<E>], n_at_least: &mut [u64]) {
    let least = least_key::<E>(threshold);
    for (index, (sums, counts)) in sums.chunks(MASK_GROUPS).zip(n_at_least.chunks_mut(MASK_GROUPS * GROUP)).enumerate() {
        let reached = groups_reached(sums, threshold);
        if reached == 0 {
            continue;
        }
        // Rows of a power of two of bytes share the sets of the first cache, which has room for a few of them.
        for rows in rows.chunks(COUNTED_ROWS) {
            let mut groups = reached;
            while groups != 0 {
                let dim = groups.trailing_zeros() as usize * GROUP;
                groups &= groups - 1;
                count_in_group(rows, index * MASK_GROUPS * GROUP + dim, least, &mut counts[dim..]);
            }
        }
    }
}

/// A bit for each group of which a value reached the threshold.
#[inline(always)]
fn groups_reached<E: Element>(sums: &[DimSums<E>], threshold: f64) -> u64 {
    let mut groups = 0;
    for (index, sums) in sums.iter().enumerate() {
        let mut any_reached = false;
        for lane in 0..GROUP {
            let (low, high): (f64, f64) = (sums.min[lane].into(), sums.max[lane].into());
            // The lanes that the last group lacks hold infinities of the wrong sign, which reach nothing.
            any_reached |= (-low).max(high) >= threshold;
        }
        groups |= u64::from(any_reached) << index;
    }
    groups
}

/// Notes the block for those dims whose largest magnitude grew since blocks were last marked.
#[inline(always)]
pub(super) fn mark_largest<E: Element>(block: u32, sums: &mut [DimSums<E>]) {
    for sums in sums {
        for lane in 0..GROUP {
            let (low, high) = (-sums.min[lane], sums.max[lane]);
            let magnitude = if low > high { low } else { high };
            let grew = magnitude > sums.largest[lane];
            sums.largest[lane] = if grew { magnitude } else { sums.largest[lane] };
            sums.blocks[lane] = if grew { block } else { sums.blocks[lane] };
        }
    }
}

/// The key of the smallest magnitude that reaches the threshold.
#[inline(always)]
fn least_key<E: Element>(threshold: f64) -> E::Key {
    let nearest = E::narrow(threshold);
    if nearest.widen() < threshold { nearest.key() + 1.into() } else { nearest.key() }
}

#[inline(always)]
fn count_in_group<E: Element>(rows: &[&[E]], dim: usize, least: E::Key, counts: &mut [u64]) {
    let Some(counts) = counts.first_chunk_mut::<GROUP>() else {
        for (lane, count) in counts.iter_mut().enumerate() {
            *count += rows.iter().filter(|row| row[dim + lane].key() >= least).count() as u64;
        }
        return;
    };
    let mut reached = [0_u32; GROUP];
    for row in rows {
        let group = &row[dim..dim + GROUP];
        for lane in 0..GROUP {
            reached[lane] += u32::from(group[lane].key() >= least);
        }
    }
    for (count, reached) in counts.iter_mut().zip(reached) {
        *count += u64::from(reached);
    }
}
