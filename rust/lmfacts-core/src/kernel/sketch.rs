//! A count sketch of a matrix: its entries, each with a random sign, added into a few thousand buckets.
//!
//! Where an entry goes is a function of its place (row, column) alone. A row is cut into blocks of neighbouring columns, from an offset on
//! that is the row's own; the entries of either half of a block go, in order, into a random group of as many buckets, each with a random
//! sign. So two entries meet in a bucket with probability 1 / [`SKETCH_BUCKETS`] if they are of different rows, whatever the two places
//! are, and of one row never if they are near each other. A block takes one hash and some vector instructions, where a hash for every entry
//! would take longer than all else that is done with it.

use super::SketchTable;
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

/// A row of the matrix: what its hashes begin with, and where its first block is cut.
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
pub(super) fn sketch<E: Element>(values: &[E], row: SketchRow, first_place: usize, table: &mut SketchTable) {
    let (mut block, lane) = (first_place / SKETCH_BLOCK, first_place % SKETCH_BLOCK);
    let mut rest = values;
    if lane > 0 {
        let (head, others) = values.split_at(values.len().min(SKETCH_BLOCK - lane));
        add_part(head, lane, row.hash(block), table);
        block += 1;
        rest = others;
    }
    let (whole, tail) = rest.as_chunks::<SKETCH_BLOCK>();
    for values in whole {
        add_block(values, row.hash(block), table);
        block += 1;
    }
    if !tail.is_empty() {
        add_part(tail, 0, row.hash(block), table);
    }
}

#[inline(always)]
fn add_block<E: Element>(values: &[E; SKETCH_BLOCK], hash: u64, table: &mut SketchTable) {
    // One after the other, not in a loop, which would take the two halves of the hash from memory.
    let (halves, _) = values.as_chunks::<SKETCH_LANES>();
    add_half(&halves[0], hash, table);
    add_half(&halves[1], hash << 32, table);
}

/// The upper eight bits of the hash are the group, sixteen below are signs.
#[inline(always)]
fn add_half<E: Element>(values: &[E; SKETCH_LANES], hash: u64, table: &mut SketchTable) {
    let buckets = &mut table.0[(hash >> 56) as usize];
    for lane in 0..SKETCH_LANES {
        // From bit 52 down: of shifts so close to 64 that the mask is not needed the compiler would make a case of their own.
        let sign = (hash << (11 + lane)) & SIGN;
        buckets[lane] += f64::from_bits(values[lane].widen().to_bits() ^ sign);
    }
}

/// A block of which only some entries, from a lane on, are there.
#[inline(always)]
fn add_part<E: Element>(values: &[E], first_lane: usize, hash: u64, table: &mut SketchTable) {
    let mut block = [E::narrow(0.0); SKETCH_BLOCK];
    block[first_lane..first_lane + values.len()].copy_from_slice(values);
    add_block(&block, hash, table);
}
