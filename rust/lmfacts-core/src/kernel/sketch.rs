//! A count sketch of a matrix: its entries, each with a random sign, added into a few thousand buckets.
//!
//! Where an entry goes is a function of its place (row, column) alone. A row is divided into blocks of neighbouring columns, from an offset on
//! that is the row's own; the entries of either half of a block go, in order, into a random group of as many buckets, each with a random
//! sign. So two entries meet in a bucket with probability 1 / [`SKETCH_BUCKETS`] if they are of different rows, whatever the two places
//! are, and of one row never if they are near each other. A block takes one hash and some vector instructions, where a hash for every entry
//! would take longer than all else that is done with it.

use super::lines::{Instructions, LINE, Line, Turned};
use super::{SketchTable, prefetch};
use crate::dtype::Element;

/// Entries of half a block, and buckets of a group.
pub const SKETCH_LANES: usize = 16;
/// Groups of buckets.
pub const SKETCH_GROUPS: usize = 256;
/// Buckets of a sketch.
pub const SKETCH_BUCKETS: usize = SKETCH_GROUPS * SKETCH_LANES;

/// Entries of a block.
pub(crate) const SKETCH_BLOCK: usize = 2 * SKETCH_LANES;

/// What all hashes begin with. Sketches of different seeds cannot be compared: it never changes.
const SEED: u64 = 0x6c6d_6661_6374_7301;
/// The golden ratio's fraction in 64 bits: odd, and multiples of it are spread out.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

const SIGN: u64 = 1 << 63;

/// A row of the matrix: what its hashes begin with, and where its first block ends.
#[derive(Debug, Clone, Copy)]
pub struct SketchRow {
    key: u64,
    offset: usize,
}

impl SketchRow {
    /// The row of that index.
    pub const fn new(row: usize) -> Self {
        let key = mix(SEED.wrapping_add((row as u64).wrapping_mul(STEP)));
        Self { key, offset: (key >> 59) as usize }
    }

    /// The place of a column: the first block has the places below 32, the second those below 64.
    pub const fn place(self, column: usize) -> usize {
        column + self.offset
    }

    #[inline(always)]
    const fn hash(self, block: usize) -> u64 {
        mix(self.key.wrapping_add((block as u64).wrapping_mul(STEP)))
    }
}

/// A mixing of 64 bits in which every bit of the input changes every bit of the output with probability 1/2 (Stafford's mix 13, which is
/// SplitMix64's).
#[inline(always)]
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Adds neighbouring entries of a row, all finite, the first of which has that place.
#[inline(always)]
pub(super) fn sketch<E: Element, I: Instructions>(values: &[E], row: SketchRow, first_place: usize, table: &mut SketchTable) {
    let (mut block, lane) = (first_place / SKETCH_BLOCK, first_place % SKETCH_BLOCK);
    let mut rest = values;
    if lane > 0 {
        let (head, others) = values.split_at(values.len().min(SKETCH_BLOCK - lane));
        add_part::<E, I>(head, lane, row.hash(block), table);
        block += 1;
        rest = others;
    }
    let (whole, tail) = rest.as_chunks::<SKETCH_BLOCK>();
    for values in whole {
        add_block::<E, I>(values, row.hash(block), table);
        block += 1;
    }
    if !tail.is_empty() {
        add_part::<E, I>(tail, 0, row.hash(block), table);
    }
}

#[inline(always)]
fn add_block<E: Element, I: Instructions>(values: &[E; SKETCH_BLOCK], hash: u64, table: &mut SketchTable) {
    // One after the other, not in a loop, which would take the two halves of the hash from memory.
    let (halves, _) = values.as_chunks::<SKETCH_LANES>();
    add_half(&E::ordered_line::<I>(&halves[0]), hash, table);
    add_half(&E::ordered_line::<I>(&halves[1]), hash << 32, table);
}

/// The upper eight bits of the hash are the group, sixteen below are signs.
#[inline(always)]
fn add_half<T: Copy + Into<f64>>(values: &[T; SKETCH_LANES], hash: u64, table: &mut SketchTable) {
    let buckets = &mut table.0[(hash >> 56) as usize];
    for lane in 0..SKETCH_LANES {
        // From bit 52 down: of shifts so close to 64 that the mask is not needed the compiler would make a case of their own.
        let sign = (hash << (11 + lane)) & SIGN;
        let value: f64 = values[lane].into();
        buckets[lane] += f64::from_bits(value.to_bits() ^ sign);
    }
}

/// A block of which only some entries, from a lane on, are there.
#[inline(always)]
fn add_part<E: Element, I: Instructions>(values: &[E], first_lane: usize, hash: u64, table: &mut SketchTable) {
    let mut block = [E::narrow(0.0); SKETCH_BLOCK];
    block[first_lane..first_lane + values.len()].copy_from_slice(values);
    add_block::<E, I>(&block, hash, table);
}

/// Columns whose entries are sketched together: so many that few blocks are split, so few that they are still in a cache.
pub(crate) const SKETCH_COLUMNS: usize = 4 * LINE;

/// Halves of blocks that so many neighbouring entries of a row lie in, wherever its blocks begin.
const N_HALVES: usize = SKETCH_COLUMNS / SKETCH_LANES + 1;

/// Adds neighbouring columns of a matrix, at most [`SKETCH_COLUMNS`] and all finite, the first of which is that one.
///
/// They are written as rows, as many at a time as a line has values; zeros before and after the entries fill halves of blocks.
#[inline(always)]
pub(super) fn sketch_columns<E: Element, I: Instructions>(columns: &[&[E]], first_column: usize, table: &mut SketchTable) {
    const { assert!(LINE == SKETCH_LANES, "a line lies in two halves of blocks at most") };
    assert!(columns.len() <= SKETCH_COLUMNS, "{} columns", columns.len());
    let nothing = Line::<E::Ordered>::default();
    // Of each row a line of zeros, its entries, and a line of zeros.
    let mut turned = [[nothing; N_HALVES + 1]; LINE];
    let n_rows = columns.first().map_or(0, |column| column.len());
    let mut first_row = 0;
    while first_row < n_rows {
        let n_together = match first_row {
            0 => rows_before_line(columns[0]),
            _ => LINE,
        }
        .min(n_rows - first_row);
        for (group, columns) in columns.chunks(LINE).enumerate() {
            let mut lines = [nothing; LINE];
            for (line, column) in lines.iter_mut().zip(columns) {
                fill_line::<E, I>(&column[first_row..first_row + n_together], &mut line.0);
                prefetch(column.as_ptr().wrapping_add(first_row + n_together));
            }
            let mut rows = [nothing; LINE];
            E::Ordered::turn::<I>(&lines, &mut rows);
            for row in 0..LINE {
                turned[row][1 + group] = rows[row];
            }
        }
        let (leads, hashes) = halves_of_rows(first_row, first_column);
        for row in 0..n_together {
            let (halves, _) = values_of(&turned[row])[LINE - leads[row] % LINE..].as_chunks::<SKETCH_LANES>();
            for index in 0..N_HALVES {
                add_half(&halves[index], hashes[index][row], table);
            }
        }
        first_row += n_together;
    }
}

/// The values of contiguous lines.
#[inline(always)]
#[allow(unsafe_code)]
fn values_of<T>(lines: &[Line<T>; N_HALVES + 1]) -> &[T] {
    const { assert!(size_of::<Line<T>>() == size_of::<[T; LINE]>(), "nothing between lines") };
    // SAFETY: lines are arrays of values without anything between them, as was just asserted.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

/// Where in its half the entry of a column lies, for rows from one on, and the hashes of that half and of those after it.
#[inline(always)]
fn halves_of_rows(first_row: usize, column: usize) -> ([usize; LINE], [[u64; LINE]; N_HALVES]) {
    let (mut leads, mut hashes) = ([0; LINE], [[0; LINE]; N_HALVES]);
    for index in 0..LINE {
        let row = SketchRow::new(first_row + index);
        let place = row.place(column);
        leads[index] = place % SKETCH_LANES;
        let in_second = place % SKETCH_BLOCK >= SKETCH_LANES;
        let mut hash = row.hash(place / SKETCH_BLOCK);
        for pair in 0..N_HALVES / 2 {
            let next = row.hash(place / SKETCH_BLOCK + pair + 1);
            hashes[2 * pair][index] = if in_second { hash << 32 } else { hash };
            hashes[2 * pair + 1][index] = if in_second { next } else { hash << 32 };
            hash = next;
        }
        hashes[N_HALVES - 1][index] = if in_second { hash << 32 } else { hash };
    }
    (leads, hashes)
}

/// How many rows to take so that the next begin with a line of the cache, if columns lie whole lines apart; no more than a line's values.
#[inline(always)]
fn rows_before_line<E>(column: &[E]) -> usize {
    match column.as_ptr().align_offset(align_of::<Line<E>>()) % LINE {
        0 => LINE,
        n_rows => n_rows,
    }
}

/// Sets a line to values, and to zeros where there are no more.
#[inline(always)]
fn fill_line<E: Element, I: Instructions>(values: &[E], line: &mut [E::Ordered; LINE]) {
    if let Some(values) = values.first_chunk::<LINE>() {
        *line = E::ordered_line::<I>(values);
        return;
    }
    for (value, ordered) in values.iter().zip(line) {
        *ordered = value.ordered();
    }
}
